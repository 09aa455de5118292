"""MOSEv2's figures: J, Ḟ (written F_new) and F, and J&Ḟ where objects have disappeared and where they have come back.

Ḟ matches boundaries within a distance that grows with the object, so that small ones are not matched by chance.
"""

import logging
import math
from collections.abc import Callable, Collection, Mapping
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64

from dataset.frames import list_images
from dataset.label_map import MASK_SUFFIXES, labels_of, read_label_map
from dataset.recent_sets import Mose2Video, mose2_folder, read_mose2_meta
from scoring.measures import BOUNDARY_TOLERANCE, FrameScore, boundary, boundary_match, content_window, score_objects
from scoring.planning import ScoredFrame, SequencePlan, chosen_sequences, read_pair, require_predictions
from scoring.scores import FrameValues, ObjectScore, Rules, Shown, mean_figures
from util.errors import UserError

SHARE_OF_OBJECT = 0.1
"""The distance within which Ḟ matches boundaries, as a share of the square root of the object's area."""

MEASURES = ("J", "F_new", "F")

logger = logging.getLogger(__name__)


def score_object(
    truth: Bool[np.ndarray, "height width"],
    prediction: Bool[np.ndarray, "height width"],
    size: tuple[int, int],
) -> tuple[float, float, float]:
    """Return J, Ḟ and F of one object, 0 to 1.

    Args:
        size: (height, width) of the frame, of which the masks may be a part.
    """
    diagonal, area = math.hypot(*size), np.count_nonzero(truth)
    window = content_window((truth | prediction).view(np.uint8))
    truth, prediction = truth[window], prediction[window]
    union = np.count_nonzero(truth | prediction)
    j = (np.count_nonzero(truth & prediction) + 1) / (union + 1) if union else 1.0
    boundaries = boundary(truth), boundary(prediction)
    most = BOUNDARY_TOLERANCE * diagonal
    width = math.ceil(SHARE_OF_OBJECT * (math.sqrt(area) if area else diagonal))
    if width < most:
        return j, boundary_match(*boundaries, float(width)), boundary_match(*boundaries, float(math.ceil(most)))
    # The scorer's disk for a radius that is no whole number is lopsided, for both measures.
    f = boundary_match(*boundaries, most, math.ceil(most) - most)
    return j, f, f


def of_object(values: FrameValues, shown: Shown) -> dict[str, float]:
    """J&Ḟ, J, Ḟ, F and J&F of an object in percent; nan for what it has no stretch of frames for."""
    means = {name: 100 * float(values[name].mean()) for name in MEASURES}
    figures = {"J&F_new": (means["J"] + means["F_new"]) / 2, **means, "J&F": (means["J"] + means["F"]) / 2}
    for name, is_shown in (("disappear", False), ("reappear", True)):
        stretches = [each for each in stretches_after_the_first(shown) if shown[each.start] == is_shown]
        j, f = (mean_over(values[measure], stretches) for measure in ("J", "F_new"))
        figures |= {f"{name}_J": j, f"{name}_F_new": f, f"{name}_J&F_new": (j + f) / 2}
    return figures


def stretches_after_the_first(shown: Shown) -> list[slice]:
    """Return the stretches of frames in which it does not change whether an object shows, without the first one."""
    groups = [
        [frame for frame, _ in group] for _, group in groupby(enumerate(shown.tolist()), key=lambda each: each[1])
    ]
    return [slice(frames[0], frames[-1] + 1) for frames in groups[1:]]


def mean_over(values: Float64[np.ndarray, " frames"], stretches: Collection[slice]) -> float:
    """Return the mean over stretches of their means, in percent; nan if there is none."""
    return 100 * float(np.mean([values[each].mean() for each in stretches])) if stretches else math.nan


def of_all(objects: Collection[ObjectScore]) -> dict[str, float]:
    """The seven figures of the data set, by the server's names and in its order."""
    means = mean_figures(objects)
    order = ("J&F_new", "J", "F_new", "disappear_J&F_new", "reappear_J&F_new", "F", "J&F")
    return {name: means[name] for name in order}


RULES = Rules(
    "mose2",
    ("J", "F_new"),
    ("J&F_new", "J", "F_new", "disappear_J&F_new", "reappear_J&F_new", "F", "J&F"),
    of_object,
    of_all,
    unit=1.0,
)


def plans(
    ground_truth: Path, prediction: Path, names: Collection[str] | None = None
) -> Mapping[str, Callable[[], SequencePlan]]:
    """Return, by the videos' names, a function for each that makes its plan.

    Args:
        ground_truth: the folder that holds Annotations, with all label maps, and meta.json.

    Raises:
        UserError: a file or folder is missing or damaged, or the ground truth lacks one of `names`.
    """
    meta = read_mose2_meta(ground_truth)
    if meta is None:
        raise UserError(f"{ground_truth} holds no meta.json, which says which objects MOSEv2 has")
    masks = mose2_folder(ground_truth) / "Annotations"
    return {
        name: partial(plan, name, meta[name], masks / name, prediction / name)
        for name in chosen_sequences(meta, names, ground_truth, prediction)
    }


def plan(name: str, video: Mose2Video, truth: Path, prediction: Path) -> SequencePlan:
    """Return what is scored of a video: all objects of the meta file, in all frames but the first and last.

    Raises:
        UserError: label maps are missing.
    """
    there = list_images(truth, MASK_SUFFIXES)
    if len(there) != video.length:
        raise UserError(f"{truth} holds {len(there)} label maps, but the meta file says {video.length}")
    if video.length < 3:
        raise UserError(f"{truth}: only its first and last label map, which are not to be scored")
    if not video.labels:
        raise UserError(f"the meta file names no object of {name}")
    objects = {label: label for label in video.labels}
    names = list(there)
    if not prediction.is_dir():
        logger.warning("%s: there are no predictions, and it counts as 0, as the server does", name)
        frames = tuple(ScoredFrame(each, prediction, there[each], tuple(objects)) for each in names[1:-1])
        return SequencePlan(name, objects, frames, score_nothing, of_masks=True, of_object=of_no_prediction)
    first, second = (prediction / f"{each}.png" for each in names[:2])
    if second.is_file() and not first.is_file():
        logger.warning(
            "%s lacks the first frame, %s: the frames that count are one later, as for the server", prediction, names[0]
        )
        names = names[1:]
    scored = names[1 : video.length - 1]
    frames = tuple(ScoredFrame(each, prediction / f"{each}.png", there[each], tuple(objects)) for each in scored)
    require_predictions(frames)
    return SequencePlan(name, objects, frames, score_frame)


def score_frame(frame: ScoredFrame) -> FrameScore:
    """J, Ḟ and F of a frame's objects."""
    truth, prediction = read_pair(frame)
    return score_objects(truth, prediction, frame.objects, MEASURES, partial(score_object, size=truth.shape))


def score_nothing(frame: ScoredFrame) -> FrameScore:
    """Scores of 0 for a frame without a prediction."""
    shown = set(labels_of(read_label_map(frame.truth).labels))
    count = len(frame.objects)
    values = {measure: np.zeros(count) for measure in MEASURES}
    is_shown = np.array([label in shown for label in frame.objects], bool)
    return FrameScore(values, is_shown, np.zeros(count, bool), frozenset(), frozenset())


def of_no_prediction(values: FrameValues, shown: Shown) -> dict[str, float]:
    """The figures of an object without predictions: 0, and nothing for disappearance and reappearance."""
    return {name: math.nan if "appear" in name else 0.0 for name in of_object(values, shown)}
