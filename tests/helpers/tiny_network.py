"""A network for tests: every part of the published one, but narrow, so that a frame takes milliseconds."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch

from model.checkpoint import save_network
from model.config import NetworkConfig
from model.network import XMem

CONFIG = NetworkConfig(
    key_encoder="resnet18",
    key_dim=8,
    value_dim=16,
    hidden_dim=8,
    decoder_dims=(16, 16, 16),
    sensory_update_dim=8,
)


@cache
def tiny_network(seed: int = 0) -> XMem:
    """With random weights; those of seed 0 find all of a few objects, if not where they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return XMem(CONFIG).eval().requires_grad_(False)


def save_tiny_network(path: Path, seed: int = 0, metadata: Mapping[str, Any] | None = None) -> Path:
    network = tiny_network(seed)
    save_network(path, network.config, network.state_dict(), metadata)
    return path
