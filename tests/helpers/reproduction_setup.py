"""Tiny data and a tiny profile, on which every table of the paper is made in seconds."""

from pathlib import Path

import torch

from reproduction.plan import Budget
from reproduction.profiles import GeneratedVideo, MadeVideos, Profile, ProfileDataSet, lengthened
from reproduction.runs import Runner
from tests.helpers.layouts import davis_2016_pairs, write_frames, write_masks, write_text

SIZE = 16
FRAMES = 4
LENGTHS = (1, 3)


def write_davis(root: Path) -> Path:
    """A DAVIS 2016 of one sequence below a data root, which is returned."""
    davis = root / "DAVIS" / "2016"
    write_frames(davis / "JPEGImages/480p/dog", range(FRAMES), (32, 48))
    write_masks(davis / "Annotations/480p/dog", range(FRAMES), (32, 48))
    write_text(davis / "ImageSets/480p/val.txt", davis_2016_pairs("dog", range(FRAMES)))
    return root


def tiny_profile() -> Profile:
    davis = ProfileDataSet("davis", "a made-up DAVIS 2016", "D16", "DAVIS/2016", size=SIZE, videos=("dog",))
    long = ProfileDataSet(
        "long",
        "a made-up long video",
        "G",
        "long",
        size=SIZE,
        settings={"mem_every": 2, "max_mid_term_frames": 3, "min_mid_term_frames": 1, "max_memory_frames": 3},
        made=MadeVideos({"dog": FRAMES}),
    )
    multi = ProfileDataSet(
        "generated",
        "a generated video",
        "G",
        "generated",
        size=SIZE,
        made=MadeVideos(generated=(GeneratedVideo("generated", 1, FRAMES, 2, patterns=2),)),
    )
    return Profile(
        name="tiny",
        statement="Nothing of this means anything.",
        data_sets={
            "D16": davis,
            "D17": davis,
            **lengthened(long, LENGTHS),
            "single": davis,
            "multi": multi,
            "trace": ProfileDataSet("trace", "a made-up trace", "G", "trace", size=SIZE, made=MadeVideos({"dog": 8})),
        },
        lengths=LENGTHS,
        scales=(1.0, 1.5),
        offsets=2,
        over_offsets=("L3x",),
        traced_frames=8,
    )


def make_runner(model: Path, data_root: Path, output: Path, budget: Budget | None = None) -> Runner:
    return Runner(tiny_profile(), model, torch.device("cpu"), data_root, output, budget or Budget(None))
