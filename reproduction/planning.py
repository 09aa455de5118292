"""What has to be run for some tables, in the order in which it matters."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import fmean

from reproduction import variants as v
from reproduction.data_sets import DataSet, MissingError
from reproduction.profiles import Profile
from reproduction.runs import Run, evenly_spaced_offsets
from reproduction.tables import LENGTHS, TABLES, Cell, Column, Table

TRACES = ("figure1", "speed")
"""What is drawn from traces."""
TRACED = {"XMem": v.XMEM, "No long-term memory": v.NO_LONG_TERM}
"""The variants that are traced, by what they are called."""

LENGTHS_OF_TABLE_1 = (1, 3)

NAMES = (*(f"table{number}" for number in range(1, 9)), "figure1", "figure7", "multiscale", "speed")
"""All that can be asked for."""


@dataclass(frozen=True)
class Task:
    """One run, or one trace of a variant."""

    priority: int
    run: Run
    is_trace: bool = False

    @property
    def name(self) -> str:
        """Where it lies below the output folder."""
        return f"traces/{self.run.variant.name}" if self.is_trace else f"runs/{self.run.folder}"


def table_of(name: str, profile: Profile) -> Table | None:
    """The table of this name, with the profile's lengths as columns of figure 7; None for what is only traced."""
    table = TABLES.get(name)
    if table is not LENGTHS:
        return table
    columns = tuple(
        Column(f"J&F L{n}x", f"L{n}x", "J&F", over_offsets=profile.every_row_over_offsets or n in LENGTHS_OF_TABLE_1)
        for n in profile.lengths
    )
    return Table(table.name, table.title, columns, table.rows, table.note)


def data_set_of(column: Column, profile: Profile) -> DataSet:
    """The data set of a column.

    Raises:
        MissingError: the profile has none for it.
    """
    try:
        return profile.data_sets[column.data_set]
    except KeyError:
        raise MissingError(f"data: the profile {profile.name} has no {column.data_set}") from None


def runs_of(cell: Cell, profile: Profile, mixed: bool) -> list[Run]:
    """The runs that one figure is made of: several where it is a mean over offsets; the first is that of offset 0.

    Args:
        mixed: whether mixed precision is usual on the device.

    Raises:
        MissingError: the profile has no data set for it, or the device not the precision.
    """
    row, column = cell
    if column.precision == "mixed" and not mixed:
        raise MissingError("device: mixed precision is for CUDA devices")
    run = Run(row.variant, data_set_of(column, profile), full_precision=mixed and column.precision == "full")
    if not (column.over_offsets and (profile.every_row_over_offsets or row.priority == 0)):
        return [run]
    offsets = evenly_spaced_offsets(run.inference().mem_every, profile.offsets)
    return [Run(row.variant, run.data_set, offset, run.full_precision) for offset in offsets]


def tasks_of(names: Iterable[str], profile: Profile, mixed: bool) -> list[Task]:
    """Every run and trace that these tables need, once, the most important first, in the tables' order among equals.

    The further offsets of a row come after the first of the rows of the next priority.
    """
    tasks: dict[str, Task] = {}

    def need(task: Task) -> None:
        before = tasks.get(task.name)
        if before is None or task.priority < before.priority:
            tasks[task.name] = task

    for name in names:
        table = table_of(name, profile)
        for cell in table.cells() if table else ():
            try:
                runs = runs_of(cell, profile, mixed)
            except MissingError:
                continue  # told when the table is made
            for index, run in enumerate(runs):
                need(Task(cell.row.priority + (1 if index else 0), run))
        if name in TRACES and "trace" in profile.data_sets:
            for variant in TRACED.values():
                need(Task(1, Run(variant, profile.data_sets["trace"]), is_trace=True))
    return sorted(tasks.values(), key=lambda task: task.priority)


class Budget:
    """Time to spend, and how fast it goes."""

    def __init__(self, minutes: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun = clock()
        self._seconds = None if minutes is None else 60 * minutes
        self._paces: dict[str, list[float]] = {}

    def spent(self, kind: str, frames: int, seconds: float) -> None:
        """Remember what frames of a kind (of a data set) took."""
        if frames:
            self._paces.setdefault(kind, []).append(seconds / frames)

    def estimate(self, kind: str, frames: int) -> float | None:
        """Seconds for so many frames: as those of their kind, else as all; None where nothing is known."""
        paces = self._paces.get(kind) or [pace for paces in self._paces.values() for pace in paces]
        return frames * fmean(paces) if paces else None

    def refusal(self, kind: str, frames: int) -> str | None:
        """Why this should not be begun; None: there is time for it."""
        if self._seconds is None:
            return None
        left = self._seconds - (self._clock() - self._begun)
        needed = self.estimate(kind, frames)
        if left <= 0:
            return "not run: the time of --budget was spent"
        if needed is not None and needed > left:
            return f"not run: it would take {needed / 60:.0f} min, and {left / 60:.0f} were left of --budget"
        return None
