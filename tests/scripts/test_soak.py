"""The soaks: what is killed comes to the same end, and long videos take no more memory and time than short ones."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from scripts.soak import main
from scripts.soaks.kill import problems_in, results
from scripts.soaks.long import Figures, drift
from tests.helpers import REPOSITORY

KILLS = 20


@pytest.mark.long
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
    ("flags", "message"),
    [
        (["kill", "--kills", "1"], "--kills must be at least 2"),
        (["kill", "--work", "."], "--work . exists"),
        (["long", "--frames", "1999"], "--frames must be at least"),
        (["long", "--window", "0"], "--frames must be at least"),
        (["long", "--size", "32", "16"], "--size must be"),
        (["long", "--model", "nowhere.pth"], "nowhere.pth: no such file"),
        (["long", "--max_long_term_elements", "5"], "--max_long_term_elements must be"),
    ],
)
def test_flags_that_cannot_work_are_named(capsys, flags, message):
    assert main(flags) == 2
    assert capsys.readouterr().err.startswith(f"soak {flags[0]}: {message}")


def test_a_long_video_is_measured_in_windows_while_memory_is_full(network_file, capsys):
    flags = ["--frames", "240", "--warm_up", "160", "--window", "40", "--size", "32", "48"]
    code = main(["long", *flags, "--max_long_term_elements", "128", "--model", str(network_file)])
    machine, *table, verdict = capsys.readouterr().out.splitlines()
    assert "one thread, 32×48, 2 objects" in machine
    assert code == ("as they were" not in verdict)  # which of them is a matter of the machine
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table if line.startswith("| ")]
    assert [row[0] for row in rows] == ["frames", "warm-up", "from 160", "from 200"]
    assert {row[3] for row in rows[2:]} == {"128"}
    assert 0 < int(rows[2][4]) < int(rows[3][4])
    assert all(float(row[column].split()[0]) > 0 for row in rows[1:] for column in (1, 5, 6))


def test_what_drifts_is_named():
    first = Figures(resident=100e6, wall=0.01, processor=0.01, yardstick=0.005, working=400, long_term=2000, evicted=10)
    assert drift(first, replace(first, wall=0.03, evicted=5000, resident=104e6, processor=0.0096)) == []
    assert drift(first, replace(first, processor=0.02, yardstick=0.01)) == []
    assert drift(first, replace(first, resident=106e6)) == ["memory of the process changed by +6.0%"]
    assert drift(first, replace(first, processor=0.009)) == ["time a frame changed by -10.0%"]
    assert drift(first, replace(first, long_term=1500)) == ["elements changed by -20.8%"]
