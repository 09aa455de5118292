"""eval.py on LVOS, MOSEv2, VOST and SA-V in miniature, from the archives' layouts to what servers and scorers take."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import eval as program
from scoring.protocols import PROTOCOLS
from tests.helpers import REPOSITORY
from tests.helpers.benchmarks import unpack, write_lvos, write_mose2, write_sav, write_vost

WRITERS = {
    "LVOS1": (write_lvos, "lvos1_path"),
    "LVOS2": (write_lvos, "lvos2_path"),
    "MOSE2": (write_mose2, "mose2_path"),
    "VOST": (write_vost, "vost_path"),
    "VOST10": (write_vost, "vost_path"),
    "SAV": (write_sav, "sav_path"),
}


@pytest.fixture
def run(tmp_path, network_file) -> Callable[..., tuple[int, Path]]:
    """Evaluates a data set in miniature; returns the exit code and the output folder."""

    def run(dataset: str, *flags: object, name: str = "output") -> tuple[int, Path]:
        writer, flag = WRITERS[dataset]
        root = tmp_path / dataset
        if not root.exists():
            writer(root)
        return evaluate(network_file, tmp_path / name, "--dataset", dataset, f"--{flag}", root, *flags)

    return run


def evaluate(network_file: Path, output: Path, *flags: object) -> tuple[int, Path]:
    command = ["--model", network_file, "--size", -1, "--device", "cpu", "--output", output, *flags]
    return program.main([str(each) for each in command]), output


def maps(folder: Path) -> dict[str, np.ndarray]:
    return {str(path.relative_to(folder)): np.array(Image.open(path)) for path in sorted(folder.rglob("*.png"))}


def assert_equal(ours: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> None:
    assert ours.keys() == others.keys()
    for name, labels in ours.items():
        np.testing.assert_array_equal(labels, others[name], err_msg=name)


def write_map(path: Path, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels.astype(np.uint8)).save(path)


@pytest.mark.parametrize(
    ("dataset", "videos", "written", "figures"),
    [
        ("LVOS1", 4, 55, ("J&F-Mean", "V-seen-Mean")),
        ("LVOS2", 4, 55, ("J&F-Mean", "V-seen-Mean")),
        ("MOSE2", 2, 38, ()),
        ("VOST", 3, 41, ("J", "J_tr")),
        ("VOST10", 3, 41, ("J", "J_tr")),
        ("SAV", 3, 13 * 3 + 12 * 2 + 14, ("J&F", "J", "F")),
    ],
)
def test_every_set_from_its_archive_to_its_scores(run, dataset, videos, written, figures, capsys, tmp_path):
    code, output = run(dataset)
    assert code == 0
    assert len(maps(output)) == written
    summary = json.loads((output / "summary.json").read_text())
    assert summary["videos"] == videos
    assert (summary["scores"] is None) == (dataset == "MOSE2")
    printed = capsys.readouterr().out
    for figure in figures:
        assert figure in summary["scores"]["global"]
        assert f"{figure} " in printed
    if figures:
        root = {"VOST10": tmp_path / "VOST10/VOST", "VOST": tmp_path / "VOST/VOST", "SAV": tmp_path / "SAV/sav_val"}
        protocol = PROTOCOLS[summary["scores"]["protocol"]]
        assert summary["scores"] == protocol.score(root.get(dataset, tmp_path / dataset), output).to_json_dict()
        assert len(summary["scores"]["parts"]["global"]) == 10


def test_lvos_uses_each_object_in_its_start_frame_alone(run, tmp_path, network_file):
    """The same as a data set whose label maps hold nothing else, each of which is an annotation."""
    _, output = run("LVOS1")
    meta = json.loads((tmp_path / "LVOS1/valid/valid_meta.json").read_text())["videos"]
    cut = tmp_path / "cut"
    shutil.copytree(tmp_path / "LVOS1/valid/JPEGImages", cut / "test/JPEGImages")
    for name, video in meta.items():
        for label, thing in video["objects"].items():
            frame = f"{thing['frame_range']['start']:08d}.png"
            path = cut / "test/Annotations" / name / frame
            whole = np.array(Image.open(tmp_path / "LVOS1/valid/Annotations" / name / frame))
            there = np.array(Image.open(path)) if path.exists() else np.zeros_like(whole)
            write_map(path, np.where(whole == int(label), whole, there))
    code, expected = evaluate(
        network_file, tmp_path / "expected", "--dataset", "LVOS1", "--lvos1_path", cut, "--split", "test"
    )
    assert code == 0
    assert_equal(maps(output), maps(expected / "Annotations"))
    assert any((labels == 3).any() for labels in maps(output / "Zk81LpwE").values())
    assert not any((labels == 3).any() for name, labels in maps(output / "Zk81LpwE").items() if name < "00000021.png")


def test_lvos_test_is_a_zip_for_the_server(run):
    code, output = run("LVOS1", "--split", "test")
    assert code == 0
    with zipfile.ZipFile(f"{output}.zip") as archive:
        names = archive.namelist()
    assert len(names) == 55
    assert "Annotations/aQ3vX0mT/00000001.png" in names
    assert json.loads((output / "summary.json").read_text())["scores"] is None


def test_an_object_that_is_not_in_its_start_frame_starts_where_it_appears(run, tmp_path, caplog):
    write_lvos(tmp_path / "LVOS1")
    masks = tmp_path / "LVOS1/valid/Annotations/Zk81LpwE"
    for frame in (21, 26):  # object 3 starts in 21
        path = masks / f"{frame:08d}.png"
        labels = np.array(Image.open(path))
        write_map(path, np.where(labels == 3, 0, labels))
    code, output = run("LVOS1")
    assert code == 0
    assert "00000021.png does not show object 3, which the data set has start there" in caplog.text
    shown = {name: (labels == 3).any() for name, labels in maps(output / "Zk81LpwE").items()}
    assert not any(shown[f"{frame:08d}.png"] for frame in (16, 21, 26))
    assert shown["00000031.png"]


def test_mose2_is_a_zip_with_every_frame(run):
    code, output = run("MOSE2")
    assert code == 0
    with zipfile.ZipFile(f"{output}.zip") as archive:
        names = set(archive.namelist())
    assert len(names) == 38
    assert {"k3w0z9aa/00000.png", "p7x2c5bb/00019.png"} <= names


def test_mose2_is_scored_by_whoever_has_all_label_maps(run, tmp_path):
    write_mose2(tmp_path / "MOSE2")
    shutil.copytree(tmp_path / ".MOSE2/server/Annotations", tmp_path / "MOSE2/valid/Annotations", dirs_exist_ok=True)
    code, output = run("MOSE2")
    assert code == 0
    scores = json.loads((output / "summary.json").read_text())["scores"]
    assert scores["global"].keys() >= {"J&F_new", "disappear_J&F_new", "reappear_J&F_new"}


def test_void_of_vost_is_no_object(run, tmp_path, network_file):
    write_vost(tmp_path / "VOST")
    first = tmp_path / "VOST/VOST/Annotations/9902_peel_fruit/frame00000.png"
    labels = np.array(Image.open(first))
    labels[:5] = 255
    write_map(first, labels)
    _, output = run("VOST")
    plain = tmp_path / "plain"
    shutil.copytree(tmp_path / "VOST/VOST/JPEGImages", plain / "JPEGImages")
    for path in (tmp_path / "VOST/VOST/Annotations").glob("*/frame00000.png"):
        labels = np.array(Image.open(path))
        write_map(plain / "Annotations" / path.parent.name / path.name, np.where(labels == 255, 0, labels))
    _, expected = evaluate(network_file, tmp_path / "expected", "--dataset", "G", "--generic_path", plain)
    assert_equal(maps(output), maps(expected))


def test_vost_at_10_frames_per_second_writes_the_annotated_frames(run):
    (_, at_5), (_, at_10) = run("VOST", name="5"), run("VOST10", name="10")
    summaries = [json.loads((output / "summary.json").read_text()) for output in (at_5, at_10)]
    assert [summary["frames"] for summary in summaries] == [41, 79]
    assert maps(at_5).keys() == maps(at_10).keys()


def test_objects_of_sav_by_themselves_are_as_in_videos_of_their_own(run, tmp_path, network_file):
    code, output = run("SAV", "--separate_objects")
    assert code == 0
    sav, plain = tmp_path / "SAV/sav_val", tmp_path / "plain"
    for folder in sorted((sav / "Annotations_6fps").glob("*/*")):
        name = f"{folder.parent.name}-{folder.name}"
        shutil.copytree(sav / "JPEGImages_24fps" / folder.parent.name, plain / "JPEGImages" / name)
        masks = {path.name: np.array(Image.open(path)) > 0 for path in sorted(folder.iterdir())}
        first = next(frame for frame, mask in masks.items() if mask.any())
        write_map(plain / "Annotations" / name / first, masks[first])
    _, expected = evaluate(network_file, tmp_path / "expected", "--dataset", "G", "--generic_path", plain)
    for path in sorted(output.rglob("*.png")):
        mask = np.array(Image.open(path))
        video, folder, frame = path.relative_to(output).parts
        alone = expected / f"{video}-{folder}" / frame
        other = np.array(Image.open(alone)) if alone.exists() else np.zeros_like(mask)
        np.testing.assert_array_equal(mask > 0, other > 0, err_msg=str(path))
        assert len(np.unique(mask)) <= 2
    assert json.loads((output / "summary.json").read_text())["videos"] == 6


def test_objects_of_sav_together_have_no_pixel_twice(run, tmp_path, caplog):
    caplog.set_level("INFO")
    code, output = run("SAV")
    assert code == 0
    assert "where given masks of a frame overlap, the smaller one has the pixels" in caplog.text
    for frame in range(0, 52, 4):
        masks = [
            np.array(Image.open(output / f"sav_900001/{label}/{frame:05d}.png")) for label in ("000", "001", "002")
        ]
        assert set(np.unique(masks)) <= {0, 1}
        assert np.sum(masks, axis=0).max() <= 1
    given = [
        np.array(Image.open(tmp_path / f"SAV/sav_val/Annotations_6fps/sav_900001/{label}/00000.png")) > 0
        for label in ("000", "001")
    ]
    assert (given[0] & given[1]).any(), "they overlap in the first frame"
    first = [np.array(Image.open(output / f"sav_900001/{label}/00000.png")) > 0 for label in ("000", "001")]
    np.testing.assert_array_equal(first[1], given[1])
    np.testing.assert_array_equal(first[0], given[0] & ~given[1])


def test_a_late_object_of_sav_has_empty_masks_before(run, caplog):
    _, output = run("SAV")
    shown = [bool(np.array(Image.open(path)).any()) for path in sorted((output / "sav_900002/001").iterdir())]
    assert shown[:3] == [False] * 3
    assert shown[3]
    assert "00000.png does not show" not in caplog.text, "it is no mistake in SA-V"


@pytest.mark.parametrize(
    ("dataset", "damage", "message"),
    [
        ("LVOS1", lambda root: remove(root, "valid/JPEGImages/aQ3vX0mT"), "aQ3vX0mT does not exist"),
        (
            "LVOS1",
            lambda root: start_at(root, 2),
            "lacks the frame 00000002, in which the meta file has object 1 start",
        ),
        ("LVOS1", lambda root: remove(root, "valid/Annotations/aQ3vX0mT/00000001.png"), "lacks the frame 00000001"),
        ("MOSE2", lambda root: change_meta(root, length=21), "holds 20 frames, but the meta file says 21"),
        ("MOSE2", lambda root: change_meta(root, objects=["1", "2", "3", "4"]), "does not show object 4"),
        ("VOST", lambda root: remove(root, "VOST/JPEGImages/9902_peel_fruit/frame00012.jpg"), "frame00012"),
        ("SAV", lambda root: remove(root, "sav_val/Annotations_6fps/sav_900002"), "sav_900002 does not exist"),
        ("MOSE2", lambda root: change_meta(root, objects=[]), "the meta file names no object of it"),
        (
            "MOSE2",
            lambda root: rename(root / "valid/Annotations/p7x2c5bb/00000.png", "00003.png"),
            "of the first frame",
        ),
    ],
)
def test_what_contradicts_itself_is_said_in_one_line(run, tmp_path, capsys, dataset, damage, message):
    WRITERS[dataset][0](tmp_path / dataset)
    damage(tmp_path / dataset)
    code, output = run(dataset)
    assert code == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("failed:")]
    assert len(lines) == 1
    assert message in lines[0]
    assert len(json.loads((output / "summary.json").read_text())["failures"]) == 1


@pytest.mark.parametrize("flags", [[], ["--separate_objects"], ["--overlay"]])
def test_an_object_of_sav_that_is_never_there_has_empty_masks(run, tmp_path, caplog, flags):
    write_sav(tmp_path / "SAV")
    empty(tmp_path / "SAV/sav_val/Annotations_6fps/sav_900002/001")
    empty(tmp_path / "SAV/sav_val/Annotations_6fps/sav_900003/000")
    code, output = run("SAV", *flags)
    assert code == 0
    assert caplog.text.count("no label map shows") == 2
    written = maps(output)
    assert len(written) == 13 * 3 + 12 * 2 + 14
    assert not any(mask.any() for name, mask in written.items() if name.startswith(("sav_900002/001", "sav_900003")))
    summary = json.loads((output / "summary.json").read_text())
    assert len({name.partition("/")[0] for name in summary["records"]}) == 3
    scores = summary["scores"]
    assert scores["left_out"].keys() == {"sav_900002/001", "sav_900003/000"}
    assert scores["sequences"].keys() == {"sav_900001", "sav_900002"}


def test_a_covered_object_of_sav_is_not_taken_from_a_later_mask(run, tmp_path, caplog):
    masks = write_sav(tmp_path / "SAV") / "sav_val/Annotations_6fps/sav_900001"
    shutil.copy(masks / "001/00000.png", masks / "002/00000.png")
    code, output = run("SAV")
    assert code == 0
    assert "00000.png: the mask of object 001 is covered by others, and it is not followed" in caplog.text
    assert not any(mask.any() for mask in maps(output / "sav_900001/001").values())


def test_the_other_split_of_sav_is_refused(tmp_path, network_file, capsys):
    root = write_sav(tmp_path / "SAV") / "sav_val"
    code, _ = evaluate(network_file, tmp_path / "x", "--dataset", "SAV", "--sav_path", root, "--split", "test")
    assert code == 2
    assert "lacks sav_test.txt, the list of the split test" in capsys.readouterr().err


def test_a_label_map_that_is_added_is_written_and_scored(run, tmp_path, caplog):
    annotations = write_vost(tmp_path / "VOST") / "VOST/Annotations/9902_peel_fruit"
    kept = tmp_path / "kept.png"
    shutil.move(annotations / "frame00030.png", kept)
    run("VOST")
    shutil.move(kept, annotations / "frame00030.png")
    code, output = run("VOST")
    assert code == 0
    assert "changed since they were segmented, and segmented again: 9902_peel_fruit" in caplog.text
    assert (output / "9902_peel_fruit/frame00030.png").exists()
    assert json.loads((output / "summary.json").read_text())["scores"]["left_out"] == {}


def test_label_255_is_an_object_where_the_meta_file_says_so(run, tmp_path, caplog):
    root = write_lvos(tmp_path / "LVOS1")
    path = root / "valid/valid_meta.json"
    path.write_text(path.read_text().replace('"3": {', '"255": {'))
    for file in (root / "valid/Annotations/Zk81LpwE").iterdir():
        labels = np.array(Image.open(file))
        write_map(file, np.where(labels == 3, 255, labels))
    code, output = run("LVOS1")
    assert code == 0
    assert any((labels == 255).any() for labels in maps(output / "Zk81LpwE").values())


def rename(path: Path, name: str) -> None:
    path.rename(path.with_name(name))


def remove(root: Path, name: str) -> None:
    shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        write_map(path, np.zeros_like(np.array(Image.open(path))))


def start_at(root: Path, start: int) -> None:
    path = root / "valid/valid_meta.json"
    meta = json.loads(path.read_text())
    things = meta["videos"]["aQ3vX0mT"]["objects"]
    things["1"]["frame_range"] |= {"start": start, "end": start + 80}
    path.write_text(json.dumps(meta))


def change_meta(root: Path, **changes: object) -> None:
    path = root / "meta_valid.json"
    meta = json.loads(path.read_text())
    meta["videos"]["p7x2c5bb"] |= changes
    path.write_text(json.dumps(meta))


@pytest.mark.parametrize(
    ("dataset", "flags", "message"),
    [
        ("SAV", ["--separate_objects", "--overlay"], "--separate_objects does not go together with --overlay"),
        ("SAV", ["--save_scores"], "--save_scores does not go with SAV: masks of single objects cannot be merged"),
        ("VOST", ["--separate_objects"], "--separate_objects goes with --dataset SAV, not with --dataset VOST"),
        ("LVOS1", ["--repeat", 2], "LVOS1 is scored by rules of its own, which take every frame once"),
        ("MOSE2", ["--split", "test"], "MOSE2 has no such split, only val"),
    ],
)
def test_flags_that_do_not_fit_a_set_are_refused(run, capsys, dataset, flags, message):
    code, _ = run(dataset, *flags)
    assert code == 2
    assert message in capsys.readouterr().err


def test_an_interrupted_run_goes_on_with_the_objects_that_are_missing(run, capsys, caplog):
    caplog.set_level("INFO")
    _, output = run("SAV", "--separate_objects")
    before = maps(output)
    shutil.rmtree(output / "sav_900001/001")
    _, output = run("SAV", "--separate_objects")
    assert "5 of 6 videos were finished before" in caplog.text
    assert_equal(maps(output), before)
    code, _ = run("SAV")
    assert code == 2
    assert "separate_objects" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.slow
def test_two_processes_killed_and_resumed_make_the_same(tmp_path, network_file):
    sav, flags = write_sav(tmp_path / "SAV"), ["--separate_objects"]
    _, alone = evaluate(network_file, tmp_path / "alone", "--dataset", "SAV", "--sav_path", sav, *flags)
    together = tmp_path / "together"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "eval.py"]
    command = ["--dataset", "SAV", "--sav_path", sav, "--size", -1, "--model", network_file, "--device", "cpu"]
    command = [*launcher, *map(str, (*command, "--output", together, *flags))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list((together / ".finished").rglob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert list((together / ".finished").rglob("*.json")), "a video was finished before the kill"
    again = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=240)
    assert again.returncode == 0, again.stderr
    assert_equal(maps(together), maps(alone))
    scores = [json.loads((folder / "summary.json").read_text())["scores"] for folder in (together, alone)]
    assert scores[0] == scores[1]


def test_the_parity_set_of_mosev2_scores_as_a_run(tmp_path):
    """`--gt` is what the server has, and eval.py's output what it takes."""
    _, pred = unpack("mosev2", tmp_path)
    scores = PROTOCOLS["mose2"].score(tmp_path / "server", pred, ["p7x2c5bb"])
    assert list(scores.sequences) == ["p7x2c5bb"]
