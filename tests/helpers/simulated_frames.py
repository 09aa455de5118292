"""Frames on a simulated CUDA device: operators, host synchronisations and device mixes of each kind of frame, as JSON.

Run by `tests/test_simulated_device.py` with the shared tool `simulated_cuda/run.sh`, which has the module
`simulated_cuda` on its path.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from simulated_cuda import SimulatedCuda

from dataset.frames import Frame
from dataset.label_map import LabelMap
from evaluation.config import EvaluationConfig
from evaluation.segmenter import MultiViewSegmenter
from inference.config import InferenceConfig
from inference.images import label_map_of
from inference.memory_manager import MemoryCounts
from model.network import XMem

HEIGHT, WIDTH, FRAMES = 90, 160, 44


def kind_of(before: MemoryCounts, now: MemoryCounts) -> str:
    """What a frame did to the memory."""
    if now.evicted > before.evicted:
        return "eviction"
    if now.consolidations > before.consolidations:
        return "consolidation"
    if now.insertions > before.insertions:
        return "memory frame"
    return "ordinary, long-term" if now.long_term_elements else "ordinary"


def measure(gpu: SimulatedCuda, objects: int) -> dict[str, dict[str, int]]:
    """Follow objects through noise, and return the counts of the first frame of each kind."""
    torch.manual_seed(0)
    with torch.device("cpu"):
        network = XMem()
    network = network.eval().requires_grad_(False).to("cuda")
    settings = {"mem_every": 2, "num_prototypes": 128, "max_long_term_elements": 200}
    config = EvaluationConfig(
        "G",
        Path(),
        size=-1,
        mixed_precision=True,
        cuda_graphs=False,  # there is nothing to record on this device
        inference=InferenceConfig.from_settings(**settings),
    )
    segmenter = MultiViewSegmenter(network, config)
    core = segmenter.core
    segmenter.timer.reset()
    core.reset("video", FRAMES)
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    for label in range(1, objects + 1):
        labels[10 * label : 10 * label + 9, 20 * label : 20 * label + 40] = label
    rng = np.random.default_rng(0)
    counts: dict[str, dict[str, int]] = {}
    for time in range(FRAMES):
        frame = Frame(str(time), rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8))
        before = core.memory.counts
        with gpu.section("frame"), segmenter.timer.running():
            prob = segmenter._segment_frame(
                {-1: frame}, LabelMap(labels) if time == 0 else None, (HEIGHT, WIDTH), False
            )
            label_map_of(prob, core.objects)
        section = gpu.sections.pop("frame")
        if time:
            counts.setdefault(
                kind_of(before, core.memory.counts),
                {
                    "operators": section.launches,
                    "synchronisations": len(section.syncs),
                    "mixes": len(section.mixes),
                },
            )
    return counts


if __name__ == "__main__":
    torch.set_num_threads(1)
    with SimulatedCuda(sys.argv[1]) as gpu:
        print("RESULT", json.dumps({objects: measure(gpu, objects) for objects in (1, 5)}))
