"""eval.py from the command line to the files it writes, on miniature data sets and a tiny network."""

import argparse
import json
import logging
import shutil
import zipfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import eval as program
from dataset import frames
from dataset.frames import FrameFolder, read_frame
from dataset.label_map import write_label_map
from dataset.registry import DATA_SETS
from dataset.video_file import VideoFile
from evaluation import networks as network_files
from evaluation.config import EvaluationConfig
from evaluation.networks import intended_size
from evaluation.overlay_video import overlay_video
from inference.config import InferenceConfig
from model.checkpoint import read_checkpoint
from scoring.davis import find_sequences, score_sequences
from tests.helpers.layouts import (
    davis_2016_pairs,
    frame_name,
    label_map,
    write_frames,
    write_masks,
    write_text,
    youtube_meta,
)
from tests.helpers.plain_loop import equal, names_in, plain_loop, read_frames, read_mask
from tests.helpers.tiny_network import save_tiny_network
from util.painting import davis_palette

SIZE = (48, 64)
ANOTHER_PALETTE = bytes(range(255, 255 - 12, -1))


@pytest.fixture
def generic(tmp_path) -> Path:
    """The videos `a` (objects 1 and 3 with a palette, ground truth) and `b` (object 255, grey, from frame 2 on)."""
    root = tmp_path / "generic"
    write_frames(root / "JPEGImages/a", range(7), SIZE)
    write_masks(root / "Annotations/a", range(7), SIZE, labels=(1, 3), palette=ANOTHER_PALETTE)
    write_frames(root / "JPEGImages/b", range(5), (40, 33), seed=1)
    write_masks(root / "Annotations/b", range(2, 3), (40, 33))
    return root


def remove_video(root: Path, name: str) -> None:
    shutil.rmtree(root / "JPEGImages" / name)
    shutil.rmtree(root / "Annotations" / name)


def flags_of(root: Path, *more: object) -> list[object]:
    return ["--dataset", "G", "--generic_path", root, "--size", -1, *more]


def files(folder: Path) -> dict[str, bytes]:
    """What people see in a folder, without what differs between runs."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.relative_to(folder).parts[0].startswith(".") and path.suffix != ".json"
    }


@pytest.mark.parametrize("settings", [{}, {"flip": True}, {"size": 32}, {"size": 64, "flip": True}])
def test_masks_are_those_of_a_plain_loop(evaluate, generic, settings):
    flags = [] if "size" not in settings else ["--size", settings["size"]]
    output = evaluate(*flags_of(generic), *flags, *(["--flip"] if "flip" in settings else []))
    a = plain_loop(read_frames(generic / "JPEGImages/a"), {0: label_map(SIZE, (1, 3))}, **settings)
    b = plain_loop(read_frames(generic / "JPEGImages/b"), {2: label_map((40, 33))}, **settings)
    assert len({labels.tobytes() for _, labels, _ in a}) == 7, "frames have to differ for the comparison to tell"
    assert set(np.unique([labels for _, labels, _ in a[1:]])) == {0, 1, 3}
    assert equal(output / "a", [frame_name(index) for index in range(7)], a)
    assert equal(output / "b", [frame_name(index) for index in range(2, 5)], b)


def test_outputs_keep_the_palette_or_its_absence(evaluate, generic):
    output = evaluate(*flags_of(generic))
    with Image.open(output / "a/00003.png") as image:
        assert image.mode == "P"
        assert bytes(image.getpalette())[:12] == ANOTHER_PALETTE
    with Image.open(output / "b/00003.png") as image:
        assert image.mode == "L"
        assert set(np.unique(image)) <= {0, 255}


@pytest.mark.parametrize(
    ("flags", "config"),
    [
        (["--mem_every", 2], {"mem_every": 2}),
        (["--top_k", 3], {"top_k": 3}),
        (["--top_k", -1], {"top_k": None}),
        (["--deep_update_every", 3, "--mem_every", 1], {"deep_update_every": 3, "mem_every": 1}),
        (["--disable_long_term", "--mem_every", 1], {"enable_long_term": False, "mem_every": 1}),
        (
            ["--max_mid_term_frames", 3, "--min_mid_term_frames", 2, "--num_prototypes", 4, "--mem_every", 1],
            {"max_mid_term_frames": 3, "min_mid_term_frames": 2, "num_prototypes": 4, "mem_every": 1},
        ),
        (
            [
                *("--max_mid_term_frames", 2, "--min_mid_term_frames", 1, "--num_prototypes", 4, "--mem_every", 1),
                *("--max_long_term_elements", 6),
            ],
            {"max_mid_term_frames": 2, "min_mid_term_frames": 1, "num_prototypes": 4, "mem_every": 1}
            | {"max_long_term_elements": 6},
        ),
        (["--mem_every", 3, "--mem_offset", 2], {"mem_every": 3, "mem_offset": 2}),
        (["--insertion", "sparse", "--max_memory_frames", 3], {"insertion": "sparse", "max_memory_frames": 3}),
        (["--deep_update", "never"], {"deep_update": "never"}),
        (
            ["--when_full", "local_window", "--max_memory_frames", 2, "--mem_every", 1],
            {"when_full": "local_window", "max_memory_frames": 2, "mem_every": 1},
        ),
        (
            [
                *("--max_mid_term_frames", 3, "--min_mid_term_frames", 2, "--num_prototypes", 4, "--mem_every", 1),
                *("--prototypes", "random", "--disable_potentiation"),
            ],
            {"max_mid_term_frames": 3, "min_mid_term_frames": 2, "num_prototypes": 4, "mem_every": 1}
            | {"prototypes": "random", "potentiation": False},
        ),
        (["--disable_sensory"], {"enable_sensory": False}),
        (["--disable_working"], {"enable_working": False}),
    ],
)
def test_memory_flags_reach_the_memory(evaluate, generic, flags, config):
    remove_video(generic, "b")
    output = evaluate(*flags_of(generic, *flags))
    expected = plain_loop(read_frames(generic / "JPEGImages/a"), {0: label_map(SIZE, (1, 3))}, **config)
    assert equal(output / "a", [frame_name(index) for index in range(7)], expected)
    recorded = json.loads((output / "summary.json").read_text())["config"]["inference"]
    assert recorded == InferenceConfig.from_settings(**config).settings()


def test_an_object_lost_in_resizing_is_followed_all_the_same(evaluate, generic):
    mask = label_map(SIZE, (1,))
    mask[40, 51] = 9  # one pixel, which a third of the size has no place for
    Image.fromarray(mask).save(generic / "Annotations/a/00000.png")
    output = evaluate(*flags_of(generic), "--size", 16, "--save_scores")
    expected = plain_loop(read_frames(generic / "JPEGImages/a"), {0: mask}, size=16)
    assert not F.interpolate(torch.from_numpy(mask == 9)[None, None].float(), (16, 21)).any()
    with np.load(output / "Scores/a/00001.npz") as scores:
        assert scores["objects"].tolist() == [1, 9]
    assert equal(output / "Annotations/a", [frame_name(index) for index in range(7)], expected)


def test_scores_are_probabilities_in_steps_of_1_255(evaluate, generic):
    output = evaluate(*flags_of(generic, "--save_scores"))
    expected = plain_loop(read_frames(generic / "JPEGImages/a"), {0: label_map(SIZE, (1, 3))})
    assert (
        names_in(output / "Scores/a", "*.npz")
        == names_in(output / "Annotations/a")
        == [frame_name(index) for index in range(7)]
    )
    assert not (output / "a").exists()
    for index, (prob, labels, objects) in enumerate(expected):
        with np.load(output / f"Scores/a/{frame_name(index)}.npz") as scores:
            assert sorted(scores) == ["objects", "prob"]
            assert scores["prob"].dtype == np.uint8
            assert scores["prob"].shape == (3, *SIZE)
            assert scores["objects"].tolist() == objects == [1, 3]
            assert np.abs(scores["prob"] / 255 - prob).max() <= 0.5 / 255 + 1e-6
        assert np.array_equal(read_mask(output / f"Annotations/a/{frame_name(index)}.png"), labels)


@pytest.fixture
def youtube(tmp_path) -> Path:
    """Object 2 starts at frame 1, object 5 at frame 4; every second frame is saved. A mask at frame 0 holds nothing."""
    root = tmp_path / "youtube"
    for part in ("valid", "test"):
        write_frames(root / f"all_frames/{part}_all_frames/JPEGImages/owl", range(8), SIZE)
        write_masks(root / part / "Annotations/owl", range(1), SIZE, labels=(), palette=davis_palette())
        write_masks(root / part / "Annotations/owl", range(1, 2), SIZE, labels=(2,), palette=davis_palette())
        later = np.zeros(SIZE, np.uint8)
        later[30:44, 40:60] = 5
        Image.fromarray(later).save(root / part / "Annotations/owl/00004.png")
        objects = {"2": ["00001", "00003", "00005"], "5": ["00005", "00007"]}
        write_text(root / part / "meta.json", youtube_meta({"owl": objects}))
    return root


@pytest.mark.parametrize(("dataset", "split"), [("Y18", "val"), ("Y19", "test")])
def test_youtube_objects_enter_later_and_its_server_gets_the_frames_it_asks_for(
    evaluate, youtube, tmp_path, dataset, split
):
    part = {"val": "valid", "test": "test"}[split]
    flags = ["--dataset", dataset, f"--{dataset.lower()}_path", youtube, "--split", split, "--size", 32]
    output = evaluate(*flags)
    later = read_mask(youtube / part / "Annotations/owl/00004.png")
    images = read_frames(youtube / f"all_frames/{part}_all_frames/JPEGImages/owl")
    expected = plain_loop(images, {1: label_map(SIZE, (2,)), 4: later}, size=32)
    saved = ["00001", "00003", "00005", "00007"]
    assert equal(output / "Annotations/owl", saved, expected[::2])
    assert [set(np.unique(labels).tolist()) for _, labels, _ in expected[::2]][-1] == {0, 2, 5}
    with Image.open(output / "Annotations/owl/00007.png") as image:
        assert bytes(image.getpalette()) == davis_palette()
    assert zipfile.ZipFile(tmp_path / "output.zip").namelist() == [f"Annotations/owl/{name}.png" for name in saved]

    everything = evaluate(*flags, "--save_all", output="everything")
    assert equal(everything / "Annotations/owl", [frame_name(index) for index in range(1, 8)], expected)
    assert files(tmp_path / "everything")["Annotations/owl/00003.png"] == files(output)["Annotations/owl/00003.png"]
    assert zipfile.ZipFile(tmp_path / "everything.zip").namelist() == [f"Annotations/owl/{name}.png" for name in saved]


@pytest.fixture
def davis_2017(tmp_path) -> Path:
    root = tmp_path / "davis"
    for part, list_name, masks in (("trainval", "val.txt", range(4)), ("test-dev", "test-dev.txt", range(1))):
        for name in ("judo", "bike"):
            write_frames(root / part / "JPEGImages/480p" / name, range(4), SIZE)
            write_frames(root / part / "JPEGImages/Full-Resolution" / name, range(4), (96, 130))
            write_masks(root / part / "Annotations/480p" / name, masks, SIZE, (1, 2), davis_palette())
        write_text(root / part / "ImageSets/2017" / list_name, "judo\nbike\n")
    return root


def test_full_resolution_davis_is_written_and_scored_at_480p(evaluate, davis_2017, capsys):
    output = evaluate("--dataset", "D17", "--d17_path", davis_2017, "--size", -1)
    images = read_frames(davis_2017 / "trainval/JPEGImages/Full-Resolution/judo")
    # The 480p mask is brought to the network's size, and the result to the mask's.
    mask = F.interpolate(torch.from_numpy(label_map(SIZE, (1, 2)))[None, None].float(), (96, 130))[0, 0].byte().numpy()
    expected = plain_loop(images, {0: mask}, output_size=SIZE)
    assert equal(output / "judo", [frame_name(index) for index in range(4)], expected)
    assert "J&F" in capsys.readouterr().out


@pytest.mark.parametrize("save_scores", [False, True])
def test_davis_test_dev_is_zipped_as_its_server_takes_it(evaluate, davis_2017, tmp_path, capsys, save_scores):
    flags = ["--save_scores"] if save_scores else []
    evaluate("--dataset", "D17", "--d17_path", davis_2017, "--split", "test", "--size", 24, *flags)
    assert sorted(zipfile.ZipFile(tmp_path / "output.zip").namelist()) == [
        f"{video}/{frame_name(index)}.png" for video in ("bike", "judo") for index in range(4)
    ]
    printed = capsys.readouterr().out
    assert str(tmp_path / "output.zip") in printed
    assert "J&F" not in printed


def test_davis_2016_takes_the_frames_of_its_image_set(evaluate, tmp_path, capsys):
    root = tmp_path / "davis"
    write_frames(root / "JPEGImages/480p/dog", range(6), SIZE)
    write_masks(root / "Annotations/480p/dog", range(6), SIZE)
    write_text(root / "ImageSets/480p/val.txt", davis_2016_pairs("dog", range(4)))
    output = evaluate("--dataset", "D16", "--d16_path", root, "--size", 24)
    assert names_in(output / "dog") == [frame_name(index) for index in range(4)]
    assert set(np.unique(read_mask(output / "dog/00000.png"))) == {0, 255}
    assert "J&F" in capsys.readouterr().out


@pytest.mark.parametrize(("dataset", "folder"), [("LV1", "long_video"), ("LV3", "long_video_x3")])
def test_long_videos_write_the_annotated_frames(evaluate, tmp_path, capsys, dataset, folder):
    root = tmp_path / "long"
    write_frames(root / folder / "JPEGImages/rat", range(9), SIZE)
    write_masks(root / folder / "Annotations/rat", range(0, 9, 4), SIZE)
    flags = ["--dataset", dataset, "--lv_path", root]
    output = evaluate(*flags)
    assert names_in(output / "rat") == ["00000", "00004", "00008"]
    assert json.loads((output / "config.json").read_text())["size"] == -1  # as published
    assert "J&F" in capsys.readouterr().out
    everything = evaluate(*flags, "--save_all", output="everything")
    assert names_in(everything / "rat") == [frame_name(index) for index in range(9)]


def test_mose_writes_every_frame_and_is_not_scored(evaluate, tmp_path, capsys):
    write_frames(tmp_path / "mose/valid/JPEGImages/v", range(3), SIZE)
    write_masks(tmp_path / "mose/valid/Annotations/v", range(1), SIZE, (4, 200))
    output = evaluate("--dataset", "MOSE", "--mose_path", tmp_path / "mose", "--size", -1)
    assert names_in(output / "v") == [frame_name(index) for index in range(3)]
    assert "J&F" not in capsys.readouterr().out
    assert json.loads((output / "summary.json").read_text())["scores"] is None


@pytest.fixture
def clip(tmp_path) -> Path:
    """A video file of 7 frames and, beside it, its first mask."""
    write_frames(tmp_path / "frames", range(7), SIZE)
    with overlay_video(tmp_path / "clip.mp4", Fraction(10)) as write:
        for frame in FrameFolder(tmp_path / "frames"):
            write(frame.rgb, np.zeros(SIZE, np.uint8))
    write_masks(tmp_path, ["first"], SIZE, (1, 3), ANOTHER_PALETTE)
    return tmp_path / "clip.mp4"


def in_video(path: Path, numbers: Iterable[int]) -> list[np.ndarray]:
    return [frame.rgb for number, frame in enumerate(VideoFile(path)) if number in set(numbers)]


def test_objects_are_followed_backward_from_the_first_label_map(evaluate, clip, tmp_path):
    write_masks(tmp_path / "masks", ["3"], SIZE, labels=(1, 2))
    flags = ["--video", clip, "--masks", tmp_path / "masks", "--size", -1]
    output = evaluate(*flags, "--backward", "--overlay")
    count = len(list(VideoFile(clip)))
    before, after = in_video(clip, range(4))[::-1], in_video(clip, range(3, count))
    backward, forward = (plain_loop(frames, {0: label_map(SIZE, (1, 2))}) for frames in (before, after))
    expected = [*backward[:0:-1], *forward]
    assert len({labels.tobytes() for _, labels, _ in expected}) == count, "frames have to differ to tell"
    assert equal(output / "clip", [frame_name(number) for number in range(count)], expected)
    assert len(list(VideoFile(output / "Overlay/clip.mp4"))) == count
    record = json.loads((output / "summary.json").read_text())["records"]["clip"]
    assert (record["frames"], record["label_maps"]) == (count, count)
    assert names_in(evaluate(*flags, output="forward") / "clip") == [frame_name(number) for number in range(3, count)]


def test_label_maps_for_a_video_file_add_and_correct_objects(evaluate, clip, tmp_path):
    write_masks(tmp_path / "masks", ["0"], SIZE, labels=(1,))
    write_masks(tmp_path / "masks", ["00002"], SIZE, labels=(1, 2))
    output = evaluate("--video", clip, "--masks", tmp_path / "masks", "--size", -1)
    frames = [frame.rgb for frame in VideoFile(clip)]
    expected = plain_loop(frames, {0: label_map(SIZE, (1,)), 2: label_map(SIZE, (1, 2))})
    assert equal(output / "clip", [frame_name(number) for number in range(len(frames))], expected)


def test_a_label_map_in_colours_gives_label_maps_in_the_same_colours(evaluate, generic, tmp_path, capsys):
    remove_video(generic, "b")
    red, blue = (200, 0, 0), (0, 0, 200)
    labels = label_map(SIZE, (1, 2))
    for path in sorted((generic / "Annotations/a").iterdir())[1:]:
        path.unlink()
    colours = np.array([(0, 0, 0), red, blue], np.uint8)[labels]
    Image.fromarray(colours).save(generic / "Annotations/a/00000.png")
    output = evaluate(*flags_of(generic))
    np.testing.assert_array_equal(Image.open(output / "a/00000.png").convert("RGB"), colours)
    assert "objects of a: 1 is #c80000, 2 is #0000c8" in capsys.readouterr().out
    write_masks(generic / "Annotations/a", range(1), SIZE, labels=(1, 2))
    in_labels = evaluate(*flags_of(generic), output="in_labels")
    assert "Label maps without a palette look black" in capsys.readouterr().out
    for path in (output / "a").iterdir():
        np.testing.assert_array_equal(read_mask(path), read_mask(in_labels / "a" / path.name))


def test_a_video_file_gives_masks_and_an_overlay(evaluate, clip, capsys):
    output = evaluate("--video", clip, "--mask", clip.with_name("first.png"), "--size", -1, "--overlay")
    images = [frame.rgb for frame in VideoFile(clip)]
    expected = plain_loop(images, {0: label_map(SIZE, (1, 3))})
    assert equal(output / "clip", [frame_name(index) for index in range(7)], expected)
    with Image.open(output / "clip/00006.png") as image:
        assert bytes(image.getpalette())[:12] == ANOTHER_PALETTE
    with av.open(str(output / "Overlay/clip.mp4")) as container:
        (stream,) = container.streams
        assert (stream.codec_context.name, stream.average_rate) == ("h264", 10)
        painted = [image.to_ndarray(format="rgb24") for image in container.decode(stream)]
    assert [image.shape for image in painted] == [(*SIZE, 3)] * 7
    changed = np.abs(painted[0].astype(int) - images[0]).max(axis=-1)
    inside = label_map(SIZE, (1, 3)) > 0
    assert changed[inside].mean() > 3 * changed[~inside].mean()
    printed = capsys.readouterr().out
    assert "1 video, 7 frames" in printed
    assert "J&F" not in printed


def test_overlays_change_no_mask(evaluate, davis_2017, generic):
    for name, flags in (
        ("plain", flags_of(generic)),
        ("large", ["--d17_path", davis_2017, "--size", 64]),
    ):
        without, with_overlay = evaluate(*flags, output=name), evaluate(*flags, "--overlay", output=f"{name}-overlay")
        painted = files(with_overlay)
        films = {path for path in painted if path.startswith("Overlay/")}
        assert len(films) == 2
        assert {path: content for path, content in painted.items() if path not in films} == files(without)
    with av.open(str(with_overlay / "Overlay/judo.mp4")) as container:
        assert len(list(container.decode(video=0))) == 4
        assert (container.streams.video[0].height, container.streams.video[0].width) == SIZE  # that of the masks


def test_every_frame_is_decoded_once(evaluate, generic, monkeypatch):
    decoded = []
    monkeypatch.setattr(frames, "read_frame", lambda path: decoded.append(path) or read_frame(path))
    evaluate(*flags_of(generic, "--overlay", "--save_scores", "--flip"))
    assert sorted(decoded) == sorted((generic / "JPEGImages").glob("*/*.jpg"))


def test_mixed_precision_is_asked_for_on_the_cpu(evaluate, generic):
    full, mixed = evaluate(*flags_of(generic)), evaluate(*flags_of(generic, "--amp", "--save_scores"), output="mixed")
    recorded = [
        json.loads((output / "summary.json").read_text())["config"]["mixed_precision"] for output in (full, mixed)
    ]
    assert recorded == [False, True]
    expected = plain_loop(read_frames(generic / "JPEGImages/a"), {0: label_map(SIZE, (1, 3))})
    with np.load(mixed / "Scores/a/00001.npz") as scores:
        difference = np.abs(scores["prob"] / 255 - expected[1][0])
    assert 0.5 / 255 + 1e-6 < difference.max() < 0.1


def test_the_summary_has_the_figures_and_the_settings(evaluate, generic, network_file, capsys):
    remove_video(generic, "b")
    output = evaluate(*flags_of(generic, "--flip"))
    summary = json.loads((output / "summary.json").read_text())
    assert (summary["videos"], summary["frames"], summary["failures"]) == (1, 7, {})
    assert summary["FPS"] == pytest.approx(7 / summary["network_seconds"])
    assert summary["end_to_end_FPS"] == pytest.approx(7 / summary["wall_seconds"])
    assert summary["wall_seconds"] > summary["network_seconds"] > 0
    assert summary["records"] == {"a": json.loads((output / ".finished/a.json").read_text())}
    assert summary["records"]["a"]["memory"]["insertions"] == 2  # frames 0 and 5
    assert summary["peak_process_bytes"] > 50 * 2**20
    assert (summary["devices"], summary["peak_device_bytes"]) == (["cpu"], None)
    expected = score_sequences(find_sequences(generic / "Annotations", output, ["a"]))
    assert summary["scores"] == expected.to_json_dict()
    config = summary["config"]
    assert (config["dataset"], config["root"], config["flip"], config["size"]) == ("G", str(generic), True, -1)
    assert config["weights"] == str(network_file)
    assert len(config["weights_sha256"]) == 64
    assert config == json.loads((output / "config.json").read_text())
    captured = capsys.readouterr()
    speed = f"{summary['FPS']:.2f} FPS ({summary['end_to_end_FPS']:.2f} with reading and writing)"
    assert f"1 video, 7 frames, {speed}; peak memory: process" in captured.out
    assert "J&F {J&F:.1f}  J {J:.1f}  F {F:.1f}".format(**expected.figures) in captured.out
    assert "1/1 videos: 100%" in captured.err
    assert "7/7" in captured.err


def test_videos_that_lack_ground_truth_are_left_out_and_named(evaluate, generic, capsys, caplog):
    scores = json.loads((evaluate(*flags_of(generic)) / "summary.json").read_text())["scores"]
    assert list(scores["sequences"]) == ["a"]
    assert scores["left_out"] == {"b": "there is no label map for every frame to be scored"}
    assert "not scored: b: there is no label map for every frame to be scored" in caplog.text
    assert "of 1 of 2 videos" in capsys.readouterr().out


def test_sets_without_ground_truth_are_not_scored(evaluate, generic, capsys, caplog):
    remove_video(generic, "a")
    assert json.loads((evaluate(*flags_of(generic)) / "summary.json").read_text())["scores"] is None
    assert "J&F" not in capsys.readouterr().out
    assert "not scored" not in caplog.text


def test_what_has_changed_is_segmented_again(evaluate, generic, caplog):
    """The normal loop of a user: look, correct, run again."""
    caplog.set_level("INFO")
    output = evaluate(*flags_of(generic))
    assert "finished before" not in caplog.text
    before = files(output / "a"), files(output / "b")
    evaluate(*flags_of(generic))
    assert "2 of 2 videos were finished before" in caplog.text
    assert "segmented again" not in caplog.text

    first = sorted((generic / "Annotations/a").iterdir())[0]
    labels = np.array(Image.open(first))
    write_label_map(first, np.where(np.roll(labels, 5, axis=1) == 1, 1, 0))
    caplog.clear()
    evaluate(*flags_of(generic))
    assert "1 of 2 videos were finished before" in caplog.text
    assert "changed since they were segmented, and segmented again: a" in caplog.text
    assert files(output / "a") != before[0]
    assert files(output / "b") == before[1]

    frame = sorted((generic / "JPEGImages/b").iterdir())[-1]
    Image.new("RGB", Image.open(frame).size).save(frame)
    caplog.clear()
    evaluate(*flags_of(generic))
    assert "segmented again: b" in caplog.text
    assert files(output / "b") != before[1]
    caplog.clear()
    evaluate(*flags_of(generic))
    assert "2 of 2 videos were finished before" in caplog.text


def modification_times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.*") if path.is_file()}


def test_finished_videos_are_skipped_and_count(evaluate, generic, capsys):
    output = evaluate(*flags_of(generic))
    before = modification_times(output / "a") | modification_times(output / ".finished")
    first = json.loads((output / "summary.json").read_text())
    shutil.rmtree(output / "b")  # as people do to have a video done again
    capsys.readouterr()
    evaluate(*flags_of(generic))
    after = modification_times(output / "a") | modification_times(output / ".finished")
    assert {path: after[path] for path in before if path.name != "b.json"} == {
        path: time for path, time in before.items() if path.name != "b.json"
    }
    assert names_in(output / "b") == ["00002", "00003", "00004"]
    again = json.loads((output / "summary.json").read_text())
    assert (again["videos"], again["frames"]) == (first["videos"], first["frames"]) == (2, 10)
    captured = capsys.readouterr()
    assert "| 7/12 " in captured.err  # it begins where the finished video ends
    assert "2/2 videos: 100%" in captured.err
    assert "12/12" in captured.err


def test_a_finished_run_only_reports_again(evaluate, generic, capsys):
    output = evaluate(*flags_of(generic))
    before = modification_times(output / "a") | modification_times(output / "b")
    summary = (output / "summary.json").read_text()
    evaluate(*flags_of(generic))
    assert modification_times(output / "a") | modification_times(output / "b") == before
    again = json.loads((output / "summary.json").read_text())
    del again["peak_process_bytes"]
    assert again.items() <= json.loads(summary).items()


def test_benchmarks_time_every_video_anew(evaluate, generic):
    output = evaluate(*flags_of(generic))
    masks, before = files(output), modification_times(output)
    evaluate(*flags_of(generic, "--benchmark"))
    after = modification_times(output)
    assert files(output) == masks
    assert all(after[path] > before[path] for path in before)


def test_other_settings_are_refused_and_named(evaluate, generic, tmp_path, network_file, capsys):
    output = evaluate(*flags_of(generic))
    before = modification_times(output)
    another = save_tiny_network(tmp_path / "another.pth", seed=1)
    for flags, expected in (
        (["--flip"], f"{output} was made with other settings: flip: False before, True now; "),
        (["--mem_every", "3"], "inference.mem_every: 5 before, 3 now; "),
        (["--size", "16", "--overlay"], "overlay: False before, True now; size: -1 before, 16 now; "),
        (["--model", str(another)], f"weights: {network_file} before, {another} now; weights_sha256: "),
    ):
        arguments = [*flags_of(generic), "--model", network_file, "--device", "cpu", "--output", output, *flags]
        assert program.main([str(argument) for argument in arguments]) == 2
        assert expected in capsys.readouterr().err
    assert modification_times(output) == before


def test_another_network_under_the_same_name_is_refused(generic, tmp_path, capsys):
    model = save_tiny_network(tmp_path / "training.pth", seed=2)
    arguments = [str(flag) for flag in flags_of(generic, "--model", model, "--output", tmp_path / "output")]
    assert program.main(arguments) == 0
    save_tiny_network(model, seed=3)
    assert program.main(arguments) == 2
    assert "weights_sha256" in capsys.readouterr().err
    assert program.main([*arguments, "--overwrite"]) == 0


def test_what_was_made_without_graphs_goes_on(evaluate, generic):
    output = evaluate(*flags_of(generic))
    recorded, before = output / "config.json", modification_times(output)
    config = json.loads(recorded.read_text())
    assert config["cuda_graphs"] is True
    recorded.write_text(json.dumps(config | {"cuda_graphs": False}))
    evaluate(*flags_of(generic))
    assert modification_times(output / "a") == {path: before[path] for path in modification_times(output / "a")}


def test_the_same_network_in_another_place_goes_on(generic, network_file, tmp_path):
    moved = tmp_path / "moved.pth"
    moved.write_bytes(Path(network_file).read_bytes())
    for model in (network_file, moved):
        flags = flags_of(generic, "--model", model, "--device", "cpu", "--output", tmp_path / "output")
        assert program.main([str(flag) for flag in flags]) == 0
    assert json.loads((tmp_path / "output/config.json").read_text())["weights"] == str(moved)


def test_overwriting_removes_the_former_results_and_nothing_else(evaluate, generic, davis_2017, tmp_path):
    output = evaluate("--d17_path", davis_2017, "--split", "test", "--size", 24, "--save_scores", "--overlay")
    assert (tmp_path / "output.zip").exists()
    (output / "notes.txt").write_text("mine")
    (output / "Annotations/mine").mkdir()
    evaluate(*flags_of(generic, "--overwrite"))
    found = files(output)
    assert found.pop("notes.txt") == b"mine"
    assert (output / "Annotations/mine").is_dir()
    assert found == files(evaluate(*flags_of(generic), output="fresh"))
    assert not (tmp_path / "output.zip").exists()
    assert sorted(path.stem for path in (output / ".finished").iterdir()) == ["a", "b"]
    (tmp_path / "output.zip").write_text("mine")  # as of a set whose server takes a zip that users make
    evaluate(*flags_of(generic, "--overwrite", "--flip"))
    assert (tmp_path / "output.zip").read_text() == "mine"


@pytest.mark.parametrize("foreign", ["output/notes.txt", "output.zip"])
def test_files_that_no_run_made_are_neither_mixed_with_results_nor_replaced(
    davis_2017, network_file, tmp_path, capsys, foreign
):
    write_text(tmp_path / foreign, "mine")
    for more in ([], ["--overwrite"]):
        flags = ["--d17_path", davis_2017, "--split", "test", "--size", 24]
        arguments = [*flags, "--model", network_file, "--output", tmp_path / "output", *more]
        assert program.main([str(argument) for argument in arguments]) == 2
        assert str(tmp_path / foreign) in capsys.readouterr().err
    assert (tmp_path / foreign).read_text() == "mine"
    assert not (tmp_path / "output/config.json").exists()


def test_lost_probabilities_are_made_again(evaluate, generic):
    output = evaluate(*flags_of(generic, "--save_scores"))
    before = modification_times(output / "Annotations/a")
    scores = sorted((output / "Scores/b").iterdir())
    scores[0].unlink()
    evaluate(*flags_of(generic, "--save_scores"))
    assert sorted((output / "Scores/b").iterdir()) == scores
    assert modification_times(output / "Annotations/a") == before


def test_a_video_with_a_hidden_name_is_resumed(evaluate, clip, tmp_path):
    flags = ["--video", clip.rename(clip.with_name(".clip.mp4")), "--mask", tmp_path / "first.png", "--size", 24]
    output = evaluate(*flags)
    before = modification_times(output / ".clip")
    assert len(before) == 7
    assert modification_times(evaluate(*flags) / ".clip") == before


def test_default_output_folders(generic, clip, network_file, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    common = ["--model", str(network_file), "--device", "cpu", "--size", "-1"]
    assert program.main(["--dataset", "G", "--generic_path", "../generic", *common]) == 0
    assert names_in(tmp_path / "output/G_val/b") == ["00002", "00003", "00004"]
    assert program.main(["--video", "../clip.mp4", "--mask", "../first.png", *common]) == 0
    assert len(names_in(tmp_path / "output/clip/clip")) == 7


def test_published_defaults(network_file):
    arguments = program.parse_arguments([])
    published = {
        "d16_path": "../DAVIS/2016",
        "d17_path": "../DAVIS/2017",
        "y18_path": "../YouTube2018",
        "y19_path": "../YouTube",
        "lv_path": "../long_video_set",
        "mose_path": "../MOSE",
        "generic_path": "None",
    }
    roots = {data_set.root_name: str(data_set.default_root) for data_set in DATA_SETS.values()}
    assert published.items() <= roots.items()
    assert intended_size(read_checkpoint(network_file)) == 480

    def configure(arguments: argparse.Namespace, device: str) -> EvaluationConfig:
        return program.configure(arguments, "D17", Path(), network_file, [480], torch.device(device))

    config = configure(arguments, "cpu")
    assert (config.split, config.mixed_precision, config.inference) == ("val", False, InferenceConfig())
    assert configure(arguments, "cuda").mixed_precision
    assert not configure(program.parse_arguments(["--benchmark"]), "cuda").mixed_precision


def test_every_flag_is_documented():
    guide = (Path(program.__file__).parent / "docs" / "evaluation.md").read_text()
    flags = {flag for action in program.make_parser()._actions for flag in action.option_strings if flag != "-h"}
    assert {flag for flag in flags - {"--help"} if f"`{flag}`" not in guide} == set()


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A folder in the place of the repository, without any network."""
    folder = tmp_path / "checkout"
    (folder / "saves").mkdir(parents=True)
    monkeypatch.setattr(network_files, "REPOSITORY", folder)
    monkeypatch.setattr(network_files, "BUNDLED", folder / "saves/XMem-small.pth")
    return folder


@pytest.fixture
def elsewhere(tmp_path, monkeypatch) -> Path:
    """The working directory, which is not the repository."""
    folder = tmp_path / "elsewhere"
    (folder / "saves").mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def run_without_a_model(root: Path, output: Path, *flags: object) -> dict:
    arguments = ["--dataset", "G", "--generic_path", root, "--device", "cpu", "--output", output, *flags]
    assert program.main([str(argument) for argument in arguments]) == 0
    return json.loads((output / "summary.json").read_text())["config"]


def test_without_a_model_the_published_network_is_taken_or_else_the_bundled_one(
    generic, checkout, elsewhere, network_file, tmp_path, caplog
):
    remove_video(generic, "a")
    caplog.set_level(logging.INFO)
    for path, told in (
        (
            checkout / "saves/XMem-small.pth",
            f"no network is named: taking the bundled one, {checkout}/saves/XMem-small.pth",
        ),
        (checkout / "saves/XMem.pth", f"no network is named: taking the published one, {checkout}/saves/XMem.pth"),
        (elsewhere / "saves/XMem.pth", "no network is named: taking the published one, saves/XMem.pth"),
    ):
        shutil.copy(network_file, path)
        output = tmp_path / f"{path.parent.parent.name}-{path.stem}"
        caplog.clear()
        assert run_without_a_model(generic, output, "--size", -1)["weights"] == str(path)
        assert caplog.messages[0] == told


def test_without_any_network_nothing_starts_and_the_remedies_are_named(generic, checkout, elsewhere, tmp_path, capsys):
    arguments = [str(flag) for flag in flags_of(generic, "--output", tmp_path / "output")]
    assert program.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    for part in ("saves/XMem.pth", "XMem-small.pth", "python -m scripts.download_models", "--model"):
        assert part in line
    assert not (tmp_path / "output").exists()


def test_a_network_may_be_meant_for_another_size(generic, checkout, elsewhere, tmp_path, caplog):
    remove_video(generic, "b")
    caplog.set_level(logging.INFO)
    model = save_tiny_network(tmp_path / "small.pth", metadata={"size": 32})
    config = run_without_a_model(generic, tmp_path / "its own", "--model", model)
    assert config["size"] == 32
    assert caplog.messages == ["no size is given: taking 32, which the network is meant for"]
    expected = plain_loop(read_frames(generic / "JPEGImages/a"), {0: label_map(SIZE, (1, 3))}, size=32)
    assert equal(tmp_path / "its own/a", [frame_name(index) for index in range(7)], expected)
    caplog.clear()
    assert run_without_a_model(generic, tmp_path / "given", "--model", model, "--size", 24)["size"] == 24
    assert caplog.messages == []


@pytest.mark.parametrize("size", [3, "32", 32.5])
def test_a_size_in_a_network_file_that_is_none_is_told(generic, tmp_path, capsys, size):
    model = save_tiny_network(tmp_path / "small.pth", metadata={"size": size})
    flags = ["--dataset", "G", "--generic_path", generic, "--model", model, "--output", tmp_path / "output"]
    arguments = [str(flag) for flag in flags]
    assert program.main(arguments) == 2
    assert capsys.readouterr().err == (
        f"eval.py: {model} says that it is meant for the size {size!r}, which is none: give a size\n"
    )
    assert program.main([*arguments, "--size", "16"]) == 0


SEEN = {"videos_seen": ["bike", "camel", "a"]}


@pytest.mark.parametrize("bundled", [False, True])
def test_videos_that_were_trained_on_are_warned_of_and_recorded(
    evaluate, davis_2017, checkout, tmp_path, caplog, bundled
):
    model = save_tiny_network(checkout / "saves" / ("XMem-small.pth" if bundled else "mine.pth"), metadata=SEEN)
    output = evaluate("--dataset", "D17", "--d17_path", davis_2017, "--size", 24, "--model", model)
    seen = f"{model} has been trained on 1 of these 2 videos (bike): its scores on them are no measure of anything"
    general = (
        "the bundled network was trained on a part of DAVIS's validation videos: fine for a demonstration, never for a "
        "published number"
    )
    assert caplog.messages == ([seen, general] if bundled else [seen])
    assert json.loads((output / "summary.json").read_text())["videos_seen"] == ["bike"]


def test_the_bundled_network_gives_no_published_number_on_davis_at_all(evaluate, davis_2017, checkout, caplog):
    model = save_tiny_network(checkout / "saves/XMem-small.pth", metadata={"videos_seen": ["camel"]})
    output = evaluate("--dataset", "D17", "--d17_path", davis_2017, "--size", 24, "--model", model)
    assert [message[:40] for message in caplog.messages] == ["the bundled network was trained on a par"]
    assert json.loads((output / "summary.json").read_text())["videos_seen"] == []


def test_other_peoples_videos_may_have_the_names_of_those_trained_on(evaluate, generic, checkout, caplog):
    model = save_tiny_network(checkout / "saves/XMem-small.pth", metadata=SEEN)
    output = evaluate(*flags_of(generic), "--model", model)
    assert "trained on" not in caplog.text
    assert json.loads((output / "summary.json").read_text())["videos_seen"] == []


@pytest.mark.slow
def test_davis_2016_itself(shared, evaluate, tmp_path):
    """Two real sequences, three frames of each, read in place and scored."""
    davis, root = shared / "DAVIS/2016", tmp_path / "davis"
    root.mkdir()
    for folder in ("JPEGImages", "Annotations"):
        (root / folder).symlink_to(davis / folder)
    write_text(root / "ImageSets/480p/val.txt", davis_2016_pairs("dog", range(3)) + davis_2016_pairs("camel", range(3)))
    output = evaluate("--dataset", "D16", "--d16_path", root, "--size", 120)
    summary = json.loads((output / "summary.json").read_text())
    assert (summary["videos"], summary["frames"]) == (2, 6)
    assert sorted(summary["scores"]["sequences"]) == ["camel", "dog"]
    for name in ("dog", "camel"):
        truth = read_mask(davis / f"Annotations/480p/{name}/00000.png")
        expected = plain_loop(read_frames(davis / "JPEGImages/480p" / name, limit=3), {0: truth}, size=120)
        assert equal(output / name, [frame_name(index) for index in range(3)], expected)
        first = read_mask(output / f"{name}/00000.png")
        assert first.shape == truth.shape == (480, 854)
        assert (first == truth).mean() > 0.98  # it went through a quarter of its size
