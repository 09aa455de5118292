"""The soaks: what is killed comes to the same end, and long videos take no more memory and time than short ones."""

import re
import subprocess
import sys

import pytest
import torch

from scripts.soak import main
from scripts.soaks.kill import problems_in, results
from tests.helpers import REPOSITORY

KILLS = 20


@pytest.mark.slow
def test_killed_runs_come_to_the_same_end(tmp_path):
    """A process of its own imports PyTorch once, and forks what it kills: a run then costs a second, not five."""
    command = [sys.executable, "-m", "scripts.soak", "kill", "--forked", "--kills", str(KILLS)]
    finished = subprocess.run(
        [*command, "--work", str(tmp_path / "work")], cwd=REPOSITORY, capture_output=True, text=True, timeout=600
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert re.findall(r"(\w+)\.py: (\d+) kills .*, of which 0 differ", finished.stdout) == [
        ("eval", str(KILLS // 2)),
        ("train", str(KILLS // 2)),
    ]


def test_what_differs_is_found(tmp_path):
    def write(name: str, content: object) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, tmp_path / name) if name.endswith(".pth") else (tmp_path / name).write_text(str(content))

    network = "soak/soak_s_00000003.pth"
    weights = {"iteration": 3, "weights": {0: {"a": torch.ones(2)}}}
    write(network, weights | {"commit": "a"})
    for frame in ("00000", "00001"):
        write(f"Annotations/v/{frame}.png", "labels")
    write(".finished/v.json", '{"frames": 2, "wall_seconds": 1.5}')
    expected = results(tmp_path)
    write(network, weights | {"commit": "b"})
    write(".finished/v.json", '{"frames": 2, "wall_seconds": 2.5}')
    assert problems_in(tmp_path, expected) == []

    write(network, weights | {"weights": {0: {"a": torch.tensor([1, 1.0001])}}})
    (problem,) = problems_in(tmp_path, expected)
    assert problem.startswith(f"different: {network}.weights.0.a: torch.float32 (2,) ")
    (tmp_path / network).unlink()
    assert problems_in(tmp_path, expected, ended=False) == []
    (tmp_path / "Annotations/v/00001.png").unlink()
    assert problems_in(tmp_path, expected, ended=False) == ["missing: Annotations/v/00001.png"]
    write(".finished/.v.01234567.partial.json", "half")
    write(".finished/v.json", '{"frames"')
    missing, different, left_over = problems_in(tmp_path, expected)
    assert missing == f"missing: Annotations/v/00001.png, {network}"
    assert "v.json.unreadable: None before" in different
    assert left_over == "left over: .finished/.v.01234567.partial.json"


@pytest.mark.parametrize(
    ("flags", "message"), [(["--kills", "1"], "--kills must"), (["--work", "."], "--work . exists")]
)
def test_flags_that_cannot_work_are_named(capsys, flags, message):
    assert main(["kill", *flags]) == 2
    assert capsys.readouterr().err.startswith(f"soak kill: {message}")
