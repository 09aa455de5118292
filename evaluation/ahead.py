"""Work beside the network: reading ahead of it, and writing behind it."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")

_END = object()


@contextmanager
def read_ahead(items: Iterable[Item], ahead: int) -> Iterator[Iterator[tuple[Item, bool]]]:
    """Iterate over `items` in a thread of their own, up to `ahead` items early: (item, whether it is the last).

    An error in iterating reaches the caller when the item's turn comes.
    """
    source = iter(items)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read") as thread:
        pending: deque[Future] = deque(thread.submit(next, source, _END) for _ in range(ahead + 1))

        def take() -> Any:
            item = pending.popleft().result()
            pending.append(thread.submit(next, source, _END))
            return item

        def in_order() -> Iterator[tuple[Item, bool]]:
            item = take()
            while item is not _END:
                following = _peek(pending)
                yield item, following is _END
                item = take()

        try:
            yield in_order()
        finally:
            for future in pending:
                future.cancel()


def _peek(pending: deque[Future]) -> Any:
    """The next item, waited for; None if reading it fails, which is reported in its turn."""
    return None if pending[0].exception() else pending[0].result()


class WriteBehind(AbstractContextManager):
    """Calls functions in threads, with a bounded number of calls waiting; leaving the block waits for all of them.

    The first error in a call is raised in the caller: at a later `submit`, or when the block ends.
    """

    def __init__(self, threads: int = 2, waiting: int = 16) -> None:
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="write")
        self._waiting = waiting
        self._pending: deque[Future] = deque()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._pending.append(self._threads.submit(function, *arguments))
        while len(self._pending) > self._waiting or (self._pending and self._pending[0].done()):
            self._pending.popleft().result()

    def __exit__(self, error: Any, *_: Any) -> None:
        self._threads.shutdown(wait=True, cancel_futures=error is not None)
        if error is None:
            for future in self._pending:
                future.result()
