"""What happens when working memory is full: consolidation into long-term memory (sections 3.3, 3.4, tables 6, 7)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from inference.memory.long_term import LongTermMemory
from inference.memory.working import WorkingMemory
from inference.strategies.insertion import check_memory_frames
from inference.strategies.prototypes import Candidates, MostUsed, PrototypeSelection, potentiate, take_from_sources
from model.memory_reading import memory_rows
from util.device import send
from util.errors import SettingError


@dataclass(frozen=True)
class WhenFull(ABC):
    """Makes room in working memory."""

    name: ClassVar[str]

    columns: ClassVar[tuple[str, ...]] = ()
    """Which of key, shrinkage and selection have to be stored with each element, beside what reading needs."""

    @property
    @abstractmethod
    def full_at(self) -> int | None:
        """The number of frames, of those that count, at which working memory is full; None: it never is."""

    @abstractmethod
    def make_room(
        self, working: WorkingMemory, long_term: LongTermMemory, arrivals: Sequence[Sequence[int]], seed: int
    ) -> None:
        """Remove frames, right after the insertion that filled working memory.

        Args:
            working: working memory, which is full.
            long_term: long-term memory.
            arrivals: the labels of the objects, in groups that arrived together, in order of arrival.
            seed: the seed of what is random, another one for every frame of every video.
        """


@dataclass(frozen=True)
class Growth(WhenFull):
    """Working memory grows without bound, and there is no long-term memory (published: --disable_long_term)."""

    name = "growth"

    @property
    def full_at(self) -> None:
        return None

    def make_room(
        self, working: WorkingMemory, long_term: LongTermMemory, arrivals: Sequence[Sequence[int]], seed: int
    ) -> None:
        raise AssertionError("a memory without bound is never full")


@dataclass(frozen=True)
class LocalWindow(WhenFull):
    """The first frame and the latest ones stay, and the others are forgotten.

    Attributes:
        max_memory_frames: frames that stay. Those that are kept for an object or permanent come on top.
    """

    max_memory_frames: int = 50

    name = "local_window"

    def __post_init__(self) -> None:
        check_memory_frames(self.max_memory_frames)

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

    Long-term memory first evicts its least used elements, as many as it has no room for.

    Attributes:
        max_mid_term_frames: T_max, frames at which working memory is consolidated.
        min_mid_term_frames: T_min, frames that stay in working memory, the first one among them.
        num_prototypes: P, elements that one consolidation moves to long-term memory.
        max_long_term_elements: LT_max, elements of long-term memory at most.
        prototypes: how prototypes are selected.
        potentiation: whether prototypes are enriched (eq. 3); False: each has the value of its source.
    """

    max_mid_term_frames: int = 10
    min_mid_term_frames: int = 5
    num_prototypes: int = 128
    max_long_term_elements: int = 10000
    prototypes: PrototypeSelection = field(default_factory=MostUsed)
    potentiation: bool = True

    name = "consolidate"

    columns = ("key", "shrinkage", "selection")

    def __post_init__(self) -> None:
        if self.min_mid_term_frames < 1:
            raise SettingError("min_mid_term_frames", f"must be at least 1, not {self.min_mid_term_frames}")
        if self.max_mid_term_frames <= self.min_mid_term_frames:
            reason = f"must be over min_mid_term_frames ({self.min_mid_term_frames}), not {self.max_mid_term_frames}"
            raise SettingError("max_mid_term_frames", reason)
        if self.num_prototypes < 1:
            raise SettingError("num_prototypes", f"must be at least 1, not {self.num_prototypes}")
        if self.max_long_term_elements < self.num_prototypes:
            reason = f"must be at least num_prototypes ({self.num_prototypes}), not {self.max_long_term_elements}"
            raise SettingError("max_long_term_elements", reason)

    @property
    def full_at(self) -> int:
        return self.max_mid_term_frames

    def make_room(
        self, working: WorkingMemory, long_term: LongTermMemory, arrivals: Sequence[Sequence[int]], seed: int
    ) -> None:
        elements = working.candidates(self.min_mid_term_frames)
        indices = send(elements, working.time.device)
        columns = {name: rows.rows[indices] for name, rows in working.shared.items() if name not in ("use", "life")}
        candidates = Candidates(elements, usage=working.usage[indices], **columns)
        count = min(self.num_prototypes, len(elements))
        prototypes = self.prototypes.select(candidates, count, seed)
        long_term.evict(long_term.size + len(prototypes.source) - self.max_long_term_elements)
        contents = potentiate if self.potentiation else take_from_sources
        values, shrinkage = contents(candidates, prototypes, working, arrivals)
        memory_row = memory_rows(prototypes.key, shrinkage)
        oldest, newest = (working.frames[int(elements[end]) // working.frame_size].time for end in (0, -1))
        time = candidates.time[prototypes.source]
        long_term.append_prototypes(values, (oldest, newest), memory_row=memory_row, time=time)
        working.remove_candidates(elements)
