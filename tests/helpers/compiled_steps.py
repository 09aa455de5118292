"""A program for tests: training steps with and without compilation; prints what they gave, an iteration a line.

python compiled_steps.py DEVICE BACKEND FRAMES HIDDEN_DIM CHECKPOINT_ACTIVATIONS

A program of its own, since in tests types are checked at run time, and those checks cannot be compiled.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from model.config import NetworkConfig
from model.network import XMem
from tests.helpers.training_run import made_up_stage
from tests.helpers.training_steps import made_up_batch
from training.clip import Choices
from training.config import OptimisationConfig
from training.step import Stepper, TrainingBatch
from util.processes import Processes

ITERATIONS = 4


def shortened(batch: TrainingBatch, frames: int) -> TrainingBatch:
    """The first frames of a batch."""
    deep_updates = batch.choices.deep_updates[:, :frames].clone()
    deep_updates[:, -1] = False
    choices = Choices(deep_updates, batch.choices.references[: frames - 1])
    return replace(batch, images=batch.images[:, :frames], labels=batch.labels[:, :frames], choices=choices)


def compiled_steps(
    device: str, backend: str, frames: int, hidden_dim: int, checkpoint_activations: bool
) -> list[dict[str, Any]]:
    """Run this program; returns what it prints."""
    program = Path(__file__).resolve()
    arguments = (device, backend, frames, hidden_dim, int(checkpoint_activations))
    environment = os.environ | {"PYTHONPATH": str(program.parents[2])}
    command = [sys.executable, str(program), *map(str, arguments)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=1200, env=environment).stdout
    return [json.loads(line) for line in output.splitlines()]


def main(device: str, backend: str, frames: int, hidden_dim: int, checkpoint_activations: bool) -> None:
    from torch._dynamo.utils import counters  # takes seconds

    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    torch.compile = partial(torch.compile, backend=backend)
    stage = made_up_stage(max_objects=2, num_frames=frames, start_warm=1, end_warm=3)
    steppers = []
    for compiled in (False, True):
        torch.manual_seed(0)
        network = XMem(NetworkConfig("resnet18", "resnet18", 16, 8, 16, hidden_dim, (16, 8, 8), 8)).eval().to(device)
        names = set(network.state_dict())
        config = OptimisationConfig(compile=compiled, checkpoint_activations=compiled and checkpoint_activations)
        steppers.append(Stepper(network, stage=stage, optimisation=config, processes=Processes()))
    for iteration in range(ITERATIONS):
        batch = shortened(made_up_batch(iteration), frames)
        plain, compiled = (stepper.step(batch, iteration).figures() for stepper in steppers)
        result = {
            "loss": plain.loss,
            "compiled_loss": compiled.loss,
            "gradient_norm": plain.gradient_norm,
            "compiled_gradient_norm": compiled.gradient_norm,
            "graphs": counters["stats"]["unique_graphs"],
            "graph_breaks": sum(counters["graph_break"].values()),
        }
        print(json.dumps(result), flush=True)
    assert set(steppers[1].state().network) == names  # as they are in files


if __name__ == "__main__":
    device, backend, *numbers = sys.argv[1:]
    frames, hidden_dim, checkpoint_activations = map(int, numbers)
    main(device, backend, frames, hidden_dim, bool(checkpoint_activations))
