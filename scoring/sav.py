"""SA-V's figures: J and F of each object, whose masks are files of its own and may overlap those of others.

Frames before the first one in which the ground truth or the prediction has anything do not count: correctly empty
predictions before a late object would raise its score.
"""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from dataset.frames import natural_key, require_folder
from dataset.label_map import ObjectMasks, read_object_mask
from dataset.recent_sets import sav_folder, sav_masks, sav_names
from scoring.measures import FrameScore, boundary_radius, score_masks
from scoring.planning import ScoredFrame, SequencePlan, chosen_sequences, require_predictions, require_same_size
from scoring.scores import FrameValues, Rules, Shown, j_and_f_of_all, j_and_f_of_object
from util.errors import UserError


def of_object(values: FrameValues, shown: Shown) -> dict[str, float]:
    """J&F, J and F of an object in percent."""
    if not shown.any():
        raise UserError("its ground truth is empty in every frame that is to be scored")
    return j_and_f_of_object(values, shown)


def first_counted(shown: Shown, predicted: Shown) -> int:
    """Return the first frame in which the ground truth or the prediction has something, or the number of frames."""
    something = shown | predicted
    return int(something.argmax()) if something.any() else len(something)


RULES = Rules("sav", ("J", "F"), ("J&F", "J", "F"), of_object, j_and_f_of_all, first_counted=first_counted)


def plans(
    ground_truth: Path, prediction: Path, names: Collection[str] | None = None
) -> Mapping[str, Callable[[], SequencePlan]]:
    """Return, by the videos' names, a function for each that makes its plan.

    Args:
        ground_truth: the folder that holds Annotations_6fps and the list of videos.

    Raises:
        UserError: a file or folder is missing, or the ground truth lacks one of `names`.
    """
    folder = sav_folder(ground_truth)
    masks = require_folder(folder / "Annotations_6fps")
    return {
        name: partial(plan, name, masks / name, prediction / name)
        for name in chosen_sequences(sav_names(folder), names, ground_truth, prediction)
    }


def plan(name: str, truth: Path, prediction: Path) -> SequencePlan:
    """Return what is scored of a video: each object, in all frames that it has a file for but the first and last.

    Objects that lack predictions are left out by themselves.

    Raises:
        UserError: there are no masks, or the video is not predicted at all.
    """
    files: dict[int, list[Path]] = {}
    for source in sav_masks(truth).values():
        assert isinstance(source, ObjectMasks)
        for label, path in source.files:
            files.setdefault(label, []).append(path)
    require_folder(prediction)
    frames: list[ScoredFrame] = []
    left_out: dict[int, str] = {}
    for label, paths in files.items():
        of_object = [
            ScoredFrame(path.stem, prediction / path.parent.name / f"{path.stem}.png", path, (label,))
            for path in paths[1:-1]
        ]
        try:
            require_predictions(of_object)
            frames += of_object
        except UserError as error:
            left_out[label] = str(error)
    frames.sort(key=lambda frame: (natural_key(frame.name), frame.objects))
    objects: dict[int, int | str] = {label: paths[0].parent.name for label, paths in sorted(files.items())}
    return SequencePlan(name, objects, tuple(frames), score_frame, of_masks=True, left_out=left_out)


def score_frame(frame: ScoredFrame) -> FrameScore:
    """J and F of one object's mask."""
    assert isinstance(frame.truth, Path)
    assert isinstance(frame.prediction, Path)
    truth, prediction = read_object_mask(frame.truth), read_object_mask(frame.prediction)
    require_same_size(frame, truth, prediction)
    j, f = score_masks(truth, prediction, boundary_radius(*truth.shape))
    return FrameScore(
        {"J": np.array([j], np.float64), "F": np.array([f], np.float64)},
        truth.any(keepdims=True).ravel(),
        prediction.any(keepdims=True).ravel(),
        frozenset(),
        frozenset(),
    )
