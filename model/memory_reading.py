"""Reading the memory: anisotropic similarity (eq. 2), its softmax, and readout (eq. 1): section 3.2.

Training, the per-frame read and prototype potentiation all use these functions. Rows are queries throughout, so that
every search along a row runs over contiguous memory.

The similarity of memory element i and query j,

    S_ji = −s_i / √Cᵏ · Σ_c e_cj (k_ci − q_cj)²
         = −s_i / √Cᵏ · ( Σ_c k²_ci e_cj  −  2 Σ_c k_ci q_cj e_cj  +  Σ_c e_cj q²_cj ),

is one dot product between a *query row* [e, q·e, Σ e q²] and a *memory row* −s/√Cᵏ · [k², −2k, 1]. The memory row
depends on the element alone and is made once, when the element is stored.

Only differences of keys matter, so callers may measure all keys from any common origin. Near the keys' mean the three
terms are small and cancel with less rounding.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from util.device import full_precision

TOP_K = 30
"""The published number of memory elements that take part in each query's softmax (section 3.2)."""


def rows_of(feature: Float[Tensor, "*batch dim height width"]) -> Float[Tensor, "*batch elements dim"]:
    """A feature map as rows, one per position."""
    return feature.flatten(-2).transpose(-1, -2)


def memory_rows(
    key: Float[Tensor, "*batch elements key_dim"], shrinkage: Float[Tensor, "*batch elements 1"]
) -> Float[Tensor, "*batch elements row"]:
    """Return the memory's side of the similarity, row = 2·Cᵏ + 1. Shrinkage s ≥ 1."""
    factor = -(key.shape[-1] ** -0.5) * shrinkage
    return torch.cat([factor * key.square(), (-2 * factor) * key, factor], dim=-1)


def query_rows(
    key: Float[Tensor, "*batch queries key_dim"], selection: Float[Tensor, "*batch queries key_dim"]
) -> Float[Tensor, "*batch queries row"]:
    """Return the query's side of the similarity, row = 2·Cᵏ + 1. Selection e in [0, 1]."""
    selected = key * selection
    return torch.cat([selection, selected, (selected * key).sum(-1, keepdim=True)], dim=-1)


def similarity(
    queries: Float[Tensor, "*batch queries row"],
    memory: Float[Tensor, "*batch elements row"],
    out: Float[Tensor, "*batch queries elements"] | None = None,
) -> Float[Tensor, "*batch queries elements"]:
    """Eq. 2, divided by √Cᵏ, of every query (from `query_rows`) to every element (from `memory_rows`); all ≤ 0."""
    with full_precision(queries):
        return torch.matmul(queries, memory.transpose(-1, -2), out=out)


def affinity(similarity: Float[Tensor, "*batch queries elements"]) -> Float[Tensor, "*batch queries elements"]:
    """W of eq. 1: the softmax over all memory elements. (PyTorch's subtracts the maximum, so no row can vanish.)"""
    return torch.softmax(similarity, dim=-1)


class SparseAffinity(NamedTuple):
    """An affinity whose rows have weight at a few elements only."""

    weights: Float[Tensor, "queries top"]
    elements: Int[Tensor, "queries top"]
    begins: Int[Tensor, " queries"]
    """Where each row begins in `weights.flatten()`."""


def top_k_affinity(similarity: Float[Tensor, "queries elements"], top_k: int) -> SparseAffinity:
    """The softmax over the `top_k` largest similarities of each row (section 3.3); all others weigh 0."""
    largest, elements = similarity.topk(top_k, dim=-1, sorted=False)
    begins = torch.arange(0, elements.numel(), top_k, device=elements.device)
    return SparseAffinity(torch.softmax(largest, dim=-1), elements, begins)


def readout(
    affinity: Float[Tensor, "*#batch queries elements"], values: Float[Tensor, "*#batch elements value_dim"]
) -> Float[Tensor, "*#batch queries value_dim"]:
    """Eq. 1: the weighted sum of values for each query; one affinity serves all objects."""
    return affinity.to(values.dtype) @ values


def sparse_readout(
    affinity: SparseAffinity, values: Float[Tensor, "elements value_dim"]
) -> Float[Tensor, "queries value_dim"]:
    """Eq. 1 where only a few elements of each row have weight: just their values are touched."""
    weights = affinity.weights.to(values.dtype)  # embedding_bag wants one type for both
    try:
        elements, begins = affinity.elements.flatten(), affinity.begins
        return F.embedding_bag(elements, values, begins, per_sample_weights=weights.flatten(), mode="sum")
    except NotImplementedError:  # no such kernel on this device, or not for this type
        return torch.einsum("qk,qkc->qc", weights, values[affinity.elements])
