"""Threads beside the network: prefetching frames, and writing results."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")

_END = object()


@contextmanager
def prefetch(items: Iterable[Item], ahead: int) -> Iterator[Iterator[tuple[Item, bool]]]:
    """Iterate over `items` in a thread, up to `ahead` (at least 1) items early: (item, whether it is the last).

    An error in iterating is raised when the item's turn comes. Leaving the block stops the thread.
    """
    source = iter(items)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read") as thread:
        pending = deque(thread.submit(next, source, _END) for _ in range(ahead))

        def in_order() -> Iterator[tuple[Item, bool]]:
            while (item := pending.popleft().result()) is not _END:
                pending.append(thread.submit(next, source, _END))
                following = pending[0]
                yield item, following.exception() is None and following.result() is _END

        try:
            yield in_order()
        finally:
            for future in pending:
                future.cancel()


class BackgroundWriter(AbstractContextManager):
    """Calls functions in threads, with a bounded number of calls waiting; leaving the block waits for all of them.

    The first error in a call is raised in the caller: at a later `submit`, or when the block ends. When the block ends
    with an error of its own, calls that have not begun are dropped.
    """

    def __init__(self, threads: int = 2, waiting: int = 16) -> None:
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="write")
        self._waiting = waiting
        self._pending: deque[Future] = deque()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call `function` in a thread; wait first while too many calls are waiting."""
        self._pending.append(self._threads.submit(function, *arguments))
        while len(self._pending) > self._waiting or (self._pending and self._pending[0].done()):
            self._pending.popleft().result()

    def __exit__(self, error: Any, *_: Any) -> None:
        self._threads.shutdown(wait=True, cancel_futures=error is not None)
        if error is None:
            for future in self._pending:
                future.result()
