"""Sharing videos out over the processes of a `torchrun`, first come first served.

The processes agree through a key-value store, never through a collective: none waits for another's videos. A single
process uses the same code with a store in its own memory.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch.distributed as dist

from util.errors import UserError


class Sharing:
    """This process's part in a run."""

    def __init__(self, store: dist.Store, rank: int = 0, world_size: int = 1, local_rank: int = 0) -> None:
        self._store = store
        self.rank = rank
        self.world_size = world_size
        self.local_rank = local_rank  # among the processes of this machine

    @classmethod
    def from_environment(cls) -> "Sharing":
        """The run that `torchrun` started this process in, or a run of one process."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return cls(dist.HashStore())
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
        """Process 0 says which videos are to be done, in the order in which they will be taken."""
        self._store.set("videos", json.dumps(list(videos)))

    def videos(self) -> list[str]:
        """What process 0 announced, waited for. If it failed instead, this process ends, since the user was told."""
        announced = json.loads(self._store.get("videos"))
        if announced is None:
            sys.exit(2)
        return announced

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """A user error that all processes run into is reported by process 0 alone."""
        try:
            yield
        except UserError:
            if self.rank == 0:
                self._store.set("videos", json.dumps(None))
            else:
                self.videos()
            raise

    def take(self, videos: Sequence[str]) -> Iterator[str]:
        """This process's share of `videos`: each goes to whichever process is free first."""
        while (index := self._store.add("taken", 1) - 1) < len(videos):
            yield videos[index]

    def count_frames(self, frames: int) -> int:
        """Report frames done; returns how many all processes have done."""
        return self._store.add("frames", frames)

    def is_last_to_finish(self) -> bool:
        """Call once, when done: True in the process that finishes last, which then merges the results."""
        return self._store.add("finished", 1) == self.world_size
