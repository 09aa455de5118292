"""A program for tests: trains a tiny network on made-up clips, continuing from the newest checkpoint in FOLDER.

python training_run.py FOLDER ITERATIONS; prints a line after every iteration, writes FOLDER/weights.pth at the end.
"""

import logging
import sys
from pathlib import Path

import numpy as np
import torch

from dataset.training_source import TrainingSample
from model.config import NetworkConfig
from model.network import XMem
from training.checkpoints import CheckpointFolder
from training.config import OptimisationConfig, StageConfig
from training.losses import Bootstrapping
from training.processes import Processes
from training.trainer import Saving, StopRequest, train_stage

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
    def on_step(self, stage, iteration, report, batch, seconds_waited) -> None:
        print(iteration, report.loss, flush=True)


def main(folder: Path, iterations: int) -> None:
    logging.basicConfig(level=logging.INFO)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = XMem(NetworkConfig("resnet18", "resnet18", 8, 16, 4, (16, 8, 8), 8)).eval()
    stage = StageConfig("made-up", 2, iterations, 0, (), 1e-4, 2, FRAMES, Bootstrapping(4, 8), crop=SIDE)
    checkpoints = CheckpointFolder(folder, "test", keep=2)
    with StopRequest() as stop:
        train_stage(
            network, stage, 0, lambda _: Squares(), OptimisationConfig(), Processes(), checkpoints,
            Saving(every_iterations=4), seed=1, workers=2, observer=Printer(), stop=stop,
            resume=checkpoints.newest_whole(),
        )  # fmt: skip
    torch.save(network.state_dict(), folder / "weights.pth")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
