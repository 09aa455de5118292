"""python -m scripts.merge_multi_scale: averages of probabilities by hand, and folders that do not fit together."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from dataset.label_map import LabelMap, write_label_map
from dataset.soft_masks import FrameProbabilities, read_probabilities, write_probabilities
from evaluation import merging, output_folder
from evaluation.merging import RunFrame, merged_labels
from scripts.merge_multi_scale import main

PALETTE = bytes(range(200, 200 - 12, -1))
SIZE = (3, 4)


def write_run(
    folder: Path,
    videos: dict[str, Sequence[np.ndarray]],
    objects: Sequence[int] = (1, 3),
    **config: object,
) -> Path:
    """An output folder of eval.py --save_scores: probabilities (channels, height, width) of each video's frames."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"dataset": "G", "root": str(folder), **config}))
    for video, frames in videos.items():
        for place in "Scores", "Annotations":
            (folder / place / video).mkdir(parents=True, exist_ok=True)
        for index, prob in enumerate(frames):
            write_probabilities(
                folder / f"Scores/{video}/{index:05d}.npz", torch.from_numpy(prob).float(), list(objects)
            )
            labels = np.array([0, *objects], np.uint8)[prob.argmax(axis=0)]
            write_label_map(folder / f"Annotations/{video}/{index:05d}.png", labels, PALETTE)
    return folder


def made_up(seed: int, frames: int = 2, channels: int = 3) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.dirichlet(np.ones(channels), SIZE).transpose(2, 0, 1) for _ in range(frames)]


def read(path: Path) -> np.ndarray:
    return np.array(Image.open(path))


def merge(output: Path, *folders: Path, flags: Sequence[str] = ()) -> int:
    return main([str(output), *map(str, folders), *flags])


def label_maps(folder: Path) -> dict[str, np.ndarray]:
    paths = sorted((folder / "Annotations").glob("*/*.png"))
    return {str(path.relative_to(folder / "Annotations")): read(path) for path in paths}


def test_two_folders_are_averaged(tmp_path, capsys):
    # Left: sure and unsure. Right: both somewhat sure of different things; the sum decides.
    one = np.array([[[0.9, 0.2]], [[0.1, 0.5]], [[0.0, 0.3]]])
    other = np.array([[[0.3, 0.2]], [[0.4, 0.1]], [[0.3, 0.7]]])
    folders = [write_run(tmp_path / name, {"dog": [prob]}) for name, prob in (("one", one), ("other", other))]
    assert merge(tmp_path / "merged", *folders) == 0
    path = tmp_path / "merged/Annotations/dog/00000.png"
    assert read(path).tolist() == [[0, 3]]
    with Image.open(path) as image:
        assert image.mode == "P"
        assert bytes(image.getpalette())[:12] == PALETTE
    captured = capsys.readouterr()
    assert captured.out == f"1 videos merged: {tmp_path}/merged/Annotations\n"
    assert "1/1" in captured.err


def test_a_folder_with_itself_gives_its_own_label_maps(tmp_path):
    # Many probabilities that are equal when rounded: the label maps decide between them.
    close = [np.full((3, *SIZE), 1 / 3) + 1e-4 * prob for prob in made_up(0, frames=3)]
    folder = write_run(tmp_path / "run", {"cat": close, "dog": made_up(1)})
    assert merge(tmp_path / "twice", folder, folder) == 0
    assert merge(tmp_path / "thrice", folder, folder, folder) == 0
    expected = label_maps(folder)
    assert {name.partition("/")[0] for name in expected} == {"cat", "dog"}
    for output in "twice", "thrice":
        found = label_maps(tmp_path / output)
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[name], expected[name]) for name in expected)


probabilities = arrays(np.uint8, (3, 2, 2), elements=st.integers(0, 255))


def run_frame(prob: np.ndarray, labels: np.ndarray, objects: Sequence[int] = (1, 3)) -> RunFrame:
    return RunFrame(Path("x.npz"), FrameProbabilities(prob, list(objects)), LabelMap(labels))


@settings(max_examples=40)
@given(
    probs=st.lists(probabilities, min_size=2, max_size=7),
    votes=st.lists(arrays(np.uint8, (2, 2), elements=st.sampled_from([0, 1, 3])), min_size=7, max_size=7),
)
def test_votes_decide_between_equal_sums_only(probs, votes):
    runs = [run_frame(prob, labels) for prob, labels in zip(probs, votes, strict=False)]
    chosen = merged_labels(runs)
    total = np.sum(np.array(probs, np.int64), axis=0)
    channel = np.searchsorted([0, 1, 3], chosen)
    assert np.array_equal(np.take_along_axis(total, channel[None], axis=0)[0], total.max(axis=0))
    for row, column in np.ndindex(2, 2):
        tied = [
            label
            for label, value in zip((0, 1, 3), total[:, row, column], strict=True)
            if value == total[:, row, column].max()
        ]
        cast = [run.label_map.labels[row, column] for run in runs]
        assert cast.count(chosen[row, column]) == max(cast.count(label) for label in tied)


def test_channels_are_aligned_by_label():
    prob = (255 * np.stack(made_up(5, 1))[0]).astype(np.uint8)
    labels = np.zeros(SIZE, np.uint8)
    swapped = run_frame(prob[[0, 2, 1]], labels, (3, 1))
    assert np.array_equal(
        merged_labels([run_frame(prob, labels), swapped]), merged_labels([run_frame(prob, labels)] * 2)
    )


def test_scores_are_read_as_they_were_written(tmp_path):
    (prob,) = made_up(2, frames=1)
    write_probabilities(tmp_path / "a.npz", torch.from_numpy(prob).float(), [7, 200])
    probabilities = read_probabilities(tmp_path / "a.npz")
    assert probabilities.objects == [7, 200]
    assert np.abs(probabilities.prob / 255 - prob).max() <= 0.5 / 255 + 1e-6


def test_a_merge_goes_on_where_it_was_interrupted(tmp_path, monkeypatch, capsys):
    videos = {"cat": made_up(0), "dog": made_up(1), "owl": made_up(2)}
    folders = [write_run(tmp_path / name, videos, size=size) for name, size in (("one", 480), ("other", 600))]
    read_frame, calls = merging.read_probabilities, []

    def interrupted(path: Path) -> FrameProbabilities:
        calls.append(path)
        if len(calls) == 7:  # two frames of two runs make a video
            raise KeyboardInterrupt
        return read_frame(path)

    monkeypatch.setattr(merging, "read_probabilities", interrupted)
    assert merge(tmp_path / "merged", *folders) == 130
    assert "without --overwrite, resumes" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "merged/Annotations").iterdir()] == ["cat"]
    assert not list((tmp_path / "merged").glob(".video-*"))
    before = (tmp_path / "merged/Annotations/cat/00000.png").stat().st_mtime_ns
    calls.extend([Path()] * 10)
    assert merge(tmp_path / "merged", *folders) == 0
    assert (tmp_path / "merged/Annotations/cat/00000.png").stat().st_mtime_ns == before
    assert sorted(path.name for path in (tmp_path / "merged/Annotations").iterdir()) == ["cat", "dog", "owl"]
    assert len(calls) == 7 + 10 + 8
    assert merge(tmp_path / "merged", *folders) == 0
    assert len(calls) == 25


def test_other_folders_or_other_runs_in_them_are_refused(tmp_path, capsys):
    one, other, third = (write_run(tmp_path / name, {"dog": made_up(i)}) for i, name in enumerate("abc"))
    output = tmp_path / "merged"
    assert merge(output, one, other) == 0
    before = label_maps(output)["dog/00000.png"]
    capsys.readouterr()
    assert merge(output, one, other, third) == 2
    assert f"{output} was made with other settings: run 3: None before, {third} (" in capsys.readouterr().err
    (other / "config.json").write_text('{"size": 600}')
    assert merge(output, one, other) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"run 2: {other} (" in line
    assert np.array_equal(label_maps(output)["dog/00000.png"], before)
    assert merge(output, one, other, third, flags=["--overwrite"]) == 0


def test_a_video_that_a_run_has_made_again_is_merged_again(tmp_path):
    videos = {"cat": made_up(0), "dog": made_up(1)}
    folders = [write_run(tmp_path / name, videos) for name in ("one", "other")]
    assert merge(tmp_path / "merged", *folders) == 0
    before = (tmp_path / "merged/Annotations/cat/00000.png").stat().st_mtime_ns
    for folder in folders:
        write_run(folder, {"dog": made_up(5)})
    assert merge(tmp_path / "merged", *folders) == 0
    assert merge(tmp_path / "fresh", *folders) == 0
    merged, fresh = label_maps(tmp_path / "merged"), label_maps(tmp_path / "fresh")
    assert all(np.array_equal(merged[name], fresh[name]) for name in fresh)
    assert (tmp_path / "merged/Annotations/cat/00000.png").stat().st_mtime_ns == before


def test_a_merge_does_not_replace_an_evaluation(tmp_path, capsys):
    one, other, third = (write_run(tmp_path / name, {"dog": made_up(0)}) for name in "abc")
    (third / "config.json").write_text('{"weights_sha256": null}')
    for flags in [], ["--overwrite"]:
        assert merge(third, one, other, flags=flags) == 2
        assert f"{third}/config.json was not made by a merge; choose another" in capsys.readouterr().err
    assert len(label_maps(third)) == 2


def test_files_that_no_merge_made_are_neither_mixed_in_nor_replaced(tmp_path, capsys):
    one, other = (write_run(tmp_path / name, {"dog": made_up(0)}) for name in "ab")
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged/mine.txt").write_text("mine")
    for flags in [], ["--overwrite"]:
        assert merge(tmp_path / "merged", one, other, flags=flags) == 2
        assert "mine.txt was not made by a run into" in capsys.readouterr().err
    for flags in [], ["--overwrite"]:
        assert merge(one, one, other, flags=flags) == 2
        assert f"{one} is one of the folders to be merged" in capsys.readouterr().err
    assert len(label_maps(one)) == 2


def remove_video(folder: Path) -> None:
    shutil.rmtree(folder / "Scores/dog")


def remove_frame(folder: Path) -> None:
    (folder / "Scores/dog/00001.npz").unlink()


def remove_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def remove_scores(folder: Path) -> None:
    shutil.rmtree(folder / "Scores")


def change_objects(folder: Path) -> None:
    write_probabilities(folder / "Scores/dog/00001.npz", torch.from_numpy(made_up(0)[0]).float(), [1, 4])


def lose_an_object(folder: Path) -> None:
    write_probabilities(folder / "Scores/dog/00001.npz", torch.from_numpy(made_up(0)[0][:2]).float(), [1])


def change_size(folder: Path) -> None:
    prob = torch.from_numpy(made_up(0)[0]).float()
    write_probabilities(folder / "Scores/dog/00001.npz", prob[:, :, :2], [1, 3])
    write_label_map(folder / "Annotations/dog/00001.png", np.zeros((3, 2), np.uint8))


def change_size_of_scores(folder: Path) -> None:
    write_probabilities(folder / "Scores/dog/00001.npz", torch.from_numpy(made_up(0)[0]).float()[:, :, :2], [1, 3])


def remove_label_map(folder: Path) -> None:
    (folder / "Annotations/dog/00001.png").unlink()


def cut_scores(folder: Path) -> None:
    path = folder / "Scores/dog/00001.npz"
    path.write_bytes(path.read_bytes()[:-30])


def damage_scores(folder: Path) -> None:
    path = folder / "Scores/dog/00001.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 255
    path.write_bytes(content)


def replace_scores(folder: Path) -> None:
    np.savez(folder / "Scores/dog/00001.npz", prob=np.zeros((3, *SIZE)), objects=np.array([1, 3]))


def write_an_array(folder: Path) -> None:
    with (folder / "Scores/dog/00001.npz").open("wb") as file:
        np.save(file, np.zeros(3))


MISTAKES = {
    remove_video: "{other}/Scores lacks the video dog",
    remove_frame: "{other}/Scores/dog lacks the frame 00001, which other runs have",
    remove_config: "{other} is no output folder of eval.py: it has no config.json",
    remove_scores: "{other} has no Scores: evaluate with save_scores",
    change_objects: "{other}/Scores/dog/00001.npz holds the objects 1, 4, but {one}/Scores/dog/00001.npz 1, 3",
    lose_an_object: "{other}/Scores/dog/00001.npz holds the objects 1, but {one}/Scores/dog/00001.npz 1, 3",
    change_size: "{other}/Scores/dog/00001.npz is 2x3, but {one}/Scores/dog/00001.npz 4x3",
    change_size_of_scores: "{other}/Scores/dog/00001.npz has another size than the frame's label map in",
    remove_label_map: "{other}/Annotations/dog/00001.png does not exist",
    cut_scores: "{other}/Scores/dog/00001.npz cannot be read, it may be damaged",
    damage_scores: "{other}/Scores/dog/00001.npz ",
    replace_scores: "{other}/Scores/dog/00001.npz does not hold the probabilities that save_scores writes",
    write_an_array: "{other}/Scores/dog/00001.npz cannot be read, it may be damaged",
}


@pytest.mark.parametrize("spoil", MISTAKES, ids=lambda spoil: spoil.__name__)
def test_folders_that_do_not_fit_are_told_in_one_line_and_leave_no_half_video(tmp_path, capsys, spoil):
    videos = {"cat": made_up(0), "dog": made_up(1)}
    one, other = (write_run(tmp_path / name, videos) for name in ("one", "other"))
    spoil(other)
    output = tmp_path / "merged"
    assert merge(output, one, other) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert MISTAKES[spoil].format(one=one, other=other) in line
    assert not (output / "Annotations/dog").exists()
    assert not list(output.glob(".video-*"))


def test_the_first_folder_may_be_the_one_that_lacks_something(tmp_path, capsys):
    one, other = (write_run(tmp_path / name, {"dog": made_up(0)}) for name in ("one", "other"))
    remove_frame(one)
    assert merge(tmp_path / "merged", one, other) == 2
    assert f"{one}/Scores/dog lacks the frame 00001" in capsys.readouterr().err


def test_one_folder_is_not_merged(tmp_path, capsys):
    assert merge(tmp_path / "merged", write_run(tmp_path / "one", {"dog": made_up(0)})) == 2
    assert "at least two" in capsys.readouterr().err


def test_a_full_disk_is_told(tmp_path, monkeypatch, capsys):
    one, other = (write_run(tmp_path / name, {"dog": made_up(0)}) for name in ("one", "other"))

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output_folder, "write_label_map", no_space)
    assert merge(tmp_path / "merged", one, other) == 2
    assert f"{tmp_path}/merged cannot be written: No space left on device" in capsys.readouterr().err
    assert not (tmp_path / "merged/Annotations").exists()
