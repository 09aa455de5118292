"""Whatever stops a run, what it had learned is continued bit for bit."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.helpers import REPOSITORY
from tests.helpers.tiny_network import TINY
from training.checkpoints import RunFolder, RunSettings, TrainingCheckpoint
from training.data import TrainedOn, digest
from training.step import StepperState
from util.errors import UserError
from util.provenance import git_commit, package_versions

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


def checkpoint(stage_index: int, iteration: int) -> TrainingCheckpoint:
    return TrainingCheckpoint(
        stage_index=stage_index,
        iteration=iteration,
        skipped_iterations=2,
        network_config=replace(TINY, single_object=True),
        stepper=StepperState(
            network={"weight": torch.full((1000,), float(iteration))},
            optimizer={"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"betas": (0.9, 0.999)}]},
            scaler={},
            average=[torch.zeros(2)],
            random_state=torch.get_rng_state(),
        ),
        settings=RunSettings(config={"network": {"decoder_dims": (1, 2)}}, load_network="none", data={"0 (0)": {}}),
        trained_on=TrainedOn(("ImageNet",), ("bear",), "somebody's", 320),
    )


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    before = checkpoint(1, 7)
    before.save(tmp_path / "file.pth")
    after = TrainingCheckpoint.read(tmp_path / "file.pth")
    torch.testing.assert_close(vars(after.stepper), vars(before.stepper), rtol=0, atol=0)
    assert vars(after) | {"stepper": 0} == vars(before) | {"stepper": 0}


def test_the_newest_whole_checkpoint_is_found_and_only_the_last_are_kept(tmp_path, caplog):
    folder = RunFolder(path=tmp_path, name="mine", keep=2)
    assert folder.newest_checkpoint() is None
    for stage_index, iteration in [(0, 900), (1, 5), (1, 40)]:
        folder.write_checkpoint(checkpoint(stage_index, iteration))
    RunFolder(path=tmp_path, name="other").write_checkpoint(checkpoint(3, 1))
    newest = tmp_path / "mine_checkpoint_1_00000040.pth"
    assert folder.newest_first() == [newest, tmp_path / "mine_checkpoint_1_00000005.pth"]
    assert folder.newest_checkpoint().iteration == 40
    newest.write_bytes(newest.read_bytes()[:-500])
    assert folder.newest_checkpoint().iteration == 5
    assert str(newest) in caplog.text


def test_a_damaged_checkpoint_does_not_take_the_place_of_a_whole_one(tmp_path):
    folder = RunFolder(path=tmp_path, name="x", keep=1)
    damaged = tmp_path / "x_checkpoint_0_00000009.pth"
    damaged.write_bytes(b"half")
    with pytest.raises(UserError, match="none of the checkpoints"):
        folder.newest_checkpoint()
    folder.write_checkpoint(checkpoint(0, 4))
    folder.write_checkpoint(checkpoint(0, 5))
    assert [path.name for path in folder.newest_first()] == [damaged.name, "x_checkpoint_0_00000005.pth"]
    assert folder.newest_checkpoint().iteration == 5


def test_a_checkpoint_that_cannot_be_read_now_is_not_skipped(tmp_path, monkeypatch):
    folder = RunFolder(path=tmp_path, name="x")
    for iteration in (4, 5):
        folder.write_checkpoint(checkpoint(0, iteration))
    newest = tmp_path / "x_checkpoint_0_00000005.pth"
    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
        with pytest.raises(UserError, match=f"{newest} cannot be read: Permission denied"):
            folder.newest_checkpoint()
    torch.save(torch.load(newest, weights_only=True) | {"format": "xmem-training-2"}, newest)
    with pytest.raises(UserError, match=f"{newest} is not a training checkpoint of this version"):
        folder.newest_checkpoint()


def test_a_checkpoint_that_cannot_be_written_leaves_the_earlier_ones(tmp_path, monkeypatch):
    folder = RunFolder(path=tmp_path, name="mine")
    path = folder.write_checkpoint(checkpoint(0, 1))

    def full_disk(content, target) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(UserError, match="No space"):
        folder.write_checkpoint(checkpoint(0, 2))
    assert list(tmp_path.iterdir()) == [path]


def test_other_files_are_no_checkpoints(tmp_path):
    for name, content in {"network.pth": {"weight": torch.zeros(1)}, "list.pth": [1]}.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(UserError, match=name):
            TrainingCheckpoint.read(tmp_path / name)
    with pytest.raises(UserError, match="no such file"):
        TrainingCheckpoint.read(tmp_path / "missing.pth")


@pytest.mark.parametrize("name", ["iteration", "stepper", "settings"])
def test_checkpoints_that_lack_something_or_hold_something_else(tmp_path, name):
    checkpoint(0, 1).save(tmp_path / "file.pth")
    content = torch.load(tmp_path / "file.pth", weights_only=True)
    for changed in (
        {key: value for key, value in content.items() if key != name},
        content | {name: None},
        content | {f"{name}_more": 1},
    ):
        torch.save(changed, tmp_path / "file.pth")
        with pytest.raises(UserError, match=r"file\.pth is damaged, or of another version"):
            TrainingCheckpoint.read(tmp_path / "file.pth")


def test_every_start_of_a_run_is_recorded_in_full(tmp_path):
    folder = RunFolder(path=tmp_path, name="x")
    settings = RunSettings(config={"seed": 1, "dims": (8, 4)}, load_network="none", data={"0 (0)": {"images": "2"}})
    folder.record_start(settings, ["train.py", "--seed", "1"], "a device")
    folder.record_start(replace(settings, load_network="other"), [], "cpu")
    first, second = (json.loads((tmp_path / f"run_{number}.json").read_text()) for number in (1, 2))
    assert first["settings"] == {
        "config": {"seed": 1, "dims": [8, 4]}, "load_network": "none", "data": {"0 (0)": {"images": "2"}},
    }  # fmt: skip
    assert first["command"] == ["train.py", "--seed", "1"]
    assert first["device"] == "a device"
    assert first["commit"] == git_commit()
    assert first["packages"] == package_versions()
    assert first["time"].count(":") == 3  # hours, minutes, seconds and the zone's
    assert second["settings"]["load_network"] == "other"
    (tmp_path / "run_1.json").unlink()
    folder.record_start(settings, [], "cpu")
    assert {path.name for path in tmp_path.iterdir()} == {"run_2.json", "run_3.json"}  # none is overwritten


def test_a_record_that_cannot_be_written_is_one_line(tmp_path):
    settings = RunSettings(config={}, load_network="none", data={})
    with pytest.raises(UserError, match=r"run_1\.json cannot be written") as error:
        RunFolder(path=tmp_path / "missing", name="x").record_start(settings, [], "cpu")
    assert "\n" not in str(error.value)


def test_data_whose_names_are_not_utf_8_have_a_digest():
    names = [os.fsdecode(b"caf\xe9"), os.fsdecode(b"caf\xe8")]
    assert digest(names).startswith("2, checksum ")
    assert digest(names) != digest(names[::-1])
