"""Working memory: the elements of whole frames, each with what consolidation will need of it (section 3.4)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inference.memory.element_store import ElementStore


@dataclass
class MemoryFrame:
    """Why a frame is in working memory, and whether it may leave."""

    first: bool = False
    """Whether it is the video's first memory frame, which counts in T_min and T_max unless it is permanent."""
    permanent: bool = False
    """The caller wants it to stay."""
    annotates: set[int] = field(default_factory=set)
    """The objects it is the first annotation of; it stays while any of them is there."""
    time: int = 0
    """The insertion at which it was stored."""

    @property
    def is_kept(self) -> bool:
        return self.permanent or bool(self.annotates)

    @property
    def is_counted(self) -> bool:
        """Whether it counts in T_min and T_max."""
        return not self.is_kept or (self.first and not self.permanent)


class WorkingMemory(ElementStore):
    """The elements of memory frames, all of one size, in order of time."""

    columns = (*ElementStore.columns, "key", "shrinkage", "selection")

    def __init__(self, capacity: int = 0) -> None:
        super().__init__(capacity)
        self.frames: list[MemoryFrame] = []
        self.frames_removed = 0
        """Frames that made room for others, so far."""

    @property
    def frame_size(self) -> int:
        """Elements per frame."""
        return self.size // len(self.frames)

    @property
    def counted_frames(self) -> int:
        """Frames that count towards T_max."""
        return sum(frame.is_counted for frame in self.frames)

    def append_frame(
        self, frame: MemoryFrame, values: Mapping[int, Float[Tensor, "elements value_dim"]], **columns: Tensor
    ) -> None:
        self.append(values, **columns)
        self.frames.append(frame)

    def candidates(self, min_frames: int) -> Int[Tensor, " candidates"]:
        """Return the indices of the elements that may leave, on the CPU.

        They are those of all frames that are not kept, but for the latest `min_frames` − 1 of these.
        """
        leaving = [index for index, frame in enumerate(self.frames) if not frame.is_kept]
        leaving = leaving[: max(len(leaving) - (min_frames - 1), 0)]
        return torch.arange(self.size).view(len(self.frames), self.frame_size)[leaving].flatten()

    def remove_candidates(self, candidates: Int[Tensor, " candidates"]) -> None:
        """Remove whole frames, given by their elements, on the CPU."""
        leaving = set((candidates[:: self.frame_size] // self.frame_size).tolist())
        self.remove(candidates)
        self.frames = [frame for index, frame in enumerate(self.frames) if index not in leaving]
        self.frames_removed += len(leaving)

    def delete_objects(self, labels: list[int]) -> None:
        for frame in self.frames:
            frame.annotates.difference_update(labels)
        frame_size = self.frame_size if self.frames else 1
        super().delete_objects(labels)
        self.frames = self.frames[len(self.frames) - self.size // frame_size :]

    def state(self) -> dict[str, Any]:
        frames = [(frame.first, frame.permanent, sorted(frame.annotates)) for frame in self.frames]
        return super().state() | {"frames": frames, "frames_removed": self.frames_removed}

    def restore(self, state: Mapping[str, Any]) -> None:
        super().restore(state)
        times = self.time[:: self.size // len(state["frames"])].tolist() if self.size else []
        self.frames = [
            MemoryFrame(first=first, permanent=permanent, annotates=set(labels), time=time)
            for (first, permanent, labels), time in zip(state["frames"], times, strict=True)
        ]
        self.frames_removed = state.get("frames_removed", 0)
