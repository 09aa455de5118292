"""Whole clips through the per-frame loop: probabilities and memory sizes of the published program."""

from pathlib import Path

import pytest

from inference.inference_core import InferenceCore
from model import convolution
from model.network import XMem
from tests.helpers.reference import PARITY, read_clip, reference_network

TOLERANCE = 1e-4
"""The smallest known mistakes move probabilities by 1e-3; rounding by 3e-5, also in Winograd's algorithm."""
EXCHANGED_TOLERANCE = 5e-4
"""On some processors Winograd's rounding, wherever it can be, exchanges two elements of nearly equal rank in a clip."""


def check_clip(path: Path, prepared: bool = False, tolerance: float = TOLERANCE) -> None:
    clip = read_clip(path)
    network = reference_network(clip.hidden_dim)
    core = InferenceCore(network.for_inference() if prepared else network, clip.config)
    last = len(clip.images) - 1
    compared = 0
    for time, image in enumerate(clip.images):
        prob = core.step(image, clip.masks.get(time), end=time == last)
        sizes = core.memory.working.size, core.memory.long_term.size
        assert sizes == (clip.work_elements[time], clip.long_elements[time]), f"memory sizes after frame {time}"
        if time in clip.prob:
            error = (prob - clip.prob[time]).abs().max().item()
            assert error <= tolerance, f"frame {time}"
            compared += 1
    assert compared == len(clip.prob) > 0


@pytest.mark.parametrize("name", ["clip", "clip_long_term"])
def test_made_up_clips(name):
    check_clip(PARITY / f"{name}.npz")


@pytest.mark.parametrize("name", ["clip_late_object", "clip_long_term", "clip_no_sensory", "clip_working_only"])
def test_real_clips(shared, name):
    check_clip(shared / "parity" / f"{name}.npz")


@pytest.fixture(params=["where it is faster", "wherever it can be"])
def is_everywhere(request, monkeypatch) -> bool:
    """Winograd's algorithm for large images only, or (True) for the small ones of the clips, too."""
    if request.param == "wherever it can be":
        monkeypatch.setattr(convolution, "FEWEST_PIXELS", 0)
        monkeypatch.setattr(convolution, "FEWEST_CHANNELS", 1)
        monkeypatch.setattr(XMem, "for_inference", _with_winograd_everywhere(XMem.for_inference))
    return request.param == "wherever it can be"


def _with_winograd_everywhere(for_inference):
    def prepared(network: XMem) -> XMem:
        result = for_inference(network)
        convolution.use_winograd(result)
        return result

    return prepared


@pytest.mark.parametrize("name", ["clip", "clip_long_term"])
def test_made_up_clips_with_the_network_prepared_for_inference(name, is_everywhere):
    tolerance = EXCHANGED_TOLERANCE if is_everywhere and name == "clip" else TOLERANCE
    check_clip(PARITY / f"{name}.npz", prepared=True, tolerance=tolerance)


@pytest.mark.long
@pytest.mark.usefixtures("is_everywhere")
@pytest.mark.parametrize("name", ["clip_late_object", "clip_long_term"])
def test_real_clips_with_the_network_prepared_for_inference(shared, name):
    check_clip(shared / "parity" / f"{name}.npz", prepared=True)
