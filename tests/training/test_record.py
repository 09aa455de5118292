"""run.json: what each start of a run was; and how settings are compared."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import git
import pytest
import torch

from training.record import record_run
from util.errors import UserError
from util.provenance import REPOSITORY, differences, git_commit, package_versions


@pytest.fixture
def repository(tmp_path: Path) -> git.Repo:
    """With one file and no commit."""
    repository = git.Repo.init(tmp_path / "repository")
    (tmp_path / "repository" / "program.py").write_text("1")
    repository.index.add(["program.py"])
    return repository


def read(folder: Path) -> list[dict]:
    return json.loads((folder / "run.json").read_text())["starts"]


def test_a_start_is_recorded_in_full(tmp_path):
    settings = {"seed": 1, "network": {"decoder_dims": (8, 4)}, "videos_root": Path("videos")}
    record_run(tmp_path, settings, ["train.py", "--seed", "1"], "a device")
    (start,) = read(tmp_path)
    assert start["settings"] == {"seed": 1, "network": {"decoder_dims": [8, 4]}, "videos_root": "videos"}
    assert start["command"] == ["train.py", "--seed", "1"]
    assert start["device"] == "a device"
    assert start["commit"] == git_commit()
    assert start["packages"] == package_versions()
    assert start["time"].count(":") == 3  # hours, minutes, seconds and the zone's


def test_a_resumed_run_keeps_the_record_of_earlier_starts(tmp_path):
    for seed in range(3):
        record_run(tmp_path, {"seed": seed}, ["train.py"])
    assert [start["settings"]["seed"] for start in read(tmp_path)] == [0, 1, 2]


@pytest.mark.parametrize("content", [b'{"starts": [{"ti', b"", b"\xff\xfe", b"[]", b"{}", b'{"starts": 3}', b"null"])
def test_a_damaged_record_is_put_aside_and_named(tmp_path, caplog, content):
    (tmp_path / "run.json").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        record_run(tmp_path, {"seed": 1}, ["train.py"])
    assert [start["settings"] for start in read(tmp_path)] == [{"seed": 1}]
    (aside,) = tmp_path.glob("run.damaged-*.json")
    assert aside.read_bytes() == content
    (message,) = caplog.messages
    assert str(tmp_path / "run.json") in message
    assert "damaged" in message
    assert aside.name in message


def test_a_record_that_cannot_be_written_is_told_in_one_line(tmp_path):
    with pytest.raises(UserError, match=r"run\.json cannot be written") as error:
        record_run(tmp_path / "missing", {}, ["train.py"])
    assert "\n" not in str(error.value)


def test_the_commit_is_named_and_whether_files_differ_from_it(repository):
    folder = Path(repository.working_dir)
    commit = repository.index.commit("first").hexsha
    assert git_commit(folder) == commit
    (folder / "program.py").write_text("2")
    assert git_commit(folder) == f"{commit}+changes"


def test_without_a_commit_or_a_repository_there_is_a_note(repository, tmp_path):
    assert git_commit(Path(repository.working_dir)).startswith("unknown: ")
    (tmp_path / "elsewhere").mkdir()
    assert git_commit(tmp_path / "elsewhere") == "unknown: the program does not lie in a git repository"


def test_without_gitpython_there_is_a_note(monkeypatch):
    monkeypatch.setitem(sys.modules, "git", None)
    assert git_commit() == "unknown: GitPython is not installed"


def test_without_the_git_program_there_is_a_note(tmp_path):
    command = [sys.executable, "-c", "from util.provenance import git_commit; print(git_commit())"]
    environment = {**os.environ, "PATH": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    environment.pop("GIT_PYTHON_GIT_EXECUTABLE", None)
    environment.pop("GIT_PYTHON_REFRESH", None)
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == "unknown: there is no git program\n"


def test_versions_are_those_in_use():
    versions = package_versions()
    assert versions["torch"] == str(torch.__version__).partition("+")[0]  # the build's own mark, as +cpu
    assert versions["python"] == sys.version.split()[0]


def test_differences_are_named_with_both_values():
    before = {"seed": 1, "network": {"key_dim": 64, "hidden_dim": 64}, "gone": 3}
    now = {"seed": 1, "network": {"key_dim": 32, "hidden_dim": 64}, "new": [1, 2]}
    assert differences(before, now) == [
        "gone: 3 before, None now",
        "network.key_dim: 64 before, 32 now",
        "new: None before, [1, 2] now",
    ]
    assert differences(before, before) == []
