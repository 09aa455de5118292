"""YouTubeVOS's figures, where the ground truth is local: J and F of seen and unseen categories, and G, their mean.

The evaluation server keeps the ground truth of the published sets to itself. Where a copy exists, it goes into
`valid/GroundTruth/V/FRAME.png`; the seen categories are those of `train/meta.json`.
"""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dataset.evaluation_sets import YOUTUBE_VOS_TRUTH, read_json_videos
from dataset.recent_sets import require_label, whole_number
from scoring.planning import (
    SequencePlan,
    chosen_sequences,
    frames_of_objects,
    require_predictions,
    score_frame,
)
from scoring.scores import ObjectScore, Rules, in_groups, j_and_f_of_object
from util.errors import UserError


def of_all(objects: Collection[ObjectScore]) -> dict[str, float]:
    """G, Js, Fs, Ju and Fu in percent; nan without seen or without unseen objects."""
    figures = {
        f"{name}{group[0]}": in_groups(objects, group, name) for group in ("seen", "unseen") for name in ("J", "F")
    }
    return {"G": float(np.mean(list(figures.values()))), **figures}


RULES = Rules("youtube", ("J", "F"), ("J&F", "J", "F"), j_and_f_of_object, of_all)


def plans(
    ground_truth: Path, prediction: Path, names: Collection[str] | None = None
) -> Mapping[str, Callable[[], SequencePlan]]:
    """Return, by the videos' names, a function for each that makes its plan.

    Args:
        ground_truth: the data set's folder, above train and valid.
        prediction: V/FRAME.png.

    Raises:
        UserError: a file is missing or damaged, or the ground truth lacks one of `names`.
    """
    seen_categories = {thing["category"] for _, thing in objects_of(ground_truth / "train" / "meta.json")}
    objects: dict[str, list[dict[str, Any]]] = {}
    for name, thing in objects_of(ground_truth / "valid" / "meta.json"):
        objects.setdefault(name, []).append(thing)
    masks = ground_truth / "valid" / YOUTUBE_VOS_TRUTH
    return {
        name: partial(plan, name, objects[name], masks / name, prediction / name, seen_categories)
        for name in chosen_sequences(objects, names, ground_truth, prediction)
    }


def plan(
    name: str, things: Collection[Mapping[str, Any]], truth: Path, prediction: Path, seen_categories: Collection[str]
) -> SequencePlan:
    """Return what is scored of a video: each object in the frames that meta.json names for it, but in its first.

    Raises:
        UserError: a predicted label map is missing, or no object has a second frame.
    """
    frames_of = {thing["label"]: sorted(thing["frames"])[1:] for thing in things}
    frames_of = {label: frames for label, frames in frames_of.items() if frames}
    if not frames_of:
        raise UserError(f"{name} has no object with more than the frame in which it is given")
    truths = {frame: truth / f"{frame}.png" for frames in frames_of.values() for frame in frames}
    frames = frames_of_objects(frames_of, truths, prediction)
    require_predictions(frames)
    groups = {thing["label"]: "seen" if thing["category"] in seen_categories else "unseen" for thing in things}
    return SequencePlan(name, {label: label for label in frames_of}, frames, score_frame, groups)


def objects_of(meta: Path) -> list[tuple[str, dict[str, Any]]]:
    """Every object in a meta.json, with its video: its label, category and frames.

    Raises:
        UserError: the file is missing or not as YouTubeVOS has it.
    """

    def objects(video: Any) -> list[dict[str, Any]]:
        return [
            {"label": whole_number(label), "category": thing["category"], "frames": list(thing["frames"])}
            for label, thing in video["objects"].items()
        ]

    videos = read_json_videos(meta, "a YouTubeVOS meta.json (videos.V.objects.ID.category, .frames)", objects)
    found = [(name, thing) for name, things in videos.items() for thing in things]
    for name, thing in found:
        require_label(thing["label"], name, meta)
        if not isinstance(thing["category"], str) or not all(isinstance(each, str) for each in thing["frames"]):
            raise UserError(f"{meta}: object {thing['label']} of {name} has a category or a frame that is no text")
    return found
