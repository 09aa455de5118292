"""What happens when working memory is full (sections 3.3 and 3.4, and tables 6 and 7)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from inference.memory.long_term import LongTermMemory
from inference.memory.working import WorkingMemory
from inference.strategies.prototypes import Candidates, Prototypes, PrototypeSelection
from model.memory_reading import affinity, memory_rows, query_rows, readout, similarity
from model.precision import full_precision


class WhenFull(ABC):
    """Makes room in working memory."""

    columns: ClassVar[tuple[str, ...]] = ()
    """What has to be stored of working memory's elements, beside what reading needs: of key, shrinkage, selection."""

    @property
    @abstractmethod
    def full_at(self) -> int | None:
        """Working memory is full when so many of its frames count; None: it never is."""

    @abstractmethod
    def make_room(
        self, working: WorkingMemory, long_term: LongTermMemory, arrivals: Sequence[Sequence[int]], seed: int
    ) -> None:
        """Remove frames, right after the insertion that filled working memory.

        Args:
            working: working memory, full.
            long_term: long-term memory.
            arrivals: the labels of the objects, in groups that arrived together, in order of arrival.
            seed: for what is random, different for every frame of every video.
        """


@dataclass(frozen=True)
class Growth(WhenFull):
    """Working memory has no bound: how `enable_long_term` False is carried out."""

    full_at: ClassVar[None] = None

    def make_room(
        self, working: WorkingMemory, long_term: LongTermMemory, arrivals: Sequence[Sequence[int]], seed: int
    ) -> None:
        raise AssertionError("a memory without bound is never full")


@dataclass(frozen=True)
class LocalWindow(WhenFull):
    """The first frame (and any other that stays) is kept, and the latest ones; the others are forgotten."""

    max_memory_frames: int

    @property
    def full_at(self) -> int:
        return self.max_memory_frames + 1  # what the window holds may stay; one more is too many

    def make_room(
        self, working: WorkingMemory, long_term: LongTermMemory, arrivals: Sequence[Sequence[int]], seed: int
    ) -> None:
        working.remove_candidates(working.candidates(self.max_memory_frames))


@dataclass(frozen=True)
class Consolidation(WhenFull):
    """All but the first and the latest frames are candidates; prototypes of them enter long-term memory: as published.

    Long-term memory first evicts what it has no room for.
    """

    max_mid_term_frames: int
    min_mid_term_frames: int
    num_prototypes: int
    max_long_term_elements: int
    prototypes: PrototypeSelection
    potentiation: bool

    columns: ClassVar[tuple[str, ...]] = ("key", "shrinkage", "selection")

    @property
    def full_at(self) -> int:
        return self.max_mid_term_frames

    def make_room(
        self, working: WorkingMemory, long_term: LongTermMemory, arrivals: Sequence[Sequence[int]], seed: int
    ) -> None:
        elements = working.candidates(self.min_mid_term_frames)
        columns = {name: rows.rows[elements] for name, rows in working.shared.items()}
        usage = columns.pop("use") / columns.pop("life")
        candidates = Candidates(elements, usage=usage, **columns)
        count = min(self.num_prototypes, len(elements))
        prototypes = self.prototypes.select(candidates, count, seed)
        long_term.evict(long_term.size + len(prototypes.source) - self.max_long_term_elements)
        contents = potentiate if self.potentiation else take_from_sources
        values, shrinkage = contents(candidates, prototypes, working, arrivals)
        memory_row = memory_rows(prototypes.key, shrinkage)
        long_term.append(values, memory_row=memory_row, time=candidates.time[prototypes.source])
        working.remove_candidates(elements)


Contents = tuple[dict[int, Float[Tensor, "valued value_dim"]], Float[Tensor, "prototypes 1"]]
"""Prototypes' values by object (those of the last prototypes, where the first have none), and their shrinkage."""


def potentiate(
    candidates: Candidates, prototypes: Prototypes, working: WorkingMemory, arrivals: Sequence[Sequence[int]]
) -> Contents:
    """Enrich prototypes with what is similar among the candidates (eq. 3).

    Values and shrinkage are averages over all candidates that have a value for the object (the longest-standing
    objects, for shrinkage), without top-k.
    """
    similarities = similarity(query_rows(prototypes.key, prototypes.selection), candidates.memory_row)
    values = {}
    with full_precision(prototypes.key):
        for index, group in enumerate(arrivals):
            start = working.first_element(group[0])
            valued = candidates.elements >= start
            weights = affinity(similarities[valued[prototypes.source]][:, valued])
            if index == 0:
                shrinkage = readout(weights, candidates.shrinkage)
            for label in group:
                values[label] = readout(weights, working.values_of(label)[candidates.elements[valued] - start])
    return values, shrinkage


def take_from_sources(
    candidates: Candidates, prototypes: Prototypes, working: WorkingMemory, arrivals: Sequence[Sequence[int]]
) -> Contents:
    """Without potentiation: values and shrinkage of each prototype's source."""
    sources = candidates.elements[prototypes.source]
    values = {}
    for group in arrivals:
        start = working.first_element(group[0])
        for label in group:
            values[label] = working.values_of(label)[sources[sources >= start] - start]
    return values, candidates.shrinkage[prototypes.source]


WHEN_FULL: dict[str, type[WhenFull]] = {
    "consolidate": Consolidation,
    "local_window": LocalWindow,
}
