"""A network for tests: every part of the published one, but narrow, so that a frame takes milliseconds."""

from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import torch

from model.checkpoint import save_network
from model.config import NetworkConfig
from model.network import XMem
from tests.helpers.reference import network_with_reference_weights

TINY = NetworkConfig(
    key_encoder="resnet18",
    encoder_width=16,
    key_dim=16,
    value_dim=32,
    hidden_dim=8,
    decoder_dims=(32, 16, 16),
    sensory_update_dim=16,
)


def tiny_network(config: NetworkConfig = TINY, seed: int = 0) -> XMem:
    """A network of the caller's own whose masks depend visibly on its memory.

    Logits, keys and shrinkage are scaled down so that probabilities do not saturate and no single memory element
    takes all affinity. Another `seed` gives another network.
    """
    return deepcopy(_made_once(config, seed))


@cache
def _made_once(config: NetworkConfig, seed: int) -> XMem:
    network = network_with_reference_weights(config)
    generator = torch.Generator().manual_seed(seed)
    for tensor in network.state_dict().values():
        if seed and tensor.dim() > 1:
            tensor.add_(torch.randn(tensor.shape, generator=generator) * tensor.std() / 2)
    for projection in (network.decoder.pred, network.key_proj.key_proj, network.key_proj.d_proj):
        if projection is not None:
            projection.weight.mul_(0.3)
    return network


def save_tiny_network(path: Path, seed: int = 0, metadata: Mapping[str, Any] | None = None) -> Path:
    network = tiny_network(seed=seed)
    save_network(path, network.config, network.state_dict(), metadata)
    return path
