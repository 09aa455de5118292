"""Frames of a video file, decoded one at a time by FFmpeg: the same source of frames as a folder of images."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from jaxtyping import UInt8

from dataset.frames import FRAME_SUFFIXES, Frame, FrameFolder, size_text
from util.errors import UserError

logger = logging.getLogger(__name__)

# A container's own count is often an estimate; only a clip much shorter than announced is worth a warning.
SHORT_OF_ANNOUNCED = 0.95

# Titles and the like, which are not read here, need not be UTF-8. PyAV 19 takes them as they are; before it, the whole
# file is refused unless this is given, and PyAV 19 does not know the argument.
METADATA_OPTIONS: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "ignore"}


def open_source(path: Path) -> "FrameFolder | VideoFile":
    """Return the frames of a folder, or of a video file.

    Raises:
        UserError: it is neither, cannot be read, or holds no frame.
    """
    if not path.is_dir():
        return VideoFile(path)
    frames = FrameFolder(path)
    if not frames.paths:
        raise UserError(f"{path} is a folder without frames ({', '.join(sorted(FRAME_SUFFIXES))})")
    return frames


class VideoFile:
    """The video stream of `path`; every iteration decodes it again, holding one frame at a time.

    Frames are named by their number, "00000", "00001", ... (more digits where the count needs them), are 8-bit RGB
    whatever the file stores, and upright: the rotation that phones write beside the pixels is applied. Pixels that
    are not square stay as stored.

    Attributes:
        frame_count: the container's count, else an estimate from duration and rate, else None.
        frame_rate: frames per second, the average where it varies.
        frame_size: (height, width) in pixels, as displayed.

    Raises:
        UserError: the file does not exist or holds no video that FFmpeg can decode; in iterating, it is damaged or
            the size of its frames changes.
    """

    def __init__(self, path: Path):
        self.path = path
        if not path.exists():
            raise UserError(f"{path} does not exist")
        if not path.is_file():
            raise UserError(f"{path} is not a file; a folder of frames is read as such, not as a video")
        with self.opened() as (container, stream):
            self.frame_rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
            self.frame_count = stream.frames or _estimated_frames(container, stream, self.frame_rate)
            # The size as displayed is known for certain only from a frame, and a file without one is rejected at once.
            first = next(container.decode(stream), None)
        if first is None:
            raise UserError(f"{path} has a video stream, but not one frame in it")
        self.frame_size: tuple[int, int] = upright_rgb(first).shape[:2]

    def name_of(self, number: int) -> str:
        """Return the name of a frame, given its number from 0."""
        digits = max(5, len(str((self.frame_count or 1) - 1)))
        return f"{number:0{digits}d}"

    def files(self) -> Iterable[Path]:
        """The video file."""
        return (self.path,)

    def __repr__(self) -> str:
        return f"VideoFile({str(self.path)!r}, {self.frame_count} frames)"

    def __iter__(self) -> Iterator[Frame]:
        decoded = damaged = 0
        with self.opened() as (container, stream):
            for image in container.decode(stream):
                rgb = upright_rgb(image)
                if rgb.shape[:2] != self.frame_size:
                    raise UserError(
                        f"{self.path} changes its frame size from {size_text(self.frame_size)} to "
                        f"{size_text(rgb.shape[:2])} at frame {decoded}: cut it there"
                    )
                yield Frame(name=self.name_of(decoded), rgb=rgb, path=self.path)
                decoded += 1
                damaged += image.is_corrupt
        if damaged:
            logger.warning("%s: %d of %d frames are damaged and shown as far as decoded", self.path, damaged, decoded)
        if decoded < SHORT_OF_ANNOUNCED * (self.frame_count or 0):
            logger.warning("%s ends after %d of %d frames announced", self.path, decoded, self.frame_count)

    @contextmanager
    def opened(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        """The container and its video stream; what FFmpeg has to say against the file becomes a UserError."""
        stream = None
        try:
            # "file:" keeps FFmpeg from taking a name with a colon for a network address.
            with av.open(f"file:{self.path}", **METADATA_OPTIONS) as container:
                # FFmpeg renders text files as pictures of a terminal.
                if container.format.name == "tty":
                    raise UserError(f"{self.path} is a text file, not a video")
                stream = container.streams.best("video")
                if stream is None:
                    raise UserError(f"{self.path} has no video stream")
                if stream.codec_context is None:
                    raise UserError(f"{self.path} is coded in a way that this FFmpeg cannot decode: convert it first")
                # PyAV's default of threads within a frame stays: threads across frames lose the decoder's errors.
                yield container, stream
        except av.error.FFmpegError as error:
            if stream is None:
                raise UserError(f"{self.path} is not a video that FFmpeg can read: {error.strerror}") from error
            raise UserError(f"{self.path} is damaged or cut short, it cannot be decoded: {error.strerror}") from error


def _estimated_frames(container: InputContainer, stream: VideoStream, frame_rate: Fraction) -> int | None:
    if stream.duration is not None and stream.time_base is not None:
        seconds = stream.duration * stream.time_base
    elif container.duration is not None:
        seconds = Fraction(container.duration, av.time_base)
    else:
        return None
    return round(seconds * frame_rate) or None


def upright_rgb(image: av.VideoFrame, longer_side: int | None = None) -> UInt8[np.ndarray, "height width 3"]:
    """8-bit RGB of a decoded frame, turned counterclockwise by the angle of its display matrix.

    Args:
        image: the decoded frame.
        longer_side: in pixels, of a frame that is made smaller; None: its own.
    """
    quarters = round(image.rotation / 90)  # of the frame itself: a smaller one does not know it
    factor = min(1.0, (longer_side or np.inf) / max(image.width, image.height))
    if longer_side is not None and factor < 1:
        image = image.reformat(max(1, round(factor * image.width)), max(1, round(factor * image.height)), "rgb24")
    rgb = image.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(rgb, k=quarters))
