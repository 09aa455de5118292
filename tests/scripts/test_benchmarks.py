"""What the benchmarks refuse, and that training's runs; what they measure is not a matter of tests."""

import re

import numpy as np
import pytest

from dataset.label_map import write_label_map
from scripts.benchmark import main
from scripts.benchmarks import toolkits
from scripts.page_driver import browser_path
from tests.helpers.annotated_video import ground_truth, write_video

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
    machine, _, _, data, _, *table = capsys.readouterr().out.splitlines()
    assert "1 samples of 2 frames of 32², 1 objects, 1 data workers, float32" in machine
    title, speed = (cell.strip() for cell in data.strip("|").split("|"))
    assert title == "synthetic sequences"
    assert float(speed) > 0
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


@pytest.mark.long
@pytest.mark.slow
def test_a_person_corrects_frames_and_what_is_exported_is_scored(capsys, tmp_path, monkeypatch, network_file):
    monkeypatch.setattr("evaluation.networks.default_network_file", lambda: network_file)
    write_video(tmp_path / "JPEGImages/480p/squares", count=8)
    (tmp_path / "Annotations/480p/squares").mkdir(parents=True)
    for number in range(8):
        mask = (ground_truth(number) > 0) * np.uint8(255)
        write_label_map(tmp_path / "Annotations/480p/squares" / f"{number:05d}.png", mask)
    flags = ["--davis_root", str(tmp_path), "--videos", "squares", "--segmenter", "grabcut", "--corrections", "2"]
    assert main(["person", *flags, "--clicks", "2", "--size", "32", "--device", "cpu"]) == 0
    rows = [row.strip("| ").split(" | ") for row in capsys.readouterr().out.splitlines() if row.startswith("| squares")]
    assert [len(row[2].split(", ")) for row in rows] == [1, 1, 2]
    assert rows[0][2] == "none"
    clicks = [int(row[3]) for row in rows]
    assert clicks == sorted(clicks)
    assert all(0 <= float(value) <= 100 for row in rows for value in row[4:])


@pytest.mark.skipif(browser_path() is None, reason="there is no Chromium (on Debian: apt install chromium)")
@pytest.mark.long
@pytest.mark.slow
def test_opening_and_scrubbing_are_measured(capsys):
    flags = ["--frames", "120", "--long_frames", "60"]
    assert main(["interactive", "--only", "scrub", "lengths", *flags]) == 0
    _, *scrubbed, short, long = capsys.readouterr().out.splitlines()
    assert [re.match(r"4K, (\d+) frames", line).group(1) for line in (short, long)] == ["6", "60"]
    assert [line.split(":")[0].split(",")[0].strip() for line in scrubbed] == [
        "scrubbing 120 frames of 1080p", "right after opening", "previews made", "memory of the program",
    ]  # fmt: skip
