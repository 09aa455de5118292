"""The runs that some tables need, in the order in which they matter, and the time there is for them."""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import product
from statistics import fmean

from inference.config import InferenceConfig
from reproduction.profiles import CannotRunError, Profile, ProfileDataSet
from reproduction.tables import TRACE_FIGURES, TRACED_VARIANTS, Column, Row, table_of
from reproduction.variants import Variant


@dataclass(frozen=True)
class Run:
    """One variant on one data set, run once for all tables that need it.

    Attributes:
        offset: how many frames earlier the first frame after frame 0 is stored.
        full_precision: whether mixed precision is off even where it is usual.
        traced: whether memory and time are measured frame by frame, and nothing is scored.
        priority: runs of lower numbers are carried out first.
    """

    variant: Variant
    data_set: ProfileDataSet
    offset: int = 0
    full_precision: bool = False
    traced: bool = False
    priority: int = field(default=0, compare=False)

    @property
    def folder(self) -> str:
        """Its folder below OUTPUT/runs, a different one for every run."""
        offset = f"_offset_{self.offset}" if self.offset else ""
        precision = "_full_precision" if self.full_precision else ""
        return f"{self.data_set.name}/{self.variant.name}{offset}{precision}"

    @property
    def name(self) -> str:
        """Its place below the output folder."""
        return f"traces/{self.variant.name}" if self.traced else f"runs/{self.folder}"

    def inference(self) -> InferenceConfig:
        """Return the configuration of inference."""
        settings = {**self.data_set.settings, "mem_offset": self.offset}
        return self.variant.configure(settings, self.data_set.prototype_scale)


def runs_of(row: Row, column: Column, profile: Profile, mixed: bool) -> list[Run]:
    """Return the runs of which one figure is made, the one of offset 0 first; there are none of other methods.

    Args:
        mixed: whether mixed precision is usual on the device.

    Raises:
        CannotRunError: the profile does not have the data set, or the device not the precision.
    """
    if row.variant is None or not row.fits(column):
        return []
    if column.mixed_precision and not mixed:
        raise CannotRunError("device: mixed precision is for CUDA devices")
    if column.data_set not in profile.data_sets:
        raise CannotRunError(f"data: the profile {profile.name} has no {column.data_set}")
    data_set, full_precision = profile.data_sets[column.data_set], mixed and column.full_precision
    offsets = [0]
    if column.over_offsets and (profile.over_offsets is None or column.data_set in profile.over_offsets):
        every = Run(row.variant, data_set).inference().settings()["mem_every"]
        offsets = evenly_spaced_offsets(every, profile.offsets)
    return [  # further offsets come after the first offset of the rows of the next priority
        Run(row.variant, data_set, offset, full_precision, priority=row.priority + (offset > 0)) for offset in offsets
    ]


def evenly_spaced_offsets(every: int, count: int) -> list[int]:
    """Return up to `count` offsets of the memory insertion below `every`, from 0 on."""
    return sorted({index * every // count for index in range(count)})


def plan(names: Iterable[str], profile: Profile, mixed: bool) -> list[Run]:
    """Return every run that these tables and figures need once, by priority, and in the tables' order among equals."""
    planned: dict[str, Run] = {}
    for name in names:
        runs = []
        table = table_of(name, profile.lengths)
        for row, column in product(table.rows, table.measured) if table else ():
            with suppress(CannotRunError):  # the table's cell says what is missing
                runs += runs_of(row, column, profile, mixed)
        if name in TRACE_FIGURES and "trace" in profile.data_sets:
            trace = profile.data_sets["trace"]
            runs += [Run(variant, trace, traced=True, priority=1) for variant in TRACED_VARIANTS.values()]
        for run in runs:
            planned[run.name] = min(planned.get(run.name, run), run, key=lambda each: each.priority)
    return sorted(planned.values(), key=lambda run: run.priority)


class Budget:
    """The time limit of --budget, and the time that frames have taken so far.

    Args:
        minutes: the most time to spend from now on; None: any.
        clock: a clock in seconds.
    """

    def __init__(self, minutes: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = None if minutes is None else clock() + 60 * minutes
        self._paces: dict[str, list[float]] = {}

    def spent(self, kind: str, frames: int, seconds: float) -> None:
        """Record the seconds that so many frames of a kind (those of one data set) took."""
        if frames:
            self._paces.setdefault(kind, []).append(seconds / frames)

    def require(self, kind: str, frames: int) -> float | None:
        """Return the estimated seconds of so many frames, by earlier runs of their kind, else by all; None before any.

        Raises:
            CannotRunError: there is not so much time left.
        """
        paces = self._paces.get(kind) or [pace for paces in self._paces.values() for pace in paces]
        needed = frames * fmean(paces) if paces else None
        left = float("inf") if self._end is None else self._end - self._clock()
        if left <= 0:
            raise CannotRunError("not run: the budget was spent")
        if needed is not None and needed > left:
            minutes = f"{needed / 60:.0f} min, and {left / 60:.0f} were left of the budget"
            raise CannotRunError(f"not run: it would take {minutes}")
        return needed
