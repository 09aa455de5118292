"""When a frame enters working memory (section 3.4, and table 7).

Frames with a mask and permanent ones are stored in any case; the last frame of a video is not.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass


class Insertion(ABC):
    """Says which frames are memory frames."""

    @abstractmethod
    def is_due(self, time: int, last: int, video_length: int | None) -> bool:
        """Whether the frame at `time` is to be stored.

        Args:
            time: frames since the first annotated one, which is 0.
            last: the time of the memory frame before.
            video_length: frames of the whole video, if that is known.

        Raises:
            ValueError: the length has to be known, and is not.
        """


@dataclass(frozen=True)
class RegularInsertion(Insertion):
    """Every r-th frame, as published. An offset o has the first one after frame 0 come o frames earlier, at r − o."""

    mem_every: int
    mem_offset: int

    def is_due(self, time: int, last: int, video_length: int | None) -> bool:
        return time - last >= self.mem_every - (self.mem_offset if last == 0 else 0)


@dataclass(frozen=True)
class SparseInsertion(Insertion):
    """As often as a bound on memory frames allows: every ⌈L / bound⌉-th of a video of L frames.

    Videos have intervals of their own, so the offset is the same share of each as `mem_offset` is of `mem_every`.
    """

    max_memory_frames: int
    mem_every: int
    mem_offset: int

    def is_due(self, time: int, last: int, video_length: int | None) -> bool:
        if video_length is None:
            raise ValueError("insertion='sparse' needs the video's length: give it to reset()")
        interval = -(-video_length // self.max_memory_frames)
        offset = self.mem_offset * interval // self.mem_every
        # In the last frames of all the offset could bring about an insertion more than the bound allows.
        return time < video_length - offset and RegularInsertion(interval, offset).is_due(time, last, video_length)


INSERTIONS: dict[str, type[Insertion]] = {
    "regular": RegularInsertion,
    "sparse": SparseInsertion,
}
