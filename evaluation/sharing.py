"""Sharing videos out over the processes of a `torchrun`, first come first served.

The processes agree through a key-value store, never through a collective: none waits for another's videos. A single
process uses the same code with a store in its own memory.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from util.errors import UserError

PATIENCE = timedelta(days=30)
"""For process 0, which may be busy with a long video. Should it die, `torchrun` ends the others."""


class StartFailedElsewhereError(Exception):
    """Process 0 could not start and has told the user why."""


class Sharing:
    """This process's part in a run. Process 0 announces the videos, and reports when all processes have finished."""

    def __init__(self, store: dist.Store, rank: int = 0, world_size: int = 1, local_rank: int = 0) -> None:
        self._store = store
        self.rank = rank
        self.world_size = world_size
        self.local_rank = local_rank  # among the processes of this machine
        self._steps = 0

    @classmethod
    def alone(cls) -> "Sharing":
        """A run of one process."""
        return cls(dist.HashStore())

    @classmethod
    def from_environment(cls) -> "Sharing":
        """The run that `torchrun` started this process in, or a run of one process."""
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

    def next_run(self) -> "Sharing":
        """This process's part in one more run of the program; all processes take part in the same ones, in one order.

        None waits for the others to get there.
        """
        self._steps += 1
        store = dist.PrefixStore(f"step/{self._steps}", self._store)
        return Sharing(store, self.rank, self.world_size, self.local_rank)

    def agreed(self, choose: Callable[[], Any]) -> Any:
        """What process 0 chooses between runs, something that JSON holds: whether there is time for the next, say.

        Raises:
            UserError: in process 0, what `choose` raises.
            StartFailedElsewhereError: in the others, if it does.
        """
        step = self.next_run()
        with step.failing_together():
            if step.rank == 0:
                step._announce([choose()])
            (choice,) = step._announced()
        return choice

    def announce(self, videos: Sequence[str]) -> None:
        """Process 0 says which videos are to be done, in the order in which they will be taken."""
        self._announce(list(videos))

    def videos(self) -> list[str]:
        """What process 0 announced, waited for.

        Raises:
            StartFailedElsewhereError: process 0 failed instead.
        """
        return self._announced()

    def _announce(self, content: list[Any] | None) -> None:
        """Only once in a run; None: process 0 has failed."""
        self._store.set("announced", json.dumps(content))

    def _announced(self) -> list[Any]:
        self._store.wait(["announced"], PATIENCE)
        announced = json.loads(self._store.get("announced"))
        if announced is None:
            raise StartFailedElsewhereError
        return announced

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """A user error before the announcement, which all processes run into, is reported by process 0 alone."""
        try:
            yield
        except UserError:
            if self.rank == 0:
                self._announce(None)
            else:
                self.videos()
            raise

    def take(self, videos: Sequence[str]) -> Iterator[str]:
        """This process's share of `videos`: each goes to whichever process is free first."""
        while (index := self._store.add("taken", 1) - 1) < len(videos):
            yield videos[index]

    def count(self, what: str, number: int) -> int:
        """Add to a counter that all processes share, named `what`; returns its value."""
        return self._store.add(f"count/{what}", number)

    def report_failure(self, video: str, message: str) -> None:
        """Tell process 0 why a video failed."""
        index = self._store.add("failures", 1)
        self._store.set(f"failure/{index}", json.dumps([video, message]))

    def failures(self) -> dict[str, str]:
        """Why videos failed, by name."""
        count = self._store.add("failures", 0)
        return dict(json.loads(self._store.get(f"failure/{index}")) for index in range(1, count + 1))

    def finish(self) -> None:
        """This process has done its share."""
        self._store.add("finished", 1)

    def all_finished(self) -> bool:
        """Whether every process has done its share."""
        return self._store.add("finished", 0) == self.world_size
