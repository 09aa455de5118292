"""The hot loop: reading all stores together, object by object, in bounded memory (section 3.2).

The similarities of a chunk of queries to all elements fill one buffer, which is used again for the next chunk, so
peak memory does not grow with elements × queries. Objects that arrived together share one affinity. Going through
the arrivals in order, elements without a value for the later ones are struck out of the buffer for good.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from inference.memory.element_store import ElementStore
from model.memory_reading import SparseAffinity, affinity, readout, similarity, sparse_readout, top_k_affinity

CHUNK_SIMILARITIES = 2**23
"""Similarities computed at a time (32 MiB): fewer make the matrix product slower, more only take memory."""


def read_stores(
    queries: Float[Tensor, "queries row"],
    stores: Sequence[ElementStore],
    arrivals: Sequence[Sequence[int]],
    top_k: int | None,
    count_usage: bool = True,
) -> Float[Tensor, "objects queries value_dim"]:
    """Read for every query and object, with the softmax over all stores together.

    Args:
        queries: from `query_rows`.
        stores: the stores to read; those that are empty are passed over.
        arrivals: the labels of the objects, in groups that arrived together, in order of arrival. The first group
            has a value in every element.
        top_k: elements per query and object that have weight; None: all that have a value.
        count_usage: add the first group's affinity to the elements' usage.
    """
    stores = [store for store in stores if store.size]
    sizes = [store.size for store in stores]
    elements = sum(sizes)
    labels = [label for group in arrivals for label in group]
    example = stores[-1].values_of(arrivals[0][0])
    output = example.new_zeros(len(labels), len(queries), example.shape[1])
    use = queries.new_zeros(elements)

    chunk_size = max(CHUNK_SIMILARITIES // elements, 1)
    buffer = queries.new_empty(min(chunk_size, len(queries)), elements)
    for begin in range(0, len(queries), chunk_size):
        chunk = slice(begin, min(begin + chunk_size, len(queries)))
        similarities = buffer[: chunk.stop - begin]
        for store, columns in zip(stores, similarities.split(sizes, dim=1), strict=True):
            similarity(queries[chunk], store.memory_rows, out=columns)
        channel = 0
        for group in arrivals:
            starts = [store.first_element(group[0]) for store in stores]
            for start, columns in zip(starts, similarities.split(sizes, dim=1), strict=True):
                if start:
                    columns[:, :start] = -torch.inf
            valued = elements - sum(starts)
            if valued == 0:
                channel += len(group)
                continue
            if top_k is None or valued <= top_k:
                weights = affinity(similarities)
                if count_usage and channel == 0:
                    use += weights.sum(dim=0)
                parts = [part[:, start:] for part, start in zip(weights.split(sizes, dim=1), starts, strict=True)]
                read = readout
            else:
                sparse = top_k_affinity(similarities, top_k)
                if count_usage and channel == 0:
                    use.index_add_(0, sparse.elements.flatten(), sparse.weights.flatten())
                parts = split_affinity(sparse, sizes, starts)
                read = sparse_readout
            for label in group:
                for store, start, part in zip(stores, starts, parts, strict=True):
                    if start < store.size:
                        output[channel, chunk] += read(part, store.values_of(label))
                channel += 1
    if count_usage:
        for store, store_use in zip(stores, use.split(sizes), strict=True):
            store.count_read(store_use)
    return output


def split_affinity(sparse: SparseAffinity, sizes: Sequence[int], starts: Sequence[int]) -> list[SparseAffinity]:
    """An affinity over several stores' elements side by side, as one per store over its elements from `start` on.

    Where an element is another store's, its weight is 0 (and its index any valid one).
    """
    if len(sizes) == 1:
        return [SparseAffinity(sparse.weights, sparse.elements - starts[0])]
    parts, offset = [], 0
    for size, start in zip(sizes, starts, strict=True):
        inside = (sparse.elements >= offset) & (sparse.elements < offset + size)
        elements = (sparse.elements - (offset + start)).clamp(0, max(size - start - 1, 0))
        parts.append(SparseAffinity(sparse.weights * inside, elements))
        offset += size
    return parts
