"""Which candidates become prototypes (section 3.3, "Prototype Selection", and table 6)."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from model.precision import full_precision

LLOYD_ITERATIONS = 10


class Prototypes(NamedTuple):
    """What potentiation makes long-term memory elements of.

    A prototype has a value for the objects that its source has one for, and its source's age. Different prototypes
    have different sources; they are in order of time.
    """

    source: Int[Tensor, " prototypes"]
    """A candidate for each prototype: the one that it is, or that stands for it."""
    key: Float[Tensor, "prototypes key_dim"]
    selection: Float[Tensor, "prototypes key_dim"]


class Candidates(NamedTuple):
    """The elements that are about to leave working memory, in order of time; all but `elements` are their columns."""

    elements: Int[Tensor, " candidates"]
    """Where they are in working memory."""
    memory_row: Float[Tensor, "candidates row"]
    key: Float[Tensor, "candidates key_dim"]
    shrinkage: Float[Tensor, "candidates 1"]
    selection: Float[Tensor, "candidates key_dim"]
    time: Int[Tensor, " candidates"]
    usage: Float[Tensor, " candidates"]

    def picked(self, indices: Int[Tensor, " prototypes"]) -> Prototypes:
        """The candidates at these indices, as prototypes."""
        indices = indices.sort().values
        return Prototypes(indices, self.key[indices], self.selection[indices])


class PrototypeSelection(ABC):
    """Represents many candidates by a few prototypes."""

    @abstractmethod
    def select(self, candidates: Candidates, count: int, seed: int) -> Prototypes:
        """At most `count` prototypes, which is at most the number of candidates. `seed` is for what is random."""


@dataclass(frozen=True)
class MostUsed(PrototypeSelection):
    """The candidates that drew the most affinity per read, the older first among equals: as published."""

    def select(self, candidates: Candidates, count: int, seed: int) -> Prototypes:
        return candidates.picked(candidates.usage.argsort(descending=True, stable=True)[:count])


@dataclass(frozen=True)
class Random(PrototypeSelection):
    """Any candidates, all equally likely."""

    def select(self, candidates: Candidates, count: int, seed: int) -> Prototypes:
        return candidates.picked(random_indices(len(candidates.key), count, seed).to(candidates.key.device))


@dataclass(frozen=True)
class Centroids(PrototypeSelection):
    """Means of clusters of candidate keys, with the mean selection; the member nearest to it is a prototype's source.

    Where candidates coincide there may be fewer clusters than asked for.
    """

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
    """Lloyd's algorithm from `count` random points: the means of all clusters, and 1 where a point is a member.

    Clusters that end empty are left out.
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
    """`count` different ones of 0 … size − 1, the same on every device."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed))[:count]


PROTOTYPES: dict[str, type[PrototypeSelection]] = {
    "usage": MostUsed,
    "random": Random,
    "centroids": Centroids,
}
