"""Launches and waits on a simulated CUDA device of frames and of training: only counts are real."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers import REPOSITORY

pytestmark = pytest.mark.long

MOST_OPERATORS = {  # objects → kind of frame → operators; today's numbers and a few to spare
    "1": {"ordinary": 200, "ordinary, long-term": 215, "memory frame": 290, "consolidation": 345, "eviction": 375},
    "5": {"ordinary": 210, "ordinary, long-term": 230, "memory frame": 320, "consolidation": 400, "eviction": 445},
}


MOST_OPERATORS_OF_AN_ITERATION = 4300  # of one sample of stage 3; today's number and a few to spare


def simulated(shared: Path, module: str) -> dict[str, dict[str, Any]]:
    """Run a module of the helpers on the simulated device, and return what it counts."""
    tool = shared / "tools" / "simulated_cuda" / "run.sh"
    if not tool.is_file():
        pytest.skip("the shared folder has no simulated device")
    if shutil.which("gcc") is None or not (torch.version.cuda or "").startswith("13"):
        pytest.skip("the simulated device needs gcc, and PyTorch built for CUDA 13")
    command = ["sh", str(tool), "-m", f"tests.helpers.{module}", str(REPOSITORY)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    return json.loads(line.removeprefix("RESULT "))


@pytest.fixture(scope="module")
def counts(shared) -> dict[str, dict[str, dict[str, int]]]:
    return simulated(shared, "simulated_frames")


def test_training_does_not_wait_for_the_device(shared):
    for precision, each in simulated(shared, "simulated_training").items():
        assert (each["synchronisations"], each["mixes"]) == (0, 0), precision
        assert each["operators"] <= MOST_OPERATORS_OF_AN_ITERATION, precision


def test_no_frame_waits_for_the_device(counts):
    waits = {(objects, kind): each["synchronisations"] for objects, of in counts.items() for kind, each in of.items()}
    assert waits.keys() >= {("1", "ordinary"), ("5", "consolidation"), ("1", "eviction")}
    assert {kind for kind, number in waits.items() if number} == set()


def test_no_tensor_is_on_the_wrong_device(counts):
    assert not any(each["mixes"] for of in counts.values() for each in of.values())


def test_frames_launch_no_more_than_they_did(counts):
    for objects, of in counts.items():
        for kind, each in of.items():
            assert each["operators"] <= MOST_OPERATORS[objects][kind], (objects, kind)
