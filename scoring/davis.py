"""Scoring folders of label maps as the DAVIS 2017 toolkit does: which sequences, frames and objects count."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from dataset.frames import folder_entries, require_folder
from dataset.label_map import (
    GREY_PALETTE,
    VOID,
    LabelMap,
    LabelMapSource,
    colour_palette,
    colours_of,
    folder_labels,
    lacking_objects,
    list_label_maps,
    marks_void,
    objects_of,
    read_label_map,
)
from scoring.measures import FrameScore, score_label_maps
from scoring.planning import (
    ScoredFrame,
    SequencePlan,
    chosen_sequences,
    require_predictions,
    require_same_size,
    score_plans,
)
from scoring.scores import Rules, Scores, j_and_f_of_all, j_and_f_of_object
from util.errors import UserError, first_few
from util.painting import davis_palette

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoredSequence:
    """One sequence: predicted label map → the true one that it is compared with, in the order of the frames.

    Several predictions may have one truth, as where a video is played more than once.
    """

    name: str
    label_maps: Mapping[LabelMapSource, LabelMapSource]


RULES = Rules("davis", ("J", "F"), ("J&F", "J", "F"), j_and_f_of_object, j_and_f_of_all)


def find_sequences(
    ground_truth: Path, prediction: Path, names: Collection[str] | None = None
) -> tuple[ScoredSequence, ...]:
    """The sequences that lie as ground_truth/SEQUENCE and prediction/SEQUENCE: all of the ground truth's, or `names`.

    The ground truth says which frames there are. Predicted sequences that it lacks are named in a warning; sequences
    that are not predicted are left out when they are scored.

    Raises:
        UserError: a folder does not exist, there is no sequence in it, or the ground truth lacks one of `names`.
    """
    present = {path.name for path in folder_entries(require_folder(ground_truth)) if path.is_dir()}
    if not present:
        raise UserError(f"{ground_truth} holds no sequences; label maps are expected as SEQUENCE/FRAME.png in it")
    chosen = chosen_sequences(present, names, ground_truth, prediction)
    return tuple(_sequence(name, ground_truth / name, prediction / name) for name in chosen)


def _sequence(name: str, ground_truth: Path, prediction: Path) -> ScoredSequence:
    truths = list_label_maps(ground_truth)
    labels = folder_labels(truths.values())
    predictions = list_label_maps(prediction, labels or None) if prediction.is_dir() else {}
    if lacking := lacking_objects(truths):
        frame, names = next(iter(lacking.items()))
        logger.warning(
            "%s: frames without a mask of every object (%d) count as if it did not show there: %s lacks %s",
            ground_truth, len(lacking), frame, first_few(names),
        )  # fmt: skip
    return ScoredSequence(
        name, {predictions.get(frame, prediction / f"{frame}.png"): truths[frame] for frame in truths}
    )


def score_sequences(
    sequences: Sequence[ScoredSequence],
    *,
    skip_first_and_last: bool = True,
    all_objects: bool = False,
    binary: bool = False,
    threads: int | None = None,
) -> Scores:
    """J and F of every object of the `sequences`, as the DAVIS 2017 toolkit scores semi-supervised results.

    The objects are those of a sequence's first ground-truth map. 255 is one where that map holds nothing but 0 and 255
    (DAVIS 2016); elsewhere it is void, left out of both measures. Predicted labels that are no objects count as
    background and are named in a warning, as are objects that are never predicted or that enter later.

    Args:
        skip_first_and_last: leave out the first frame, whose label map is given, and the last, as the toolkit does.
        all_objects: also score objects that enter later, from their first label map on as the others are.
        binary: take all labels but 0 as one object, whatever their values are.
        threads: the number of cores by default; with 1 everything happens in the caller's thread. (Threads and not
            processes: decoding and measuring run outside the interpreter's lock, and forking is unsafe once CUDA is in
            use.)

    A sequence that cannot be scored is left out, with the reason in `Scores.left_out`: there is no label map, frame or
    object to score, or a label map is missing, unreadable, has several channels or another size than the ground truth.

    Raises:
        UserError: no sequence can be scored; the reason is that of the first one.
    """
    makers = {
        sequence.name: partial(_plan, sequence, skip_first_and_last, all_objects, binary) for sequence in sequences
    }
    return score_plans(RULES, makers, threads)


def _plan(sequence: ScoredSequence, skip_first_and_last: bool, all_objects: bool, binary: bool) -> SequencePlan:
    all_frames = frames = tuple(sequence.label_maps.items())
    if not frames:
        raise UserError(f"{sequence.name} has no label maps to be scored by")
    _, first = frames[0]
    if skip_first_and_last:
        if len(frames) < 3:
            raise UserError(f"{first.parent}: only its first and last label map, which are not to be scored")
        frames = frames[1:-1]
    scored = tuple(ScoredFrame(Path(each.name).stem, each, truth, ()) for each, truth in frames)
    require_predictions(scored)
    palette = colour_palette(sequence.label_maps.values())
    first_frames: dict[int, int] = {}
    void = False
    for index, (_, truth) in enumerate(all_frames if all_objects else all_frames[:1]):
        labels = objects_of(read_label_map(truth, palette).labels)
        void = void or (not first_frames and marks_void(labels))
        for label in labels:
            if label != VOID or not void:
                first_frames.setdefault(1 if binary else label, index)
    # Without the sequence's first frame, the one that follows an object's first label map has its index in `frames`.
    starts = {label: index for label, index in sorted(first_frames.items()) if index < len(frames)}
    if not starts:
        where = f"no label map in {first.parent}" if all_objects else first
        raise UserError(f"{where} holds no object; those of a sequence's first label map are scored")
    if palette not in (None, GREY_PALETTE, davis_palette()) and read_label_map(frames[0][0], palette).palette is None:
        logger.warning(
            "%s: the ground truth is in colours, taken for labels in the order in which they appear, since the "
            "predictions have no palette", sequence.name,
        )  # fmt: skip
    return SequencePlan(
        name=sequence.name,
        objects={label: label for label in starts},
        frames=tuple(
            replace(frame, objects=tuple(label for label, start in starts.items() if start <= index))
            for index, frame in enumerate(scored)
        ),
        measure=partial(_score_frame, palette=palette, void=void, binary=binary),
        later="objects that enter after the first ground-truth map; not scored (all_objects scores them)",
        hint="no label is in both; binary scoring takes all labels as one object",
    )


def _score_frame(frame: ScoredFrame, palette: bytes | None, void: bool, binary: bool) -> FrameScore:
    truth = read_label_map(frame.truth, palette).labels
    predicted = read_label_map(frame.prediction, palette)
    prediction = predicted.labels
    if palette is not None and palette != GREY_PALETTE and predicted.palette:
        prediction = by_colour(predicted, palette)
    require_same_size(frame, truth, prediction)
    if binary:
        truth = np.where((truth == VOID) & void, truth, (truth > 0).view(np.uint8))
        prediction = (prediction > 0).view(np.uint8)
    return score_label_maps(truth, prediction, frame.objects, void=void)


def by_colour(label_map: LabelMap, palette: bytes) -> UInt8[np.ndarray, "height width"]:
    """Return a label map with the labels that its colours have in another palette; colours that it lacks become 255."""
    assert label_map.palette is not None
    own, other = (colours_of(each).tolist() for each in (label_map.palette, palette))
    place = {colour: label for label, colour in reversed(list(enumerate(other)))}
    table = np.array([place.get(colour, 255) for colour in own] + [255] * (256 - len(own)), np.uint8)
    table[0] = 0
    return table[label_map.labels]
