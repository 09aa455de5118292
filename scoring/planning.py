"""What is scored of each sequence, and scoring it frame by frame, so that few label maps are held at a time."""

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8

from dataset.frames import folder_entries, require_folder, size_text
from dataset.label_map import LabelMapSource, files_of, read_label_map
from scoring.measures import FrameScore, score_label_maps
from scoring.scores import Figures, FrameValues, ObjectScore, Rules, Scores, SequenceScore, Shown, mean_figures
from util.errors import UserError, first_few
from util.machine import available_cores

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class ScoredFrame:
    """A predicted label map, the true one that it is compared with, and the objects that are scored in it."""

    name: str
    prediction: LabelMapSource
    truth: LabelMapSource
    objects: tuple[int, ...]


@dataclass(frozen=True)
class SequencePlan:
    """The scored part of a sequence.

    Attributes:
        name: the sequence.
        objects: label → what the object is called in results.
        frames: its frames.
        measure: reads a frame and scores its objects.
        groups: label → "seen" or "unseen".
        later: what is said of true labels that are no objects.
        hint: what is said where no predicted label is that of an object.
        of_masks: the files hold one object each, whose labels mean nothing.
        left_out: why some objects cannot be scored, by their labels.
        of_object: makes an object's figures in place of the rules' function.
    """

    name: str
    objects: Mapping[int, int | str]
    frames: tuple[ScoredFrame, ...]
    measure: Callable[[ScoredFrame], FrameScore]
    groups: Mapping[int, str] = field(default_factory=dict)
    later: str = "in the ground truth, but no objects that are scored"
    hint: str = "no label is in both"
    of_masks: bool = False
    left_out: Mapping[int, str] = field(default_factory=dict)
    of_object: Callable[[FrameValues, Shown], Figures] | None = None


def score_frame(frame: ScoredFrame) -> FrameScore:
    """Return J and F of a frame's objects, as in DAVIS 2017, without void."""
    return score_label_maps(*read_pair(frame), frame.objects)


def require_predictions(frames: Sequence[ScoredFrame]) -> None:
    """Check that there is a predicted label map for every frame.

    Raises:
        UserError: there is not.
    """
    predictions = [frame.prediction for frame in frames]
    if missing := [each for each in predictions if not all(path.is_file() for path in files_of(each))]:
        names = first_few([path.name for path in missing])
        raise UserError(f"{missing[0].parent} lacks {len(missing)} of {len(predictions)} frames: {names}")


def score_plans(rules: Rules, makers: Mapping[str, Callable[[], SequencePlan]], threads: int | None = None) -> Scores:
    """Return the scores of sequences.

    Args:
        makers: the name of each sequence → a function that makes its plan, and may read files for that.
        threads: the number of cores by default; with 1 everything happens in the caller's thread. (Threads and not
            processes: decoding and measuring run outside the interpreter's lock, and forking is unsafe once CUDA is in
            use.)

    A sequence whose plan cannot be made, or of which a file cannot be read or has another size than the ground truth,
    is left out, with the reason in `Scores.left_out`.

    Raises:
        UserError: no sequence can be scored; the reason is that of the first one.
    """
    if not makers:
        raise UserError("there are no sequences to score")
    threads = available_cores() if threads is None else threads
    left_out: dict[str, str] = {}
    plans: list[SequencePlan] = []
    for name, plan in zip(makers, _map(lambda make: make(), makers.values(), threads), strict=True):
        if isinstance(plan, UserError):
            left_out[name] = str(plan)
        else:
            plans.append(plan)
    frames = [(plan, frame) for plan in plans for frame in plan.frames]
    frame_scores = iter(_map(lambda item: item[0].measure(item[1]), frames, threads))
    scores = {}
    for plan in plans:
        of_frames = [next(frame_scores) for _ in plan.frames]
        if errors := [each for each in of_frames if isinstance(each, UserError)]:
            if not plan.of_masks:
                left_out[plan.name] = str(errors[0])
                continue
            plan, of_frames = without_unreadable(plan, of_frames)
        sequence, reasons = gather(rules, plan, [each for each in of_frames if isinstance(each, FrameScore)])
        left_out |= {f"{plan.name}/{name}": reason for name, reason in reasons.items()}
        if sequence.objects:
            scores[plan.name] = sequence
    if not scores:
        raise UserError(next(iter(left_out.values()), "there is nothing to score"))
    return Scores(rules, scores, left_out)


def without_unreadable(
    plan: SequencePlan, of_frames: Sequence[FrameScore | UserError]
) -> tuple[SequencePlan, list[FrameScore | UserError]]:
    """Return a plan of files for single objects, and its scores, without objects of which a file cannot be read."""
    scored = list(zip(plan.frames, of_frames, strict=True))
    lost = {label: str(each) for frame, each in scored if isinstance(each, UserError) for label in frame.objects}
    kept = [(frame, each) for frame, each in scored if lost.keys().isdisjoint(frame.objects)]
    left_out = {**lost, **plan.left_out}
    return replace(plan, frames=tuple(frame for frame, _ in kept), left_out=left_out), [each for _, each in kept]


def gather(
    rules: Rules, plan: SequencePlan, frames: Sequence[FrameScore]
) -> tuple[SequenceScore, dict[int | str, str]]:
    """Return the scores of a sequence's objects, and why others have none; warn of labels that are nobody's."""
    if not plan.of_masks:
        report_labels(plan, frames)
    series: dict[int, list[tuple[str, bool, bool, list[float]]]] = defaultdict(list)
    for frame, score in zip(plan.frames, frames, strict=True):
        for channel, label in enumerate(frame.objects):
            measured = [float(of_objects[channel]) for of_objects in score.values.values()]
            series[label].append((frame.name, bool(score.shown[channel]), bool(score.predicted[channel]), measured))
    measures = list(frames[0].values) if frames else []
    objects: dict[int | str, ObjectScore] = {}
    reasons: dict[int | str, str] = {}
    for label, name in plan.objects.items():
        if label in plan.left_out:
            reasons[name] = plan.left_out[label]
            continue
        if not series[label]:
            reasons[name] = "it has only its first and last frame, which are not to be scored"
            continue
        names, shown, predicted, rows = zip(*series[label], strict=True)
        first = rules.first_counted(np.array(shown), np.array(predicted))
        values = dict(zip(measures, np.array(rows, np.float64)[first:].T, strict=True))
        try:
            figures = (plan.of_object or rules.of_object)(values, np.array(shown[first:], bool))
        except UserError as error:
            reasons[name] = str(error)
            continue
        objects[name] = ObjectScore(
            names[first:], values, np.array(shown[first:], bool), figures, plan.groups.get(label, "")
        )
    all_frames = tuple(dict.fromkeys(frame.name for frame in plan.frames))
    return SequenceScore(objects, all_frames, mean_figures(objects.values())), reasons


def report_labels(plan: SequencePlan, frames: Sequence[FrameScore]) -> None:
    """Warn of predicted labels that are no objects, of objects that are never predicted, and of other true labels."""
    objects = plan.objects.keys()
    predicted = frozenset().union(*(frame.predicted_labels for frame in frames))
    later = frozenset().union(*(frame.true_labels for frame in frames)) - objects
    for labels, meaning in (
        (predicted - objects - later, "predicted, but no objects of the ground truth; taken as background"),
        (objects - predicted, "objects of the ground truth that are never predicted"),
        (later, plan.later),
    ):
        if labels:
            logger.warning("%s: labels %s: %s", plan.name, ", ".join(map(str, sorted(labels))), meaning)
    if predicted and predicted.isdisjoint(objects):
        logger.warning("%s: %s", plan.name, plan.hint)


def frames_of_objects(
    frames_of: Mapping[int, Iterable[str]], truths: Mapping[str, Path], prediction: Path
) -> tuple[ScoredFrame, ...]:
    """Return the frames of objects that are each scored in frames of their own, in the order of the frames' names.

    Args:
        frames_of: label → the names of the frames in which the object is scored.
        truths: frame name → its true label map.
        prediction: the folder of the predicted label maps, FRAME.png.
    """
    objects: dict[str, list[int]] = defaultdict(list)
    for label, names in frames_of.items():
        for name in set(names):
            objects[name].append(label)
    return tuple(
        ScoredFrame(name, prediction / f"{name}.png", truths[name], tuple(objects[name])) for name in sorted(objects)
    )


def read_pair(frame: ScoredFrame) -> tuple[UInt8[np.ndarray, "height width"], UInt8[np.ndarray, "height width"]]:
    """Read the true and the predicted label map of a frame.

    Raises:
        UserError: one cannot be read, or they differ in size.
    """
    truth, prediction = (read_label_map(source).labels for source in (frame.truth, frame.prediction))
    require_same_size(frame, truth, prediction)
    return truth, prediction


def require_same_size(frame: ScoredFrame, truth: np.ndarray, prediction: np.ndarray) -> None:
    """Check that the true and predicted masks of a frame have one size.

    Raises:
        UserError: they have not.
    """
    if truth.shape != prediction.shape:
        size, true_size = size_text(prediction.shape), size_text(truth.shape)
        raise UserError(f"{frame.prediction} is {size} pixels, but its ground truth {frame.truth} {true_size}")


def chosen_sequences(
    present: Collection[str], wanted: Collection[str] | None, ground_truth: Path, prediction: Path
) -> list[str]:
    """Return the sequences of a benchmark that are to be scored: all that are `present`, or `wanted`, sorted.

    Predicted sequences that the ground truth lacks are named in a warning; other folders, such as eval.py's of overlay
    videos, are not.

    Raises:
        UserError: the prediction's folder does not exist, or the ground truth lacks one of `wanted`.
    """
    predicted = {path.name for path in folder_entries(require_folder(prediction)) if path.is_dir()}
    if wanted is None:
        extra = sorted(name for name in predicted - set(present) if next((prediction / name).rglob("*.png"), None))
        if extra:
            logger.warning("%s: not in the ground truth, not scored: %s", prediction, first_few(extra))
        return sorted(present)
    if missing := set(wanted) - set(present):
        raise UserError(f"{ground_truth} lacks {len(missing)} of {len(wanted)} sequences: {first_few(sorted(missing))}")
    return sorted(set(wanted))


def _map(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> list[Result | UserError]:
    """Results in the order of `items`; a user error takes the place of its item's result."""

    def result(item: Item) -> Result | UserError:
        try:
            return function(item)
        except UserError as error:
            return error

    if threads == 1:
        return [result(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(result, items))
