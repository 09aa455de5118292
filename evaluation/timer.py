"""Timing the network without waiting for the device."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class NetworkTimer:
    """Sums the time spent in `running()` blocks: by events on a CUDA device, by the wall clock elsewhere."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.reset()

    def reset(self) -> None:
        self.seconds_so_far = 0.0
        """The time known to have passed; on a CUDA device without the blocks that still run."""
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        if self._device.type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record(torch.cuda.current_stream(self._device))
            yield
            end.record(torch.cuda.current_stream(self._device))
            self._events.append((begin, end))
            while self._events and self._events[0][1].query():
                self._take_first_event()
            return
        begun = time.perf_counter()
        yield
        if self._device.type == "mps":
            torch.mps.synchronize()
        self.seconds_so_far += time.perf_counter() - begun

    def seconds(self) -> float:
        """Return the sum since the last reset; on a CUDA device wait for it to finish."""
        if self._events:
            self._events[-1][1].synchronize()
        while self._events:
            self._take_first_event()
        return self.seconds_so_far

    def _take_first_event(self) -> None:
        begin, end = self._events.pop(0)
        self.seconds_so_far += begin.elapsed_time(end) / 1000
