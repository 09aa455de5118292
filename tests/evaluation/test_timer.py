"""The network's time: by the wall on a CPU, by events on a CUDA device, which a stand-in plays here."""

import time

import pytest
import torch

from evaluation.timer import NetworkTimer


def test_only_what_runs_inside_counts():
    begun = time.perf_counter()
    clock = NetworkTimer(torch.device("cpu"))
    for _ in range(2):
        with clock.running():
            time.sleep(0.02)
        time.sleep(0.05)
    assert 0.04 <= clock.seconds() == clock.seconds_so_far <= time.perf_counter() - begun - 0.1
    clock.reset()
    assert clock.seconds() == 0


class DeviceOfTheFuture:
    """Runs what it was given only when somebody waits: every piece takes a second."""

    def __init__(self) -> None:
        self.given = self.done = 0

    def event(self, enable_timing: bool) -> "Event":
        assert enable_timing
        return Event(self)


class Event:
    def __init__(self, device: DeviceOfTheFuture) -> None:
        self.device = device

    def record(self, stream: object) -> None:
        assert stream == ("stream of", torch.device("cuda:1"))  # whatever the current device is
        self.time = self.device.given

    def query(self) -> bool:
        return self.device.done >= self.time

    def synchronize(self) -> None:
        self.device.done = max(self.device.done, self.time)

    def elapsed_time(self, end: "Event") -> float:
        assert self.query()
        assert end.query()
        return 1000.0 * (end.time - self.time)


@pytest.fixture
def device(monkeypatch) -> DeviceOfTheFuture:
    device = DeviceOfTheFuture()
    monkeypatch.setattr(torch.cuda, "Event", device.event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: ("stream of", device))
    return device


def test_a_cuda_device_is_not_waited_for_before_the_end(device):
    clock = NetworkTimer(torch.device("cuda:1"))
    for _ in range(5):
        with clock.running():
            device.given += 1
        device.given += 10  # not the network's
    assert device.done == 0
    assert clock.seconds_so_far == 0
    assert clock.seconds() == 5
    assert device.done == 45


def test_what_a_cuda_device_has_done_is_known_on_the_way(device):
    clock = NetworkTimer(torch.device("cuda:1"))
    with clock.running():
        device.given += 3
    device.done = device.given
    with clock.running():
        device.given += 4
    assert clock.seconds_so_far == 3
    assert clock.seconds() == 7
