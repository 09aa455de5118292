"""When the value encoder refreshes the sensory memory (section 3.5, and table 8)."""

from abc import ABC, abstractmethod
from dataclasses import dataclass


class DeepUpdate(ABC):
    """Says which frames have a deep update. The last frame of a video, and frozen ones, are not asked about."""

    @abstractmethod
    def is_due(self, time: int, last: int | None, is_memory_frame: bool) -> bool:
        """Whether the frame at `time` has a deep update. A frame that is not stored is encoded just for that.

        Args:
            time: frames since the first annotated one, which is 0.
            last: the time of the deep update before; None: there was none.
            is_memory_frame: whether the frame is stored.
        """

    @property
    def replaces_decoders(self) -> bool:
        """Whether the decoder's update is left out where there is a deep one."""
        return False


@dataclass(frozen=True)
class OnMemoryFrames(DeepUpdate):
    """With every memory frame, in the decoder's place, or at intervals of `deep_update_every`, with the decoder's."""

    deep_update_every: int

    def is_due(self, time: int, last: int | None, is_memory_frame: bool) -> bool:
        if not is_memory_frame:
            return False
        return self.deep_update_every < 0 or last is None or time - last >= self.deep_update_every

    @property
    def replaces_decoders(self) -> bool:
        return self.deep_update_every < 0


@dataclass(frozen=True)
class OnEveryFrame(DeepUpdate):
    """After the decoder's on every frame, as with any interval of deep updates that is not that of memory frames."""

    def is_due(self, time: int, last: int | None, is_memory_frame: bool) -> bool:
        return True


@dataclass(frozen=True)
class Never(DeepUpdate):
    """Not at frame 0 either: the sensory memory is the decoder's alone."""

    def is_due(self, time: int, last: int | None, is_memory_frame: bool) -> bool:
        return False


DEEP_UPDATES: dict[str, type[DeepUpdate]] = {
    "memory_frames": OnMemoryFrames,
    "every_frame": OnEveryFrame,
    "never": Never,
}
