"""Videos played back and forth, which makes them longer than any annotated video (table 1, figure 7)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from dataset.evaluation_sets import EvaluationSet, EvaluationVideo
from dataset.frames import Frame, FrameFolder, read_frame
from util.errors import UserError


def turning_order(frames: int, length: int) -> Iterator[int]:
    """The first `length` of 0, 1, …, L−1, L−2, …, 0, 1, … for L `frames`: frames at which the video turns come once."""
    period = max(2 * (frames - 1), 1)
    for position in range(length):
        phase = position % period
        yield min(phase, period - phase)


@dataclass(frozen=True)
class BackAndForth:
    """Frames of a folder, played back and forth through an index; nothing is copied.

    A frame's name is its position and the name of the frame that it shows: 00012-00004.
    """

    frames: FrameFolder
    length: int

    @property
    def frame_count(self) -> int:
        """Number of frames, repeated ones counted each time."""
        return self.length

    @property
    def frame_rate(self) -> Fraction:
        """Frames per second."""
        return self.frames.frame_rate

    @property
    def paths(self) -> Mapping[str, Path]:
        """The name of each frame → the image that it shows, in the order of the frames and of their names."""
        digits = max(5, len(str(self.length - 1)))
        order = (self.frames.paths[index] for index in turning_order(len(self.frames), self.length))
        return {f"{position:0{digits}d}-{path.stem}": path for position, path in enumerate(order)}

    def __iter__(self) -> Iterator[Frame]:
        return (replace(read_frame(path), name=name) for name, path in self.paths.items())


def repeat_videos(evaluation_set: EvaluationSet, times: int) -> EvaluationSet:
    """Play every video back and forth from its first annotation, to `times` its length; all of it is scored.

    Raises:
        UserError: an evaluation server scores the set.
    """
    if times == 1:
        return evaluation_set
    if evaluation_set.server_zip:
        raise UserError(f"repeat: {evaluation_set.name} is scored by a server, which takes every frame once")
    return replace(evaluation_set, videos=tuple(_repeated(video, times) for video in evaluation_set.videos))


def _repeated(video: EvaluationVideo, times: int) -> EvaluationVideo:
    if video.problem is not None:
        return video
    ((first, annotation),) = video.annotations.items()

    start = [path.stem for path in video.frames.paths].index(first)

    def played(frames: FrameFolder) -> BackAndForth:
        paths = frames.paths[start:]
        return BackAndForth(FrameFolder(frames.folder, paths), times * len(paths))

    frames = played(video.frames)
    shown = {name: path.stem for name, path in frames.paths.items()}
    saved, truth = video.saved_frames, video.ground_truth
    return replace(
        video,
        frames=frames,
        annotations={next(iter(shown)): annotation},
        saved_frames=None if saved is None else frozenset(name for name in shown if shown[name] in saved),
        ground_truth=None if truth is None else {name: truth[shown[name]] for name in shown if shown[name] in truth},
        frames_elsewhere={size: played(others) for size, others in video.frames_elsewhere.items()},
    )
