"""What the benchmarks refuse, and that training's runs; what they measure is not a matter of tests."""

import re

import pytest

from scripts.benchmark import main
from scripts.benchmarks import toolkits

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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a toolkit's checkout with --lvos or --vost"),
        (["--vost", ".", "--frames", "3"], "--frames must be at least 12, not 3"),
        (["--vost", ".", "--frames", "12", "--repeats", "1"], "the toolkit failed: ["),
    ],
)
def test_toolkits_that_cannot_be_timed_are_told_in_one_line(capsys, monkeypatch, arguments, message):
    monkeypatch.setitem(toolkits.SIZES, "vost", (20, 30))
    assert main(["toolkits", *arguments]) == 2
    output = capsys.readouterr()
    assert message in output.err
    assert output.err.count("\n") == 1


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


@pytest.mark.slow
def test_frames_are_measured_part_by_part(capsys, tmp_path):
    flags = ["--objects", "1", "--elements", "0", "20", "--size", "32", "48", "--frames", "5", "--device", "cpu"]
    assert main(["frame", *flags, "--figure", str(tmp_path / "frame.png")]) == 0
    _, header, _, *rows = capsys.readouterr().out.splitlines()
    columns = [cell.strip() for cell in header.strip("|").split("|")]
    assert columns[:8] == ["objects", "elements", "network", "key", "read", "decode", "value", "store"]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[:3] for row in cells] == [
        ["1", elements, network] for elements in ("0", "20") for network in ("as loaded", "prepared")
    ]
    assert all(float(row[columns.index("FPS")]) > 0 for row in cells)
    assert (tmp_path / "frame.png").stat().st_size > 1000


def test_frames_that_cannot_be_measured_are_told_in_one_line(capsys):
    assert main(["frame", "--objects", "0"]) == 2
    assert "--objects, --size and --frames must be at least 1" in capsys.readouterr().err
