"""The network and the clips that reference numbers were made with.

`tests/parity/` holds reference numbers of the published program; more lie in the `shared` folder.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from inference.config import InferenceConfig
from inference.images import normalise_image
from model.config import NetworkConfig
from model.network import XMem
from tests.parity.weights import deterministic_state_dict

PARITY = Path(__file__).resolve().parents[1] / "parity"


def network_with_reference_weights(config: NetworkConfig) -> XMem:
    """A network filled by names and shapes alone, ready for inference."""
    with torch.device("meta"):  # no time goes into random weights
        network = XMem(config)
    names_and_shapes = {name: torch.empty_like(tensor, device="cpu") for name, tensor in network.state_dict().items()}
    network.load_state_dict(deterministic_state_dict(names_and_shapes), assign=True)
    return network.eval().requires_grad_(False)


@cache
def reference_network(hidden_dim: int = 64) -> XMem:
    """The published network with the weights that the reference numbers were made with."""
    return network_with_reference_weights(NetworkConfig(hidden_dim=hidden_dim))


@dataclass(frozen=True)
class Clip:
    """A clip that the published program went through, and what it gave. The last frame is announced as the last."""

    images: list[Tensor]
    """Normalised, 3×H×W."""
    masks: dict[int, Tensor]
    """At some frames, the label map of the objects that start there."""
    config: InferenceConfig
    hidden_dim: int
    prob: dict[int, Tensor]
    """At some frames, the probabilities that came out, background first."""
    work_elements: list[int]
    """Elements in working memory after each frame."""
    long_elements: list[int]
    """Elements in long-term memory after each frame."""


def read_clip(path: Path) -> Clip:
    with np.load(path) as arrays:
        settings = json.loads(str(arrays["config"]))
        hidden_dim = settings.pop("hidden_dim", 64)
        return Clip(
            images=[normalise_image(torch.from_numpy(rgb)) for rgb in arrays["rgb"]],
            masks={
                int(t): torch.from_numpy(mask) for t, mask in zip(arrays["mask_frames"], arrays["masks"], strict=True)
            },
            config=InferenceConfig.from_settings(**settings),
            hidden_dim=hidden_dim,
            prob={int(t): torch.from_numpy(arrays[f"prob_{t}"]) for t in arrays["keep"]},
            work_elements=arrays["work_elements"].tolist(),
            long_elements=arrays["long_elements"].tolist(),
        )
