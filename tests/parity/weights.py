"""Deterministic weights for checking one XMem implementation against another.

Every tensor is a pure function of its name and shape, so two programs that agree on the names and shapes of the
state dict get the same network without exchanging a 250 MB file. The values are scaled so that activations stay
near unit size through both encoders and the decoder; the network segments nothing useful with them.
"""

import hashlib
from collections.abc import Mapping

import numpy as np
import torch


def deterministic_tensor(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Float32 tensor of `shape`, drawn from a PCG64 stream seeded by the SHA-256 of `name`."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    x = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "running_var":
        x = 1.0 + 0.1 * np.abs(x)
    elif leaf == "running_mean":
        x = 0.1 * x
    elif len(shape) >= 2:  # convolution or linear weight: unit gain, or He gain inside the residual encoders
        in_encoder = name.startswith("key_encoder.") or name.startswith(("value_encoder.conv1", "value_encoder.layer"))
        fan_in = int(np.prod(shape[1:]))
        x = x * np.sqrt((2.0 if in_encoder else 1.0) / fan_in).astype(np.float32)
    elif leaf == "weight":  # batch-norm scale; the last one of a residual branch is small, so depth does not blow up
        last_of_branch = ".bn3." in name or (".bn2." in name and "value_encoder" in name)
        x = (0.3 if last_of_branch else 1.0) * (1.0 + 0.1 * x)
    else:
        x = 0.05 * x
    return torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))


def deterministic_state_dict(like: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict with the names and shapes of `like`; integer buffers (num_batches_tracked) are zero."""
    return {
        name: deterministic_tensor(name, tuple(t.shape)) if t.is_floating_point() else torch.zeros_like(t)
        for name, t in like.items()
    }
