"""The total batch decides what is learned, not how it is shared out over processes and passes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.helpers import REPOSITORY

PROGRAM = REPOSITORY / "tests/helpers/training_steps.py"


def train(folder: Path, processes: int, samples_at_once: int, frames: int = 4) -> dict:
    output = folder / f"{processes}x{samples_at_once}x{frames}.pth"
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = [sys.executable, *(torchrun if processes > 1 else []), str(PROGRAM)]
    command += [str(output), str(samples_at_once), str(frames)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    subprocess.run(command, check=True, capture_output=True, timeout=300, env=environment)
    return torch.load(output)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return train(tmp_path_factory.mktemp("alone"), processes=1, samples_at_once=4)


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "samples_at_once"), [(1, 1), (2, 2), (4, 1)])
def test_processes_and_passes_do_not_change_what_is_learned(alone, tmp_path, processes, samples_at_once):
    assert len(alone["losses"]) == 5
    assert len(set(alone["losses"])) == 5  # something is learned
    assert_same(train(tmp_path, processes, samples_at_once), alone)


@pytest.mark.slow
def test_clips_of_two_frames_do_without_an_update_of_the_hidden_state(tmp_path):
    assert_same(train(tmp_path, 2, 2, frames=2), train(tmp_path, 1, 4, frames=2))


def assert_same(shared: dict, alone: dict) -> None:
    assert shared["losses"] == pytest.approx(alone["losses"], rel=1e-5)
    for name, weight in alone["weights"].items():
        if weight.is_floating_point():
            difference = (shared["weights"][name] - weight).norm()
            assert difference <= 1e-5 * weight.norm(), name
