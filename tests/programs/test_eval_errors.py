"""eval.py and bad input: one line that names the file or flag, the exit code, and nothing half-written."""

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import eval as program
from evaluation import evaluate as evaluation
from evaluation import output_folder
from evaluation.overlay_video import overlay_video
from inference.inference_core import InferenceCore
from tests.helpers.layouts import frame_name, label_map, write_frames, write_masks, write_text, youtube_meta
from util.errors import SettingError
from util.files import sole_user

SIZE = (32, 48)


@pytest.fixture
def evaluate(network_file, tmp_path, capsys):
    """Runs eval.py with flags; returns its exit code and its lines on stderr, progress bar left out."""

    def run(*flags: object, output: Path = tmp_path / "output") -> tuple[int, list[str]]:
        default = ["--model", network_file] if "--model" not in flags else []
        code = program.main([str(flag) for flag in ("--device", "cpu", "--output", output, *default, *flags)])
        lines = capsys.readouterr().err.split("\n")
        return code, [line for line in lines if line and not line.startswith("\r")]

    return run


@pytest.fixture
def generic(tmp_path) -> Path:
    """The videos `bad` and `good`, alike until a test damages the first."""
    for name in ("bad", "good"):
        write_frames(tmp_path / "generic/JPEGImages" / name, range(4), SIZE)
        write_masks(tmp_path / "generic/Annotations" / name, range(4), SIZE)
    return tmp_path / "generic"


def flags_of(root: Path, *more: object) -> list[object]:
    return ["--dataset", "G", "--generic_path", root, "--size", -1, *more]


def left_in(output: Path) -> list[str]:
    """Everything in the output folder but what belongs to the run as a whole and to the video `good`."""
    return sorted(
        str(path.relative_to(output))
        for path in output.rglob("*")
        if path.name not in ("config.json", "summary.json", ".finished", "good", "Overlay", "Annotations", "Scores")
        and "good" not in path.relative_to(output).parts
        and path.stem != "good"
    )


# --- Flags ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--video", "clip.mp4"], "--video needs --mask"),
        (["--mask", "first.png"], "--mask goes with --video, not with --dataset D17"),
        (["--video", "c.mp4", "--mask", "m.png", "--dataset", "D16"], "--video and --dataset contradict each other"),
        (["--video", "c.mp4", "--mask", "m.png", "--split", "val"], "--video and --split contradict each other"),
        (
            ["--video", "c.mp4", "--mask", "m.png", "--generic_path", "g"],
            "--generic_path goes with --dataset G, not with --video",
        ),
        (["--generic_path", "here"], "--generic_path goes with --dataset G, not with --dataset D17"),
        (
            ["--generic_path", "here", "--dataset", "Y18"],
            "--generic_path goes with --dataset G, not with --dataset Y18",
        ),
        (["--dataset", "G"], "--dataset G needs --generic_path"),
        (["--dataset", "D18"], "--dataset D18: there is D16, D17"),
        (["--dataset", "D16", "--split", "test"], "split test: D16 has no such split"),
        (["--split", "train"], "argument --split: invalid choice: 'train'"),
        (["--benchmark", "--amp"], "--benchmark measures full precision, and --amp asks for mixed"),
        (["--no_graphs", "--device", "cpu"], "--no_graphs has no effect on the device cpu: it is for CUDA devices"),
        (["--max_mid_term_frames", "5"], "--max_mid_term_frames must be over min_mid_term_frames (5), not 5"),
        (["--min_mid_term_frames", "0"], "--min_mid_term_frames must be at least 1, not 0"),
        (["--num_prototypes", "20000"], "--max_long_term_elements must be at least num_prototypes (20000), not 10000"),
        (["--num_prototypes", "0"], "--num_prototypes must be at least 1, not 0"),
        (["--max_long_term_elements", "-3"], "--max_long_term_elements must be at least num_prototypes (128), not -3"),
        (["--mem_every", "0"], "--mem_every must be at least 1, not 0"),
        (["--mem_every", "-2"], "--mem_every must be at least 1, not -2"),
        (["--deep_update_every", "0"], "--deep_update_every must be positive"),
        (["--top_k", "0"], "--top_k must be at least 1, or -1 for all, not 0"),
        (["--top_k", "-5"], "--top_k must be at least 1, or -1 for all, not -5"),
        (["--size", "3"], "--size must be at least 16 pixels, or -1 for the own size, not 3"),
        (["--size", "0"], "--size must be at least 16"),
        (["--size", "-2"], "--size must be at least 16"),
        (["--size", "big"], "argument --size: invalid int value: 'big'"),
        (["--size", "32", "48", "32"], "--size must name different sizes, not 32, 48, 32"),
        (["--size", "32", "3"], "--size must be at least 16 pixels, or -1 for the own size, not 3"),
        (["--dataset", "Y18", "--use_all_masks"], "--use_all_masks goes with --dataset G, not with --dataset Y18"),
        (["--flip", "--flip_too"], "--flip does not go together with --flip_too"),
        (["--repeat", "0"], "--repeat must be at least 1, not 0"),
        (["--video", "c.mp4", "--mask", "m.png", "--repeat", "2"], "--repeat goes with data sets and --dataset G"),
        (["--mem_offset", "5"], "--mem_offset must be at least 0 and less than mem_every (5), not 5"),
        (["--insertion", "often"], "--insertion must be one of regular, sparse, not often"),
        (
            ["--prototypes", "random", "--disable_long_term"],
            "--prototypes has no effect with --disable_long_term",
        ),
        (
            ["--disable_sensory", "--disable_working"],
            "--disable_working must keep its default, or nothing is remembered, with --disable_sensory",
        ),
        (["--no_such_flag"], "unrecognized arguments: --no_such_flag"),
        (["--device", "abacus"], "--device abacus: choose auto, cuda, cuda:N, mps or cpu"),
        (["--device", "meta"], "--device meta: choose auto, cuda, cuda:N, mps or cpu"),
    ],
)
def test_flags_that_cannot_work_are_named(evaluate, generic, tmp_path, flags, expected):
    if not {"--dataset", "--video", "--mask", "--generic_path", "--split"} & set(flags):
        flags = [*flags_of(generic), *flags]
    code, lines = evaluate(*flags)
    assert code == 2
    assert len(lines) == 1
    assert lines[0].startswith("eval.py: ")
    assert expected in lines[0]
    assert not (tmp_path / "output").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:17"])
def test_devices_that_are_not_here_are_named(evaluate, generic, name):
    code, lines = evaluate(*flags_of(generic), "--device", name)
    assert (code, len(lines)) == (2, 1)
    assert f"--device {name}: not available here" in lines[0]


def test_each_process_takes_its_own_gpu(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    choose = program.choose_device
    assert [choose(name, local_rank=rank).index for rank in range(3) for name in ("auto", "cuda")] == [0, 0, 1, 1, 0, 0]
    assert choose("cuda:1", local_rank=0) == torch.device("cuda:1") == chosen[-1]
    assert choose("cpu", local_rank=1) == torch.device("cpu")
    with pytest.raises(SettingError, match="device cuda:2: this machine's last CUDA device is cuda:1"):
        choose("cuda:2", local_rank=0)


def test_help_lists_every_published_flag(capsys):
    with pytest.raises(SystemExit) as end:
        program.main(["--help"])
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert "--max_long_term_elements" in printed
    assert "(10000)" in printed


# --- What cannot start ------------------------------------------------------------------------------------------------


def test_files_and_folders_that_do_not_exist(evaluate, generic, tmp_path):
    clip, mask = tmp_path / "clip.mp4", generic / "Annotations/good/00000.png"
    clip.write_bytes(b"no video")
    for flags, expected in (
        (["--d17_path", tmp_path / "absent"], f"{tmp_path}/absent does not exist"),
        (flags_of(generic, "--model", tmp_path / "absent.pth"), f"{tmp_path}/absent.pth: no such file"),
        (flags_of(generic, "--model", clip), f"{clip} is "),
        (["--video", tmp_path / "absent.mp4", "--mask", mask], f"{tmp_path}/absent.mp4 does not exist"),
        (["--video", clip, "--mask", mask], f"{clip} is not a video"),
        (["--video", generic, "--mask", mask], f"{generic} is a folder without frames"),
    ):
        code, lines = evaluate(*flags)
        assert (code, len(lines)) == (2, 1)
        assert expected in lines[0]
        assert not (tmp_path / "output").exists()


def test_an_image_set_that_does_not_exist(evaluate, tmp_path):
    (tmp_path / "davis/trainval").mkdir(parents=True)
    code, lines = evaluate("--d17_path", tmp_path / "davis")
    assert (code, len(lines)) == (2, 1)
    assert "trainval/ImageSets/2017/val.txt does not exist" in lines[0]


def write_clip(path: Path) -> None:
    with overlay_video(path, Fraction(24)) as write:
        for index in range(3):
            write(np.full((*SIZE, 3), 60 * index, np.uint8), np.zeros(SIZE, np.uint8))


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (None, "mask.png does not exist"),
        (b"no image", "mask.png is not an image"),
        (np.zeros(SIZE, np.uint8), "mask.png holds no object: all its labels are 0"),
        (label_map((48, 32)), "mask.png is 32x48, but its frame 48x32"),
        (np.full((*SIZE, 3), (9, 0, 0), np.uint8), "mask.png has no black pixel, but"),
        (np.full(SIZE, 300, np.uint16), "mask.png holds the label 300; labels go from 0 to 255"),
    ],
)
def test_first_masks_of_a_video_file_are_checked_before_anything_is_written(evaluate, tmp_path, mask, expected):
    write_clip(tmp_path / "clip.mp4")
    if isinstance(mask, bytes):
        (tmp_path / "mask.png").write_bytes(mask)
    elif mask is not None:
        Image.fromarray(mask).save(tmp_path / "mask.png")
    code, lines = evaluate("--video", tmp_path / "clip.mp4", "--mask", tmp_path / "mask.png")
    assert (code, len(lines)) == (2, 1)
    assert expected in lines[0]
    assert not (tmp_path / "output").exists()


def test_output_folders_that_cannot_be_written_to(evaluate, generic, tmp_path):
    (tmp_path / "file").write_text("mine")
    for output in (tmp_path / "file", tmp_path / "file/below", Path("/proc/output")):
        code, lines = evaluate(*flags_of(generic), output=output)
        assert (code, len(lines)) == (2, 1)
        assert f"{output} cannot be written: " in lines[0]
    assert (tmp_path / "file").read_text() == "mine"


def test_two_runs_do_not_work_in_one_folder(evaluate, generic, tmp_path):
    assert evaluate(*flags_of(generic))[0] == 0
    (tmp_path / "output/.video-good").mkdir()  # as if the other were in it
    with sole_user(tmp_path / "output"):
        for flags in ([], ["--overwrite"]):
            code, lines = evaluate(*flags_of(generic, *flags))
            assert (code, len(lines)) == (2, 1)
            assert f"{tmp_path}/output is in use by another run" in lines[0]
    assert (tmp_path / "output/.video-good").exists()
    assert len(list((tmp_path / "output/good").iterdir())) == 4


def test_half_files_of_killed_runs_are_removed(evaluate, generic, tmp_path):
    assert evaluate(*flags_of(generic))[0] == 0
    half = ["output/.config.01234567.partial.json", "output/.finished/.bad.0123abcd.partial.json",
            "output/.video-bad/masks/00000.png"]  # fmt: skip
    of_others = ".output.01234567.partial.zip"
    for name in (*half, of_others):
        write_text(tmp_path / name, "half")
    assert evaluate(*flags_of(generic)) == (0, [])
    assert [name for name in (*half, of_others) if (tmp_path / name).exists()] == [of_others]


@pytest.mark.parametrize("damaged", ["config.json", ".finished/good.json"])
def test_damaged_records_are_named(evaluate, generic, tmp_path, damaged):
    assert evaluate(*flags_of(generic))[0] == 0
    for content in ("[]", '{"name": 3}', '{"na'):
        (tmp_path / "output" / damaged).write_text(content)
        code, lines = evaluate(*flags_of(generic))
        assert (code, len(lines)) == (2, 1)
        assert str(tmp_path / "output") in lines[0]
        is_of_others = damaged == "config.json" and content != '{"na'
        assert ("was not made by an evaluation; choose another" if is_of_others else "or overwrite it") in lines[0]
    assert evaluate(*flags_of(generic, "--overwrite"))[0] == 0


# --- One bad video among others ---------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def save(array: np.ndarray, path: Path) -> None:
    Image.fromarray(array).save(path)


DAMAGE = {
    "a frame cut short": (lambda frames, masks: truncate(frames / "00002.jpg"), "JPEGImages/bad/00002.jpg cannot be"),
    "the last frame cut short": (lambda frames, masks: truncate(frames / "00003.jpg"), "bad/00003.jpg cannot be read"),
    "a frame that is none": (lambda frames, masks: (frames / "00001.jpg").write_bytes(b"x"), "00001.jpg is not an im"),
    "a frame of another size": (
        lambda frames, masks: write_frames(frames, range(3, 4), (48, 32)),
        "bad/00003.jpg: frame 00003 is 32x48, frame 00000 is 48x32; frames of one video have one size",
    ),
    "a mask cut short": (lambda frames, masks: truncate(masks / "00000.png"), "Annotations/bad/00000.png cannot be"),
    "a mask of another size": (
        lambda frames, masks: save(label_map((30, 48)), masks / "00000.png"),
        "Annotations/bad/00000.png is 48x30, but its frame 48x32; they must have one size",
    ),
    "a mask in colours": (
        lambda frames, masks: [save(np.full((*SIZE, 3), (9, 0, 0), np.uint8), path) for path in masks.iterdir()],
        "Annotations/bad/00003.png has no black pixel, but black is the background",
    ),
    "a mask without an object": (
        lambda frames, masks: [save(np.zeros(SIZE, np.uint8), path) for path in masks.iterdir()],
        "Annotations/bad/00000.png holds no object: all its labels are 0",
    ),
    "more than 255 objects": (
        lambda frames, masks: save(np.arange(SIZE[0] * SIZE[1], dtype=np.uint16).reshape(SIZE), masks / "00000.png"),
        "Annotations/bad/00000.png holds the label 1535; labels go from 0 to 255",
    ),
    "no mask": (lambda frames, masks: shutil.rmtree(masks), "Annotations/bad does not exist"),
    "no frame": (lambda frames, masks: shutil.rmtree(frames), "JPEGImages/bad does not exist"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_video_that_fails_is_named_and_leaves_the_others(evaluate, generic, tmp_path, damage, caplog):
    act, expected = DAMAGE[damage]
    act(generic / "JPEGImages/bad", generic / "Annotations/bad")
    code, lines = evaluate(*flags_of(generic, "--overlay", "--save_scores"))
    assert code == 1
    assert len(lines) == 1
    assert lines[0].startswith("failed: bad: ")
    assert expected in lines[0]
    assert not caplog.records
    output = tmp_path / "output"
    assert len(list((output / "Annotations/good").iterdir())) == 4
    assert (output / "Overlay/good.mp4").exists()
    assert left_in(output) == []
    summary = json.loads((output / "summary.json").read_text())
    assert list(summary["failures"]) == ["bad"]
    assert (summary["videos"], summary["frames"]) == (1, 4)


def test_a_video_that_was_mended_is_all_that_a_second_run_does(evaluate, generic, tmp_path, capsys):
    frame = generic / "JPEGImages/bad/00002.jpg"
    whole = frame.read_bytes()
    truncate(frame)
    assert evaluate(*flags_of(generic))[0] == 1
    before = (tmp_path / "output/good/00003.png").stat().st_mtime_ns
    frame.write_bytes(whole)
    assert evaluate(*flags_of(generic)) == (0, [])
    assert (tmp_path / "output/good/00003.png").stat().st_mtime_ns == before
    assert len(list((tmp_path / "output/bad").iterdir())) == 4
    assert json.loads((tmp_path / "output/summary.json").read_text())["failures"] == {}


def test_a_benchmark_that_fails_keeps_what_was_finished_but_does_not_count_it(evaluate, generic, tmp_path):
    assert evaluate(*flags_of(generic))[0] == 0
    truncate(generic / "JPEGImages/bad/00002.jpg")
    assert evaluate(*flags_of(generic, "--benchmark"))[0] == 1
    summary = json.loads((tmp_path / "output/summary.json").read_text())
    assert (summary["videos"], list(summary["failures"])) == (1, ["bad"])
    assert list(summary["scores"]["sequences"]) == ["good"]
    assert len(list((tmp_path / "output/bad").iterdir())) == 4


def test_scores_say_when_videos_are_missing(network_file, generic, tmp_path, capsys):
    truncate(generic / "JPEGImages/bad/00002.jpg")
    arguments = flags_of(generic, "--model", network_file, "--output", tmp_path / "output")
    assert program.main([str(argument) for argument in arguments]) == 1
    assert "of 1 of 2 videos" in capsys.readouterr().out


def test_sets_that_a_server_scores_are_not_repeated(evaluate, tmp_path):
    root = tmp_path / "youtube"
    write_frames(root / "all_frames/valid_all_frames/JPEGImages/good", range(3), SIZE)
    write_masks(root / "valid/Annotations/good", range(1), SIZE)
    write_text(root / "valid/meta.json", youtube_meta({"good": {"255": ["00000"]}}))
    code, lines = evaluate("--dataset", "Y19", "--y19_path", root, "--repeat", 3)
    assert code == 2
    assert lines == ["eval.py: repeat: Y19 is scored by a server, which takes every frame once"]


def test_no_zip_is_made_for_a_server_when_a_video_failed(evaluate, tmp_path):
    root = tmp_path / "youtube"
    for name in ("bad", "good"):
        write_frames(root / "all_frames/valid_all_frames/JPEGImages" / name, range(3), SIZE)
        write_masks(root / "valid/Annotations" / name, range(1), SIZE)
    saved = {"255": ["00000", "00002"]}
    write_text(root / "valid/meta.json", youtube_meta({"bad": saved, "good": saved}))
    frame = root / "all_frames/valid_all_frames/JPEGImages/bad/00001.jpg"
    whole = frame.read_bytes()
    truncate(frame)
    flags = ["--dataset", "Y19", "--y19_path", root, "--size", 32]
    code, lines = evaluate(*flags)
    assert code == 1
    assert [line.partition(":")[0] for line in lines] == [
        "failed",
        "no zip file was made for the evaluation server, since videos failed",
    ]
    assert not (tmp_path / "output.zip").exists()
    frame.write_bytes(whole)
    assert evaluate(*flags) == (0, [])
    assert (tmp_path / "output.zip").exists()


def test_every_later_mask_of_youtube_is_checked(evaluate, tmp_path):
    root = tmp_path / "youtube"
    for name in ("bad", "good"):
        write_frames(root / "all_frames/valid_all_frames/JPEGImages" / name, range(4), SIZE)
        write_masks(root / "valid/Annotations" / name, range(1), SIZE)
        write_masks(root / "valid/Annotations" / name, range(2, 3), SIZE, (7,))
    write_masks(root / "valid/Annotations/bad", range(2, 3), (32, 40), (7,))
    saved = {"255": ["00000", "00003"]}
    write_text(root / "valid/meta.json", youtube_meta({"bad": saved, "good": saved}))
    code, lines = evaluate("--dataset", "Y18", "--y18_path", root, "--size", 32)
    assert code == 1
    assert "Annotations/bad/00002.png is 40x32, but its frame 48x32" in lines[0]


# --- A disk that fails, and programming errors ------------------------------------------------------------------------


@pytest.fixture
def tiny_disk(tmp_path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("flag", ["--save_scores", "--overlay"])
def test_a_full_disk_is_told_in_a_line_and_leaves_nothing_half_written(evaluate, tmp_path, tiny_disk, flag):
    root = tmp_path / "generic"
    write_frames(root / "JPEGImages/clip", range(8), (128, 160))
    write_masks(root / "Annotations/clip", range(1), (128, 160), tuple(range(1, 6)))
    (tiny_disk / "ballast").write_bytes(bytes(40 * 1024))
    code, lines = evaluate(*flags_of(root, flag), output=tiny_disk / "output")
    assert code == 1
    assert lines[0] == f"failed: clip: {tiny_disk}/output cannot be written: No space left on device"
    assert len(lines) == 1
    assert sorted(path.name for path in (tiny_disk / "output").rglob("*")) == ["config.json", "summary.json"]


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", "/somewhere/.00000.partial.png")


def test_masks_that_cannot_be_written_fail_their_video(evaluate, generic, tmp_path, monkeypatch):
    write = output_folder.write_label_map

    def write_until_full(path: Path, *more: object) -> None:
        no_space() if path.parent.parent.name == ".video-bad" else write(path, *more)

    monkeypatch.setattr(output_folder, "write_label_map", write_until_full)
    code, lines = evaluate(*flags_of(generic))
    assert (code, lines) == (
        1,
        [f"failed: bad: {tmp_path}/output cannot be written: No space left on device"],
    )
    assert left_in(tmp_path / "output") == []


@pytest.mark.parametrize("function", ["write_text_atomically", "atomic_path"])
def test_records_and_zips_that_cannot_be_written(evaluate, tmp_path, monkeypatch, function):
    davis = tmp_path / "davis/test-dev"
    write_frames(davis / "JPEGImages/480p/good", range(3), SIZE)
    write_masks(davis / "Annotations/480p/good", range(1), SIZE)
    write_text(davis / "ImageSets/2017/test-dev.txt", "good")
    segment = evaluation.segment_into_folder

    def segment_then_fill_the_disk(*arguments: object) -> object:
        record = segment(*arguments)
        monkeypatch.setattr(output_folder, function, no_space)
        return record

    monkeypatch.setattr(evaluation, "segment_into_folder", segment_then_fill_the_disk)
    code, lines = evaluate("--d17_path", davis.parent, "--split", "test", "--size", 32)
    assert code == 1
    assert all("cannot be written: No space left on device" in line for line in lines[:1])
    assert not (tmp_path / "output.zip").exists()
    assert not list(tmp_path.rglob("*.partial*"))


def test_too_little_device_memory_fails_its_video(evaluate, generic, monkeypatch):
    step, calls = InferenceCore.step, []

    def step_until_full(*arguments, **more):
        calls.append(1)
        if len(calls) == 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 PiB")
        return step(*arguments, **more)

    monkeypatch.setattr(InferenceCore, "step", step_until_full)
    code, lines = evaluate(*flags_of(generic))
    assert (code, lines) == (1, ["failed: bad: out of memory on cpu at frame 2; a smaller size needs less"])


class ProgrammingError(Exception):
    pass


def raise_programming_error(*_: object, **__: object) -> None:
    raise ProgrammingError


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (output_folder, "write_mask"),
        (output_folder, "write_probabilities"),
        (output_folder, "write_overlay"),
        (evaluation, "score_sequences"),
        (InferenceCore, "step"),
    ],
)
def test_programming_errors_are_not_swallowed(evaluate, generic, tmp_path, monkeypatch, module, name):
    monkeypatch.setattr(module, name, raise_programming_error)
    with pytest.raises(ProgrammingError):
        evaluate(*flags_of(generic, "--overlay", "--save_scores"))
    if module is not evaluation:
        assert left_in(tmp_path / "output") == []
        assert not (tmp_path / "output/Annotations").exists()


def test_programming_errors_in_reading_are_not_swallowed(evaluate, generic, monkeypatch):
    monkeypatch.setattr("dataset.frames.read_frame", raise_programming_error)
    with pytest.raises(ProgrammingError):
        evaluate(*flags_of(generic))


def test_an_interruption_leaves_no_half_video(evaluate, generic, tmp_path, monkeypatch):
    step, calls = InferenceCore.step, []

    def interrupted(*arguments, **more):
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return step(*arguments, **more)

    monkeypatch.setattr(InferenceCore, "step", interrupted)
    code, lines = evaluate(*flags_of(generic))
    assert (code, lines) == (130, ["eval.py: interrupted; the same command, without --overwrite, resumes"])
    output = tmp_path / "output"
    assert sorted(path.name for path in output.iterdir()) == [".finished", "bad", "config.json"]
    assert len(list((output / "bad").iterdir())) == 4
    assert evaluate(*flags_of(generic)) == (0, [])
    assert len(list((output / "good").iterdir())) == len([frame_name(index) for index in range(4)])


def test_too_little_memory_of_the_machine_fails_its_video(evaluate, generic):
    """Ten thousand gigabytes of frames."""
    code, lines = evaluate(*flags_of(generic), "--size", 1_000_000)
    assert code == 1
    assert all("out of memory on cpu at frame 1; a smaller size needs less" in line for line in lines)
    assert len(lines) == 2


def test_label_maps_beyond_the_end_of_a_video_file_are_named(evaluate, tmp_path, capsys):
    write_clip(tmp_path / "clip.mp4")
    (tmp_path / "masks").mkdir()
    save(label_map(SIZE), tmp_path / "masks/9.png")
    code, lines = evaluate("--video", tmp_path / "clip.mp4", "--masks", tmp_path / "masks", "--backward")
    assert (code, len(lines)) == (2, 1)
    assert "masks/9.png is for frame 9, but" in lines[0]
    assert "clip.mp4 has 3 frames, from 0 on" in lines[0]


def test_a_removed_overlay_is_made_again(evaluate, generic, tmp_path):
    shutil.rmtree(generic / "JPEGImages/bad")
    shutil.rmtree(generic / "Annotations/bad")
    assert evaluate(*flags_of(generic, "--overlay"))[0] == 0
    overlay = tmp_path / "output/Overlay/good.mp4"
    overlay.unlink()
    assert evaluate(*flags_of(generic, "--overlay"))[0] == 0
    assert overlay.exists()


def test_renamed_object_folders_are_a_changed_video(evaluate, generic, tmp_path, caplog):
    shutil.rmtree(generic / "JPEGImages/bad")
    shutil.rmtree(generic / "Annotations/bad")
    masks = generic / "Annotations/good"
    for path in masks.iterdir():
        path.unlink()
    (masks / "2").mkdir()
    save(label_map(SIZE), masks / "2/00000.png")
    assert evaluate(*flags_of(generic))[0] == 0
    (masks / "2").rename(masks / "7")
    caplog.clear()
    assert evaluate(*flags_of(generic))[0] == 0
    assert "changed since they were segmented, and segmented again: good" in caplog.text
    assert np.unique(np.array(Image.open(tmp_path / "output/good/00000.png"))).tolist() == [0, 7]
