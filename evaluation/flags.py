"""Flags that several programs have or that depend on each other.

The defaults of inference are those of the classes in `inference/strategies/` and `inference/config.py`.
"""

import argparse
import logging

from dataset.registry import DATA_SETS
from inference.config import InferenceConfig, InferenceSettings
from inference.strategies.insertion import SparseInsertion
from util.errors import SettingError, UserError

INFERENCE_FLAGS = {  # flag → its type and meaning
    "mem_every": (int, "r, frames from one memory frame to the next; the paper: 10 on Long-time Video"),
    "mem_offset": (int, "the first memory frame after frame 0 comes so many frames earlier"),
    "deep_update_every": (int, "frames between deep updates; -1: with every memory frame"),
    "top_k": (int, "elements read per query; -1: all"),
    "max_mid_term_frames": (int, "T_max, frames at which working memory is consolidated"),
    "min_mid_term_frames": (int, "T_min, frames that stay in working memory"),
    "max_long_term_elements": (int, "LT_max, most elements of long-term memory"),
    "num_prototypes": (int, "P, prototypes of one consolidation"),
    "max_memory_frames": (int, "bound of --insertion sparse and --when_full local_window"),
    "insertion": (str, "regular or sparse"),
    "deep_update": (str, "memory_frames, every_frame or never"),
    "when_full": (str, "consolidate or local_window"),
    "prototypes": (str, "usage, random or centroids"),
}
SWITCHES = {  # setting → the flag that switches it off, and what happens instead
    "enable_long_term": ("--disable_long_term", "working memory grows without bound"),
    "enable_working": ("--disable_working", "nothing is stored, and zeros are read"),
    "enable_sensory": ("--disable_sensory", "the sensory memory stays at zero"),
    "potentiation": ("--disable_potentiation", "prototypes have one element's value each"),
}
SOURCES_OF_FLAGS = {  # flags that have an effect with some sources of videos only
    "mask": ["--video"],
    "masks": ["--video"],
    "use_all_masks": ["--dataset G"],
    "backward": ["--video", "--dataset G"],
    "separate_objects": ["--dataset SAV"],
    **{
        root_name: [f"--dataset {name}" for name, data_set in DATA_SETS.items() if data_set.root_name == root_name]
        for root_name in dict.fromkeys(data_set.root_name for data_set in DATA_SETS.values())
    },
}
LONG_TERM_FLAGS = ("max_mid_term_frames", "min_mid_term_frames", "max_long_term_elements", "num_prototypes")

logger = logging.getLogger(__name__)


def add_inference_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags to a program's parser; those that are not given are None."""
    defaults = {"max_memory_frames": SparseInsertion().max_memory_frames, **InferenceConfig().settings()}
    for name, (kind, meaning) in INFERENCE_FLAGS.items():
        parser.add_argument(f"--{name}", type=kind, help=f"{meaning} ({defaults[name]})")
    for name, (flag, instead) in SWITCHES.items():
        parser.add_argument(flag, dest=name, action="store_false", default=None, help=instead)


def check_source_flags(arguments: argparse.Namespace) -> None:
    """Check that the flags which say where videos and label maps come from belong together.

    Raises:
        UserError: one is missing, would have no effect, or contradicts another.
    """
    source = "--video" if arguments.video else f"--dataset {arguments.dataset or 'D17'}"
    for name, sources in SOURCES_OF_FLAGS.items():
        if getattr(arguments, name) and source not in sources:
            raise UserError(f"--{name} goes with {' or '.join(sources)}, not with {source}")
    if not arguments.video:
        return
    for name in ("dataset", "split"):
        if getattr(arguments, name) is not None:
            raise UserError(f"--video and --{name} contradict each other: give one of them")
    if arguments.repeat > 1:
        raise UserError("--repeat goes with data sets and --dataset G, not with --video")
    if arguments.mask and arguments.masks:
        raise UserError("--mask and --masks contradict each other: give one of them")
    if not arguments.mask and not arguments.masks:
        raise UserError("--video needs --mask, the label map of its first frame, or --masks, a folder of label maps")


def in_flags(error: SettingError) -> str:
    """Return the message of an error about settings in the flags that users know them by."""
    flag = SWITCHES[error.field][0] if error.field in SWITCHES else f"--{error.field}"
    others = [
        SWITCHES[name][0] if name in SWITCHES else f"--{name}" if value is True else f"--{name} {value}"
        for name, value in error.others.items()
    ]
    return f"{flag} {error.reason}" + (f" with {', '.join(others)}" if others else "")


def inference_config(arguments: argparse.Namespace) -> InferenceConfig:
    """Return the settings of inference that the flags ask for.

    Raises:
        SettingError: a value out of its range, or a flag that would have no effect.
    """
    names = (*INFERENCE_FLAGS, *SWITCHES)
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    if given.get("top_k", 1) < 1:
        if given["top_k"] != -1:
            raise SettingError("top_k", f"must be at least 1, or -1 for all, not {given['top_k']}")
        given["top_k"] = None
    if arguments.enable_long_term is False:
        for name in LONG_TERM_FLAGS:  # allowed, since scripts for the published program give them so
            if given.pop(name, None) is not None:
                logger.warning("--%s has no effect with --disable_long_term", name)
    settings: InferenceSettings = given  # type: ignore[assignment]
    return InferenceConfig.from_settings(**settings)
