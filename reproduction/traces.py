"""Memory and time of one video, frame by frame: figure 1, and speed over the length of a video."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from statistics import median
from typing import Any

import numpy as np
import torch

from dataset.evaluation_sets import EvaluationVideo
from evaluation.config import EvaluationConfig
from evaluation.segmenter import Segmenter
from inference.memory.element_store import ElementStore
from inference.memory_manager import MemoryManager
from model.network import XMem
from reproduction.runs import as_json, without_places
from util.device import peak_process_bytes
from util.errors import UserError

GROWTH_BETWEEN = (100, 200)
"""The frames between which the paper measures how fast memory grows."""


@dataclass(frozen=True)
class Trace:
    """What was measured after each frame, from frame 0 on.

    Attributes:
        seconds: that the network took for the frame.
        memory_bytes: the size of the memory stores' rows and of the GRU's state.
        ended_by: why there are not as many frames as there should be, if so.
        failed: it ended with what can be mended, so it is to be made again.
        allocated_bytes: what a CUDA device's allocator has given out; empty elsewhere.
    """

    variant: str
    config: dict[str, Any]
    seconds: list[float]
    memory_bytes: list[int]
    peak_process_bytes: int
    ended_by: str | None
    hardware: str
    commit: str
    failed: bool = False
    allocated_bytes: list[int] = field(default_factory=list)

    @property
    def occupied_bytes(self) -> list[int]:
        """What figure 1 shows: of a CUDA device all that is allocated, elsewhere the memory alone."""
        return self.allocated_bytes or self.memory_bytes

    def growth_per_frame(self) -> float | None:
        """Bytes that a frame adds to the memory, on average between frames 100 and 200; None of a shorter video.

        Not of what is allocated, which grows by doubling.
        """
        begin, end = GROWTH_BETWEEN
        if len(self.memory_bytes) <= end:
            return None
        return (self.memory_bytes[end] - self.memory_bytes[begin]) / (end - begin)

    def fps_by_frame(self, window: int = 100) -> tuple[list[int], list[float]]:
        """The middles of windows of this many frames, and the frames per second in each: of the median frame.

        The first frame, which is not read for, and a window that is not full are left out.
        """
        seconds = self.seconds[1:]
        starts = range(0, len(seconds) - window + 1, window)
        return [1 + start + window // 2 for start in starts], [
            1 / median(seconds[start : start + window]) for start in starts
        ]

    def is_of(self, config: EvaluationConfig, frames: int) -> bool:
        """Whether the same would be measured now."""
        whole = self.ended_by is not None or len(self.seconds) == frames
        return whole and not self.failed and without_places(self.config) == without_places(as_json(config))


def trace(
    variant: str,
    network: XMem,
    config: EvaluationConfig,
    video: EvaluationVideo,
    frames: int,
    hardware: str,
    commit: str,
) -> Trace:
    """Follow a video for so many frames, without writing anything. The device is waited for after each."""
    segmenter = Segmenter(network, config)
    seconds, memory, allocated, ended_by, failed = [], [], [], None, False
    try:
        with closing(segmenter.segment(video)) as segmented:
            for _ in islice(segmented, frames):
                seconds.append(segmenter.clock.seconds())
                memory.append(memory_bytes(segmenter.core.memory))
                if segmenter.device.type == "cuda":
                    allocated.append(torch.cuda.memory_allocated(segmenter.device))
        if len(seconds) < frames:
            ended_by = f"the video ends after {len(seconds)} frames"
    except torch.cuda.OutOfMemoryError:
        ended_by = f"out of memory at frame {len(seconds)}"
    except UserError as error:
        ended_by, failed = str(error), True
    return Trace(
        variant,
        as_json(config),
        np.diff([0.0, *seconds]).tolist(),
        memory,
        peak_process_bytes(),
        ended_by,
        hardware,
        commit,
        failed,
        allocated,
    )


def memory_bytes(memory: MemoryManager) -> int:
    """What is remembered of a video: the elements and the GRU's state."""
    hidden = memory.sensory.hidden
    return store_bytes((memory.working, memory.long_term)) + (0 if hidden is None else hidden.nbytes)


def store_bytes(stores: Sequence[ElementStore]) -> int:
    """The size of all rows in use."""
    rows = (rows for store in stores for rows in (*store.shared.values(), *store.values.values()))
    return sum(part.rows.nbytes for part in rows if part.size)
