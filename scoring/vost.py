"""VOST's figures: J, and J_tr, its mean over the last quarter of the frames, when objects have changed most.

Void pixels are not left out: they count as background, so that a prediction there is a false alarm. Objects are 1 to
the largest label of the first map, also those that it lacks. Decay is computed with the toolkit's bounds, which are
kept in eight bits.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64

from dataset.frames import list_images
from dataset.label_map import MASK_SUFFIXES, VOID, labels_of, read_label_map
from dataset.recent_sets import vost_folder, vost_names
from scoring.measures import FrameScore, region_similarity, score_objects
from scoring.planning import ScoredFrame, SequencePlan, chosen_sequences, read_pair, require_predictions
from scoring.scores import FrameValues, Rules, Shown, mean_figures
from util.errors import UserError


def of_object(values: FrameValues, shown: Shown) -> dict[str, float]:
    """J, its recall and decay in percent, and the same of the last quarter of the frames."""
    j = values["J"]
    last = j[math.floor(0.75 * len(j)) :]
    return {
        "J": 100 * float(j.mean()),
        "J-Recall": 100 * float((j > 0.5).mean()),
        "J-Decay": 100 * decay(j),
        "J_tr": 100 * float(last.mean()),
        "J_tr-Recall": 100 * float((last > 0.5).mean()),
        "J_tr-Decay": 100 * decay(last),
    }


def decay(j: Float64[np.ndarray, " frames"]) -> float:
    """Mean of the first quarter less mean of the last; nan where such a quarter is empty, as the toolkit counts."""
    bounds = (np.round(np.linspace(1, len(j), 5) + 1e-10) - 1).astype(np.int64) % 256
    first, last = j[bounds[0] : bounds[1] + 1], j[bounds[3] : bounds[4] + 1]
    return float(first.mean() - last.mean()) if len(first) and len(last) else math.nan


RULES = Rules("vost", ("J",), ("J", "J_tr"), of_object, mean_figures, unit=1.0)


def plans(
    ground_truth: Path, prediction: Path, names: Collection[str] | None = None
) -> Mapping[str, Callable[[], SequencePlan]]:
    """Return, by the videos' names, a function for each that makes its plan.

    Args:
        ground_truth: the folder that holds Annotations and ImageSets.

    Raises:
        UserError: a file or folder is missing, or the ground truth lacks one of `names`.
    """
    masks = vost_folder(ground_truth) / "Annotations"
    present = vost_names(ground_truth, "val")
    return {
        name: partial(plan, name, masks / name, prediction / name)
        for name in chosen_sequences(present, names, ground_truth, prediction)
    }


def plan(name: str, truth: Path, prediction: Path) -> SequencePlan:
    """Return what is scored of a video: all objects, in all annotated frames but the first and last.

    Raises:
        UserError: a label map is missing, or the first holds no object.
    """
    there = list_images(truth, MASK_SUFFIXES)
    if len(there) < 3:
        raise UserError(f"{truth}: only its first and last label map, which are not to be scored")
    first = next(iter(there.values()))
    labels = range(1, 1 + max(label for label in [0, *labels_of(read_label_map(first).labels)] if label != VOID))
    if not labels:
        raise UserError(f"{first} holds no object; those of a sequence's first label map are scored")
    frames = tuple(
        ScoredFrame(frame, prediction / f"{frame}.png", path, tuple(labels))
        for frame, path in list(there.items())[1:-1]
    )
    require_predictions(frames)
    later = "objects that enter after the first ground-truth map; background for VOST"
    return SequencePlan(name, {label: label for label in labels}, frames, score_frame, later=later)


def score_frame(frame: ScoredFrame) -> FrameScore:
    """J of a frame's objects."""

    def score(truth: Bool[np.ndarray, "height width"], prediction: Bool[np.ndarray, "height width"]) -> tuple[float]:
        return (region_similarity(truth, prediction),)

    scored = score_objects(*read_pair(frame), frame.objects, ("J",), score)
    return replace(scored, true_labels=scored.true_labels - {VOID})
