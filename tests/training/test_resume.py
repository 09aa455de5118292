"""Whatever stops a run, what it had learned is continued bit for bit."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.helpers import REPOSITORY
from training.checkpoints import RunFolder, read_training_checkpoint
from util.errors import UserError

ITERATIONS = 20


def start(folder: Path) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "tests/helpers/training_run.py"), str(folder), str(ITERATIONS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )


def lines_until(process: subprocess.Popen, iteration: int) -> list[str]:
    lines = []
    while not lines or not lines[-1].startswith(f"{iteration} "):
        lines.append(process.stdout.readline())
        assert lines[-1], process.stderr.read()
    return lines


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict]:
    """Every iteration's loss, and the weights at the end, of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("straight")
    output, error = start(folder).communicate(timeout=300)
    assert len(output.splitlines()) == ITERATIONS, error
    return output.splitlines(), torch.load(folder / "weights.pth")


def assert_continues(folder: Path, straight: tuple[list[str], dict], first_iteration: int) -> None:
    process = start(folder)
    output, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert output.splitlines() == straight[0][first_iteration:]
    weights = torch.load(folder / "weights.pth")
    assert all(torch.equal(weights[name], weight) for name, weight in straight[1].items())


@pytest.mark.slow
def test_a_run_killed_in_the_middle_continues_bit_for_bit(straight, tmp_path):
    process = start(tmp_path)
    lines_until(process, 10)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert_continues(tmp_path, straight, first_iteration=8)


@pytest.mark.slow
def test_a_run_asked_to_stop_writes_a_checkpoint_and_ends_well(straight, tmp_path):
    process = start(tmp_path)
    stopped_after = int(lines_until(process, 5)[-1].split()[0])
    process.send_signal(signal.SIGTERM)
    output, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    done = stopped_after + 1 + len(output.splitlines())
    assert done < ITERATIONS
    (tmp_path / "weights.pth").unlink()
    assert_continues(tmp_path, straight, first_iteration=done)


def test_the_newest_whole_checkpoint_is_found_and_only_the_last_are_kept(tmp_path, caplog):
    folder = RunFolder(tmp_path, "mine", keep=2)
    assert folder.newest_whole() is None
    for stage_index, iteration in [(0, 900), (1, 5), (1, 40)]:
        folder.write_checkpoint(stage_index, iteration, {"network": {"weight": torch.full((1000,), float(iteration))}})
    RunFolder(tmp_path, "other").write_checkpoint(3, 1, {})
    newest = tmp_path / "mine_checkpoint_1_00000040.pth"
    assert folder.newest_first() == [newest, tmp_path / "mine_checkpoint_1_00000005.pth"]
    assert folder.newest_whole()["iteration"] == 40
    newest.write_bytes(newest.read_bytes()[:-500])
    assert folder.newest_whole()["iteration"] == 5
    assert str(newest) in caplog.text


def test_a_checkpoint_that_cannot_be_written_leaves_the_earlier_ones(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path, "mine")
    path = folder.write_checkpoint(0, 1, {})

    def full_disk(content, target) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(UserError, match="No space"):
        folder.write_checkpoint(0, 2, {})
    assert list(tmp_path.iterdir()) == [path]


def test_other_files_are_no_checkpoints(tmp_path):
    for name, content in {"network.pth": {"weight": torch.zeros(1)}, "list.pth": [1]}.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(UserError, match=name):
            read_training_checkpoint(tmp_path / name)
    with pytest.raises(UserError, match="no such file"):
        read_training_checkpoint(tmp_path / "missing.pth")
