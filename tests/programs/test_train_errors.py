"""Bad input to train.py: one line that names what is wrong, before the first iteration."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import train
from tests.helpers import REPOSITORY
from tests.helpers.training_layouts import (
    TINY_NETWORK,
    tiny_stage,
    write_davis,
    write_images,
    write_video,
    write_videos,
)
from training.step import Stepper
from util.device import require_a_gpu_each
from util.errors import SettingError
from util.files import sole_user
from util.processes import Processes

RANDOM = [*TINY_NETWORK, "--no_pretrained"]


@pytest.fixture
def images(tmp_path) -> list[str]:
    """Flags for stage 0 with two images."""
    write_images(tmp_path / "static")
    return ["--static_root", str(tmp_path / "static")]


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch) -> Callable[..., str]:
    """Runs train.py, which is to end before the first iteration with one line; returns that line."""

    def refused(stages: str, *flags: str, exit_code: int = train.MISTAKE) -> str:
        if exit_code == train.MISTAKE:
            monkeypatch.setattr(Stepper, "step", None)
        capsys.readouterr()
        assert run(tmp_path, stages, *flags) == exit_code
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("train.py: ")]
        assert len(lines) == 1
        return lines[0]

    return refused


def run(folder: Path, stages: str, *flags: str) -> int:
    of_stages = [word for stage in stages if stage in "0123sm" for word in tiny_stage(stage)]
    command = ["--stages", stages, "--exp_id", "x", "--output", str(folder / "saves"), "--num_workers", "0"]
    return train.main([*command, *of_stages, *flags])


# --- Flags ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stages", "flags", "told"),
    [
        ("07", "", "--stages 07: there is no stage '7'; there is 0, 1, 2, 3, s, m"),
        ("", "", "--stages ''"),
        ("ss", "", "--stages 'ss'"),
        ("s", "--amp --no_amp", "--no_amp: not allowed with argument --amp"),
        ("s", "--load_network a --load_checkpoint b", "--load_checkpoint: not allowed with argument --load_network"),
        ("s", "--nonsense", "--nonsense"),
        ("s", "--ss_batch_size 0", "--ss_batch_size must be at least 1"),
        ("s", "--ss_crop 33", "--ss_crop must be a multiple of 16"),
        ("s", "--ss_num_frames 1", "--ss_num_frames"),
        ("s", "--ss_start_warm 9 --ss_end_warm 8", "--ss_end_warm must not be before start_warm"),
        ("s", "--ss_lr 0", "--ss_lr must be positive"),
        ("s", "--gamma 0", "--gamma must be positive"),
        ("s", "--ss_lr inf", "--ss_lr must be positive and finite, not inf"),
        ("s", "--ss_lr nan", "--ss_lr must be positive and finite, not nan"),
        ("s", "--weight_decay inf", "--weight_decay must be finite and not negative"),
        ("s", "--deep_update_prob 2", "--deep_update_prob"),
        ("s", "--samples_at_once 0", "--samples_at_once"),
        ("s", "--key_dim 0", "positive"),
        ("s", "--seed -1", "--seed"),
        ("s", f"--seed {2**64}", "--seed must be less than 2^63"),
        ("s", "--num_workers -1", "--num_workers"),
        ("s", "--keep_checkpoints 0", "--keep_checkpoints"),
        ("s", "--exp_id a/b", "--exp_id 'a/b'"),
        ("s", "--exp_id ..", "--exp_id '..'"),
        ("s", "--save_checkpoint_interval 0", "--save_checkpoint_interval"),
        ("s", "--log_text_interval 0 --no_pretrained", "--log_text_interval"),
        ("s", "--device toaster", "--device toaster: choose auto"),
        ("m", "--videos_share 1.5", "--videos_share"),
        ("s", "--encoder_width 8", "--encoder_width is 8, but ImageNet weights exist for 64: start"),
        ("s", "--validation_root x", "--validation_root goes with --validation_dataset"),
        ("s", "--validation_size 96", "--validation_size goes with --validation_dataset"),
        ("s", "--validation_dataset G", "--validation_root"),
        ("s", "--validation_dataset D16 --validation_root nowhere", "validation: nowhere"),
        ("s", "--validation_interval 0", "--validation_interval"),
    ],
)
def test_flags_that_cannot_be(refused, stages, flags, told):
    assert told in refused(stages, *flags.split())


def test_flags_without_effect_are_named(refused, caplog):
    flags = "--s3_lr 1e-4 --bl_root x --videos_share 0.2 --resume_changed --s0_lr 1e-4 --seed 2"
    refused("0", "--static_root", "nowhere", *flags.split())
    (told,) = [record.message for record in caplog.records if "without effect" in record.message]
    names = "--bl_root, --videos_share, --s3_lr, --resume_changed"
    assert sorted(told.partition(": ")[2].split(", ")) == sorted(names.split(", "))
    caplog.clear()
    refused("0m", "--static_root", "nowhere", "--videos_share", "0.2", "--sm_lr", "1e-4")
    assert not [record for record in caplog.records if "without effect" in record.message]


# --- Data -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "flag"),
    [("0", "static_root"), ("1", "bl_root"), ("2", "yv_root"), ("3", "yv_root"), ("m", "videos_root")],
)
@pytest.mark.parametrize("exists", [False, True])
def test_a_root_that_is_missing_or_empty(refused, tmp_path, stage, flag, exists):
    root = tmp_path / "root"
    if exists:
        (root / "JPEGImages").mkdir(parents=True)
    told = refused(stage, flag, str(root))
    assert str(root) in told
    assert flag in told or exists


def test_davis_missing_beside_youtube(refused, tmp_path):
    write_videos(tmp_path / "YouTube" / "train_480p")
    flags = ("--yv_root", str(tmp_path / "YouTube"), "--davis_root", str(tmp_path / "DAVIS"))
    assert "davis_root" in refused("3", *flags)


def test_own_videos_without_a_root(refused):
    assert "videos_root" in refused("m")


def test_images_without_mask_are_listed_up_to_ten(refused, tmp_path, images):
    for name in range(11):
        shutil.copy(tmp_path / "static" / "a.jpg", tmp_path / "static" / f"alone{name:02}.jpg")
    told = refused("0", *images)
    assert "11 files" in told
    assert "alone09.jpg and 1 more" in told


def test_frames_without_mask_are_listed(refused, tmp_path):
    root = write_davis(tmp_path / "davis")
    (root / "2017/trainval/Annotations/480p/bike/00003.png").unlink()
    write_videos(tmp_path / "youtube/train_480p", ("y0", "y1"))
    roots = ("--davis_root", str(root), "--yv_root", str(tmp_path / "youtube"))
    assert "bike/00003.jpg" in refused("3", *roots)


def test_masks_that_were_smoothed_are_refused(refused, tmp_path):
    root = write_videos(tmp_path / "own")
    path = root / "Annotations/own_a/00000.png"
    with Image.open(path) as image:
        mask = (np.array(image) > 0).astype(np.uint8) * 255
    Image.fromarray(mask).resize((200, 150), Image.Resampling.BICUBIC).save(path)
    assert "along the borders of others only: it was smoothed" in refused("m", "--videos_root", str(root))


def test_masks_that_are_no_label_maps(refused, tmp_path):
    root = write_videos(tmp_path / "own")
    shutil.copy(root / "JPEGImages" / "own_a" / "00000.jpg", root / "Annotations" / "own_a" / "00000.png")
    assert "own_a/00000.png is a JPEG image, which blurs labels" in refused("m", "--videos_root", str(root))


def test_videos_with_too_few_frames(refused, tmp_path, caplog):
    root = write_videos(tmp_path / "own")
    assert "2 videos have fewer than 7 annotated frames" in refused(
        "m", "--videos_root", str(root), "--sm_num_frames", "7"
    )
    write_video(root / "JPEGImages" / "short", root / "Annotations" / "short", range(2))
    refused("m", "--videos_root", str(root), "--encoder_width", "8")  # for another reason
    assert [record.message for record in caplog.records if "own/JPEGImages/short" in record.message] == [
        f"skipped: 1 videos have fewer than 3 annotated frames: {root / 'JPEGImages' / 'short'}"
    ]
    assert "own/JPEGImages/short" in refused("m", "--videos_root", str(root), "--strict")


def test_a_list_of_videos_that_are_not_there(refused, tmp_path):
    write_videos(tmp_path / "YouTube" / "train_480p")
    write_davis(tmp_path / "DAVIS")
    (tmp_path / "list.txt").write_text("own_a\nnowhere\n")
    roots = ("--yv_root", str(tmp_path / "YouTube"), "--davis_root", str(tmp_path / "DAVIS"))
    assert "nowhere" in refused("3", *roots, "--yv_subset", str(tmp_path / "list.txt"))
    assert "missing.txt" in refused("3", *roots, "--yv_subset", str(tmp_path / "missing.txt"))
    validation = ("--validation_dataset", "G", "--validation_root", str(tmp_path / "YouTube" / "train_480p"))
    assert "nowhere" in refused("s", *validation, "--validation_subset", str(tmp_path / "list.txt"))


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_file_that_cannot_be_read_ends_a_strict_run(refused, tmp_path, images, workers):
    assert run(tmp_path, "0", *RANDOM, *images) == 0
    network = tmp_path / "saves" / "x" / "x_0_00000002.pth"
    (tmp_path / "static" / "b.jpg").write_bytes(b"nothing")
    flags = (*images, "--strict", "--num_workers", workers, "--exp_id", "y")
    assert "b.jpg is not an image" in refused("0", *flags, "--load_network", str(network), exit_code=train.FAILED)
    assert "b.jpg is not an image" in refused("0", *flags, *RANDOM)  # met in calibrating


# --- Checkpoints and networks -----------------------------------------------------------------------------------------


@pytest.fixture
def trained(tmp_path, images) -> Path:
    """The folder of a run whose checkpoint is one iteration before its end."""
    assert run(tmp_path, "0", *RANDOM, *images) == 0
    folder = tmp_path / "saves" / "x"
    checkpoint = torch.load(folder / "x_checkpoint_0_00000002.pth")
    (folder / "x_checkpoint_0_00000002.pth").unlink()
    torch.save(checkpoint | {"iteration": 1}, folder / "x_checkpoint_0_00000001.pth")
    return folder


def test_files_of_an_earlier_run(refused, trained, images):
    assert "checkpoints of an earlier run: resume it, or" in refused("0", *RANDOM, *images)
    for path in trained.glob("*checkpoint*"):
        path.unlink()
    assert "another exp_id" in refused("0", *RANDOM, *images, "--resume", "auto")


def test_a_folder_that_another_run_uses(refused, trained, images):
    with sole_user(trained):
        assert "in use by another run" in refused("0", *RANDOM, *images, "--resume", "auto")


def test_other_settings_are_named_and_refused_unless_told(refused, tmp_path, trained, images, caplog):
    changed = (*RANDOM, *images, "--resume", "auto", "--s0_lr", "0.5", "--gamma", "0.3")
    told = refused("0", *changed)
    assert "optimisation.gamma: 0.1 before, 0.3 now" in told
    assert "stages.0 (0).lr: 1e-05 before, 0.5 now" in told
    assert "resume_changed" in told


def test_other_settings_when_told(tmp_path, trained, images, caplog):
    changed = (*RANDOM, *images, "--resume", "auto", "--s0_lr", "0.5")
    assert run(tmp_path, "0", *changed, "--resume_changed") == 0
    assert "1e-05 before, 0.5 now" in caplog.text
    assert run(tmp_path, "0", *changed) == 0  # recorded by now


def test_another_weight_decay_when_told(tmp_path, trained, images):
    changed = (*RANDOM, *images, "--resume", "auto", "--weight_decay", "0.5", "--resume_changed")
    assert run(tmp_path, "0", *changed) == 0
    checkpoint = torch.load(trained / "x_checkpoint_0_00000002.pth")
    assert {group["weight_decay"] for group in checkpoint["stepper"]["optimizer"]["param_groups"]} == {0.5}


def test_a_checkpoint_of_another_stage_is_refused_even_when_told(refused, trained, images):
    told = refused("s", *RANDOM, "--resume", "auto", "--resume_changed")
    assert "the checkpoint is of a run with stage 0 (0), where this one has 0 (s)" in told
    told = refused("0", *RANDOM, *images, "--resume", "auto", "--resume_changed", "--s0_num_frames", "2")
    assert "which cannot be continued with 2" in told


def test_other_data_are_named_and_refused(refused, tmp_path, trained, images):
    write_images(tmp_path / "static", ("c",))
    told = refused("0", *RANDOM, *images, "--resume", "auto")
    assert "0 (0).static images: 2, " in told
    assert "before, 3, " in told


@pytest.mark.parametrize("flag", ["--resume_changed", "--strict"])
def test_a_checkpoint_of_another_network(refused, trained, images, flag):
    told = refused("0", *RANDOM, *images, "--resume", "auto", flag, "--key_dim", "16")
    assert "the checkpoint is of another network" in told
    assert "key_dim: 8 before, 16 now" in told


def test_files_that_are_no_checkpoints_or_networks(refused, trained, images):
    network, checkpoint = trained / "x_0_00000002.pth", trained / "x_checkpoint_0_00000001.pth"
    there = ("--exp_id", "y", *images)
    assert f"{network} is not a training checkpoint" in refused("0", *there, "--load_checkpoint", str(network))
    assert f"{checkpoint} has the format" in refused("0", *there, "--load_network", str(checkpoint))
    for flag in ("--load_checkpoint", "--load_network"):
        assert "nowhere.pth: no such file" in refused("0", *there, flag, "nowhere.pth")
    told = refused("0", *there, "--load_network", str(network), "--value_dim", "32")
    assert f"{network} is of another network" in told
    assert "(value_dim: 16 before, 32 now)" in told


def test_checkpoints_of_which_none_is_whole(refused, trained, images):
    checkpoint = trained / "x_checkpoint_0_00000001.pth"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    assert "none of the checkpoints" in refused("0", *RANDOM, *images, "--resume", "auto")


# --- Disk and memory --------------------------------------------------------------------------------------------------


def test_no_space_for_checkpoints(refused, images, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=3 * 2**20))
    told = refused("0", *RANDOM, *images)
    assert f"{tmp_path / 'saves' / 'x'} has room for 3 MiB" in told
    assert "keep_checkpoints" in told
    assert not list(tmp_path.glob("saves/x/*"))


def test_a_disk_that_is_full_later(refused, images, tmp_path, monkeypatch):
    def full(content, target) -> None:
        raise RuntimeError("PytorchStreamWriter failed\nwriting file")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        told = refused("0", *RANDOM, *images, exit_code=train.FAILED)
    assert "x_0_00000002.pth cannot be written: PytorchStreamWriter failed writing file; make room there" in told
    assert run(tmp_path, "0", *RANDOM, *images, "--resume", "auto") == 0
    names = {path.name for path in tmp_path.glob("saves/x/*.pth")}
    assert names == {"x_0_00000002.pth", "x_checkpoint_0_00000002.pth"}


def test_too_little_device_memory(refused, images, monkeypatch):
    def step(self, batch, iteration) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nOf the allocated memory …")

    monkeypatch.setattr(Stepper, "step", step)
    told = refused("0", *RANDOM, *images, exit_code=train.FAILED)
    assert "out of memory on cpu" in told
    assert "--samples_at_once" in told


def test_an_output_folder_that_cannot_be(refused, images, tmp_path):
    (tmp_path / "saves").write_text("a file")
    assert f"{tmp_path / 'saves' / 'x'} cannot be written: " in refused("0", *RANDOM, *images)


# --- Several processes ------------------------------------------------------------------------------------------------


def torchrun(folder: Path, *flags: str) -> tuple[int, list[str]]:
    """Exit code, and what was told."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "train.py"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(
        [*command, "--stages", "0", "--exp_id", "x", "--output", str(folder / "saves"), *tiny_stage("0"), *flags],
        capture_output=True, text=True, timeout=300, env=environment, cwd=REPOSITORY,
    )  # fmt: skip
    assert "Error:" not in finished.stderr.replace("ChildFailedError:", "")
    return finished.returncode, [line for line in finished.stderr.splitlines() if line.startswith("train.py: ")]


def test_processes_that_are_about_to_do_different_things(refused, images, monkeypatch):
    monkeypatch.setattr(Processes, "gather", lambda self, state: [state, (*state[:-1], 7)])
    assert "different settings, data or checkpoints" in refused("0", *RANDOM, *images)


@pytest.mark.slow
def test_all_processes_fail_together_and_one_tells(tmp_path, images):
    told = "train.py: --s0_batch_size 3 does not divide over 2 processes: choose a multiple of them"
    assert torchrun(tmp_path, *RANDOM, *images, "--s0_batch_size", "3") == (1, [told])
    (tmp_path / "saves" / "x").mkdir(parents=True)
    with sole_user(tmp_path / "saves" / "x"):  # which process 0 alone runs into
        code, lines = torchrun(tmp_path, *RANDOM, *images)
    assert (code, len(lines)) == (1, 1)
    assert "in use by another run" in lines[0]


@pytest.mark.slow
def test_a_file_that_one_process_cannot_read_is_told_once(tmp_path, images):
    assert run(tmp_path, "0", *RANDOM, *images) == 0
    network = tmp_path / "saves" / "x" / "x_0_00000002.pth"
    (tmp_path / "static" / "b.jpg").write_bytes(b"nothing")  # is in each batch once
    code, lines = torchrun(tmp_path, *images, "--strict", "--exp_id", "y", "--load_network", str(network))
    assert (code, len(lines)) == (1, 1)
    assert "b.jpg is not an image" in lines[0]


@pytest.mark.parametrize(
    ("name", "processes", "message"),
    [
        ("cuda:0", 2, "cuda:0: 2 processes cannot train on one GPU; cuda gives each its own"),
        ("cuda", 3, "cuda: 3 processes on this machine, and 2 GPUs: each needs its own"),
        ("auto", 3, "auto: 3 processes on this machine, and 2 GPUs: each needs its own"),
        ("cuda", 2, None),
        ("cuda:1", 1, None),
    ],
)
def test_two_processes_do_not_share_a_gpu(monkeypatch, name, processes, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    if message is None:
        return require_a_gpu_each(name, torch.device("cuda:1"))
    with pytest.raises(SettingError) as error:
        require_a_gpu_each(name, torch.device("cuda:1"))
    assert error.value.reason == message
