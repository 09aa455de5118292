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
from training.checkpoints import RunFolder
from training.config import STAGES, OptimisationConfig, StageConfig
from training.trainer import Saving, StopRequest, Trainer
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


class Printer:
    def on_stage(self, stage, begin) -> None:
        pass

    def on_step(self, stage, iteration, report, batch, seconds_waited) -> None:
        print(iteration, report.loss, flush=True)

    def on_network(self, stage, done, network) -> None:
        pass

    def on_validation(self, stage, done, j_and_f) -> None:
        pass


def main(folder: Path, iterations: int) -> None:
    logging.basicConfig(level=logging.INFO)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = XMem(NetworkConfig("resnet18", "resnet18", 64, 8, 16, 4, (16, 8, 8), 8)).eval()
    stage = made_up_stage(batch_size=2, iterations=iterations)
    runs = RunFolder(folder, "test", keep=2)
    with StopRequest() as stop:
        trainer = Trainer(
            OptimisationConfig(), Processes(), runs, Saving(checkpoint_iterations=4), seed=1, workers=2,
            observer=Printer(), stop=stop, settings={},
        )  # fmt: skip
        trainer.train(network, stage, 0, lambda _: Squares(), runs.newest_whole())
    torch.save(network.state_dict(), folder / "weights.pth")


def made_up_stage(**changes: Any) -> StageConfig:
    """A stage of clips like these."""
    stage = STAGES["s"]
    return replace(stage, **{"lr": 1e-4, "num_frames": FRAMES, "start_warm": 4, "end_warm": 8, "crop": SIDE} | changes)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
