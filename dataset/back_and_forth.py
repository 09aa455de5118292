"""Videos played back and forth, which makes them longer than any annotated video (table 1, figure 7)."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import dropwhile

from dataset.evaluation_video import EvaluationSet, EvaluationVideo
from dataset.frames import FrameFolder, FrameSource
from util.errors import UserError


def turning_order(frames: int, length: int) -> Iterator[int]:
    """The first `length` of 0, 1, …, L−1, L−2, …, 0, 1, … for L `frames`: frames at which the video turns come once."""
    period = max(2 * (frames - 1), 1)
    for position in range(length):
        phase = position % period
        yield min(phase, period - phase)


def back_and_forth(frames: FrameFolder, length: int) -> FrameFolder:
    """Play frames back and forth, `length` in all; nothing is copied.

    A frame's name is its position and the name of the frame that it shows: 00012-00004.
    """
    digits = max(5, len(str(length - 1)))
    named = tuple(frames.paths.items())
    order = (named[index] for index in turning_order(len(named), length))
    return FrameFolder(
        frames.folder, {f"{position:0{digits}d}-{name}": path for position, (name, path) in enumerate(order)}
    )


def repeat_videos(evaluation_set: EvaluationSet, times: int) -> EvaluationSet:
    """Play every video back and forth from its first annotation, to `times` its length; all of it is scored.

    Raises:
        UserError: an evaluation server, or rules of its own, score the set.
    """
    if times == 1:
        return evaluation_set
    if evaluation_set.server_zip:
        raise UserError(f"repeat: {evaluation_set.name} is scored by a server, which takes every frame once")
    if evaluation_set.protocol != "davis":
        raise UserError(f"repeat: {evaluation_set.name} is scored by rules of its own, which take every frame once")
    return replace(evaluation_set, videos=tuple(_repeated(video, times) for video in evaluation_set.videos))


def _repeated(video: EvaluationVideo, times: int) -> EvaluationVideo:
    if video.problem is not None:
        return video
    ((first, annotation),) = video.annotations.items()

    def played(frames: FrameSource) -> FrameFolder:
        assert isinstance(frames, FrameFolder)
        kept = dict(dropwhile(lambda item: item[0] != first, frames.paths.items()))
        return back_and_forth(FrameFolder(frames.folder, kept), times * len(kept))

    frames = played(video.frames)
    shown = {name: name.partition("-")[2] for name in frames.paths}
    saved, truth = video.saved_frames, video.ground_truth
    return replace(
        video,
        frames=frames,
        annotations={next(iter(shown)): annotation},
        saved_frames=None if saved is None else frozenset(name for name in shown if shown[name] in saved),
        ground_truth=None if truth is None else {name: truth[shown[name]] for name in shown if shown[name] in truth},
        frames_elsewhere={size: played(others) for size, others in video.frames_elsewhere.items()},
    )
