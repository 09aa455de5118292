"""Training iterations on a simulated CUDA device: operators, host synchronisations and device mixes, as JSON.

Run by `tests/test_simulated_device.py` with the shared tool `simulated_cuda/run.sh`, which has the module
`simulated_cuda` on its path.
"""

import json
import sys
from dataclasses import replace

import torch
from simulated_cuda import SimulatedCuda

from model.network import XMem
from training.clip import draw_choices
from training.config import STAGES, OptimisationConfig
from training.step import Stepper, TrainingBatch
from util.processes import Processes

SIDE = 64
STAGE = replace(STAGES["3"], batch_size=1, crop=SIDE)
PRECISIONS = {"bfloat16": True, "float16": False}
"""By name: whether the device has bfloat16."""


def small_batch() -> TrainingBatch:
    """One sample of three objects, as long as those of stage 3, but small."""
    labels = torch.zeros(1, STAGE.num_frames, SIDE, SIDE, dtype=torch.uint8)
    for k in range(3):
        labels[:, :, 16 * k : 16 * k + 16, 10:50] = k + 1
    images = torch.randint(0, 255, (1, STAGE.num_frames, 3, SIDE, SIDE), dtype=torch.uint8)
    choices = draw_choices(
        0,
        0,
        range(1),
        frames=STAGE.num_frames,
        reference_frames=STAGE.num_ref_frames,
        objects=3,
        deep_update_prob=0.2,
        sensory_dropout=0.0,
    )
    return TrainingBatch(images, labels, torch.tensor([3]), choices)


def main(repository: str) -> None:
    torch.set_num_threads(1)
    counts = {}
    with SimulatedCuda(repository) as gpu:
        for name, has_bfloat16 in PRECISIONS.items():
            gpu.capability_bf16 = has_bfloat16
            torch.manual_seed(0)
            network = XMem().eval().to("cuda")
            optimisation = OptimisationConfig(mixed_precision=True, max_gradient_norm=1.0, average_decay=0.99)
            stepper = Stepper(network, stage=STAGE, optimisation=optimisation, processes=Processes())
            gpu.knows(network)
            batch = small_batch()
            for iteration in range(2):  # the first one makes the optimiser's state
                with gpu.section("step"):
                    stepper.step(batch, 30000 + iteration)
                section = gpu.sections.pop("step")
            counts[name] = {
                "operators": section.launches,
                "synchronisations": len(section.syncs),
                "mixes": len(section.mixes),
            }
    print("RESULT", json.dumps(counts))


if __name__ == "__main__":
    main(sys.argv[1])
