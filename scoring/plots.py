"""Plots of scores: over the frames of each sequence, and by how long an object was out of sight."""

import math
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import numpy as np
from jaxtyping import Bool, Integer

from scoring.scores import Scores
from util.figures import drawing

MOST_OBJECTS_NAMED = 12


def draw_scores(scores: Scores, folder: Path) -> list[Path]:
    """Draw all plots into a folder: out_of_sight.png and sequences/SEQUENCE.png; return them.

    Raises:
        UserError: matplotlib is not installed.
    """
    measure = "&".join(scores.rules.measures)
    (folder / "sequences").mkdir(parents=True, exist_ok=True)
    return [
        *(draw_sequence(scores, name, measure, folder / "sequences") for name in scores.sequences),
        draw_absences(scores, measure, folder),
    ]


def draw_sequence(scores: Scores, name: str, measure: str, folder: Path) -> Path:
    """Draw how good each frame of a sequence is, a line for each object, thin where it is out of sight."""
    sequence = scores.sequences[name]
    place = {frame: position for position, frame in enumerate(sequence.frames)}
    with drawing(
        folder / name,
        f"{measure} of {name}",
        "scored frame (thin lines: the object is out of sight)",
        f"{measure} (%)",
        svg=False,
    ) as axes:
        for number, (label, score) in enumerate(sequence.objects.items()):
            x = [place[frame] for frame in score.frames]
            y = 100 * scores.by_frame(score)
            (line,) = axes.plot(x, y, linewidth=0.6, alpha=0.5)
            shown = np.where(score.shown, y, np.nan)
            title = f"object {label}: {np.mean(y):.1f}".replace("$", r"\$") if number < MOST_OBJECTS_NAMED else None
            axes.plot(x, shown, color=line.get_color(), linewidth=1.6, label=title, marker="." if len(x) < 40 else None)
        axes.set_ylim(-3, 103)
    return folder / f"{name}.png"


def draw_absences(scores: Scores, measure: str, folder: Path) -> Path:
    """Draw the mean score of frames against the number of frames since the object was last seen.

    Frames are grouped by powers of two: 1, 2–3, 4–7, …. One line is for frames that show the object (at 1 it was seen
    in the frame before, at more it has come back), the other for frames that do not.
    """
    by_distance: dict[bool, dict[int, list[float]]] = {True: defaultdict(list), False: defaultdict(list)}
    for score in scores.all_objects:
        since = frames_since_seen(score.shown)
        for distance, shown, value in zip(since, score.shown, scores.by_frame(score), strict=True):
            if distance:
                by_distance[bool(shown)][int(math.log2(distance))].append(100 * float(value))
    title = f"{measure} by the time since the object was last seen"
    with drawing(
        folder / "out_of_sight",
        title,
        "scored frames since it was last seen (numbers at points: frames)",
        f"{measure} (%)",
        svg=False,
    ) as axes:
        for shown, name in ((True, "in sight (again)"), (False, "out of sight")):
            if points := sorted(by_distance[shown].items()):
                x, y = [2**power for power, _ in points], [fmean(values) for _, values in points]
                axes.plot(x, y, marker="o", label=name)
                for place, height, (_, values) in zip(x, y, points, strict=True):
                    axes.annotate(len(values), (place, height), textcoords="offset points", xytext=(0, 6), fontsize=7)
        axes.set_xscale("log", base=2)
        powers = sorted({power for points in by_distance.values() for power in points})
        ranges = [str(2**power) if power == 0 else f"{2**power}–{2 ** (power + 1) - 1}" for power in powers]
        axes.set_xticks([2**power for power in powers], ranges)
        axes.set_ylim(-3, 108)
    return folder / "out_of_sight.png"


def frames_since_seen(shown: Bool[np.ndarray, " frames"]) -> Integer[np.ndarray, " frames"]:
    """Return, for every frame, how many frames before it the object was last seen; 0 where it never was."""
    frames = np.arange(len(shown))
    last = np.maximum.accumulate(np.where(shown, frames, -1))
    before = np.concatenate([[-1], last[:-1]]) if len(shown) else last
    return np.where(before < 0, 0, frames - before)
