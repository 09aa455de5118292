"""Which frames are stored in working memory (section 3.4, and table 7).

`InferenceCore.step` asks this for each frame. It stores permanent frames in any case, frames with a mask unless they
are the video's last, and frozen frames never.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from util.errors import SettingError


@dataclass(frozen=True)
class Insertion(ABC):
    """Decides which frames are memory frames."""

    name: ClassVar[str]

    @abstractmethod
    def is_due(self, time: int, last: int, video_length: int | None) -> bool:
        """Return whether the frame at `time` is to be stored.

        Args:
            time: frames since the first annotated one, which is 0.
            last: the time of the memory frame before.
            video_length: frames of the whole video, if that is known.

        Raises:
            ValueError: the length has to be known, and is not.
        """


@dataclass(frozen=True)
class RegularInsertion(Insertion):
    """Every r-th frame, as published.

    Attributes:
        mem_every: r, frames from one memory frame to the next.
        mem_offset: the first memory frame after frame 0 comes so many frames earlier, at r − o.
    """

    mem_every: int = 5
    mem_offset: int = 0

    name = "regular"

    def __post_init__(self) -> None:
        check_offset(self.mem_every, self.mem_offset)

    def is_due(self, time: int, last: int, video_length: int | None) -> bool:
        return time - last >= self.mem_every - (self.mem_offset if last == 0 else 0)


@dataclass(frozen=True)
class SparseInsertion(Insertion):
    """As often as a bound on memory frames allows: every ⌈L / bound⌉-th frame of a video of L frames.

    Attributes:
        max_memory_frames: the bound.
        mem_every, mem_offset: the first memory frame after frame 0 comes earlier by mem_offset / mem_every of the
            interval, which differs from video to video.
    """

    max_memory_frames: int = 50
    mem_every: int = 5
    mem_offset: int = 0

    name = "sparse"

    def __post_init__(self) -> None:
        check_memory_frames(self.max_memory_frames)
        check_offset(self.mem_every, self.mem_offset)

    def is_due(self, time: int, last: int, video_length: int | None) -> bool:
        if video_length is None:
            raise ValueError("sparse insertion has to know the length of the video: give it to reset()")
        interval = -(-video_length // self.max_memory_frames)
        offset = self.mem_offset * interval // self.mem_every
        # In the last frames of all the offset could bring about one insertion more than the bound allows.
        return time < video_length - offset and RegularInsertion(interval, offset).is_due(time, last, video_length)


def check_offset(mem_every: int, mem_offset: int) -> None:
    """Check an interval and its offset.

    Raises:
        SettingError: one of them is out of its range.
    """
    if mem_every < 1:
        raise SettingError("mem_every", f"must be at least 1, not {mem_every}")
    if not 0 <= mem_offset < mem_every:
        raise SettingError("mem_offset", f"must be at least 0 and less than mem_every ({mem_every}), not {mem_offset}")


def check_memory_frames(max_memory_frames: int) -> None:
    """Check a bound on memory frames.

    Raises:
        SettingError: it is not positive.
    """
    if max_memory_frames < 1:
        raise SettingError("max_memory_frames", f"must be at least 1, not {max_memory_frames}")
