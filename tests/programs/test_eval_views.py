"""eval.py with several views of each frame, and with videos played back and forth: against the plain loop."""

import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dataset import frames
from dataset.evaluation_video import EvaluationVideo
from dataset.frames import read_frame
from dataset.registry import open_evaluation_set
from evaluation.config import EvaluationConfig
from evaluation.frame_reader import annotated_frames_for
from evaluation.segmenter import MultiViewSegmenter, SegmentedFrame
from model.cuda_graphs import GraphedNetwork
from scoring.davis import find_sequences, score_sequences
from scripts import merge_multi_scale
from tests.helpers.layouts import frame_name, label_map, write_frames, write_masks, write_text, youtube_meta
from tests.helpers.plain_loop import equal, names_in, plain_loop, read_frames, read_mask
from tests.helpers.recorded_graphs import RecordedGraph, use_recorded_graphs
from tests.helpers.tiny_network import tiny_network

SIZE = (32, 48)
MASK = label_map(SIZE, (1, 3))
Result = list[tuple[np.ndarray, np.ndarray, list[int]]]


@pytest.fixture
def generic(tmp_path) -> Path:
    """The video `a` of four frames, objects 1 and 3, with ground truth that differs from frame to frame."""
    root = tmp_path / "generic"
    write_frames(root / "JPEGImages/a", range(4), SIZE)
    for index in range(4):
        (root / "Annotations/a").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.roll(MASK, 3 * index, axis=1)).save(root / f"Annotations/a/{frame_name(index)}.png")
    return root


def flags_of(root: Path, *more: object) -> list[object]:
    return ["--dataset", "G", "--generic_path", root, *more]


def average(*runs: Result) -> Result:
    """The runs' mean probabilities, and what is most probable by them."""
    merged = []
    for frame in zip(*runs, strict=True):
        prob = np.mean([prob.astype(np.float64) for prob, _, _ in frame], axis=0)
        objects = frame[0][2]
        merged.append((prob, np.array([0, *objects], np.uint8)[prob.argmax(axis=0)], objects))
    return merged


def differs(one: Result, other: Result) -> bool:
    return any((labels != others).any() for (_, labels, _), (_, others, _) in zip(one, other, strict=True))


# --- Several views ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "views"),
    [
        (["--size", -1, 48], [{"size": -1}, {"size": 48}]),
        (["--size", 24, "--flip_too"], [{"size": 24}, {"size": 24, "flip": True}]),
        (["--size", 16, 24, "--flip"], [{"size": 16, "flip": True}, {"size": 24, "flip": True}]),
    ],
)
def test_probabilities_of_views_are_averaged(evaluate, generic, flags, views):
    output = evaluate(*flags_of(generic, *flags, "--save_scores"))
    runs = [plain_loop(read_frames(generic / "JPEGImages/a"), {0: MASK}, **view) for view in views]
    expected = average(*runs)
    assert all(differs(expected, run) for run in runs), "else the comparison would not tell"
    assert equal(output / "Annotations/a", [frame_name(index) for index in range(4)], expected)
    for index, (prob, _, _) in enumerate(expected):
        with np.load(output / f"Scores/a/{frame_name(index)}.npz") as scores:
            assert np.abs(scores["prob"] / 255 - prob).max() <= 0.5 / 255 + 1e-6
    config = json.loads((output / "config.json").read_text())
    assert (config["size"], config["other_sizes"]) == (flags[1], [size for size in flags[2:] if isinstance(size, int)])


def segmented(config: EvaluationConfig, video: EvaluationVideo) -> list[SegmentedFrame]:
    return list(MultiViewSegmenter(tiny_network(), config).segment(video))


def test_one_view_is_the_plain_path_bit_for_bit(generic):
    (video,) = open_evaluation_set("G", "val", generic, 24).videos
    plain = plain_loop(read_frames(generic / "JPEGImages/a"), {0: MASK}, size=24)
    found = segmented(EvaluationConfig("G", generic, size=24), video)
    assert [frame.frame.name for frame in found] == [frame_name(index) for index in range(4)]
    for frame, (prob, labels, objects) in zip(found, plain, strict=True):
        assert torch.equal(frame.prob, torch.from_numpy(prob))
        assert np.array_equal(frame.labels, labels)
        assert frame.objects == objects


def test_every_view_has_a_memory_of_its_own(generic):
    (video,) = open_evaluation_set("G", "val", generic, 24, 32).videos
    config = EvaluationConfig("G", generic, size=24, other_sizes=(32,), flip_too=True)
    segmenter = MultiViewSegmenter(tiny_network(), config)
    first = [frame.prob for frame in segmenter.segment(video)]
    elements = [view.core.memory.working.size for view in segmenter.views.values()]
    assert elements == [2 * 3] * 2 + [2 * 3] * 2
    again = [frame.prob for frame in segmenter.segment(video)]
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))  # all were reset


def test_graphs_serve_all_views(generic, monkeypatch):
    use_recorded_graphs(monkeypatch)
    monkeypatch.setattr("evaluation.segmenter.graphed", GraphedNetwork)  # as on a CUDA device
    (video,) = open_evaluation_set("G", "val", generic, 24, 32).videos
    config = EvaluationConfig("G", generic, size=24, other_sizes=(32,), flip_too=True)
    plain, graphed = (
        [frame.prob for frame in MultiViewSegmenter(tiny_network(), replace(config, cuda_graphs=on)).segment(video)]
        for on in (False, True)
    )
    assert all(torch.equal(one, other) for one, other in zip(plain, graphed, strict=True))
    assert RecordedGraph.made >= 4  # key and masks, of two sizes


@pytest.fixture
def youtube(tmp_path) -> Path:
    """Object 2 starts at frame 0, object 5 at frame 2; every second frame is saved."""
    root = tmp_path / "youtube"
    write_frames(root / "all_frames/valid_all_frames/JPEGImages/owl", range(5), SIZE)
    write_masks(root / "valid/Annotations/owl", range(1), SIZE, labels=(2,))
    later = np.zeros(SIZE, np.uint8)
    later[18:30, 28:44] = 5
    Image.fromarray(later).save(root / "valid/Annotations/owl/00002.png")
    saved = {"2": ["00000", "00002", "00004"], "5": ["00002", "00004"]}
    write_text(root / "valid/meta.json", youtube_meta({"owl": saved}))
    return root


def test_objects_that_enter_later_enter_in_every_view(evaluate, youtube, tmp_path):
    output = evaluate("--dataset", "Y19", "--y19_path", youtube, "--size", 24, 40, "--flip_too")
    images = read_frames(youtube / "all_frames/valid_all_frames/JPEGImages/owl")
    masks = {0: label_map(SIZE, (2,)), 2: read_mask(youtube / "valid/Annotations/owl/00002.png")}
    runs = [plain_loop(images, masks, size=size, flip=flip) for size in (24, 40) for flip in (False, True)]
    expected = average(*runs)[::2]
    assert [objects for _, _, objects in expected] == [[2], [2, 5], [2, 5]]
    assert equal(output / "Annotations/owl", ["00000", "00002", "00004"], expected)
    assert len(zipfile.ZipFile(tmp_path / "output.zip").namelist()) == 3


def test_frames_that_serve_several_views_are_decoded_once(evaluate, generic, monkeypatch):
    decoded = []
    monkeypatch.setattr(frames, "read_frame", lambda path: decoded.append(path) or read_frame(path))
    evaluate(*flags_of(generic, "--size", 16, 24, "--flip_too"))
    assert sorted(decoded) == sorted((generic / "JPEGImages").glob("*/*.jpg"))


def test_sizes_with_frames_of_their_own_are_shown_those(tmp_path):
    for seed, (folder, size) in enumerate((("480p", (6, 10)), ("Full-Resolution", (12, 20)))):
        write_frames(tmp_path / "trainval/JPEGImages" / folder / "judo", range(3), size, seed)
    write_masks(tmp_path / "trainval/Annotations/480p/judo", range(3), (6, 10))
    write_text(tmp_path / "trainval/ImageSets/2017/val.txt", "judo\n")
    (video,) = open_evaluation_set("D17", "val", tmp_path, 600, 480, -1).videos
    read = list(annotated_frames_for(video, [600, 480, -1]))
    assert [label_map is None for _, label_map in read] == [False, True, True]
    for index, (shown, _) in enumerate(read):
        assert {size: frame.name for size, frame in shown.items()} == dict.fromkeys((600, 480, -1), frame_name(index))
        assert shown[600] is shown[-1]
        for size, folder in ((600, "Full-Resolution"), (480, "480p")):
            source = tmp_path / f"trainval/JPEGImages/{folder}/judo/{frame_name(index)}.jpg"
            assert np.array_equal(shown[size].rgb, read_frame(source).rgb)


def test_merging_files_is_averaging_views_up_to_their_rounding(evaluate, generic, tmp_path):
    sizes = (24, 40)
    folders = [evaluate(*flags_of(generic, "--save_scores", "--size", size), output=f"size {size}") for size in sizes]
    assert merge_multi_scale.main([str(tmp_path / "merged"), *map(str, folders)]) == 0
    expected = average(*(plain_loop(read_frames(generic / "JPEGImages/a"), {0: MASK}, size=size) for size in sizes))
    clear = 0
    for index, (prob, labels, _) in enumerate(expected):
        merged = read_mask(tmp_path / f"merged/Annotations/a/{frame_name(index)}.png")
        second, first = np.sort(prob, axis=0)[-2:]
        certain = first - second > 1 / 255  # each of the two is off by half a step at most
        assert np.array_equal(merged[certain], labels[certain])
        clear += certain.sum()
    assert clear > MASK.size / 2  # an untrained network is certain of little
    assert any((read_mask(folders[0] / f"Annotations/a/{frame_name(i)}.png") != expected[i][1]).any() for i in range(4))


# --- Back and forth ---------------------------------------------------------------------------------------------------


def played(images: list[np.ndarray], order: list[int]) -> Iterator[np.ndarray]:
    return (images[index] for index in order)


def test_repeated_videos_are_segmented_and_scored_all_along(evaluate, generic, tmp_path):
    output = evaluate(*flags_of(generic, "--size", -1, "--repeat", 3, "--mem_every", 3))
    order = [0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1]
    names = [f"{position:05d}-{frame_name(index)}" for position, index in enumerate(order)]
    images = list(played(read_frames(generic / "JPEGImages/a"), order))
    expected = plain_loop(images, {0: MASK}, mem_every=3)
    assert equal(output / "a", names, expected)
    # The same score as with the ground truth copied, which eval.py does not do.
    (tmp_path / "truth/a").mkdir(parents=True)
    for name, index in zip(names, order, strict=True):
        truth = (generic / f"Annotations/a/{frame_name(index)}.png").read_bytes()
        (tmp_path / f"truth/a/{name}.png").write_bytes(truth)
    summary = json.loads((output / "summary.json").read_text())
    assert summary["scores"] == score_sequences(find_sequences(tmp_path / "truth", output)).to_json_dict()
    assert summary["frames"] == 12
    assert summary["config"]["repeat"] == 3


def test_repeated_long_videos_write_the_frames_that_are_scored(evaluate, tmp_path, capsys):
    root = tmp_path / "long"
    write_frames(root / "long_video/JPEGImages/rat", range(5), SIZE)
    write_masks(root / "long_video/Annotations/rat", range(0, 5, 2), SIZE)
    output = evaluate("--dataset", "LV1", "--lv_path", root, "--size", -1, "--repeat", 2)
    # 0 1 2 3 4 3 2 1 0 1
    assert names_in(output / "rat") == ["00000-00000", "00002-00002", "00004-00004", "00006-00002", "00008-00000"]
    assert "J&F" in capsys.readouterr().out
