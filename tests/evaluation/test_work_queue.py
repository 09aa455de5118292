"""Processes that share a run through a store; here they are threads."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from evaluation.work_queue import StartFailedElsewhereError, WorkQueue
from util.errors import UserError


@pytest.fixture
def processes() -> list[WorkQueue]:
    store = dist.HashStore()
    store.set_timeout(timedelta(seconds=20))
    return [WorkQueue(store, rank, world_size=3, local_rank=rank) for rank in range(3)]


def test_outside_of_torchrun_there_is_one_process(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    alone = WorkQueue.from_environment()
    assert (alone.rank, alone.world_size, alone.local_rank) == (0, 1, 0)
    alone.announce(["b", "a"])
    assert list(alone.take(alone.videos())) == ["b", "a"]
    assert not alone.all_finished()
    alone.finish()
    assert alone.all_finished()


def test_every_video_is_taken_once(processes):
    names = [f"video {index}" for index in range(200)]
    processes[0].announce(names)
    with ThreadPoolExecutor(3) as threads:
        shares = list(threads.map(lambda process: list(process.take(process.videos())), processes))
    assert sorted(name for share in shares for name in share) == sorted(names)
    assert all(share == sorted(share, key=names.index) for share in shares)


def test_the_announcement_is_waited_for(processes):
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(processes[2].videos)
        processes[0].announce(["a"])
        assert waiting.result() == ["a"]


def test_counters_failures_and_the_end_are_seen_by_all(processes):
    assert [process.count("frames", 5) for process in processes] == [5, 10, 15]
    assert processes[0].count("videos", 0) == 0
    assert processes[0].failures() == {}
    processes[2].report_failure("dog", "dog.jpg is damaged")
    processes[1].report_failure("cat", "cat.jpg is damaged")
    assert processes[0].failures() == {"dog": "dog.jpg is damaged", "cat": "cat.jpg is damaged"}
    for process in processes:
        assert not processes[0].all_finished()
        process.finish()
    assert processes[0].all_finished()


def test_a_mistake_that_all_find_is_told_by_process_0(processes):
    def start(process: WorkQueue) -> None:
        with process.failing_together():
            raise UserError("there is no such folder")

    with pytest.raises(UserError, match="no such folder"):
        start(processes[0])
    for process in processes[1:]:
        with pytest.raises(StartFailedElsewhereError):
            start(process)


def test_a_mistake_that_process_0_does_not_find_is_told_where_it_is_found(processes):
    processes[0].announce([])
    with pytest.raises(UserError, match="no such device"), processes[1].failing_together():
        raise UserError("no such device")
