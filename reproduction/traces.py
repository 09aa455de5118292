"""Memory and time of one video, frame by frame: figure 1, and speed over the length of a video."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from statistics import median
from typing import Any

import numpy as np
import torch

from dataset.evaluation_sets import EvaluationVideo
from evaluation.config import EvaluationConfig
from evaluation.segmenter import Segmenter
from inference.memory.element_store import ElementStore
from inference.memory.manager import MemoryManager
from model.network import XMem
from reproduction.runs import as_json, without_places
from util.errors import UserError
from util.process import peak_process_bytes

GROWTH_BETWEEN = (100, 200)
"""The frames between which the paper measures how fast memory grows."""


@dataclass(frozen=True)
class Trace:
    """What was measured after each frame, from frame 0 on.

    Attributes:
        seconds: that the network took for the frame.
        memory_bytes: on a CUDA device what its allocator has given out, elsewhere the size of the memory stores.
        ended_by: why there are not as many frames as there should be, if so.
    """

    variant: str
    config: dict[str, Any]
    seconds: list[float]
    memory_bytes: list[int]
    peak_process_bytes: int
    ended_by: str | None
    hardware: str
    commit: str

    def growth_per_frame(self) -> float | None:
        """Bytes that a frame adds, on average between frames 100 and 200; None of a shorter video."""
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
        return whole and without_places(self.config) == without_places(as_json(config))


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
    seconds, memory, ended_by = [], [], None
    try:
        with closing(segmenter.segment(video)) as segmented:
            for _ in islice(segmented, frames):
                seconds.append(segmenter.clock.seconds())
                memory.append(memory_bytes(segmenter.core.memory, segmenter.device))
    except torch.cuda.OutOfMemoryError:
        ended_by = f"out of memory at frame {len(seconds)}"
    except UserError as error:
        ended_by = str(error)
    return Trace(
        variant,
        as_json(config),
        np.diff([0.0, *seconds]).tolist(),
        memory,
        peak_process_bytes(),
        ended_by,
        hardware,
        commit,
    )


def memory_bytes(memory: MemoryManager, device: torch.device) -> int:
    """What a video takes: a CUDA device's allocator says it; elsewhere it is the elements and the GRU's state."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    hidden = memory.sensory.hidden
    return store_bytes((memory.working, memory.long_term)) + (0 if hidden is None else hidden.nbytes)


def store_bytes(stores: Sequence[ElementStore]) -> int:
    """The size of all rows in use."""
    rows = (rows for store in stores for rows in (*store.shared.values(), *store.values.values()))
    return sum(part.rows.nbytes for part in rows if part.size)
