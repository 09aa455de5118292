"""Distribute videos over the processes of a `torchrun`: each goes to the process that is free first.

The processes agree through a key-value store, never through a collective: none waits for another's videos. A single
process uses the same code with a store in its own memory.
"""

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from dataset.evaluation_video import EvaluationVideo
from util.command_line import progress_bar
from util.errors import UserError

POLL_SECONDS = 0.2
START_TIMEOUT = timedelta(days=30)
"""Longest wait for process 0 to announce the videos. If it dies, `torchrun` ends the others."""


class StartFailedElsewhereError(Exception):
    """Process 0 could not start, and has reported why."""


class WorkQueue:
    """The queue as one process sees it. Process 0 announces the videos, and waits until all processes have finished."""

    def __init__(self, store: dist.Store, rank: int = 0, world_size: int = 1, local_rank: int = 0) -> None:
        self._store = store
        self.rank = rank
        self.world_size = world_size
        self.local_rank = local_rank  # among the processes of this machine

    @classmethod
    def alone(cls) -> "WorkQueue":
        """Return the queue of a single process."""
        return cls(dist.HashStore())

    @classmethod
    def from_environment(cls) -> "WorkQueue":
        """Return the queue of the processes that `torchrun` started, or of a single process."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return cls.alone()
        rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        store = dist.TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            world_size,
            is_master=rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True",
            timeout=timedelta(minutes=30),
        )
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        return cls(dist.PrefixStore(f"evaluation/{attempt}", store), rank, world_size, int(os.environ["LOCAL_RANK"]))

    def announce(self, videos: Sequence[str]) -> None:
        """Announce the videos from process 0, in the order in which they will be taken."""
        self._store.set("announced", json.dumps(list(videos)))

    def videos(self) -> list[str]:
        """Wait for the videos that process 0 announces, and return them.

        Raises:
            StartFailedElsewhereError: process 0 failed instead.
        """
        self._store.wait(["announced"], START_TIMEOUT)
        announced = json.loads(self._store.get("announced"))
        if announced is None:
            raise StartFailedElsewhereError
        return announced

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """Have a user error before the announcement, which all processes run into, reported by process 0 alone."""
        try:
            yield
        except UserError:
            if self.rank == 0:
                self._store.set("announced", json.dumps(None))
            else:
                self.videos()
            raise

    def take(self, videos: Sequence[str]) -> Iterator[str]:
        """Yield this process's share of `videos`: each goes to the process that is free first."""
        while (index := self._store.add("taken", 1) - 1) < len(videos):
            yield videos[index]

    def count(self, what: str, number: int) -> int:
        """Add to the counter named `what`, which all processes share, and return its value."""
        return self._store.add(f"count/{what}", number)

    def report_failure(self, video: str, message: str) -> None:
        """Report to process 0 why a video failed."""
        index = self._store.add("failures", 1)
        self._store.set(f"failure/{index}", json.dumps([video, message]))

    def failures(self) -> dict[str, str]:
        """Return why videos failed, by name."""
        count = self._store.add("failures", 0)
        return dict(json.loads(self._store.get(f"failure/{index}")) for index in range(1, count + 1))

    def finish(self) -> None:
        """Report that this process has done its share."""
        self._store.add("finished", 1)

    def all_finished(self) -> bool:
        """Return whether every process has done its share."""
        return self._store.add("finished", 0) == self.world_size


class Progress(AbstractContextManager[Any, None]):
    """A progress bar over all processes and the videos that were finished before; process 0 shows it."""

    def __init__(self, videos: Sequence[EvaluationVideo], pending: Sequence[str], queue: WorkQueue) -> None:
        self._queue = queue
        self._frames = {video.name: video.frames.frame_count or 0 for video in videos}
        self._videos = len(videos)
        self._videos_before = len(videos) - len(pending)
        self._counted = 0  # frames of the video being segmented
        self._untold = 0  # of these, those that the other processes do not know of yet
        self._told_at = 0.0
        self._shown = 0  # frames of this run that the bar shows
        self._bar = progress_bar(
            total=sum(self._frames.values()),
            initial=sum(self._frames.values()) - sum(self._frames[name] for name in pending),
            unit="frame",
            disable=queue.rank != 0,
        )

    def __exit__(self, *_: Any) -> None:
        self._bar.close()

    def frame_done(self, network_seconds: float) -> None:
        """Count a frame of the video; `network_seconds` is the network time of the video so far."""
        self._counted += 1
        self._untold += 1
        if time.monotonic() - self._told_at < POLL_SECONDS:
            return  # the store may be on another machine: a frame must not wait for it
        self._tell_frames(self._untold)
        if network_seconds:
            self._bar.set_postfix_str(f"network {self._counted / network_seconds:.1f} FPS", refresh=False)
        self._show()

    def video_done(self, name: str) -> None:
        """Count a video with all its frames, also those that were skipped or left by a failure."""
        self._queue.count("videos", 1)
        self._tell_frames(self._frames[name] - self._counted + self._untold)
        self._counted = 0
        self._show()

    def until_all_finished(self) -> None:
        """Show the other processes' progress until they have done their shares."""
        while not self._queue.all_finished():
            self._show()
            time.sleep(POLL_SECONDS)
        self._show()

    def _tell_frames(self, count: int) -> None:
        self._queue.count("frames", count)
        self._untold, self._told_at = 0, time.monotonic()

    def _show(self) -> None:
        if self._queue.rank:  # it shows nothing: asking the store would only cost time
            return
        videos, frames = (self._queue.count(what, 0) for what in ("videos", "frames"))
        self._bar.set_description(f"{self._videos_before + videos}/{self._videos} videos", refresh=False)
        self._bar.update(frames - self._shown)
        self._shown = frames
