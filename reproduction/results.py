"""What was measured, beside what was published: the cells of a table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

from reproduction.data_sets import DataSet, MissingError
from reproduction.planning import Task, runs_of
from reproduction.published import Figure, published
from reproduction.runner import Runner
from reproduction.runs import Run, RunRecord
from reproduction.tables import Cell, Column, Difference, Row, Table


@dataclass(frozen=True)
class Metric:
    """A quantity of a run.

    Attributes:
        of: its values: one, or one for each video.
        digits: after the point.
        of_videos: the least and the greatest are shown, not the mean.
    """

    of: Callable[[RunRecord], Sequence[float]]
    digits: int = 1
    of_videos: bool = False


def score(name: str) -> Metric:
    return Metric(lambda record: [record.scores[name]] if name in record.scores else [])


def count(name: str) -> Metric:
    return Metric(lambda record: [counts[name] for counts in record.memory.values()], digits=0, of_videos=True)


def known(value: float | None) -> list[float]:
    return [] if value is None else [value]


METRICS = {
    **{name: score(name) for name in ("J&F", "J", "F", "G", "Js", "Fs", "Ju", "Fu")},
    "FPS": Metric(lambda record: known(record.fps)),
    "end-to-end FPS": Metric(lambda record: known(record.end_to_end_fps)),
    "compression": Metric(lambda record: record.compressions, digits=0, of_videos=True),
    "consolidations": count("consolidations"),
    "elements": Metric(
        lambda record: [counts["working_elements"] + counts["long_term_elements"] for counts in record.memory.values()],
        digits=0,
        of_videos=True,
    ),
}


@dataclass(frozen=True)
class Measurement:
    """Values of a metric: of several offsets, or of several videos."""

    values: tuple[float, ...]
    digits: int = 1
    of_videos: bool = False

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """Standard deviation (of a sample) over offsets; None of one."""
        return stdev(self.values) if len(self.values) > 1 and not self.of_videos else None

    def __str__(self) -> str:
        if self.of_videos:
            ends = dict.fromkeys(f"{value:.{self.digits}f}" for value in (min(self.values), max(self.values)))
            return "–".join(ends)
        return figure_text(Figure(self.mean, self.deviation), self.digits)

    def to_json_dict(self) -> dict[str, Any]:
        """Rounded values would hide how alike two variants are: as they are."""
        if self.of_videos:
            return {"least": min(self.values), "greatest": max(self.values)}
        return {"mean": self.mean, "deviation": self.deviation, "values": list(self.values)}


def figure_text(figure: Figure, digits: int = 1) -> str:
    """89.8 ± 0.2"""
    text = f"{figure.mean:.{digits}f}"
    return text if figure.deviation is None else f"{text} ± {figure.deviation:.{digits}f}"


@dataclass(frozen=True)
class CellResult:
    """One figure.

    Attributes:
        here: what was measured, as far as it was.
        absent: why it was not, or not all of it.
        runs: what it was measured in.
    """

    published: Figure | None
    here: Measurement | None = None
    absent: str | None = None
    runs: tuple[RunRecord, ...] = ()


@dataclass(frozen=True)
class TableResult:
    """A table, filled: cells by row and by the title of the column."""

    table: Table
    cells: Mapping[str, Mapping[str, CellResult]]
    data_sets: Mapping[str, str] = field(default_factory=dict)
    """What each data set that the columns name is here."""

    @property
    def runs(self) -> list[RunRecord]:
        """All that it was measured in, each once."""
        runs = (run for cells in self.cells.values() for cell in cells.values() for run in cell.runs)
        return list({run.folder: run for run in runs}.values())

    def here(self, row: str, column: str) -> Measurement | None:
        """What was measured; None where it was not, or there is no such row or column."""
        cell = self.cells.get(row, {}).get(column)
        return cell.here if cell else None


def fill(table: Table, runner: Runner) -> TableResult:
    """Collect what was published and what was measured of a table, in process 0."""
    cells: dict[str, dict[str, CellResult]] = {}
    data_sets: dict[str, DataSet | None] = {}
    for row in table.rows:
        measured = {column.title: measure(Cell(row, column), runner) for column in table.measured}
        cells[row.title] = {
            column.title: difference(column, measured) if isinstance(column, Difference) else measured[column.title]
            for column in table.columns
        }
    for column in table.measured:
        data_sets[column.data_set] = runner.profile.data_sets.get(column.data_set)
    return TableResult(table, cells, {name: here.title for name, here in data_sets.items() if here is not None})


def measure(cell: Cell, runner: Runner) -> CellResult:
    """One figure of a table."""
    row, column = cell
    was_published = published_figure(row, column)
    if row.variant is None or not row.fits(column):
        return CellResult(was_published)
    try:
        runs = runs_of(cell, runner.profile, runner.mixed)
        records = [runner.record(run) for run in runs]
    except MissingError as error:
        return CellResult(was_published, absent=str(error))
    reasons = [reason for run, record in zip(runs, records, strict=True) if (reason := why_absent(run, record, runner))]
    done = tuple(record for record in records if record is not None and not record.failures)
    metric = METRICS[column.metric]
    values = tuple(float(value) for record in done for value in metric.of(record))
    if done and not values:
        reasons.append(why_without(column, done[0]))
    return CellResult(
        was_published,
        Measurement(values, metric.digits, metric.of_videos) if values else None,
        reasons[0] if reasons else None,
        done,
    )


def published_figure(row: Row, column: Column) -> Figure | None:
    """What the paper says."""
    if column.published is None or not row.fits(column):
        return None
    section, figure = column.published
    return published(section, row.title if row.published is None else row.published, figure)


def why_absent(run: Run, record: RunRecord | None, runner: Runner) -> str | None:
    """Why a run has not come to its end; None if it has."""
    if record is None:
        return runner.absent.get(Task(0, run).name, "not run")
    if record.failures:
        name, reason = next(iter(record.failures.items()))
        return f"failed: {name}: {reason}" + (
            f", and {len(record.failures) - 1} more" if len(record.failures) > 1 else ""
        )
    return None


def why_without(column: Column, record: RunRecord) -> str:
    """Why a run has no value of a metric."""
    if column.metric == "compression":
        return "nothing is compressed"
    if record.server_zip is not None:
        return f"scored by a server, which takes {record.server_zip}"
    return f"there is no ground truth here; label maps are in runs/{record.folder}"


def difference(column: Difference, cells: Mapping[str, CellResult]) -> CellResult:
    """Of means."""
    of, to = cells[column.of], cells[column.to]
    was_published = here = None
    if of.published and to.published:
        was_published = Figure(of.published.mean - to.published.mean)
    if of.here and to.here:
        here = Measurement((of.here.mean - to.here.mean,))
    return CellResult(was_published, here, of.absent or to.absent, of.runs + to.runs)
