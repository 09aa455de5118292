"""Validation during training: eval.py's score, and a network that is as it was."""

import copy
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import eval as evaluation_program
from evaluation.validation import Validation
from inference.config import InferenceConfig
from model.network import XMem
from tests.helpers.layouts import davis_2016_pairs, write_frames, write_masks, write_text
from tests.helpers.tiny_network import TINY, tiny_network
from util.errors import UserError

SIZE = (32, 48)


@pytest.fixture
def davis(tmp_path) -> Path:
    """DAVIS 2016 with the videos dog and cows, whose frames are larger than their masks."""
    root = tmp_path / "davis"
    for seed, name in enumerate(("dog", "cows")):
        write_frames(root / "JPEGImages/1080p" / name, range(6), (64, 96), seed=seed)
        write_masks(root / "Annotations/480p" / name, range(6), SIZE)
    write_text(root / "ImageSets/480p/val.txt", davis_2016_pairs("dog", range(5)) + davis_2016_pairs("cows", range(6)))
    return root


@pytest.fixture
def generic(tmp_path) -> Path:
    """The videos `a` with two objects, and `b` with one that begins at the second frame."""
    root = tmp_path / "generic"
    for name, labels, first in (("a", (1, 3), 0), ("b", (255,), 1)):
        write_frames(root / "JPEGImages" / name, range(6), SIZE)
        write_masks(root / "Annotations" / name, range(first, 6), SIZE, labels=labels)
    return root


def scores_of_eval(network_file: Path, output: Path, *flags: object) -> dict[str, Any]:
    arguments = ["--model", network_file, "--output", output, "--device", "cpu", *flags]
    assert evaluation_program.main([str(argument) for argument in arguments]) == 0
    return json.loads((output / "summary.json").read_text())["scores"]


@pytest.mark.parametrize(("size", "mem_every"), [(24, 2), (-1, 1)])
def test_it_gives_the_scores_of_eval(davis, network_file, tmp_path, size, mem_every):
    flags = ["--dataset", "D16", "--d16_path", davis, "--size", size, "--mem_every", mem_every]
    expected = scores_of_eval(network_file, tmp_path / "output", *flags)
    validation = Validation("D16", davis, size=size, inference=InferenceConfig.from_settings(mem_every=mem_every))
    assert validation.scores(tiny_network()).to_json_dict() == expected
    assert validation(tiny_network()) == expected["global"]["J&F"]
    assert 0 < expected["global"]["J&F"] < 100
    cows = Validation("D16", davis, ["cows"], size, InferenceConfig.from_settings(mem_every=mem_every)).scores(
        tiny_network()
    )
    assert cows.to_json_dict()["sequences"] == {"cows": expected["sequences"]["cows"]}


def test_mixed_precision_is_that_of_eval(generic, network_file, tmp_path):
    flags = ["--dataset", "G", "--generic_path", generic, "--size", 24]
    expected = scores_of_eval(network_file, tmp_path / "mixed", *flags, "--amp")
    assert Validation("G", generic, size=24, mixed_precision=True).scores(tiny_network()).to_json_dict() == expected
    assert Validation("G", generic, size=24).scores(tiny_network()).to_json_dict() != expected


@pytest.fixture
def network_in_training() -> XMem:
    """Some modules are in training mode and some are not; some parameters are frozen, the others have gradients."""
    network = XMem(TINY).train()
    network.load_state_dict(tiny_network().state_dict())
    network.key_encoder.eval()
    for index, parameter in enumerate(network.parameters()):
        parameter.requires_grad_(index % 3 > 0)
        if parameter.requires_grad:
            parameter.grad = torch.full_like(parameter, index)
    return network


def state_of(network: XMem) -> dict[str, Any]:
    parameters = list(network.parameters())
    return {
        "modes": [module.training for module in network.modules()],
        "frozen": [parameter.requires_grad for parameter in parameters],
        "gradients": [parameter.grad.clone() for parameter in parameters if parameter.grad is not None],
        "weights": copy.deepcopy(network.state_dict()),
        # Not Python's own: beartype draws the items of lists that it checks from it.
        "random": [torch.get_rng_state(), torch.from_numpy(np.random.get_state()[1])],
        "context": [torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")],
    }


class StoppedError(Exception):
    pass


def stop_at(frame: int) -> Callable[[], None]:
    numbers = iter(range(1, frame + 1))

    def on_frame() -> None:
        if next(numbers) == frame:
            raise StoppedError

    return on_frame


@pytest.mark.parametrize("stopped", [False, True])
def test_the_network_is_left_as_it_was_and_no_file_is_left(
    generic, network_in_training, tmp_path, monkeypatch, stopped
):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    validation = Validation("G", generic, size=24)
    before = state_of(network_in_training)
    if stopped:
        with pytest.raises(StoppedError):
            validation(network_in_training, stop_at(8))  # in the second video
    else:
        # In training mode a batch norm would normalise with the frame's own statistics.
        assert validation(network_in_training) == validation(tiny_network())
    torch.testing.assert_close(state_of(network_in_training), before, rtol=0, atol=0)
    assert list((tmp_path / "temporary").iterdir()) == []
    key, _ = network_in_training.encode_key(torch.zeros(1, 3, 32, 32))
    key.key.sum().backward()  # nothing of the network belongs to inference mode now


@pytest.mark.parametrize(
    ("dataset", "videos", "expected"),
    [
        ("D18", None, "validation: dataset D18: there is D16"),
        ("D16", None, "validation: .*ImageSets/480p/val.txt does not exist"),
        ("G", ["a", "c", "d"], "validation: there is no video c, d; there is a, b"),
        ("G", [], "validation: no video is named; there is a, b"),
    ],
)
def test_data_sets_and_videos_that_are_not_there(generic, dataset, videos, expected):
    with pytest.raises(UserError, match=expected):
        Validation(dataset, generic, videos)


def test_sizes_that_are_none(generic):
    with pytest.raises(UserError, match="validation: size must be at least 16 pixels"):
        Validation("G", generic, size=3)


def remove_a_mask(root: Path) -> None:
    (root / "Annotations/b/00003.png").unlink()


def cut_a_frame(root: Path) -> None:
    frame = root / "JPEGImages/b/00004.jpg"
    frame.write_bytes(frame.read_bytes()[:200])


def damage_a_mask(root: Path) -> None:
    (root / "Annotations/b/00004.png").write_bytes(b"no image")


def leave_two_frames(root: Path) -> None:
    for number in (0, 3, 4, 5):
        (root / f"JPEGImages/b/{number:05d}.jpg").unlink()
        (root / f"Annotations/b/{number:05d}.png").unlink(missing_ok=True)


def remove_all_frames(root: Path) -> None:
    shutil.rmtree(root / "JPEGImages/b")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (remove_a_mask, "validation: b has no label map for every frame"),
        (cut_a_frame, "JPEGImages/b/00004.jpg cannot be read"),
        (damage_a_mask, "Annotations/b/00004.png is not an image"),
        (leave_two_frames, "Annotations/b: only its first and last label map"),
        (remove_all_frames, "JPEGImages/b does not exist"),
    ],
)
def test_videos_that_could_not_be_scored_are_told_at_once_unless_others_are_chosen(generic, spoil, expected):
    spoil(generic)
    with pytest.raises(UserError, match=expected) as told:
        Validation("G", generic)
    assert "\n" not in str(told.value)
    assert 0 < Validation("G", generic, ["a"], size=24)(tiny_network()) < 100
