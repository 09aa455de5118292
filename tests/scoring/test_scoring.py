"""J and F against the toolkit's figures and the definition written out; what scoring says of what is missing."""

import csv
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from dataset.label_map import write_label_map
from scoring.davis import ScoredSequence, find_sequences, score_sequences
from scoring.measures import (
    boundary,
    boundary_accuracy,
    boundary_radius,
    disk_rectangles,
    region_similarity,
    score_label_maps,
)
from scripts.benchmarks import score as benchmark
from scripts.score import main
from util.errors import UserError

# --- The definition, written out --------------------------------------------------------------------------------------


def boundary_by_definition(mask: np.ndarray) -> set[tuple[int, int]]:
    height, width = mask.shape
    return {
        (y, x)
        for y in range(height)
        for x in range(width)
        if any(
            mask[y, x] != mask[y + dy, x + dx]
            for dy, dx in ((0, 1), (1, 0), (1, 1))
            if y + dy < height and x + dx < width
        )
    }


def accuracy_by_definition(truth: np.ndarray, prediction: np.ndarray, radius: int) -> float:
    """F with distances measured between all pairs of boundary pixels, in integers."""
    true_points, points = (np.array(sorted(boundary_by_definition(mask))) for mask in (truth, prediction))
    if len(true_points) == 0 or len(points) == 0:
        return float(len(true_points) == len(points))
    near = ((points[:, None] - true_points[None]) ** 2).sum(axis=2) <= radius**2
    precision, recall = near.any(axis=1).mean(), near.any(axis=0).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def score_by_definition(truth: np.ndarray, prediction: np.ndarray, radius: int) -> tuple[float, float]:
    union = (truth | prediction).sum()
    similarity = (truth & prediction).sum() / union if union else 1.0
    return similarity, accuracy_by_definition(truth, prediction, radius)


# Noise, and blobs: rectangles that may be empty, full, one pixel or cut by an edge of the image.
sizes = st.tuples(st.integers(1, 30), st.integers(1, 30))


@st.composite
def label_map_pairs(draw, labels=(0, 1, 2, 5, 255)) -> tuple[np.ndarray, np.ndarray]:
    size = draw(sizes)
    if draw(st.booleans()):
        return tuple(draw(arrays(np.uint8, size, elements=st.sampled_from(labels))) for _ in range(2))
    maps = np.zeros((2, *size), np.uint8)
    for label_map in maps:
        for _ in range(draw(st.integers(0, 4))):
            top, left = draw(st.integers(-5, size[0])), draw(st.integers(-5, size[1]))
            height, width = draw(st.integers(0, 35)), draw(st.integers(0, 35))
            rows, columns = slice(max(top, 0), max(top + height, 0)), slice(max(left, 0), max(left + width, 0))
            label_map[rows, columns] = draw(st.sampled_from(labels))
    return maps[0], maps[1]


@given(label_map_pairs(labels=(0, 1)), st.integers(1, 12))
@settings(max_examples=150, deadline=None)
def test_both_measures_are_those_of_the_definition(pair, radius):
    truth, prediction = (label_map.astype(bool) for label_map in pair)
    similarity, accuracy = score_by_definition(truth, prediction, radius)
    assert region_similarity(truth, prediction) == similarity
    assert boundary_accuracy(truth, prediction, radius) == pytest.approx(accuracy, abs=1e-12)
    marked = set(zip(*(axis.tolist() for axis in np.nonzero(boundary(truth))), strict=True))
    assert marked == boundary_by_definition(truth)


@given(label_map_pairs(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_label_maps_are_scored_object_by_object_without_their_void_pixels(pair, void):
    truth, prediction = pair
    objects = (1, 2, 5) if void else (1, 2, 5, 255)
    score = score_label_maps(truth, prediction, objects, void=void)
    scored = truth != 255 if void else np.ones_like(truth, dtype=bool)
    assert score.predicted_labels == set(np.unique(prediction[scored])) - {0}
    for label, j, f in zip(objects, score.values["J"], score.values["F"], strict=True):
        masks = [(label_map == label) & scored for label_map in pair]
        expected = score_by_definition(*masks, boundary_radius(*truth.shape))
        assert (j, f) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("size", [(480, 854), (127, 333), (701, 90), (1080, 1919)])
def test_images_of_usual_sizes_score_as_with_dilated_frames(size):
    rng = np.random.default_rng(sum(size))
    height, width = size
    y, x = np.mgrid[:height, :width]
    maps = np.zeros((2, *size), np.uint8)
    for label in (1, 2, 3):
        centre, radius = rng.uniform(0, size), rng.uniform(0.05, 0.4) * min(size)
        for label_map in maps:
            centre, radius = centre + rng.normal(0, 3, 2), radius * rng.uniform(0.9, 1.1)
            label_map[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2] = label
    maps[1][rng.random(size) < 1e-4] = 2
    score = score_label_maps(*maps, (1, 2, 3, 4))
    expected = [benchmark.plain_score(maps[0] == label, maps[1] == label) for label in (1, 2, 3, 4)]
    np.testing.assert_allclose(np.stack([score.values["J"], score.values["F"]], axis=1), expected, rtol=0, atol=1e-12)
    assert 0 < score.values["F"][1] < 1


@pytest.mark.parametrize(
    ("radius", "shift"), [*((float(radius), 0.0) for radius in range(1, 41)), (17.6, 0.4), (0.7, 0.3)]
)
def test_the_rectangles_make_up_the_disk(radius, shift):
    offsets = np.arange(-math.ceil(radius), math.ceil(radius) + 1)
    y, x = np.meshgrid(offsets, offsets, indexing="ij")
    rectangles = disk_rectangles(radius, shift)
    union = np.any(
        [(y >= top) & (y <= bottom) & (x >= left) & (x <= right) for top, bottom, left, right in rectangles], 0
    )
    np.testing.assert_array_equal(union, (y + shift) ** 2 + (x + shift) ** 2 <= radius**2)


def test_figures_worked_out_by_hand():
    truth, prediction = np.zeros((2, 100, 100), np.uint8)  # its diagonal is 141.4: boundaries match within 2 pixels
    truth[20:30, 20:30] = 1
    prediction[20:30, 25:35] = 1  # five columns to the right
    score = score_label_maps(truth, prediction, (1, 2))
    # J: 50 of 150 pixels. Boundaries: the squares of rows 19 to 29, columns 19 to 29 and 24 to 34, 40 pixels each. Of
    # the predicted one, the rows 19 and 29 lie within 2 pixels as far as column 31 (8 pixels each); of the left side
    # between them (column 24) rows 20, 21, 27 and 28 do; of the right side none.
    precision = (8 + 8 + 4) / 40
    np.testing.assert_allclose(score.values["J"], [50 / 150, 1], rtol=0, atol=1e-15)
    np.testing.assert_allclose(score.values["F"], [precision, 1], rtol=0, atol=1e-15)
    assert score.predicted_labels == {1}


@pytest.mark.parametrize(("height", "width", "radius"), [(480, 854, 8), (100, 75, 1), (100, 76, 2), (1080, 1920, 18)])
def test_radius_is_a_share_of_the_diagonal_rounded_up(height, width, radius):
    assert boundary_radius(height, width) == radius


# --- Folders ----------------------------------------------------------------------------------------------------------


def square(left: int, label: int = 1) -> np.ndarray:
    """A square of 10×10 pixels in a map of 60×80."""
    labels = np.zeros((60, 80), np.uint8)
    labels[10:20, left : left + 10] = label
    return labels


def write_sequence(folder: Path, maps: list[np.ndarray]) -> None:
    folder.mkdir(parents=True)
    for index, labels in enumerate(maps):
        write_label_map(folder / f"{index:05}.png", labels)


@pytest.fixture
def roots(tmp_path) -> tuple[Path, Path]:
    """Two sequences of four frames. In `moved`, frames 1 and 2 are half off and right; in `pair` one of two objects is
    lost in frame 2. The first and last prediction of both are empty."""
    truth, prediction, empty = tmp_path / "truth", tmp_path / "prediction", square(0, 0)
    both = square(10) + square(40, 2)
    write_sequence(truth / "moved", [square(20)] * 4)
    write_sequence(prediction / "moved", [empty, square(25), square(20), empty])
    write_sequence(truth / "pair", [both] * 4)
    write_sequence(prediction / "pair", [empty, both, square(10), empty])
    return truth, prediction


def replace_everywhere(folder: Path, old: int, new: int) -> None:
    for path in folder.glob("*.png"):
        labels = np.array(Image.open(path))
        write_label_map(path, np.where(labels == old, new, labels))


@pytest.mark.parametrize("threads", [1, 2, None])
def test_the_figures_are_those_of_the_toolkit(shared, threads):
    folder = shared / "parity" / "jf"
    expected = json.loads((folder / "expected.json").read_text())
    scores = score_sequences(find_sequences(folder / "gt", folder / "pred"), threads=threads)
    assert list(scores.sequences) == sorted(expected)
    for name, objects in expected.items():
        assert [str(label) for label in scores.sequences[name].objects] == sorted(objects)
        for label, score in scores.sequences[name].objects.items():
            figures = objects[str(label)]
            np.testing.assert_allclose(score.values["J"], figures["J_frames"], rtol=0, atol=1e-12)
            np.testing.assert_allclose(score.values["F"], figures["F_frames"], rtol=0, atol=1e-12)
            assert (score.figures["J"] / 100, score.figures["F"] / 100) == pytest.approx(
                (figures["J"], figures["F"]), abs=1e-12
            )
    every = [figures for objects in expected.values() for figures in objects.values()]
    assert scores.figures["J"] / 100 == pytest.approx(np.mean([figures["J"] for figures in every]), abs=1e-12)
    assert scores.figures["F"] / 100 == pytest.approx(np.mean([figures["F"] for figures in every]), abs=1e-12)
    assert scores.figures["J&F"] == (scores.figures["J"] + scores.figures["F"]) / 2


def test_means_are_over_frames_then_objects(roots):
    scores = score_sequences(find_sequences(*roots))
    moved, pair = scores.sequences["moved"], scores.sequences["pair"]
    np.testing.assert_allclose(moved.objects[1].values["J"], [50 / 150, 1])
    assert moved.figures["J"] == pytest.approx(100 * (1 / 3 + 1) / 2)
    assert [pair.objects[label].figures["J"] for label in (1, 2)] == pytest.approx([100, 50])
    assert [pair.objects[label].figures["F"] for label in (1, 2)] == pytest.approx([100, 50])
    assert pair.figures["J"] == pytest.approx(75)
    # Over three objects, not over two sequences.
    assert scores.figures["J"] == pytest.approx((moved.figures["J"] + 100 + 50) / 3)
    assert scores.figures["J&F"] == pytest.approx((scores.figures["J"] + scores.figures["F"]) / 2)


def test_first_and_last_frame_count_on_demand(roots):
    score = score_sequences(find_sequences(*roots), skip_first_and_last=False).sequences["moved"].objects[1]
    np.testing.assert_allclose(score.values["J"], [0, 50 / 150, 1, 0])


def test_predictions_that_have_no_ground_truth_are_named(roots, caplog):
    _, prediction = roots
    (prediction / "Overlay").mkdir()
    (prediction / "Overlay" / "moved.mp4").write_bytes(b"")
    find_sequences(*roots)
    assert not caplog.records
    shutil.copytree(prediction / "moved", prediction / "more")
    find_sequences(*roots)
    assert caplog.messages == [f"{prediction}: not in the ground truth, not scored: more"]


def test_255_alone_is_an_object(roots, caplog):
    expected = score_sequences(find_sequences(*roots)).sequences["moved"].objects[1]
    for root in roots:
        replace_everywhere(root / "moved", 1, 255)
    score = score_sequences(find_sequences(*roots)).sequences["moved"].objects[255]
    assert (score.figures["J"], score.figures["F"]) == (expected.figures["J"], expected.figures["F"])
    assert not caplog.records


def test_255_beside_other_labels_is_void_in_all_frames(roots, caplog):
    truth, prediction = roots
    # Of frame 1, only the columns where truth and prediction agree remain.
    void = square(20)
    void[:, :25] = void[:, 30:40] = 255
    write_label_map(truth / "moved" / "00001.png", void)
    write_label_map(prediction / "moved" / "00001.png", np.where(void == 255, 255, square(25)))
    objects = score_sequences(find_sequences(*roots)).sequences["moved"].objects
    assert list(objects) == [1]
    np.testing.assert_array_equal([objects[1].values["J"], objects[1].values["F"]], np.ones((2, 2)))
    assert not caplog.records


def test_objects_are_those_of_the_first_map_even_where_it_is_not_scored(roots, caplog):
    truth, prediction = roots
    first, later = square(10) + square(40, 3), square(10) + square(40, 3) + square(60, 7)
    for index, labels in enumerate([first, later, later, later]):
        write_label_map(truth / "pair" / f"{index:05}.png", labels)
        write_label_map(prediction / "pair" / f"{index:05}.png", labels)
    sequence = score_sequences(find_sequences(*roots)).sequences["pair"]
    assert {label: score.figures["J"] for label, score in sequence.objects.items()} == {1: 100, 3: 100}
    (record,) = caplog.records
    assert "pair: labels 7: objects that enter after the first" in record.getMessage()


def test_objects_that_enter_later_are_scored_if_wanted_after_their_first_frame(roots, caplog):
    truth, prediction = roots
    first, later = square(10), square(10) + square(60, 7)
    for index, labels in enumerate([first, first, later, later, later, later]):
        write_label_map(truth / "pair" / f"{index:05}.png", labels)
        write_label_map(prediction / "pair" / f"{index:05}.png", first if index == 3 else labels)
    pair = find_sequences(*roots, ["pair"])
    objects = score_sequences(pair, all_objects=True).sequences["pair"].objects
    assert not caplog.records
    np.testing.assert_array_equal(objects[1].values["J"], [1, 1, 1, 1])  # frames 1 to 4
    np.testing.assert_array_equal(objects[7].values["J"], [0, 1])  # frames 3 and 4: its first is 2, the last is 5
    every_frame = score_sequences(pair, all_objects=True, skip_first_and_last=False).sequences["pair"].objects
    np.testing.assert_array_equal(every_frame[7].values["J"], [1, 0, 1, 1])


@pytest.mark.parametrize(("true_label", "predicted_label"), [(255, 1), (1, 255), (38, 75)])
def test_one_object_of_different_labels_is_scored_if_wanted(roots, caplog, true_label, predicted_label):
    expected = score_sequences(find_sequences(*roots, ["moved"])).sequences["moved"].objects[1]
    for root, label in zip(roots, (true_label, predicted_label), strict=True):
        replace_everywhere(root / "moved", 1, label)
    moved = find_sequences(*roots, ["moved"])
    assert score_sequences(moved).figures["J"] == 0
    assert "moved: no label is in both; binary scoring" in caplog.text
    objects = score_sequences(moved, binary=True).sequences["moved"].objects
    np.testing.assert_array_equal(
        [objects[1].values["J"], objects[1].values["F"]], [expected.values["J"], expected.values["F"]]
    )


def test_predicted_labels_without_an_object_are_named_and_count_as_background(roots, caplog):
    expected = score_sequences(find_sequences(*roots))
    assert not caplog.records
    path = roots[1] / "moved" / "00001.png"
    write_label_map(path, square(25) + square(50, 9))
    scores = score_sequences(find_sequences(*roots))
    assert scores.to_json_dict() == expected.to_json_dict()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "moved: labels 9:" in record.getMessage()


def test_objects_that_are_never_predicted_are_named_and_score_zero(roots, caplog):
    replace_everywhere(roots[1] / "pair", 2, 0)
    score = score_sequences(find_sequences(*roots)).sequences["pair"].objects[2]
    assert (score.figures["J"], score.figures["F"]) == (0, 0)
    (record,) = caplog.records
    assert "pair: labels 2:" in record.getMessage()


def test_the_ground_truth_says_which_frames_there_are(roots):
    truth, prediction = roots
    for folder, index in (truth, 1), (prediction, 0), (prediction, 3):
        (folder / "moved" / f"{index:05}.png").unlink()
    scores = score_sequences(find_sequences(*roots))
    np.testing.assert_array_equal(scores.sequences["moved"].objects[1].values["J"], [1])


def test_a_sequence_may_be_restricted_to_some_frames(roots):
    (sequence, _) = find_sequences(*roots)
    *some, (last, _) = sequence.label_maps.items()
    last.unlink()
    score = score_sequences([replace(sequence, label_maps=dict(some))]).sequences["moved"].objects[1]
    np.testing.assert_array_equal(score.values["J"], [50 / 150])


def test_several_predictions_may_have_one_truth(roots):
    (sequence, _) = find_sequences(*roots)
    first, moved, *_ = sequence.label_maps.items()
    again = moved[0].with_name("again.png")
    shutil.copy(moved[1], again)  # perfect, this time
    pairs = dict([first, moved, (again, moved[1]), first[::-1]])
    score = score_sequences([ScoredSequence("moved", pairs)]).sequences["moved"].objects[1]
    np.testing.assert_array_equal(score.values["J"], [50 / 150, 1])


@pytest.mark.parametrize("mode", ["P", "L", "1"])
def test_label_maps_may_be_palette_grey_or_one_bit(tmp_path, mode):
    for side in "truth", "prediction":
        (tmp_path / side).mkdir()
        for index in range(3):
            image = Image.fromarray(square(20) == 1) if mode == "1" else Image.fromarray(square(20))
            if mode == "P":
                image.putpalette([0, 0, 0, 128, 0, 0])
            assert image.mode == mode
            image.save(tmp_path / side / f"{index}.png")
    (scores,) = score_sequences(
        [ScoredSequence("one", {tmp_path / f"prediction/{i}.png": tmp_path / f"truth/{i}.png" for i in range(3)})]
    ).sequences.values()
    assert {label: score.figures["J&F"] for label, score in scores.objects.items()} == {1: 100}


# --- The program ------------------------------------------------------------------------------------------------------


def flags(roots: tuple[Path, Path], *more: str | Path) -> list[str]:
    return ["--gt", str(roots[0]), "--pred", str(roots[1]), *map(str, more)]


def test_the_program_prints_a_table_and_writes_both_files(roots, tmp_path, capsys):
    as_json, as_csv = tmp_path / "scores.json", tmp_path / "scores.csv"
    assert main(flags(roots, "--json", as_json, "--csv", as_csv)) == 0
    scores = score_sequences(find_sequences(*roots))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["sequence", "global", "moved", "pair"]
    assert lines[1].split()[1:] == [
        "3",
        *(f"{figure:.1f}" for figure in (scores.figures["J&F"], scores.figures["J"], scores.figures["F"])),
    ]
    assert lines[3].split()[1:] == ["2", "75.0", "75.0", "75.0"]

    written = json.loads(as_json.read_text())
    assert written == scores.to_json_dict()
    assert written["global"] == {"J&F": scores.figures["J&F"], "J": scores.figures["J"], "F": scores.figures["F"]}
    assert written["sequences"]["pair"] == {"1": {"J": 100, "F": 100}, "2": {"J": 50, "F": 50}}
    assert set(written["sequences"]) == {"moved", "pair"}

    with as_csv.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["sequence"], row["object"]) for row in rows] == [("moved", "1"), ("pair", "1"), ("pair", "2")]
    assert [float(row["J"]) for row in rows] == [score.figures["J"] for score in scores.all_objects]
    assert [float(row["J&F"]) for row in rows] == [score.figures["J&F"] for score in scores.all_objects]
    assert not list(tmp_path.glob("*.partial*"))


def test_the_program_scores_all_frames_or_some_sequences_on_demand(roots, tmp_path):
    path = tmp_path / "scores.json"
    assert main(flags(roots, "--json", path, "--all_frames", "--sequences", "moved", "--threads", "1")) == 0
    assert json.loads(path.read_text())["sequences"].keys() == {"moved"}
    assert json.loads(path.read_text())["global"]["J"] == pytest.approx(100 * (1 / 3 + 1) / 4)


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


MISTAKES = {
    "sequence": (lambda gt, pred: shutil.rmtree(pred / "pair"), ["prediction/pair", "lacks 2 of 2 frames"]),
    "frame": (lambda gt, pred: (pred / "moved" / "00002.png").unlink(), ["prediction/moved", "00002.png"]),
    "size": (
        lambda gt, pred: write_label_map(pred / "moved" / "00002.png", square(20)[:50]),
        ["prediction/moved/00002.png", "80x50", "80x60"],
    ),
    "damaged": (lambda gt, pred: damage(pred / "pair" / "00001.png"), ["prediction/pair/00001.png"]),
    "damaged truth": (lambda gt, pred: damage(gt / "pair" / "00001.png"), ["truth/pair/00001.png"]),
    "damaged first map": (lambda gt, pred: damage(gt / "pair" / "00000.png"), ["truth/pair/00000.png"]),
    "no image": (lambda gt, pred: (pred / "pair" / "00001.png").write_text("text"), ["prediction/pair/00001.png"]),
    "colour": (
        lambda gt, pred: Image.new("RGB", (80, 60)).save(pred / "pair" / "00001.png"),
        ["prediction/pair/00001.png", "RGB"],
    ),
    "no ground truth": (lambda gt, pred: shutil.rmtree(gt), ["truth", "does not exist"]),
    "no predictions": (lambda gt, pred: shutil.rmtree(pred), ["prediction", "does not exist"]),
    "no sequences": (lambda gt, pred: [shutil.rmtree(folder) for folder in gt.iterdir()], ["truth", "no sequences"]),
    "no maps": (lambda gt, pred: [path.unlink() for path in (gt / "pair").iterdir()], ["pair", "no label maps"]),
    "no objects": (lambda gt, pred: write_label_map(gt / "pair" / "00000.png", square(0, 0)), ["truth/pair/00000.png"]),
    "first and last only": (
        lambda gt, pred: [(gt / "pair" / f"0000{index}.png").unlink() for index in (1, 2)],
        ["truth/pair", "first and last"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_mistake_is_named_in_one_line(roots, tmp_path, capsys, mistake, threads):
    make, expected = MISTAKES[mistake]
    make(*roots)
    path = tmp_path / "scores.json"
    whole_set = mistake in ("no ground truth", "no predictions", "no sequences")
    assert main(flags(roots, "--json", path, "--threads", threads)) == (2 if whole_set else 1)
    captured = capsys.readouterr()
    line, *count = captured.err.splitlines()
    assert all(part in line for part in expected), line
    if whole_set:
        assert (captured.out, count) == ("", [])
        assert not path.exists()
    else:  # the other sequence is scored
        assert count == ["1 of 2 sequences were scored"]
        (other,) = {"moved", "pair"} - {name for name in ("moved", "pair") if line.startswith(f"left out: {name}: ")}
        written = json.loads(path.read_text())
        assert list(written["sequences"]) == [other]
        assert len(written["left_out"]) == 1
        assert len(captured.out.splitlines()) == 3


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--threads", "0"], "--threads"),
        (["--json", "absent/scores.json"], "--json"),
        (["--csv", "absent/scores.csv"], "--csv"),
        (["--csv", "/proc/scores.csv"], "/proc/scores.csv cannot be written: "),
        (["--sequences", "moved", "bear"], "bear"),
    ],
)
def test_a_flag_that_cannot_work_is_named(roots, capsys, more, named):
    assert main(flags(roots, *more)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line


def test_many_missing_frames_are_one_line_that_counts_them(tmp_path):
    write_sequence(tmp_path / "truth" / "long", [square(20)] * 40)
    write_sequence(tmp_path / "prediction" / "long", [square(20)] * 10)
    with pytest.raises(UserError, match=r"lacks 29 of 38 frames: 00010.png, .* and 19 more$"):
        score_sequences(find_sequences(tmp_path / "truth", tmp_path / "prediction"))


def test_where_no_sequence_can_be_scored_that_is_a_mistake(tmp_path, capsys):
    for name in ("one", "other"):
        write_sequence(tmp_path / "truth" / name, [square(20)] * 4)
    (tmp_path / "prediction").mkdir(parents=True)
    assert main(flags((tmp_path / "truth", tmp_path / "prediction"))) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "prediction/one lacks 2 of 2 frames" in line


def test_predictions_that_the_ground_truth_lacks_are_named(roots, caplog):
    shutil.rmtree(roots[0] / "pair")
    assert [sequence.name for sequence in find_sequences(*roots)] == ["moved"]
    assert "pair" in caplog.text


def test_nothing_to_score_is_a_mistake():
    with pytest.raises(UserError, match="no sequences"):
        score_sequences([])


def test_the_benchmark_runs_and_both_ways_agree(capsys):
    parser = benchmark.argparse.ArgumentParser()
    benchmark.add_arguments(parser)
    benchmark.run(parser.parse_args(["--frames", "3", "--repeats", "1", "--threads", "1"]))
    assert "largest difference 0.0e+00" in capsys.readouterr().out
