"""The benchmarks' figures, against what their public toolkits say of made-up predictions, and mistakes in folders."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from scoring import mose2, vost
from scoring.plots import frames_since_seen
from scoring.protocols import PROTOCOLS, lvos_with
from scoring.scores import PARTS
from scripts.score import main
from tests.helpers.benchmarks import expected, unpack
from util.errors import UserError

OBJECT_FIGURES = {
    "lvos": ("J", "F", "V"),
    "vost": ("J", "J_tr"),
    "sav": ("J", "F"),
    "mosev2": ("J", "F_new", "F", "disappear_J", "disappear_F_new", "reappear_J", "reappear_F_new"),
}


@pytest.fixture(scope="module", params=OBJECT_FIGURES)
def scored(request, tmp_path_factory):
    """A benchmark's name, its scores as JSON has them, and the toolkit's figures."""
    folder = tmp_path_factory.mktemp(request.param)
    gt, pred = unpack(request.param, folder)
    flags = {"lvos": ["--unseen", gt / "unseen_videos.txt"]}.get(request.param, [])
    gt = folder / "server" if request.param == "mosev2" else gt
    protocol = request.param.removesuffix("v2") + ("2" if request.param == "mosev2" else "")
    written = folder / "scores.json"
    command = ["--protocol", protocol, "--gt", gt, "--pred", pred, "--json", written, *flags]
    assert main([str(each) for each in command]) == 0
    return request.param, json.loads(written.read_text()), expected(request.param)


def test_the_figures_are_those_of_the_public_toolkits(scored):
    _, scores, toolkit = scored
    assert scores["global"].keys() == toolkit["global"].keys()
    assert scores["global"] == pytest.approx(toolkit["global"], abs=1e-9)


def test_so_are_those_of_every_object(scored):
    name, scores, toolkit = scored
    assert scores["sequences"].keys() == toolkit["sequences"].keys()
    for sequence, content in toolkit["sequences"].items():
        assert scores["sequences"][sequence].keys() == content["objects"].keys()
        for label, figures in content["objects"].items():
            ours = scores["sequences"][sequence][label]
            for figure in OBJECT_FIGURES[name]:
                assert ours[figure] == (
                    None if figures[figure] is None else pytest.approx(figures[figure], abs=1e-9)
                ), (sequence, label, figure)


def test_frames_are_scored_as_by_the_toolkit(tmp_path):
    gt, pred = unpack("sav", tmp_path)
    scores = PROTOCOLS["sav"].score(gt, pred)
    for sequence, content in expected("sav")["sequences"].items():
        for label, figures in content["objects"].items():
            score = scores.sequences[sequence].objects[label]
            np.testing.assert_allclose(score.values["J"], figures["J_frames"], atol=1e-9)
            np.testing.assert_allclose(score.values["F"], figures["F_frames"], atol=1e-9)
            assert len(score.frames) == figures["frames_counted"]


# --- Rules of each ----------------------------------------------------------------------------------------------------


@given(st.lists(st.booleans(), min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
def test_stretches_make_up_all_frames_but_the_first_stretch(shown):
    stretches = mose2.stretches_after_the_first(np.array(shown))
    covered = [frame for each in stretches for frame in range(each.start, each.stop)]
    first = next((position for position, each in enumerate(shown) if each != shown[0]), len(shown))
    assert covered == list(range(first, len(shown)))
    assert all(len(set(shown[each])) == 1 and shown[each.start] != shown[each.start - 1] for each in stretches)


def test_decay_has_the_bounds_of_the_toolkit():
    """They are kept in eight bits: for 600 frames they are 0, 149, 299 % 256 = 43, 448 % 256 = 192, 599 % 256 = 87."""
    j = np.linspace(1, 0, 600)
    assert math.isnan(vost.decay(j)), "from 192 to 87 there are no frames"
    assert vost.decay(j[:200]) == pytest.approx(j[: 50 + 1].mean() - j[149:200].mean(), abs=1e-3)


def test_mosev2_scores_later_frames_where_the_first_prediction_is_missing(tmp_path, caplog):
    """As the server does, whose scorer gave this number."""
    _, pred = unpack("mosev2", tmp_path)
    for video in pred.iterdir():
        (video / "00000.png").unlink()
    scores = PROTOCOLS["mose2"].score(tmp_path / "server", pred)
    assert scores.figures["J&F_new"] == pytest.approx(80.25, abs=0.005)
    assert "k3w0z9aa lacks the first frame, 00000: the frames that count are one later" in caplog.text


def test_mosev2_counts_a_video_without_predictions_as_0(tmp_path, caplog):
    _, pred = unpack("mosev2", tmp_path)
    whole = PROTOCOLS["mose2"].score(tmp_path / "server", pred)
    shutil.rmtree(pred / "k3w0z9aa")
    scores = PROTOCOLS["mose2"].score(tmp_path / "server", pred)
    other = whole.sequences["p7x2c5bb"].objects.values()
    assert scores.figures["J"] == pytest.approx(sum(score.figures["J"] for score in other) / 5)
    assert scores.figures["disappear_J&F_new"] == pytest.approx(
        np.mean([score.figures["disappear_J&F_new"] for score in other])
    ), "such objects have not disappeared"
    assert "k3w0z9aa: there are no predictions, and it counts as 0" in caplog.text
    absent, present = (each.sequences["k3w0z9aa"].objects[1].shown for each in (scores, whole))
    np.testing.assert_array_equal(absent, present)


def test_mosev2_without_the_first_two_frames_is_left_out(tmp_path):
    _, pred = unpack("mosev2", tmp_path)
    for frame in ("00000", "00001"):
        (pred / f"k3w0z9aa/{frame}.png").unlink()
    scores = PROTOCOLS["mose2"].score(tmp_path / "server", pred)
    assert "lacks 1 of 16 frames: 00001.png" in scores.left_out["k3w0z9aa"]


def test_lvos_has_its_own_list_of_unseen_videos(tmp_path):
    gt, pred = unpack("lvos", tmp_path)
    scores = PROTOCOLS["lvos"].score(gt, pred)
    assert {score.group for score in scores.all_objects} == {"seen"}
    assert math.isnan(scores.figures["J&F-Mean"])
    assert not math.isnan(scores.figures["J-seen-Mean"])
    assert scores.to_json_dict()["global"]["J-unseen-Mean"] is None


def test_sav_leaves_out_only_the_object_of_a_damaged_file(tmp_path, capsys):
    gt, pred = unpack("sav", tmp_path)
    before = PROTOCOLS["sav"].score(gt, pred).sequences["sav_900001"].objects
    (pred / "sav_900001/000/00008.png").write_bytes(b"junk")
    scores = PROTOCOLS["sav"].score(gt, pred)
    assert list(scores.left_out) == ["sav_900001/000"]
    assert "00008.png is not an image" in scores.left_out["sav_900001/000"]
    after = scores.sequences["sav_900001"].objects
    assert after.keys() == before.keys() - {"000"}
    assert all(after[name].figures == before[name].figures for name in after)


def test_sav_leaves_out_an_object_that_is_never_there(tmp_path, capsys):
    gt, pred = unpack("sav", tmp_path)
    for path in (gt / "Annotations_6fps/sav_900001/001").iterdir():
        Image.fromarray(np.zeros_like(np.array(Image.open(path)))).save(path)
    assert main(["--protocol", "sav", "--gt", str(gt), "--pred", str(pred)]) == 1
    assert "left out: sav_900001/001: its ground truth is empty" in capsys.readouterr().err


# --- Mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "data", "file"),
    [
        ("lvos", "lvos", "aQ3vX0mT/00000016.png"),
        ("vost", "vost", "9902_peel_fruit/frame00030.png"),
        ("sav", "sav", "sav_900002/001/00016.png"),
        ("mose2", "mosev2", "p7x2c5bb/00004.png"),
    ],
)
def test_missing_predictions_are_named(tmp_path, capsys, protocol, data, file):
    gt, pred = unpack(data, tmp_path)
    (pred / file).unlink()
    gt = tmp_path / "server" if protocol == "mose2" else gt
    assert main(["--protocol", protocol, "--gt", str(gt), "--pred", str(pred)]) == 1
    name = Path(file)
    assert f"{name.parts[0]}{'/001' if protocol == 'sav' else ''}: {pred / name.parent} lacks 1 of" in (
        err := capsys.readouterr().err
    )
    assert name.name in err


def test_other_sizes_are_refused(tmp_path, capsys):
    gt, pred = unpack("vost", tmp_path)
    Image.fromarray(np.zeros((10, 20), np.uint8)).save(pred / "9902_peel_fruit/frame00030.png")
    assert main(["--protocol", "vost", "--gt", str(gt), "--pred", str(pred)]) == 1
    assert "frame00030.png is 20x10 pixels, but its ground truth" in capsys.readouterr().err


def test_a_missing_video_is_left_out_and_named(tmp_path, capsys):
    gt, pred = unpack("sav", tmp_path)
    shutil.rmtree(pred / "sav_900003")
    assert main(["--protocol", "sav", "--gt", str(gt), "--pred", str(pred)]) == 1
    printed = capsys.readouterr()
    assert "left out: sav_900003" in printed.err
    assert "2 of 3 sequences were scored" in printed.err


META = {"lvos": "gt/valid/valid_meta.json", "mose2": "server/meta.json"}


@pytest.mark.parametrize(
    ("protocol", "old", "new"),
    [
        ("lvos", '"end": 61', '"end": 1e999'),
        ("lvos", '"end": 61', '"end": 61.5'),
        ("lvos", '"end": 61', '"end": true'),
        ("lvos", '"start": 21', '"start": null'),
        ("lvos", '"3": {', '"300": {'),
        ("lvos", '"3": {', '"01": {'),
        ("mose2", '"3"', '"300"'),
        ("mose2", '"3"', "-1"),
        ("mose2", '"length": 18', '"length": 18.7'),
        ("mose2", '"length": 18', '"length": []'),
        ("lvos", None, '{"videos": ' + 100_000 * "[" + 100_000 * "]" + "}"),
        ("mose2", None, '{"videos": {}}'),
        ("mose2", None, "[1, 2]"),
        ("lvos", None, '{"videos": {"aQ3vX0mT": {"objects": {}}}}'),
    ],
)
def test_meta_files_with_other_things_in_them_are_refused_in_a_line(tmp_path, capsys, protocol, old, new):
    _, pred = unpack({"mose2": "mosev2"}.get(protocol, protocol), tmp_path)
    path = tmp_path / META[protocol]
    before = path.read_text()
    path.write_text(new if old is None else before.replace(old, new))
    assert old is None or path.read_text() != before
    gt = tmp_path / META[protocol].partition("/")[0]
    assert main(["--protocol", protocol, "--gt", str(gt), "--pred", str(pred)]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("WARNING")]
    assert len(errors) == 1
    assert "meta" in errors[0]


def test_a_video_without_objects_is_left_out_and_named(tmp_path, capsys):
    _, pred = unpack("mosev2", tmp_path)
    path = tmp_path / "server/meta.json"
    meta = json.loads(path.read_text())
    meta["videos"]["p7x2c5bb"]["objects"] = []
    path.write_text(json.dumps(meta))
    assert main(["--protocol", "mose2", "--gt", str(tmp_path / "server"), "--pred", str(pred)]) == 1
    assert "left out: p7x2c5bb: the meta file names no object of p7x2c5bb" in capsys.readouterr().err


def test_parts_are_in_the_order_of_the_frames_where_objects_have_other_frames(tmp_path):
    gt, pred = unpack("sav", tmp_path)
    for path in (gt / "Annotations_6fps/sav_900001/000").iterdir():
        if int(path.stem) < 24:
            path.unlink()
    scores = PROTOCOLS["sav"].score(gt, pred)
    frames = scores.sequences["sav_900001"].frames
    assert list(frames) == sorted(frames)
    assert len(scores.sequences["sav_900001"].objects["000"].frames) < len(frames)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frame_nums": 20}, "in 20 frames from 1 to below 61, which are 12 in steps of 5"),
        ({"start": 2, "end": 62}, "lacks 00000007, a frame that the meta file names"),
        ({"end": "x"}, "is not a meta file of LVOS"),
        ({"end": 11, "frame_nums": 2}, "it has only its first and last frame"),
    ],
)
def test_a_meta_file_that_contradicts_the_frames_is_named(tmp_path, change, message, capsys):
    gt, pred = unpack("lvos", tmp_path)
    path = gt / "valid/valid_meta.json"
    meta = json.loads(path.read_text())
    meta["videos"]["m2RrC7dY"]["objects"]["1"]["frame_range"] |= change
    path.write_text(json.dumps(meta))
    assert main(["--protocol", "lvos", "--gt", str(gt), "--pred", str(pred)]) in (1, 2)
    assert message in capsys.readouterr().err


def test_numbers_of_a_meta_file_may_be_strings(tmp_path):
    gt, pred = unpack("lvos", tmp_path)
    before = lvos_with(gt / "unseen_videos.txt").score(gt, pred).figures
    path = gt / "valid/valid_meta.json"
    meta = json.loads(path.read_text())
    for video in meta["videos"].values():
        for thing in video["objects"].values():
            thing["frame_range"] = {name: str(value) for name, value in thing["frame_range"].items()}
    path.unlink()
    (gt / "valid_meta.json").write_text(json.dumps(meta))  # beside valid, as some copies have it
    (gt / "valid").rename(gt / "val")
    assert lvos_with(gt / "unseen_videos.txt").score(gt, pred).figures == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--protocol", "vost", "--binary"], "--binary goes with --protocol davis, not with vost"),
        (["--unseen", "x"], "--unseen goes with --protocol lvos, not with davis"),
        (["--protocol", "sav", "--sequences", "x"], "lacks 1 of 1 sequences: x"),
        (["--protocol", "vost"], "val.txt does not exist"),
        (["--per_frame", "absent/x.csv"], "--per_frame must name a file in a folder that exists"),
    ],
)
def test_flags_without_effect_and_wrong_folders_are_refused(tmp_path, capsys, flags, message):
    gt, pred = unpack("sav", tmp_path)
    assert main(["--gt", str(gt), "--pred", str(pred), *flags]) == 2
    assert message in capsys.readouterr().err


# --- Where and when a method fails ------------------------------------------------------------------------------------


def test_scores_of_single_frames_as_csv_and_plots(tmp_path, capsys):
    gt, pred = unpack("lvos", tmp_path)
    csv, plots = tmp_path / "frames.csv", tmp_path / "plots"
    command = ["--protocol", "lvos", "--gt", gt, "--pred", pred, "--per_frame", csv, "--plots", plots]
    assert main([str(each) for each in command]) == 0
    rows = [line.split(",") for line in csv.read_text().splitlines()]
    assert rows[0] == ["sequence", "object", "frame", "shown", "J", "F"]
    figures = expected("lvos")["sequences"]["aQ3vX0mT"]["objects"]["1"]["J_frames"]
    assert [float(row[4]) / 100 for row in rows if row[:2] == ["aQ3vX0mT", "1"]] == pytest.approx(figures)
    shown = [int(row[3]) for row in rows if row[:2] == ["aQ3vX0mT", "1"]]
    assert shown == [1] * 5 + [0] * 3 + [1] * 6, "it is out of sight in frames 6 to 8"
    names = {"aQ3vX0mT", "Zk81LpwE", "m2RrC7dY", "Hf0uN5bS", "out_of_sight"}
    assert {path.stem for path in plots.rglob("*.png")} == names
    with Image.open(plots / "out_of_sight.png") as image:
        assert len(set(image.convert("L").tobytes())) > 10


def test_time_since_an_object_was_seen():
    shown = np.array([False, True, True, False, False, True, True])
    assert frames_since_seen(shown).tolist() == [0, 0, 1, 1, 2, 3, 1]


def test_parts_of_a_sequence_are_means_over_its_frames(tmp_path):
    gt, pred = unpack("vost", tmp_path)
    scores = PROTOCOLS["vost"].score(gt, pred)
    sequence = scores.sequences["9902_peel_fruit"]  # ten frames are scored
    (score,) = sequence.objects.values()
    assert scores.parts(sequence) == pytest.approx(100 * score.values["J"])
    written = scores.to_json_dict()["parts"]
    assert written["measure"] == "J"
    assert written["sequences"]["9902_peel_fruit"] == pytest.approx(score.values["J"])
    means = np.mean([written["sequences"][name] for name in written["sequences"]], axis=0)
    assert written["global"] == pytest.approx(means)
    assert len(means) == PARTS


def test_short_sequences_have_no_parts(tmp_path):
    gt, pred = unpack("vost", tmp_path)
    shorter = [path for name in ("gt/Annotations", "pred") for path in (tmp_path / name / "9902_peel_fruit").iterdir()]
    for path in shorter:
        if int(path.stem.removeprefix("frame")) > 30:
            path.unlink()
    scores = PROTOCOLS["vost"].score(gt, pred)
    assert scores.parts(scores.sequences["9902_peel_fruit"]) == []
    assert "9902_peel_fruit" not in scores.to_json_dict()["parts"]["sequences"]


def test_nothing_to_score_is_an_error(tmp_path):
    gt, pred = unpack("sav", tmp_path)
    for video in pred.iterdir():
        shutil.rmtree(video)
    with pytest.raises(UserError, match="does not exist"):
        PROTOCOLS["sav"].score(gt, pred)
