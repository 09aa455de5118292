"""Every configuration that a table of the paper compares, by name.

A new one is one line here, and one row in `tables.py`. Settings have their published names
(`inference.config.InferenceSettings`); a strategy of your own is a class in `inference/strategies/`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from inference.config import InferenceConfig
from inference.strategies.consolidation import Consolidation


@dataclass(frozen=True)
class Variant:
    """One way of following objects.

    Attributes:
        name: the folder of its runs.
        settings: its settings by name; all others are those of the data set, or else as published.
        network: the network file it needs: "" is the one that is asked for, "s012" the one of that suffix beside it,
            XMem-s012.pth beside XMem.pth.
        same_compression: whether `num_prototypes` is scaled to compress as much as the published consolidation does.
        several_sizes: whether every frame is segmented in all sizes of the profile, and the probabilities averaged.
        flip_too: whether every frame is segmented mirrored as well.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    network: str = ""
    same_compression: bool = False
    several_sizes: bool = False
    flip_too: bool = False

    def configure(self, data_set_settings: Mapping[str, Any], prototype_scale: float = 1.0) -> InferenceConfig:
        """Return the configuration on a data set, whose settings count as far as they have an effect on this variant.

        Args:
            prototype_scale: factor of P.

        Raises:
            SettingError: the settings contradict each other.
        """
        with_effect = InferenceConfig.from_settings(**self.settings).settings()
        settings = {name: value for name, value in data_set_settings.items() if name in with_effect}
        settings |= self.settings
        config = InferenceConfig.from_settings(**settings)
        if self.same_compression:
            usual = XMEM.configure(data_set_settings)
            prototype_scale *= frames_per_consolidation(config) / frames_per_consolidation(usual)
        if prototype_scale == 1 or "num_prototypes" not in config.settings():
            return config
        scaled = max(round(config.settings()["num_prototypes"] * prototype_scale), 1)
        return InferenceConfig.from_settings(**settings | {"num_prototypes": scaled})


def frames_per_consolidation(config: InferenceConfig) -> int:
    """Return how many frames leave working memory in a consolidation: T_max − T_min; 0 if there is none."""
    match config.when_full:
        case Consolidation() as consolidation:
            return consolidation.max_mid_term_frames - consolidation.min_mid_term_frames
    return 0


def compression_percent(config: InferenceConfig, elements_per_frame: int) -> float | None:
    """Return how many elements become one in a consolidation, in percent (section 4); None if there is none.

    Args:
        elements_per_frame: h·w.
    """
    if not (frames := frames_per_consolidation(config)):
        return None
    return 100 * frames * elements_per_frame / config.settings()["num_prototypes"]


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

# Table 7: what else can be done about memory that grows. Elements that are compressed at once have no usage yet.
EAGER = {"min_mid_term_frames": 1, "max_mid_term_frames": 2, "prototypes": "random"}
EAGER_COMPRESSION = Variant("eager_compression", EAGER, same_compression=True)
SPARSE_INSERTION = Variant("sparse_insertion", {"insertion": "sparse", "enable_long_term": False})
LOCAL_WINDOW = Variant("local_window", {"when_full": "local_window"})

# Table 8: how often the value encoder refreshes the sensory memory.
DEEP_UPDATE_ALWAYS = Variant("deep_update_every_frame", {"deep_update": "every_frame"})
DEEP_UPDATE_NEVER = Variant("deep_update_never", {"deep_update": "never"})

# Several scales. r is 3 throughout.
EVERY_THIRD = {"mem_every": 3}
ONE_SIZE = Variant("one_size", EVERY_THIRD)
ONE_SIZE_FLIPPED = Variant("one_size_flip", EVERY_THIRD, flip_too=True)
SEVERAL_SIZES = Variant("several_sizes", EVERY_THIRD, several_sizes=True)
MULTI_SCALE = Variant("multi_scale", EVERY_THIRD, several_sizes=True, flip_too=True)
MULTI_SCALE_BL30K = Variant("multi_scale_bl30k", EVERY_THIRD, "s012", several_sizes=True, flip_too=True)
