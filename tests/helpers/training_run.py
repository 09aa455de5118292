"""A program for tests: trains a tiny network on made-up clips, continuing from the newest checkpoint in FOLDER.

python training_run.py FOLDER ITERATIONS; prints a line after every iteration, writes FOLDER/weights.pth at the end.
"""

import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dataset.sampling import TrainingSample
from model.config import NetworkConfig
from model.network import XMem
from training.checkpoints import RunFolder, RunSettings
from training.config import STAGES, IntervalConfig, RunConfig, StageConfig
from training.data import StageData, TrainedOn
from training.logger import TrainingLogger
from training.signals import StopRequest
from training.trainer import Trainer
from util.processes import Processes

FRAMES, SIDE = 3, 48


class Squares:
    """A dark square that moves over noise."""

    def sample(self, number: int, max_jump: int) -> TrainingSample:
        rng = np.random.default_rng([number, max_jump])
        images = rng.integers(0, 255, (FRAMES, 3, SIDE, SIDE), dtype=np.uint8)
        labels = np.zeros((FRAMES, SIDE, SIDE), np.uint8)
        for t in range(FRAMES):
            labels[t, 5 + 4 * t : 25 + 4 * t, 10:30] = 1
            images[t][:, labels[t] == 1] //= 3
        return TrainingSample(torch.from_numpy(images), torch.from_numpy(labels), objects=1)


class Printer(TrainingLogger):
    """Prints every iteration's loss."""

    def start_stage(self, stage, done, device) -> None:
        pass

    def log_step(self, done, figures, seconds, waited) -> None:
        print(done - 1, figures.loss, flush=True)

    def log_pictures(self, done, batch, predictions) -> None:
        pass


def made_up_network() -> XMem:
    """A narrow network with the random weights of one seed."""
    torch.manual_seed(0)
    return XMem(
        NetworkConfig(
            key_encoder="resnet18", key_dim=8, value_dim=16, hidden_dim=4, decoder_dims=(16, 8, 8), sensory_update_dim=8
        )
    ).eval()


def made_up_data() -> StageData:
    """Squares without end."""
    return StageData(main=Squares(), finetuning=Squares(), trained_on=TrainedOn(("squares",)), contents={})


def made_up_trainer(output: Path, stage: StageConfig, stop: StopRequest, **changes: Any) -> Trainer:
    """The trainer of a run with one stage of squares; `changes` are arguments of Trainer, or fields of its config."""
    fields = {name: changes.pop(name) for name in ("intervals", "num_workers") if name in changes}
    config = RunConfig(exp_id="test", stages=(stage,), output=output, seed=1, **fields)
    default = {
        "network": made_up_network(),
        "folder": RunFolder(path=output, name="test"),
        "settings": RunSettings(config=config.deciding_settings(), load_network="none", data={}),
    }
    return Trainer(
        config=config, stage_index=0, data=made_up_data(), trained_on=TrainedOn(), processes=Processes(), stop=stop,
        **default | changes,
    )  # fmt: skip


def main(folder: Path, iterations: int) -> None:
    logging.basicConfig(level=logging.INFO)
    torch.set_num_threads(1)
    stage = made_up_stage(batch_size=2, iterations=iterations)
    runs = RunFolder(path=folder, name="test", keep=2)
    intervals = IntervalConfig(save_checkpoint_interval=4)
    network = made_up_network()
    with StopRequest() as stop:
        made_up_trainer(
            folder, stage, stop, folder=runs, network=network, intervals=intervals, num_workers=2,
            logger=Printer(folder, intervals), checkpoint=runs.newest_checkpoint(),
        ).train()  # fmt: skip
    torch.save(network.state_dict(), folder / "weights.pth")


def made_up_stage(**changes: Any) -> StageConfig:
    """A stage of clips like these."""
    stage = STAGES["s"]
    return replace(stage, **{"lr": 1e-4, "num_frames": FRAMES, "start_warm": 4, "end_warm": 8, "crop": SIDE} | changes)


def assert_orthonormal_columns(matrix: torch.Tensor) -> None:
    torch.testing.assert_close(matrix.t() @ matrix, torch.eye(matrix.shape[1]), atol=1e-5, rtol=0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
