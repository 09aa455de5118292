"""Every variant that a table of the paper compares, by name.

A new one is one line here, and one row in `tables.py`. What a variant does not mention is as its data set has it, else
as published. Fields are those of `InferenceConfig`; a strategy of your own is a class in `inference/strategies/`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Variant:
    """One way of following objects.

    Attributes:
        name: of its folder.
        inference: what it changes in `InferenceConfig`.
        network: "" is the network that is asked for, "s012" the file of that suffix beside it: XMem.pth, XMem-s012.pth.
        same_compression: `num_prototypes` is scaled to compress as much as the default does (with the same one).
        several_sizes: every frame is segmented in the profile's sizes, and the probabilities are averaged.
        flip_too: every frame is segmented mirrored as well.
    """

    name: str
    inference: Mapping[str, Any] = field(default_factory=dict)
    network: str = ""
    same_compression: bool = False
    several_sizes: bool = False
    flip_too: bool = False


XMEM = Variant("xmem")

# Tables 2 and 3: other trainings.
BL30K = Variant("xmem_bl30k", network="s012")
NO_STATIC = Variant("xmem_no_static", network="s2")

# Table 4: without one of the memory stores. A network without sensory memory, and the full one with it switched off.
NO_SENSORY = Variant("no_sensory", network="no-sensory")
SENSORY_OFF = Variant("sensory_off", {"enable_sensory": False})
NO_WORKING = Variant("no_working", {"enable_working": False})
NO_LONG_TERM = Variant("no_long_term", {"enable_long_term": False})

# Table 5: networks trained with both scaling terms of the similarity, with one, and with neither, by one recipe.
SCALING_BOTH = Variant("scaling_both", network="scaling-both")
SCALING_SHRINKAGE = Variant("scaling_shrinkage", network="scaling-shrinkage")
SCALING_SELECTION = Variant("scaling_selection", network="scaling-selection")
SCALING_NEITHER = Variant("scaling_neither", network="scaling-neither")

# Table 6: which elements become prototypes, how many, and what they take from the others.
RANDOM_64 = Variant("random_64", {"prototypes": "random", "num_prototypes": 64})
CENTROIDS_64 = Variant("centroids_64", {"prototypes": "centroids", "num_prototypes": 64})
USAGE_64 = Variant("usage_64", {"num_prototypes": 64})
RANDOM_128 = Variant("random_128", {"prototypes": "random", "num_prototypes": 128})
CENTROIDS_128 = Variant("centroids_128", {"prototypes": "centroids", "num_prototypes": 128})
RANDOM_256 = Variant("random_256", {"prototypes": "random", "num_prototypes": 256})
CENTROIDS_256 = Variant("centroids_256", {"prototypes": "centroids", "num_prototypes": 256})
USAGE_256 = Variant("usage_256", {"num_prototypes": 256})
NO_POTENTIATION = Variant("no_potentiation", {"potentiation": False})
# Ten times as strong a compression as published, which small frames at the published P are far from.
RANDOM_12 = Variant("random_12", {"prototypes": "random", "num_prototypes": 12})
CENTROIDS_12 = Variant("centroids_12", {"prototypes": "centroids", "num_prototypes": 12})
USAGE_12 = Variant("usage_12", {"num_prototypes": 12})
NO_POTENTIATION_12 = Variant("no_potentiation_12", {"potentiation": False, "num_prototypes": 12})

# Table 7: what else can be done about memory that grows. Usage is not known of elements that are compressed at once.
EAGER_COMPRESSION = Variant(
    "eager_compression",
    {"min_mid_term_frames": 1, "max_mid_term_frames": 2, "prototypes": "random"},
    same_compression=True,
)
EAGER_COMPRESSION_12 = Variant(
    "eager_compression_12", {**EAGER_COMPRESSION.inference, "num_prototypes": 12}, same_compression=True
)
SPARSE_INSERTION = Variant("sparse_insertion", {"insertion": "sparse", "enable_long_term": False})
LOCAL_WINDOW = Variant("local_window", {"when_full": "local_window"})

# Table 8: how often the value encoder refreshes the sensory memory.
DEEP_UPDATE_ALWAYS = Variant("deep_update_every_frame", {"deep_update": "every_frame"})
DEEP_UPDATE_NEVER = Variant("deep_update_never", {"deep_update": "never"})

# Several scales. r is 3 throughout.
ONE_SIZE = Variant("one_size", {"mem_every": 3})
ONE_SIZE_FLIPPED = Variant("one_size_flip", {"mem_every": 3}, flip_too=True)
SEVERAL_SIZES = Variant("several_sizes", {"mem_every": 3}, several_sizes=True)
MULTI_SCALE = Variant("multi_scale", {"mem_every": 3}, several_sizes=True, flip_too=True)
MULTI_SCALE_BL30K = Variant("multi_scale_bl30k", {"mem_every": 3}, "s012", several_sizes=True, flip_too=True)
