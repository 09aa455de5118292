"""Frames of a video in any order: a file is indexed once, and decoded from the keyframe before the frame asked for."""

import hashlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from functools import cached_property
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Protocol, runtime_checkable

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from jaxtyping import UInt8

from dataset.frames import FrameFolder, frame_size, read_frame, size_text
from dataset.video_file import VideoFile, open_source, upright_rgb
from util.errors import UserError

CACHED_BYTES = 192 * 2**20
"""Decoded frames that are kept, so that stepping backward does not decode a group of frames again for each."""
FRAMES_TRIED = 16
"""Frames that are decoded to find out whether the times that the file gives are true."""
FROM_THE_BEGINNING = 2
"""The last way to find a frame: to decode from the beginning."""
FINGERPRINTED_BYTES = 2**20
NEAR = 8
"""Frames that are decoded one after another rather than seeking a keyframe."""


@runtime_checkable
class FrameAccess(Protocol):
    """A video whose frames can be read in any order, from any thread."""

    path: Path
    name: str
    """What the video is called: its folder, or its file without the suffix."""
    count: int
    rate: Fraction
    size: tuple[int, int]
    """(height, width)."""
    warning: str | None
    """What a person should know of the video, if anything."""

    @property
    def fingerprint(self) -> str:
        """What tells this video from another one of the same size and length."""

    def name_of(self, number: int) -> str:
        """Return the name of a frame, which its label map has, too."""

    def read(self, number: int) -> UInt8[np.ndarray, "height width 3"]:
        """Return a frame as 8-bit RGB, upright.

        Raises:
            UserError: the frame cannot be decoded, or has another size than the others.
        """


def open_frames(path: Path) -> FrameAccess:
    """Open a video file or a folder of images.

    Raises:
        UserError: it cannot be read, or holds no frame.
    """
    return FolderAccess(path) if path.is_dir() else VideoAccess(path)


class FolderAccess:
    """The images of a folder, in the order of their names."""

    warning: str | None = None

    def __init__(self, path: Path) -> None:
        folder = open_source(path)
        assert isinstance(folder, FrameFolder)
        self.path, self.rate, self.count = path, folder.frame_rate, folder.frame_count
        self.name = path.resolve().name
        self._names, self._paths = list(folder.paths), list(folder.paths.values())
        self.size = frame_size(self._paths[0])

    @cached_property
    def fingerprint(self) -> str:
        """The names and the first image."""
        digest = hashlib.sha1("/".join(self._names).encode(errors="surrogateescape"))
        digest.update(self._paths[0].read_bytes())
        return digest.hexdigest()

    def name_of(self, number: int) -> str:
        """Return the stem of the image's file."""
        return self._names[number]

    def read(self, number: int) -> UInt8[np.ndarray, "height width 3"]:
        """Return a frame, as `FrameAccess.read`."""
        path = self._paths[number]
        rgb = read_frame(path).rgb
        if rgb.shape[:2] != self.size:
            raise UserError(f"{path} is {size_text(rgb.shape[:2])}, the first frame {size_text(self.size)}")
        return rgb


class VideoAccess:
    """The frames of a video file by their numbers, which are those of `VideoFile`.

    Opening reads the file once without decoding it, for the time of every frame. Files whose frames have no times of
    their own are decoded from the beginning whenever a frame before the last one is asked for.
    """

    def __init__(self, path: Path) -> None:
        self._file = VideoFile(path)
        self.path, self.rate, self.size = path, self._file.frame_rate, self._file.frame_size
        self.name = path.stem
        self._times, self._keyframes, self._decoded_at = self._index()
        self.count = len(self._times)
        self.warning: str | None = None
        announced = self._file.frame_count or 0
        if self.count < announced:
            self.warning = f"{path.name} ends after {self.count} of {announced} frames announced"
        self._lock = Lock()
        self._open = ExitStack()
        self._container: tuple[InputContainer, VideoStream] | None = None
        self._decoded: Iterator[av.VideoFrame] = iter(())
        self._position = -1  # the number of the last frame that was decoded
        self._first: int | None = None  # the number of the first frame decoded since seeking; None: not known
        self._whole_from = 0  # the number of the first frame that is decoded without missing references
        self._way = 0  # the first way of seeking that works in this container
        self._cache: OrderedDict[int, UInt8[np.ndarray, "height width 3"]] = OrderedDict()
        self._cached = max(1, CACHED_BYTES // (3 * self.size[0] * self.size[1]))

    @cached_property
    def fingerprint(self) -> str:
        """The length of the file, and its beginning."""
        with self.path.open("rb") as file:
            digest = hashlib.sha1(file.read(FINGERPRINTED_BYTES))
        digest.update(str(self.path.stat().st_size).encode())
        return digest.hexdigest()

    def name_of(self, number: int) -> str:
        """Return the frame's number with the digits that `VideoFile` gives it."""
        return self._file.name_of(number)

    def read(self, number: int) -> UInt8[np.ndarray, "height width 3"]:
        """Return a frame, as `FrameAccess.read`."""
        with self._lock:
            if number not in self._cache:
                try:
                    self._decode(number)
                except av.error.FFmpegError as error:  # the file cannot be read any more, or not at this place
                    self._position = -1
                    raise UserError(f"{self.path.name}: frame {number} cannot be decoded: {error.strerror}") from error
            self._cache.move_to_end(number)
            return self._cache[number]

    def small_frames(self, first: int, longer_side: int) -> Iterator[tuple[int, UInt8[np.ndarray, "height width 3"]]]:
        """Yield the frames from `first` on with their numbers, made smaller: several times as fast as reading each."""
        position = -1
        with self._file.opened() as (container, stream):  # another one, so that it does not jump between two places
            for frame in _decoded_frames(container, stream):
                number = self._number_of(frame)
                position = position + 1 if number is None else number
                if position >= first:
                    yield position, upright_rgb(frame, longer_side)

    def _index(self) -> tuple[list[int], list[int], list[int]]:
        """Return the times of all frames and of keyframes, in their order, and when the latter are decoded."""
        with self._file.opened() as (container, stream):
            packets = [
                (packet.pts, packet.dts, packet.is_keyframe)
                for packet in container.demux(stream)
                if packet.size and not packet.is_discard
            ]
            is_reordered = stream.codec_context.has_b_frames
        keyframes = sorted((shown, decoded) for shown, decoded, is_key in packets if is_key and shown is not None)
        # A file that was cut within a group of frames begins with some that cannot be decoded.
        known = [time for time, _, _ in packets if time is not None and keyframes and time >= keyframes[0][0]]
        is_known = keyframes and None not in {time for time, _, _ in packets} and len(set(known)) == len(known)
        if not is_known or (is_reordered and known == sorted(known) and not self._times_are_true()):
            return list(range(sum(1 for _ in self._file))), [], []
        decoded = [shown if decoded is None else min(shown, decoded) for shown, decoded in keyframes]
        return sorted(known), [shown for shown, _ in keyframes], decoded

    def _times_are_true(self) -> bool:
        """Return whether decoded frames come in the order of their times: AVI has times of decoding alone."""
        with self._file.opened() as (container, stream):
            times = [frame.pts for frame in islice(container.decode(stream), FRAMES_TRIED)]
        known = [time for time in times if time is not None]
        return len(known) == len(times) and known == sorted(known)

    def _decode(self, number: int) -> None:
        """Put a frame into the cache, with those before it that have to be decoded on the way."""
        if not self._keyframes:
            if not 0 <= self._position < number:
                self._start(None)
            found = self._decode_up_to(number)
        else:
            key = max(bisect_right(self._keyframes, self._times[number]) - 1, 0)
            is_ahead = 0 <= self._position < number
            is_near = is_ahead and (
                self._times[self._position] >= self._keyframes[key] or number - self._position < NEAR
            )
            found = is_near and self._decode_up_to(number)
            # Containers look for keyframes by the time at which they are shown (Matroska) or decoded (AVI, MP4).
            ways: list[int | None] = [self._keyframes[key], self._decoded_at[key], None]
            way = self._way
            while not found and self._way < len(ways):
                self._start(ways[self._way], self._keyframes[key])
                found = self._decode_up_to(number)
                if found or not self._is_beyond(number):
                    break
                self._way += 1
            self._way = min(self._way, FROM_THE_BEGINNING) if found else way
        if not found:
            raise UserError(f"{self.path.name}: frame {number} cannot be decoded: the file is damaged there")

    def _is_beyond(self, number: int) -> bool:
        """Return whether decoding began after a frame, and would find it if it had begun earlier."""
        return self._first is None or self._first > number

    def _decode_up_to(self, number: int) -> bool:
        """Decode up to a frame; return whether it was there."""
        for frame in self._decoded:
            number_now = self._number_of(frame)
            if number_now is None and self._keyframes and self._way < FROM_THE_BEGINNING:
                self._first = None  # MPEG's program streams have other times after looking for a place
                return False
            self._position = self._position + 1 if number_now is None else number_now
            if self._first is None:
                self._first = self._position
            if self._position > number:
                return False
            if self._position >= max(number - self._cached // 2, self._whole_from):
                self._keep(self._position, frame)
            if self._position == number:
                return number in self._cache
        self._position = -1
        return False

    def _number_of(self, frame: av.VideoFrame) -> int | None:
        """Return the number of a frame by its time; None: there is no frame of this time, or times are not known."""
        if not self._keyframes:
            return None
        number = bisect_right(self._times, frame.pts or 0) - 1
        return number if number >= 0 and self._times[number] == frame.pts else None

    def _keep(self, number: int, frame: av.VideoFrame) -> None:
        rgb = upright_rgb(frame)
        if rgb.shape[:2] != self.size:
            return  # a file that changes its size: such frames are reported as not decoded
        self._cache[number] = rgb
        while len(self._cache) > self._cached:
            self._cache.popitem(last=False)

    def _start(self, time: int | None, shown: int | None = None) -> None:
        """Begin decoding at a keyframe, or at the beginning.

        Args:
            time: where the container looks for the keyframe; None: at the beginning.
            shown: when the keyframe is shown. Frames that come before it need others that were not decoded.
        """
        if self._container is None or time is None:
            self._open.close()
            self._container = self._open.enter_context(self._file.opened())
        container, stream = self._container
        if time is not None:
            container.seek(time, stream=stream)
        self._position, self._first = -1, None
        self._whole_from = 0 if time is None or shown is None else bisect_right(self._times, shown) - 1
        self._decoded = _decoded_frames(container, stream, from_keyframe=time is not None)


def _decoded_frames(
    container: InputContainer, stream: VideoStream, from_keyframe: bool = False
) -> Iterator[av.VideoFrame]:
    """Yield decoded frames, without those that are damaged.

    Args:
        container: the file.
        stream: its video.
        from_keyframe: leave out what comes before a keyframe: some containers find a place, and not a keyframe.
    """
    has_begun = not from_keyframe
    for packet in container.demux(stream):
        has_begun = has_begun or packet.is_keyframe
        if not has_begun:
            continue
        try:
            yield from packet.decode()
        except av.error.FFmpegError:
            continue  # the frames after it are decoded as far as they can be
