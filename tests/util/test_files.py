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


def test_a_folder_is_whole_or_absent_too(tmp_path):
    with atomic_path(tmp_path / "whole") as temporary:
        temporary.mkdir()
        (temporary / "file").write_text("content")
    assert (tmp_path / "whole/file").read_text() == "content"
    with pytest.raises(FileExistsError), atomic_path(tmp_path / "absent") as temporary:
        (temporary / "below").mkdir(parents=True) or temporary.mkdir()
    assert os.listdir(tmp_path) == ["whole"]


def test_half_folders_of_killed_runs_are_removed(tmp_path):
    left = tmp_path / ".masks.0123abcd.partial"
    (left / "v").mkdir(parents=True)
    with sole_user(tmp_path):
        assert not left.exists()
