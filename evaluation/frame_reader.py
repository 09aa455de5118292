"""A video's frames with the label maps that define its objects, checked against each other."""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dataset.evaluation_video import EvaluationSet, EvaluationVideo, from_first_object_on
from dataset.frames import Frame, FrameFolder, read_frame, size_text
from dataset.given_label_maps import GivenLabelMaps
from dataset.label_map import LabelMap, LabelMapSource, ObjectMasks, folder_labels, labels_of, list_label_maps
from dataset.video_file import VideoFile, open_source
from util.errors import UserError, first_few

logger = logging.getLogger(__name__)


class NoObjectError(UserError):
    """None of a video's objects is ever to be seen."""


def annotated_frames(video: EvaluationVideo) -> Iterator[tuple[Frame, LabelMap | None]]:
    """Yield every frame from the first annotated one on, with the label map of the objects that start there, if any.

    Label maps have the size of the output: the frame's, or `video.output_size`.

    Raises:
        UserError: the video cannot be evaluated, or a file of it is damaged or does not fit the others.
    """
    if video.problem is not None:
        raise UserError(video.problem)
    first: Frame | None = None
    annotations = Annotations(video)
    for frame in video.frames:
        label_map = annotations.of(frame, is_first=first is None)
        if first is None and label_map is None:
            continue
        first = first or frame
        if frame.rgb.shape != first.rgb.shape:
            raise UserError(
                f"{frame.path}: frame {frame.name} is {size_text(frame.rgb.shape[:2])}, frame {first.name} is "
                f"{size_text(first.rgb.shape[:2])}; frames of one video have one size"
            )
        yield frame, label_map
    if first is None and annotations.waiting:
        raise NoObjectError(f"{video.name}: no label map shows any of its objects")
    if first is None and video.annotations:
        raise UserError(f"{video.name} ends before frame {next(iter(video.annotations))}, that of its first label map")
    annotations.report_unused()


class Annotations:
    """The label maps that define a video's objects, as its frames go by."""

    def __init__(self, video: EvaluationVideo) -> None:
        self._video = video
        objects = frozenset().union(*video.starts.values()) if video.starts else None
        self._reader = GivenLabelMaps(video.label_maps, video.has_void, objects)
        self._to_come = dict(video.annotations)
        self.waiting: set[int] = set()
        """The objects that should have started, by the data set, and have not been seen yet."""

    def of(self, frame: Frame, is_first: bool) -> LabelMap | None:
        """Return the label map of the objects that start in a frame, if any.

        Args:
            is_first: no object has started yet.

        Raises:
            UserError: a label map cannot be read, does not fit its frame, or has no object although it is the only one.
        """
        video = self._video
        source = self._to_come.pop(frame.name, None)
        size = video.output_size or frame.rgb.shape[:2]
        if not video.starts:
            # Where objects may start later, a label map without any is no mistake, as long as others follow.
            may_be_empty = not is_first or bool(self._to_come)
            return None if source is None else read_annotation(self._reader, source, size, may_be_empty)
        self.waiting |= video.starts.get(frame.name, frozenset())
        source = source or video.later_label_maps.get(frame.name)
        if source is None or not self.waiting:
            return None
        if isinstance(source, ObjectMasks) and not source.only(self.waiting).files:
            return None
        label_map = read_annotation(self._reader, source, size, may_be_empty=True, only=self.waiting)
        seen = set() if label_map is None else set(labels_of(label_map.labels))
        covered = frozenset() if label_map is None else label_map.covered
        if covered:
            logger.warning(
                "%s: the mask of object %s is covered by others, and it is not followed; separate_objects follows it",
                source, names_of(covered, source),
            )  # fmt: skip
        missing = video.starts.get(frame.name, frozenset()) - seen - covered
        if missing and not video.empty_before:  # in such data sets objects start wherever they are first seen
            self._report_late(missing, source)
        self.waiting -= seen | covered
        return label_map

    def _report_late(self, labels: Collection[int], source: LabelMapSource) -> None:
        message = f"{source} does not show object {names_of(labels, source)}, which the data set has start there"
        if not self._video.later_label_maps and not self._to_come:
            raise UserError(f"{message}; there is no other label map of it")
        logger.warning("%s: taken from the first label map that shows it", message)

    def report_unused(self) -> None:
        """Name, at the end of a video, annotations of frames that it does not have, and objects that never appeared."""
        if self._to_come:
            logger.warning(
                "%s ends before the frames of its label maps: %s", self._video.name, first_few(list(self._to_come))
            )
        if self.waiting:
            named = names_of(self.waiting, next(iter(self._video.label_maps)))
            logger.warning("%s: no label map shows object %s, which was not followed", self._video.name, named)


def names_of(labels: Collection[int], source: LabelMapSource) -> str:
    """Return the names of objects: their labels, or their folders where they have such."""
    folders = {label: name for name, label in folder_labels([source]).items()}
    return first_few([folders.get(label, str(label)) for label in sorted(labels)])


def annotated_frames_for(
    video: EvaluationVideo, sizes: Sequence[int]
) -> Iterator[tuple[Mapping[int, Frame], LabelMap | None]]:
    """Yield `annotated_frames` for each of `sizes`. A frame that serves several sizes is read once.

    Raises:
        UserError: as `annotated_frames`.
    """
    source_of = {size: video.frames_for(size) for size in sizes}
    sources = list(dict.fromkeys(source_of.values()))
    place_of = {size: sources.index(source) for size, source in source_of.items()}
    readings = [annotated_frames(replace(video, frames=source)) for source in sources]
    for read in zip(*readings, strict=True):
        _, label_map = read[0]
        yield {size: read[place][0] for size, place in place_of.items()}, label_map


def open_video(path: Path, mask: Path | None = None, masks: Path | None = None) -> EvaluationSet:
    """Open a video file or a folder of frames, and the label maps that define its objects, as a set of one video.

    Args:
        mask: the label map of the first frame; or
        masks: a folder of label maps for any frames, named as these are: in a video file, by their numbers from 0.

    Raises:
        UserError: one of them cannot be used.
    """
    frames = open_source(path)
    name = path.resolve().name if path.is_dir() else path.stem
    first, size = _first_frame(frames)
    if mask is not None:
        if mask.is_dir():
            raise UserError(f"{mask} is a folder; --masks takes one, --mask the label map of the first frame")
        if isinstance(frames, FrameFolder) and mask.stem != first and mask.stem in frames.paths:
            logger.warning("%s is taken for the first frame, %s, although it is named like another one", mask, first)
        video = EvaluationVideo(name, frames, {first: mask}, saved_frames=None)
    else:
        assert masks is not None, "there is one of mask and masks"
        given = from_first_object_on(_by_frame(masks, frames))
        before = (
            list(frames.paths).index(next(iter(given))) if isinstance(frames, FrameFolder) else int(next(iter(given)))
        )
        video = EvaluationVideo(name, frames, given, saved_frames=None, frames_before=before)
    source = next(iter(video.annotations.values()))
    read_annotation(GivenLabelMaps(video.label_maps), source, size)  # mistakes show before anything is written
    return EvaluationSet("video", (video,))


def _first_frame(frames: FrameFolder | VideoFile) -> tuple[str, tuple[int, int]]:
    """Return the name of the first frame, and its (height, width)."""
    if isinstance(frames, VideoFile):
        return frames.name_of(0), frames.frame_size
    name, path = next(iter(frames.paths.items()))
    return name, read_frame(path).rgb.shape[:2]


def _by_frame(masks: Path, frames: FrameFolder | VideoFile) -> dict[str, LabelMapSource]:
    """Return the label maps of a folder by the names of their frames, in the order of these.

    Raises:
        UserError: there is none, or one has no frame.
    """
    label_maps = list_label_maps(masks)
    if not label_maps:
        raise UserError(f"{masks} holds no label maps")
    if isinstance(frames, FrameFolder):
        if without_frame := [name for name in label_maps if name not in frames.paths]:
            raise UserError(f"{label_maps[without_frame[0]]} has no frame in {frames.folder}")
        return {name: label_maps[name] for name in frames.paths if name in label_maps}
    if no_numbers := [name for name in label_maps if not (name.isascii() and name.isdigit())]:
        raise UserError(f"{label_maps[no_numbers[0]]}: label maps of a video file are named by their frames' numbers")
    numbers: dict[int, str] = {}
    for name in label_maps:
        if (other := numbers.setdefault(int(name), name)) != name:
            raise UserError(f"{masks} holds two label maps for frame {int(name)}: {other} and {name}")
    announced = frames.frame_count
    if announced is not None and max(numbers) > 1.05 * announced:  # a container's count may be an estimate
        last = label_maps[numbers[max(numbers)]]
        raise UserError(f"{last} is for frame {max(numbers)}, but {frames.path} has {announced} frames, from 0 on")
    return {frames.name_of(number): label_maps[numbers[number]] for number in sorted(numbers)}


def read_annotation(
    label_maps: GivenLabelMaps,
    source: LabelMapSource,
    size: tuple[int, int],
    may_be_empty: bool = False,
    only: Collection[int] | None = None,
) -> LabelMap | None:
    """Read the label map of a frame of `size` = (height, width); None if it defines no object and `may_be_empty`.

    Args:
        only: the objects that are wanted; the others count as background.

    Raises:
        UserError: as `GivenLabelMaps.read`; it has another size, or defines no object.
    """
    label_map = label_maps.read(source, only)
    if label_map.labels.shape != size:
        raise UserError(
            f"{source} is {size_text(label_map.labels.shape)}, but its frame {size_text(size)}; they must have one size"
        )
    if label_map.labels.any():
        return label_map
    if may_be_empty:
        return None
    raise UserError(f"{source} holds no object: all its labels are 0")
