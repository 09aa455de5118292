"""The bundled network's recipe: its phases, what it checks at once, and the file that it ends with."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

from evaluation.networks import BUNDLED
from model.checkpoint import read_checkpoint
from scripts.train_small import (
    INTENDED_SIZE,
    INTERRUPTED,
    NETWORK,
    NOT_DONE,
    ORIGIN,
    PHASES,
    TRAINING_VIDEOS,
    VARIANTS,
    export,
    main,
)
from tests.helpers.tiny_network import save_tiny_network
from training.config import RunConfig
from util.processes import Processes


@pytest.fixture
def davis(tmp_path) -> Path:
    """DAVIS 2016 with the videos that are trained on."""
    for name in TRAINING_VIDEOS:
        for folder, mode, suffix in (("JPEGImages", "RGB", "jpg"), ("Annotations", "L", "png")):
            (tmp_path / "davis" / folder / name).mkdir(parents=True)
            Image.new(mode, (4, 4)).save(tmp_path / "davis" / folder / name / f"0.{suffix}")
    return tmp_path / "davis"


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
    assert main(command) == NOT_DONE
    assert "nowhere/JPEGImages does not exist" in capsys.readouterr().err
    monkeypatch.setattr("scripts.train_small.Processes.join", lambda _: Sixteen())
    assert main(["--output", str(tmp_path / "out"), "--davis_root", str(davis)]) == NOT_DONE
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

    def run_training(config: RunConfig, *, processes: Processes, device: torch.device, command: Sequence[str]) -> bool:
        runs.append(config)
        if config.exp_id in interrupted:
            return False
        (stage,) = config.stages
        folder = config.output / config.exp_id
        folder.mkdir(exist_ok=True)
        save_tiny_network(folder / f"{config.exp_id}_{stage.name}_{stage.iterations:08}.pth", seed=len(runs))
        return True

    monkeypatch.setattr("scripts.train_small.run_training", run_training)
    return runs


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
    assert [config.network for config in started] == [NETWORK, *[None] * (len(PHASES) - 1)]
    assert len({config.seed for config in started}) == len(PHASES), "or they would show the same clips"
    metadata = read_checkpoint(tmp_path / "small.pth").metadata
    assert metadata["size"] == INTENDED_SIZE
    assert "Apache License 2.0" in metadata["origin"]


def test_variants_start_from_the_bundled_network(tmp_path, davis, started):
    flags = ["--output", str(tmp_path), "--davis_root", str(davis)]
    assert main([*flags, "--variants", "no-sensory", "scaling-both"]) == 0
    assert [config.load_network for config in started] == [BUNDLED, BUNDLED]
    assert [config.network.hidden_dim for config in started] == [0, NETWORK.hidden_dim]
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
