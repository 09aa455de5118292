"""Whole clips through the per-frame loop: probabilities and memory sizes of the published program."""

from pathlib import Path

import pytest

from inference.inference_core import InferenceCore
from tests.helpers.reference import PARITY, read_clip, reference_network

TOLERANCE = 1e-4
"""The smallest known mistakes move probabilities by 1e-3; float32 rounding by 3e-5."""


def check_clip(path: Path) -> None:
    clip = read_clip(path)
    core = InferenceCore(reference_network(clip.hidden_dim), clip.config)
    last = len(clip.images) - 1
    compared = 0
    for time, image in enumerate(clip.images):
        prob = core.step(image, clip.masks.get(time), end=time == last)
        sizes = core.memory.working.size, core.memory.long_term.size
        assert sizes == (clip.work_elements[time], clip.long_elements[time]), f"memory sizes after frame {time}"
        if time in clip.prob:
            error = (prob - clip.prob[time]).abs().max().item()
            assert error <= TOLERANCE, f"frame {time}"
            compared += 1
    assert compared == len(clip.prob) > 0


@pytest.mark.parametrize("name", ["clip", "clip_long_term"])
def test_made_up_clips(name):
    check_clip(PARITY / f"{name}.npz")


@pytest.mark.parametrize("name", ["clip_late_object", "clip_long_term", "clip_no_sensory", "clip_working_only"])
def test_real_clips(shared, name):
    check_clip(shared / "parity" / f"{name}.npz")
