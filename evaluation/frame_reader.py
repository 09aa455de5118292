"""A video's frames with the label maps that define its objects, checked against each other."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dataset.evaluation_sets import EvaluationSet, EvaluationVideo
from dataset.frames import Frame, size_text
from dataset.label_map import LabelMap, check_objects, read_label_map
from dataset.video_file import VideoFile
from util.errors import UserError


def annotated_frames(video: EvaluationVideo) -> Iterator[tuple[Frame, LabelMap | None]]:
    """Yield every frame from the first annotated one on, with the label map of the objects that start there, if any.

    Label maps have the size of the output: the frame's, or `video.output_size`.

    Raises:
        UserError: the video cannot be evaluated, or a file of it is damaged or does not fit the others.
    """
    if video.problem is not None:
        raise UserError(video.problem)
    first: Frame | None = None
    to_come = dict(video.annotations)
    for frame in video.frames:
        path = to_come.pop(frame.name, None)
        label_map = None
        if path is not None:
            # Where objects may start later, a label map without any is no mistake, as long as others follow.
            label_map = read_annotation(
                path, video.output_size or frame.rgb.shape[:2], may_be_empty=bool(first or to_come)
            )
        if first is None and label_map is None:
            continue
        first = first or frame
        if frame.rgb.shape != first.rgb.shape:
            raise UserError(
                f"{frame.path}: frame {frame.name} is {size_text(frame.rgb.shape[:2])}, frame {first.name} is "
                f"{size_text(first.rgb.shape[:2])}; frames of one video have one size"
            )
        yield frame, label_map


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


def open_video_file(path: Path, mask: Path) -> EvaluationSet:
    """Open a video file and the label map of its first frame as a set of one video.

    Raises:
        UserError: one of them cannot be used.
    """
    frames = VideoFile(path)
    read_annotation(mask, frames.frame_size)  # so that its mistakes are found before anything is written
    first = next(iter(frames)).name
    return EvaluationSet("video", (EvaluationVideo(path.stem, frames, {first: mask}, saved_frames=None),))


def read_annotation(path: Path, size: tuple[int, int], may_be_empty: bool = False) -> LabelMap | None:
    """Read the label map of a frame of `size` = (height, width); None if it defines no object and `may_be_empty`.

    Raises:
        UserError: it cannot be read, is no label map, has another size, or defines no object; or as `check_objects`.
    """
    label_map = read_label_map(path)
    if label_map.labels.shape != size:
        raise UserError(
            f"{path} is {size_text(label_map.labels.shape)}, but its frame {size_text(size)}; they must have one size"
        )
    if label_map.labels.any():
        check_objects(label_map, path)
        return label_map
    if may_be_empty:
        return None
    raise UserError(f"{path} holds no object: all its labels are 0")
