"""The commit and the versions that results are made with, and how settings are compared."""

import os
import subprocess
import sys
from pathlib import Path

import git
import pytest
import torch

from util.provenance import REPOSITORY, differences, git_commit, package_versions


@pytest.fixture
def repository(tmp_path: Path) -> git.Repo:
    """With one file and no commit."""
    repository = git.Repo.init(tmp_path / "repository")
    (tmp_path / "repository" / "program.py").write_text("1")
    repository.index.add(["program.py"])
    return repository


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
