"""The curves of a run: a table that a resumed run continues, and a picture of it."""

import csv
from pathlib import Path

import pytest
from PIL import Image

from training.curves import Curves, Point


def point(stage: str, iteration: int, loss: float = 1.0) -> Point:
    return Point(
        stage=stage, iteration=iteration, loss=loss, cross_entropy=0.4, dice=0.6, gradient_norm=3.0,
        learning_rate=1e-4, seconds=0.5,
    )  # fmt: skip


def table(folder: Path) -> list[tuple[str, str, str]]:
    with (folder / "curves.csv").open(newline="") as file:
        return [(row["stage"], row["iteration"], row["loss"]) for row in csv.DictReader(file)]


def test_a_resumed_run_continues_the_table_from_its_checkpoint(tmp_path):
    first = Curves(tmp_path)
    first.start_stage("0", 0)
    first.add(point("0", 100))
    first.start_stage("3", 0)
    for iteration in (100, 200, 300):
        first.add(point("3", iteration))
    resumed = Curves(tmp_path)
    resumed.start_stage("3", 200)
    resumed.add(point("3", 300, loss=0.5))
    assert table(tmp_path) == [("0", "100", "1.0"), ("3", "100", "1.0"), ("3", "200", "1.0"), ("3", "300", "0.5")]


def test_the_picture_shows_the_curves(tmp_path):
    curves = Curves(tmp_path)
    curves.start_stage("s", 0)
    curves.add(point("s", 100))
    before = (tmp_path / "curves.png").read_bytes()
    curves.add(point("s", 200, loss=float("nan")))
    assert (tmp_path / "curves.png").read_bytes() == before, "not with every point"
    curves.draw()
    assert (tmp_path / "curves.png").read_bytes() != before
    with Image.open(tmp_path / "curves.png") as image:
        assert min(image.size) > 400


def test_without_matplotlib_there_is_the_table_alone(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    caplog.set_level("INFO")
    curves = Curves(tmp_path)
    curves.start_stage("s", 0)
    curves.add(point("s", 100))
    curves.draw()
    assert "curves.png is left out" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["curves.csv"]


@pytest.mark.parametrize("stage", ["s", "m"])
def test_an_empty_run_draws_nothing(tmp_path, stage):
    curves = Curves(tmp_path)
    curves.start_stage(stage, 0)
    curves.draw()
    assert table(tmp_path) == []


def test_a_line_that_was_cut_off_is_left_out_and_named(tmp_path, caplog):
    curves = Curves(tmp_path)
    curves.start_stage("s", 0)
    curves.add(point("s", 100))
    with (tmp_path / "curves.csv").open("a") as file:
        file.write("s,2")
    Curves(tmp_path).start_stage("s", 200)
    assert table(tmp_path) == [("s", "100", "1.0")]
    assert "left out a line that is no point" in caplog.text
