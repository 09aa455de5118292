"""When the value encoder refreshes the sensory memory (section 3.5, and table 8)."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from util.errors import SettingError


@dataclass(frozen=True)
class DeepUpdate(ABC):
    """Decides which frames have a deep update. Frozen frames have none, nor has the last unless it is permanent."""

    name: ClassVar[str]

    @abstractmethod
    def is_due(self, time: int, last: int | None, is_memory_frame: bool) -> bool:
        """Return whether the frame at `time` has a deep update. A frame that is not stored is encoded just for that.

        Args:
            time: frames since the first annotated one, which is 0.
            last: the time of the deep update before; None: there was none.
            is_memory_frame: whether the frame is stored.
        """

    @property
    def replaces_decoders(self) -> bool:
        """Whether a deep update takes the place of the decoder's update, instead of following it."""
        return False


@dataclass(frozen=True)
class OnMemoryFrames(DeepUpdate):
    """A deep update with every memory frame, in place of the decoder's: as published.

    Attributes:
        deep_update_every: negative: every memory frame has a deep update, in place of the decoder's. Positive: the
            least number of frames between deep updates, which come on memory frames, after the decoder's.
    """

    deep_update_every: int = -1

    name = "memory_frames"

    def __post_init__(self) -> None:
        if self.deep_update_every == 0:
            raise SettingError("deep_update_every", "must be positive, or negative for every memory frame, not 0")

    def is_due(self, time: int, last: int | None, is_memory_frame: bool) -> bool:
        if not is_memory_frame:
            return False
        return self.deep_update_every < 0 or last is None or time - last >= self.deep_update_every

    @property
    def replaces_decoders(self) -> bool:
        return self.deep_update_every < 0


@dataclass(frozen=True)
class OnEveryFrame(DeepUpdate):
    """A deep update on every frame, after the decoder's."""

    name = "every_frame"

    def is_due(self, time: int, last: int | None, is_memory_frame: bool) -> bool:
        return True


@dataclass(frozen=True)
class Never(DeepUpdate):
    """No deep update, not even at frame 0: the decoder alone updates the sensory memory."""

    name = "never"

    def is_due(self, time: int, last: int | None, is_memory_frame: bool) -> bool:
        return False
