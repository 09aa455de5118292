"""What the benchmarks refuse, and that training's runs; what they measure is not a matter of tests."""

import re

import pytest

from scripts.benchmark import main

SMALLEST = ["--device", "cpu", "--crop", "32", "--frames", "2", "--batch_size", "1", "--objects", "1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--frames", "1"], "--frames must be at least 2, not 1"),
        (["--iterations", "0"], "--iterations must be at least 1, not 0"),
        (["--crop", "40"], "--crop must be a multiple of 16, not 40"),
        (["--device", "abacus"], "--device abacus"),
    ],
)
def test_what_cannot_be_trained_is_told_in_one_line(capsys, arguments, message):
    assert main(["train", *SMALLEST, *arguments]) == 2
    output = capsys.readouterr()
    assert message in output.err
    assert output.err.count("\n") == 1
    assert output.out == ""


@pytest.mark.slow
def test_training_is_measured(capsys):
    assert main(["train", *SMALLEST, "--networks", "bundled", "--iterations", "2", "--workers", "1"]) == 0
    machine, *table = capsys.readouterr().out.splitlines()
    assert "1 samples of 2 frames of 32², 1 objects, 1 data workers, float32" in machine
    assert len(table) == 3
    cells = [cell.strip() for cell in table[2].strip("|").split("|")]
    assert cells[0] == "bundled"
    assert 0 < float(cells[1]) == pytest.approx(1 / float(cells[2]), rel=0.2)
    assert re.fullmatch(r"\d+%", cells[3])
    assert 0.1 < float(cells[4].removesuffix(" GiB")) < 10
    assert cells[5] == "–"
