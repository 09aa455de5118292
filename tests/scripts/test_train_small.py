"""The bundled network's recipe: its phases, what it checks at once, and the file that it ends with."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

from evaluation.networks import BUNDLED
from evaluation.validation import Validation
from model.checkpoint import read_checkpoint
from scripts.train_small import (
    CHOSEN_BY,
    INTENDED_SIZE,
    NETWORK,
    ORIGIN,
    PHASES,
    PHASES_ON_GPU,
    TRAINING_VIDEOS,
    VARIANTS,
    export,
    main,
)
from tests.helpers.tiny_network import save_tiny_network
from training.config import RunConfig
from util.command_line import INTERRUPTED, MISTAKE
from util.processes import Processes


@pytest.fixture
def davis(tmp_path) -> Path:
    """DAVIS 2016 with the videos that are trained on, and those that the network is chosen by."""
    root, pairs = tmp_path / "davis", []
    for name in (*TRAINING_VIDEOS, *CHOSEN_BY):
        for folder, mode, suffix in (("JPEGImages", "RGB", "jpg"), ("Annotations", "L", "png")):
            (root / folder / "480p" / name).mkdir(parents=True)
            for number in range(3):
                Image.new(mode, (32, 32), "white").save(root / folder / "480p" / name / f"{number:05d}.{suffix}")
        pairs += [f"/JPEGImages/480p/{name}/{n:05d}.jpg /Annotations/480p/{name}/{n:05d}.png" for n in range(3)]
    (root / "ImageSets" / "480p").mkdir(parents=True)
    (root / "ImageSets" / "480p" / "val.txt").write_text("\n".join(pairs) + "\n")
    return root


@pytest.mark.parametrize("config", VARIANTS.values(), ids=lambda config: config.exp_id)
def test_variants_lower_the_learning_rate_before_their_end(config):
    (stage,) = config.stages
    assert stage.steps
    assert max(stage.steps) < stage.iterations
    assert config.resume


def test_the_bundled_network_is_that_of_the_recipe():
    """Else its variants could not start from it."""
    assert read_checkpoint(BUNDLED).network_config == NETWORK


def test_what_will_be_missing_in_hours_is_reported_now(tmp_path, davis, capsys, monkeypatch):
    command = ["--output", str(tmp_path / "out"), "--davis_root", str(tmp_path / "nowhere")]
    assert main(command) == MISTAKE
    assert "nowhere/JPEGImages does not exist" in capsys.readouterr().err
    monkeypatch.setattr("scripts.train_small.Processes.join", lambda _: Sixteen())
    assert main(["--output", str(tmp_path / "out"), "--davis_root", str(davis)]) == MISTAKE
    assert "stage m: batch_size 4 does not divide over 16 processes" in capsys.readouterr().err


class Sixteen(Processes):
    """Alone, and yet one of sixteen."""

    def __init__(self) -> None:
        super().__init__(count=16)

    def any(self, flag: bool) -> bool:
        return flag


@pytest.fixture
def interrupted() -> set[str]:
    """The names of runs that are asked to stop."""
    return set()


@pytest.fixture
def started(monkeypatch, interrupted) -> list[RunConfig]:
    """The runs that were started, which write nothing but their networks."""
    runs: list[RunConfig] = []

    def run_training(
        config: RunConfig,
        *,
        processes: Processes,
        device: torch.device,
        command: Sequence[str],
        open_validation: Callable[[], Validation] | None,
    ) -> bool:
        runs.append(config)
        if config.exp_id in interrupted:
            return False
        (stage,) = config.stages
        folder = config.output / config.exp_id
        folder.mkdir(exist_ok=True)
        name = f"{stage.name}_{stage.iterations:08}"
        if open_validation is not None:
            assert all(video in open_validation().description for video in CHOSEN_BY)
            name = "best"
        save_tiny_network(folder / f"{config.exp_id}_{name}.pth", seed=len(runs))
        return True

    monkeypatch.setattr("scripts.train_small.run_training", run_training)
    return runs


def test_a_gpu_trains_on_more_and_larger_clips(tmp_path, davis, started, monkeypatch):
    monkeypatch.setattr("scripts.train_small.choose_device", lambda *_: torch.device("cuda"))
    assert main(["--output", str(tmp_path / "out"), "--davis_root", str(davis)]) == 0
    assert [config.exp_id for config in started] == [each.exp_id for each in PHASES_ON_GPU]
    assert all(config.optimisation.mixed_precision for config in started)
    (small,), (large,) = PHASES[-1].stages, PHASES_ON_GPU[-1].stages
    assert large.batch_size > small.batch_size
    assert large.crop > small.crop


def test_a_run_that_is_asked_to_stop_ends_the_recipe(tmp_path, davis, started, interrupted, capsys):
    interrupted.add("small_start")
    assert main(["--output", str(tmp_path / "out"), "--davis_root", str(davis)]) == INTERRUPTED
    assert [config.exp_id for config in started] == ["small_start"]
    assert "the same command resumes it" in capsys.readouterr().err
    assert not (tmp_path / "out" / "small.pth").exists()


def test_each_phase_starts_from_the_one_before(tmp_path, davis, started):
    assert main(["--output", str(tmp_path), "--davis_root", str(davis)]) == 0
    trained = [next((tmp_path / config.exp_id).iterdir()) for config in PHASES]
    assert [config.load_network for config in started] == [None, *trained[:-1]]
    assert [path.stem.endswith("_best") for path in trained] == [*[False] * (len(PHASES) - 1), True]
    assert [config.network for config in started] == [NETWORK, *[None] * (len(PHASES) - 1)]
    assert len({config.seed for config in started}) == len(PHASES), "or they would show the same clips"
    metadata = read_checkpoint(tmp_path / "small.pth").metadata
    assert metadata["size"] == INTENDED_SIZE
    assert "Apache License 2.0" in metadata["origin"]


def test_another_seed_changes_every_phase(tmp_path, davis, started):
    for seed in (0, 1):
        output = tmp_path / str(seed)
        assert main(["--output", str(output), "--davis_root", str(davis), "--seed", str(seed)]) == 0
    assert [config.seed for config in started] == [each.seed + seed for seed in (0, 1) for each in PHASES]


def test_variants_start_from_the_bundled_network_or_from_imagenet(tmp_path, davis, started):
    flags = ["--output", str(tmp_path), "--davis_root", str(davis)]
    assert main([*flags, "--variants", "no-sensory", "scaling-both"]) == 0
    assert [config.load_network for config in started] == [BUNDLED, None]
    assert [config.network.hidden_dim for config in started] == [0, NETWORK.hidden_dim]
    assert [config.network.use_selection for config in started] == [False, True]
    for name in ("no-sensory", "scaling-both"):
        variant = tmp_path / f"{BUNDLED.stem}-{name}.pth"
        assert variant.is_file()
        assert read_checkpoint(variant).metadata["origin"] == read_checkpoint(BUNDLED).metadata["origin"]


def test_the_network_is_written_in_half_precision_with_what_it_is_meant_for(tmp_path):
    trained = save_tiny_network(tmp_path / "trained.pth", metadata={"videos_seen": ["camel"]})
    export(trained, tmp_path / "exported.pth")
    before, after = read_checkpoint(trained), read_checkpoint(tmp_path / "exported.pth")
    assert after.metadata == {"videos_seen": ["camel"], "size": INTENDED_SIZE, "origin": ORIGIN}
    assert after.network_config == before.network_config
    for name, tensor in before.state_dict.items():
        assert torch.equal(after.state_dict[name], tensor.half() if tensor.is_floating_point() else tensor)
