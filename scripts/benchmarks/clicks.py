"""How many clicks a mask takes, and how long a click: the click network and GrabCut, on frames with true masks.

The user is simulated: each click goes to the middle of the largest region that is wrong.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from dataset import mask_formats
from dataset.registry import DATA_SETS
from dataset.training_sets import TrainingVideo, own_videos
from interactive.segmenters import SEGMENTERS, open_segmenter
from interactive.segmenters.interface import Box, Click, Segmenter
from reproduction.profiles import HELD_OUT
from scoring.measures import region_similarity
from util.device import choose_device, hardware_name
from util.errors import UserError, first_few

REPORTED = (1, 3, 5)
WANTED = 0.85
"""Intersection over union that the number of clicks is counted for."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this benchmark."""
    parser.add_argument(
        "--davis_root", type=Path, default=DATA_SETS["D16"].default_root, help="DAVIS 2016 (%(default)s)"
    )
    parser.add_argument("--videos", nargs="+", default=HELD_OUT, help="videos to measure on (those held out)")
    parser.add_argument("--step", type=int, default=10, help="take every so many frames (%(default)s)")
    parser.add_argument("--most", type=int, default=20, help="give up after so many clicks (%(default)s)")
    parser.add_argument("--segmenters", nargs="+", choices=SEGMENTERS, default=["grabcut", "network"])
    parser.add_argument("--network", type=Path, help="the click network's file (the bundled one)")
    parser.add_argument("--sam2", type=Path, help="the file of SAM 2's weights")
    parser.add_argument("--device", default="cpu", help="auto, cuda, cuda:N, mps or cpu")
    parser.add_argument("--by_video", action="store_true", help="a row for every video, too")


@dataclass
class Outcome:
    """What came of the clicks on some frames."""

    ious: list[list[float]] = field(default_factory=list)
    """The intersection over union of each frame after each click."""
    boxed: list[float] = field(default_factory=list)
    """That of each frame with the object's bounding box, without clicks."""
    first_seconds: list[float] = field(default_factory=list)
    later_seconds: list[float] = field(default_factory=list)

    def row(self, name: str, most: int) -> str:
        """Return a line of the table."""
        after = [100 * np.mean([ious[min(count, len(ious)) - 1] for ious in self.ious]) for count in REPORTED]
        after.append(100 * np.mean(self.boxed))
        reached = [next((count for count, iou in enumerate(each, 1) if iou >= WANTED), None) for each in self.ious]
        mean = np.mean([most if count is None else count for count in reached])
        failures = 100 * np.mean([count is None for count in reached])
        first, later = (np.median(seconds or [np.nan]) for seconds in (self.first_seconds, self.later_seconds))
        shown = " | ".join(f"{iou:.1f}" for iou in after)
        return f"| {name} | {len(self.ious)} | {shown} | {mean:.2f} | {failures:.0f} % | {first:.2f} | {later:.2f} |"


def run(arguments: argparse.Namespace) -> None:
    """Print a table: intersection over union in %, clicks until 0.85, those that never got there, seconds a click.

    Raises:
        UserError: a flag is below its least, a video is missing, or a segmenter cannot be opened.
    """
    if min(arguments.step, arguments.most) < 1:
        raise UserError("--step and --most must be at least 1")
    device = choose_device(arguments.device)
    videos = videos_named(arguments.davis_root, arguments.videos)
    print(f"{hardware_name(device)}; every {arguments.step}th frame of {first_few(arguments.videos)}\n")
    columns = [
        *(f"IoU after {count}" for count in REPORTED),
        "of a box",
        f"clicks to {WANTED}",
        "never",
        "s first",
        "s later",
    ]
    print(f"| | frames | {' | '.join(columns)} |\n|---|---:|{'---:|' * len(columns)}")
    for name in arguments.segmenters:
        files = {"network": arguments.network, "sam2": arguments.sam2}
        segmenter = open_segmenter(name, files.get(name), device)
        outcomes = {video.images.name: Outcome() for video in videos}
        for video in videos:
            for rgb, truth in frames_of(video, arguments.step):
                outcome = outcomes[video.images.name]
                click_through(segmenter, rgb, truth, arguments.most, outcome)
                outcome.boxed.append(region_similarity(truth, segmenter.segment(rgb, [], box_of(truth))))
        total = Outcome()
        for video_name, outcome in outcomes.items():
            if arguments.by_video:
                print(outcome.row(f"{name}, {video_name}", arguments.most))
            for values, added in zip(vars(total).values(), vars(outcome).values(), strict=True):
                values += added
        print(total.row(name, arguments.most), flush=True)


def videos_named(root: Path, names: Sequence[str]) -> list[TrainingVideo]:
    """Return these videos.

    Raises:
        UserError: one is missing.
    """
    videos = {video.images.name: video for video in own_videos(root).videos}
    if missing := [name for name in names if name not in videos]:
        raise UserError(f"{root} lacks the videos {first_few(missing)}")
    return [videos[name] for name in names]


def frames_of(
    video: TrainingVideo, step: int
) -> Iterator[tuple[UInt8[np.ndarray, "height width 3"], Bool[np.ndarray, "height width"]]]:
    """Yield every `step`th frame that shows an object, with its mask."""
    for index in range(0, len(video.frames), step):
        rgb, labels = video.read([index])
        if labels.any():
            yield rgb[0], labels[0] > 0


def click_through(
    segmenter: Segmenter,
    rgb: UInt8[np.ndarray, "height width 3"],
    truth: Bool[np.ndarray, "height width"],
    most: int,
    outcome: Outcome,
) -> None:
    """Click until `WANTED` is reached, but at least as often as is reported, and note what came of it."""
    clicks: list[Click] = []
    mask, ious = np.zeros_like(truth), list[float]()
    while len(clicks) < most and (max(ious, default=0) < WANTED or len(clicks) < max(REPORTED)):
        click = next_click(truth, mask)
        if click is None:
            break
        clicks.append(click)
        begun = time.perf_counter()
        mask = segmenter.segment(rgb, clicks)
        (outcome.later_seconds if ious else outcome.first_seconds).append(time.perf_counter() - begun)
        ious.append(region_similarity(truth, mask))
    outcome.ious.append(ious)


def box_of(mask: Bool[np.ndarray, "height width"]) -> Box:
    """Return the bounding box of a mask that is not empty."""
    left, top, width, height = mask_formats.box_of(mask)
    return float(left), float(top), float(left + width), float(top + height)


class Wrong(NamedTuple):
    """A connected region of a mask that is wrong."""

    area: int
    """In pixels."""
    positive: bool
    """Whether it is missing; else it is too much."""
    region: Bool[np.ndarray, "height width"]


def wrong_regions(
    truth: Bool[np.ndarray, "height width"], mask: Bool[np.ndarray, "height width"], most: int
) -> list[Wrong]:
    """Return the regions where a mask is wrong, the largest first, at most so many."""
    found = []
    for positive, wrong in ((True, truth & ~mask), (False, mask & ~truth)):
        _, labels, statistics, _ = cv2.connectedComponentsWithStats(wrong.astype(np.uint8), connectivity=8)
        areas = statistics[:, cv2.CC_STAT_AREA]
        found += [(int(areas[label]), positive, labels, label) for label in range(1, len(areas))]
    found.sort(key=lambda each: -each[0])
    return [Wrong(area, positive, labels == label) for area, positive, labels, label in found[:most]]


def next_click(truth: Bool[np.ndarray, "height width"], mask: Bool[np.ndarray, "height width"]) -> Click | None:
    """Return a click in the middle of the largest region that is wrong; None if nothing is."""
    for largest in wrong_regions(truth, mask, most=1):
        return Click(*middle_of(largest.region), largest.positive)
    return None


def middle_of(region: Bool[np.ndarray, "height width"]) -> tuple[float, float]:
    """Return the x and y of the pixel that is farthest from the region's border; the image's border is one, too."""
    depth = cv2.distanceTransform(np.pad(region, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(column), float(row)
