"""Prototypes: which candidates are selected, and how potentiation enriches them (section 3.3, eq. 3, and table 6)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from inference.memory.working import WorkingMemory
from model.memory_reading import affinity, query_rows, readout, similarity
from util.device import full_precision, send

LLOYD_ITERATIONS = 10


class Prototypes(NamedTuple):
    """Selected keys, in order of time, from which potentiation makes long-term memory elements.

    A prototype has its source's age, and a value for each object that its source has one for. Different prototypes
    have different sources.
    """

    source: Int[Tensor, " prototypes"]
    """The index of a candidate for each prototype: the candidate itself, or the one nearest to a centroid."""
    key: Float[Tensor, "prototypes key_dim"]
    selection: Float[Tensor, "prototypes key_dim"]


class Candidates(NamedTuple):
    """The elements that are about to leave working memory, in order of time."""

    elements: Int[Tensor, " candidates"]
    """The index of each candidate in working memory, on the CPU."""
    memory_row: Float[Tensor, "candidates row"]
    key: Float[Tensor, "candidates key_dim"]
    shrinkage: Float[Tensor, "candidates 1"]
    selection: Float[Tensor, "candidates key_dim"]
    time: Int[Tensor, " candidates"]
    usage: Float[Tensor, " candidates"]

    def picked(self, indices: Int[Tensor, " prototypes"]) -> Prototypes:
        """Return the candidates at these indices as prototypes."""
        indices = indices.sort().values
        return Prototypes(indices, self.key[indices], self.selection[indices])


@dataclass(frozen=True)
class PrototypeSelection(ABC):
    """Represents many candidates by a few prototypes."""

    name: ClassVar[str]

    @abstractmethod
    def select(self, candidates: Candidates, count: int, seed: int) -> Prototypes:
        """Return at most `count` prototypes.

        Args:
            candidates: at least `count` elements.
            count: the number of prototypes wanted.
            seed: the seed of what is random, another one for every frame of every video.
        """


@dataclass(frozen=True)
class MostUsed(PrototypeSelection):
    """The candidates that drew the most affinity per read, the older ones among equals: as published."""

    name = "usage"

    def select(self, candidates: Candidates, count: int, seed: int) -> Prototypes:
        return candidates.picked(candidates.usage.argsort(descending=True, stable=True)[:count])


@dataclass(frozen=True)
class Random(PrototypeSelection):
    """Random candidates, all equally likely."""

    name = "random"

    def select(self, candidates: Candidates, count: int, seed: int) -> Prototypes:
        return candidates.picked(random_indices(len(candidates.key), count, seed).to(candidates.key.device))


@dataclass(frozen=True)
class Centroids(PrototypeSelection):
    """Means of clusters of candidate keys, with the mean selection; the source is the member nearest to the mean.

    Where candidates coincide there may be fewer clusters than asked for.
    """

    name = "centroids"

    def select(self, candidates: Candidates, count: int, seed: int) -> Prototypes:
        with full_precision(candidates.key):
            centroids, members = k_means(candidates.key, count, seed)
            selection = members @ candidates.selection / members.sum(dim=1, keepdim=True)
            distances = torch.cdist(centroids, candidates.key).masked_fill(members == 0, torch.inf)
        source, order = distances.argmin(dim=1).sort()
        return Prototypes(source, centroids[order], selection[order])


def k_means(
    points: Float[Tensor, "points dim"], count: int, seed: int
) -> tuple[Float[Tensor, "clusters dim"], Float[Tensor, "clusters points"]]:
    """Cluster points by Lloyd's algorithm, starting from `count` random ones.

    Returns:
        The mean of each cluster, and a matrix that is 1 where a point is a member. Empty clusters are left out.
    """
    centroids = points[random_indices(len(points), count, seed).to(points.device)]
    for _ in range(LLOYD_ITERATIONS):
        nearest = torch.cdist(points, centroids).argmin(dim=1)
        members = F.one_hot(nearest, count).t().to(points)  # as a matrix: sums by index differ from run to run on GPUs
        sizes = members.sum(dim=1, keepdim=True)
        centroids = torch.where(sizes > 0, members @ points / sizes.clamp(min=1), centroids)
    occupied = sizes[:, 0] > 0
    return centroids[occupied], members[occupied]


def random_indices(size: int, count: int, seed: int) -> Int[Tensor, " count"]:
    """Return `count` different numbers of 0 … size − 1, the same on every device."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed))[:count]


Contents = tuple[dict[int, Float[Tensor, "valued value_dim"]], Float[Tensor, "prototypes 1"]]
"""The values of prototypes by object (of the last prototypes only, where the first have none), and their shrinkage."""


def potentiate(
    candidates: Candidates, prototypes: Prototypes, working: WorkingMemory, arrivals: Sequence[Sequence[int]]
) -> Contents:
    """Memory potentiation: enrich prototypes with the candidates that resemble them (eq. 3).

    Values and shrinkage become averages over all candidates, weighted by the affinity of their keys to the prototype's
    own, without top-k. Candidates without a value for an object take no part in that object's average; shrinkage
    follows the longest-standing objects.
    """
    similarities = similarity(query_rows(prototypes.key, prototypes.selection), candidates.memory_row)
    values = {}
    with full_precision(prototypes.key):
        for index, group in enumerate(arrivals):
            start = working.first_element(group[0])
            before = int((candidates.elements < start).sum())  # candidates without a value: the first ones, if any
            rows = similarities[prototypes.source >= before] if before else similarities
            weights = affinity(rows[:, before:])
            if index == 0:
                shrinkage = readout(weights, candidates.shrinkage)
            elements = send(candidates.elements[before:] - start, weights.device)
            for label in group:
                values[label] = readout(weights, working.values_of(label)[elements])
    return values, shrinkage


def take_from_sources(
    candidates: Candidates, prototypes: Prototypes, working: WorkingMemory, arrivals: Sequence[Sequence[int]]
) -> Contents:
    """Return values and shrinkage of each prototype's source, instead of potentiation."""
    sources = send(candidates.elements, prototypes.source.device)[prototypes.source]
    values = {}
    for group in arrivals:
        start = working.first_element(group[0])
        for label in group:
            values[label] = working.values_of(label)[sources[sources >= start] - start]
    return values, candidates.shrinkage[prototypes.source]
