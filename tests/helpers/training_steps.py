"""A program for tests: five training steps on made-up clips, as one process or several; saves losses and weights.

python training_steps.py OUTPUT SAMPLES_AT_ONCE FRAMES
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch

from model.config import NetworkConfig
from model.network import XMem
from training.clip import draw_choices
from training.config import STAGES, OptimisationConfig
from training.step import Stepper, TrainingBatch
from util.processes import Processes

ITERATIONS, SAMPLES, FRAMES, SIDE = 5, 4, 4, 64


def made_up_batch(iteration: int, frames: int = FRAMES) -> TrainingBatch:
    """Moving squares on noise; every other sample has one object, the rest two."""
    generator = torch.Generator().manual_seed(iteration)
    images = torch.randint(0, 255, (SAMPLES, frames, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    labels = torch.zeros(SAMPLES, frames, SIDE, SIDE, dtype=torch.uint8)
    for sample in range(SAMPLES):
        for t in range(frames):
            labels[sample, t, 10 + 5 * t : 40, 10 : 30 + 5 * sample] = 1
            labels[sample, t, 45:60, 5 + 4 * t : 30] = 2 * (sample % 2)
            images[sample, t][:, labels[sample, t] == 1] //= 2
            images[sample, t][:, labels[sample, t] == 2] //= 4
    choices = draw_choices(
        1,
        iteration,
        range(SAMPLES),
        frames=frames,
        reference_frames=2,
        objects=2,
        deep_update_prob=0.5,
        sensory_dropout=0.25,
    )
    return TrainingBatch(images, labels, torch.tensor([1, 2, 1, 2]), choices)


def main(output: Path, samples_at_once: int, frames: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    # In double precision: Adam's first steps follow the sign of gradients, which in single precision is rounding noise
    # wherever they are small, and the smallest bias shows it.
    network = XMem(NetworkConfig("resnet18", "resnet18", 64, 16, 32, 8, (32, 16, 16), 16)).double().eval()
    stage = replace(
        STAGES["s"], batch_size=SAMPLES, steps=(3,), lr=1e-4, num_frames=frames, start_warm=1, end_warm=4, max_objects=2
    )
    processes = Processes.join("cpu")
    stepper = Stepper(
        network, stage=stage, optimisation=OptimisationConfig(samples_at_once=samples_at_once), processes=processes
    )
    mine = processes.share_of(SAMPLES)
    losses = [
        stepper.step(made_up_batch(iteration, frames).part(mine.start, mine.stop), iteration).figures().loss
        for iteration in range(ITERATIONS)
    ]
    if processes.rank == 0:
        torch.save({"losses": losses, "weights": network.state_dict()}, output)
    processes.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
