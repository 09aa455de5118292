"""Folders that one process at a time works in, and what killed processes leave there."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from util.errors import UserError
from util.files import atomic_path, sole_user


@pytest.fixture
def child() -> Iterator[Callable[[], None]]:
    """Forks processes that live until the test ends."""
    children = []

    def fork() -> None:
        mine, its = os.pipe(), os.pipe()
        children.append((os.fork(), its[1]))
        if children[-1][0] == 0:
            os.write(mine[1], b"here")
            os.close(its[1])
            os.read(its[0], 1)
            os._exit(0)
        os.read(mine[0], 4)
        for end in (*mine, its[0]):
            os.close(end)

    yield fork
    for process, end in children:
        os.close(end)
        os.waitpid(process, 0)


def test_a_lock_does_not_outlive_its_process_in_those_that_it_has_forked(tmp_path, child):
    with sole_user(tmp_path):
        child()  # like a data worker, which lives on for seconds when the training process is killed
        with pytest.raises(UserError, match="in use by another run"), sole_user(tmp_path):
            pass
    with sole_user(tmp_path):
        pass


def test_what_killed_processes_left_half_written_is_removed_and_nothing_else(tmp_path):
    def left_behind(target: Path) -> Path:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            os.link(temporary, tmp_path / "kept")
        os.replace(tmp_path / "kept", temporary)
        return temporary

    left = [left_behind(tmp_path / name) for name in ("a.pth", "b", "c.d.json")]
    mine = [tmp_path / name for name in (".notes.partial.txt", ".a.0123456.partial.pth", "x.01234567.partial.pth")]
    for path in mine:
        path.write_text("mine")
    assert all(path.exists() for path in left)
    with sole_user(tmp_path):
        pass
    assert sorted(tmp_path.iterdir()) == sorted([*mine, *(tmp_path / name for name in ("a.pth", "b", "c.d.json"))])
