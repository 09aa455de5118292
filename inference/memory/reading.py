"""Reading all stores together, for every object, in bounded memory (section 3.2).

The similarities of a chunk of queries to all elements fill one buffer, which is used again for the next chunk, so
peak memory does not grow with elements × queries. Objects that arrived together share one affinity. Going through
the arrivals in order, elements without a value for the later ones are struck out of the buffer for good.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from inference.memory.element_store import ElementStore
from model.memory_reading import SparseAffinity, affinity, readout, similarity, sparse_readout, top_k_affinity

CHUNK_SIMILARITIES = {"cpu": 2**23, "cuda": 2**26}
"""Similarities computed at a time by kind of device (32 and 256 MiB): on a CPU more only take memory, while on a GPU
every chunk costs as many kernel launches as any other."""


def read_stores(
    queries: Float[Tensor, "queries row"],
    stores: Sequence[ElementStore],
    arrivals: Sequence[Sequence[int]],
    top_k: int | None,
    count_usage: bool = True,
) -> Float[Tensor, "objects queries value_dim"]:
    """Read the memory for every query and object, with one softmax over all stores.

    Args:
        queries: from `query_rows`.
        stores: the stores to read; empty ones are skipped.
        arrivals: the labels of the objects, in groups that arrived together, in order of arrival. The first group
            has a value in every element.
        top_k: elements per query and object that have weight; None: all that have a value.
        count_usage: add the first group's affinity to the elements' usage.
    """
    stores = [store for store in stores if store.size]
    sizes = [store.size for store in stores]
    elements = sum(sizes)
    example = stores[-1].values_of(arrivals[0][0])
    output = example.new_empty(sum(map(len, arrivals)), len(queries), example.shape[1])

    chunk_size = max(CHUNK_SIMILARITIES.get(queries.device.type, 2**23) // elements, 1)
    buffer = queries.new_empty(min(chunk_size, len(queries)), elements)
    for begin in range(0, len(queries), chunk_size):
        chunk = slice(begin, min(begin + chunk_size, len(queries)))
        similarities = buffer[: chunk.stop - begin]
        of_stores = similarities.split(sizes, dim=1)
        for store, columns in zip(stores, of_stores, strict=True):
            similarity(queries[chunk], store.memory_rows, out=columns)
        reads: list[Tensor] = []
        for index, group in enumerate(arrivals):
            starts = [store.first_element(group[0]) for store in stores]
            for start, columns in zip(starts, of_stores, strict=True):
                if start:
                    columns[:, :start] = -torch.inf
            valued = elements - sum(starts)  # never 0: the frame that an object was annotated in is kept
            parts: list[Any]
            read: Callable[[Any, Tensor], Tensor]
            if top_k is None or top_k >= valued:
                weights, read = affinity(similarities), readout
                parts = [part[:, start:] for start, part in zip(starts, weights.split(sizes, dim=1), strict=True)]
            else:
                sparse, read = top_k_affinity(similarities, top_k), sparse_readout
                parts = split_affinity(sparse, sizes, starts)
            if index == 0 and count_usage:
                for store, part in zip(stores, parts, strict=True):
                    store.count_use(part)
            valued_parts = [
                (store, in_precision(part, store.values_of(group[0]).dtype))
                for store, start, part in zip(stores, starts, parts, strict=True)
                if start < store.size
            ]
            for label in group:
                (store, part), *others = valued_parts
                reads.append(read(part, store.values_of(label)))
                for store, part in others:
                    reads[-1] += read(part, store.values_of(label))
        torch.stack(reads, out=output[:, chunk])
    if count_usage:
        for store in stores:
            store.count_read()
    return output


def in_precision(part: Any, dtype: torch.dtype) -> Any:
    """Return an affinity, dense or sparse, in the precision of values: once for a store, not for each object."""
    return part._replace(weights=part.weights.to(dtype)) if isinstance(part, SparseAffinity) else part.to(dtype)


def split_affinity(sparse: SparseAffinity, sizes: Sequence[int], starts: Sequence[int]) -> list[SparseAffinity]:
    """Split an affinity over the elements of all stores into one per store, over its elements from `start` on.

    Where an element is another store's, its weight is 0 (and its index any valid one).
    """
    parts, offset, remaining = [], 0, sparse.weights
    for size, start in zip(sizes, starts, strict=True):
        weights, elements = remaining, sparse.elements
        if offset + size < sum(sizes):  # the last store has what remains
            weights = remaining * (elements < offset + size)
            remaining = remaining - weights
        if offset + start:
            elements = elements - (offset + start)
        if len(sizes) > 1:
            elements = elements.clamp(0, max(size - start - 1, 0))
        parts.append(sparse._replace(weights=weights, elements=elements))
        offset += size
    return parts
