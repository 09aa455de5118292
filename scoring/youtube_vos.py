"""YouTubeVOS's figures, where the ground truth is local: J and F of seen and unseen categories, and G, their mean.

The evaluation server keeps the ground truth of the published sets to itself. Where a copy exists, it goes into
`valid/GroundTruth/V/FRAME.png`; the seen categories are those of `train/meta.json`.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from dataset.frames import read_text
from dataset.label_map import read_label_map
from scoring.measures import score_label_maps
from util.errors import UserError

GROUND_TRUTH = "GroundTruth"


def has_ground_truth(root: Path, part: str = "valid") -> bool:
    """Whether there are label maps of all frames of a part of the data set that lies in `root`."""
    return (root / part / GROUND_TRUTH).is_dir()


def score_youtube_vos(root: Path, prediction: Path, part: str = "valid") -> dict[str, float]:
    """G, Js, Fs, Ju and Fu in percent: means over objects of each object's mean over frames.

    An object is scored in the frames that meta.json names for it, except its first, in which it is given.

    Args:
        root: the data set's folder, above train and valid.
        prediction: V/FRAME.png.

    Raises:
        UserError: a file is missing or damaged, or there are no seen or no unseen objects.
    """
    seen_categories = {thing["category"] for _, thing in objects_of(root / "train" / "meta.json")}
    objects: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for name, thing in objects_of(root / part / "meta.json"):
        objects[name].append(thing)
    figures: dict[str, list[float]] = {name: [] for name in ("Js", "Fs", "Ju", "Fu")}
    for name, things in objects.items():
        frames_of = {thing["label"]: thing["frames"] for thing in things}
        scores = score_video(root / part / GROUND_TRUTH / name, prediction / name, frames_of)
        for thing in things:
            if thing["label"] in scores:
                kind = "s" if thing["category"] in seen_categories else "u"
                for measure, value in zip("JF", scores[thing["label"]], strict=True):
                    figures[measure + kind].append(value)
    if not all(figures.values()):
        raise UserError(f"{root / part}: G needs objects of seen and of unseen categories")
    means = {name: 100 * fmean(values) for name, values in figures.items()}
    return {"G": fmean(means.values()), **means}


def score_video(truth: Path, prediction: Path, frames_of: Mapping[int, list[str]]) -> dict[int, tuple[float, float]]:
    """Mean J and F (0 to 1) of each object over the frames that are named for it, its first left out."""
    scores: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for frame in sorted(set().union(*frames_of.values())):
        labels = [label for label, frames in frames_of.items() if frame in sorted(frames)[1:]]
        if labels:
            maps = [read_label_map(folder / f"{frame}.png").labels for folder in (truth, prediction)]
            measured = score_label_maps(maps[0], maps[1], labels)
            for label, j, f in zip(labels, measured.j, measured.f, strict=True):
                scores[label].append((float(j), float(f)))
    return {label: tuple(np.mean(pairs, axis=0).tolist()) for label, pairs in scores.items()}


def objects_of(meta: Path) -> list[tuple[str, dict[str, Any]]]:
    """Every object in a meta.json, with its video: its label, category and frames.

    Raises:
        UserError: the file is missing or not as YouTubeVOS has it.
    """
    try:
        videos = json.loads(read_text(meta))["videos"]
        return [
            (name, {"label": int(label), "category": thing["category"], "frames": list(thing["frames"])})
            for name, video in videos.items()
            for label, thing in video["objects"].items()
        ]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{meta} is not a YouTubeVOS meta.json (videos.V.objects.ID.category, .frames)") from error
