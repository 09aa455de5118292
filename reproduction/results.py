"""The cells of the tables, made of the records of runs, and the paper's claims checked by them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from inference.config import InferenceConfig
from reproduction.plan import Run, runs_of
from reproduction.profiles import CannotRunError
from reproduction.runs import Runner, RunRecord, Trace
from reproduction.tables import Column, Difference, Figure, Row, Table
from reproduction.variants import compression_percent

PER_VIDEO = ("compression", "consolidations", "elements")
"""Metrics with a value for each video, of which the least and the greatest are shown; others have one for each run."""

MARGIN = 1.0
"""J&F, in percent, by which a row that is "no worse" may be below the other."""

FEWEST_VIDEOS = 5
"""Videos below which their resamples say nothing."""

RESAMPLES = 10_000

EDGE = 200
"""Frames at the beginning and the end of a traced video that are compared."""


@dataclass(frozen=True)
class Cell:
    """One figure of a table.

    Attributes:
        published: the published figure.
        here: the measured figure; None if no run is finished.
        absent: why it was not measured, or only in part.
        records: the runs in which it was measured.
    """

    published: Figure | None = None
    here: Figure | None = None
    absent: str | None = None
    records: tuple[RunRecord, ...] = ()


@dataclass(frozen=True)
class TableResult:
    """A table with its cells, by the titles of row and column, and the titles of its data sets."""

    table: Table
    cells: Mapping[str, Mapping[str, Cell]]
    data_sets: Mapping[str, str] = field(default_factory=dict)

    @property
    def records(self) -> list[RunRecord]:
        """All runs in which it was measured, each once."""
        records = (record for cells in self.cells.values() for cell in cells.values() for record in cell.records)
        return list({record.folder: record for record in records}.values())

    def here(self, row: str, column: str) -> Figure | None:
        """Return what was measured; None where nothing was, or where there is no such row or column."""
        cell = self.cells.get(row, {}).get(column)
        return cell.here if cell else None


def values_of(metric: str, record: RunRecord) -> list[int | float]:
    """Return the values of a metric in a run: one, or one for each video; none where there is nothing to measure."""
    videos = record.memory.values()
    match metric:
        case "FPS":
            return [record.fps] if record.fps else []
        case "end-to-end FPS":
            return [record.end_to_end_fps] if record.end_to_end_fps else []
        case "consolidations":
            return [counts["consolidations"] for counts in videos]
        case "elements":
            return [counts["working_elements"] + counts["long_term_elements"] for counts in videos]
        case "compression":
            config = InferenceConfig.from_settings(**record.config["inference"])
            frames = [counts for counts in videos if counts["working_frames"]]
            sizes = [counts["working_elements"] // counts["working_frames"] for counts in frames]
            return [ratio for size in sizes if (ratio := compression_percent(config, size)) is not None]
    return [record.scores[metric]] if metric in record.scores else []


def fill(table: Table, runner: Runner) -> TableResult:
    """Return a table with what was published and what was measured."""
    cells: dict[str, dict[str, Cell]] = {}
    for row in table.rows:
        measured = {column.title: measure(table, row, column, runner) for column in table.measured}
        cells[row.title] = {
            column.title: subtract(column, measured) if isinstance(column, Difference) else measured[column.title]
            for column in table.columns
        }
    names = dict.fromkeys(column.data_set for column in table.measured)
    data_sets = runner.profile.data_sets
    return TableResult(table, cells, {name: data_sets[name].title for name in names if name in data_sets})


def measure(table: Table, row: Row, column: Column, runner: Runner) -> Cell:
    """Return one figure of a table."""
    published = table.published(row, column)
    try:
        runs = runs_of(row, column, runner.profile, runner.mixed)
        records = [runner.record(run) for run in runs]
    except CannotRunError as error:
        return Cell(published, absent=str(error))
    reasons = [why_absent(run, record, runner) for run, record in zip(runs, records, strict=True)]
    finished = tuple(record for record in records if record is not None and not record.failures)
    values = [float(value) for record in finished for value in values_of(column.metric, record)]
    if finished and not values:
        reasons.append(why_without(column, finished[0]))
    here = Figure.of(values, column.metric in PER_VIDEO) if values else None
    return Cell(published, here, next(filter(None, reasons), None), finished)


def why_absent(run: Run, record: RunRecord | None, runner: Runner) -> str | None:
    """Return why a run is not finished; None if it is."""
    if record is None:
        return runner.absent.get(run.name, "not run")
    for name, reason in record.failures.items():
        others = f", and {len(record.failures) - 1} more" if len(record.failures) > 1 else ""
        return f"failed: {name}: {reason}{others}"
    return None


def why_without(column: Column, record: RunRecord) -> str:
    """Return why a finished run has no value of a metric."""
    if column.metric == "compression":
        return "nothing is compressed"
    if record.server_zip is not None:
        return f"scored by a server, which takes {record.server_zip}"
    return f"there is no ground truth here; label maps are in runs/{record.folder}"


def subtract(column: Difference, cells: Mapping[str, Cell]) -> Cell:
    """Return the difference of two cells' means."""
    one, other = cells[column.minuend], cells[column.subtrahend]
    published = here = None
    if one.published and other.published:
        published = Figure(one.published.mean - other.published.mean)
    if one.here and other.here:
        here = Figure(one.here.mean - other.here.mean)
    return Cell(published, here, one.absent or other.absent, one.records + other.records)


class Claim(NamedTuple):
    """One claim of the paper, what was measured of it, and whether that agrees; None: it cannot be told."""

    text: str
    measured: str
    holds: bool | None


CLAIMS = (  # table, column, the paper's row, the other row, whether the paper's is better, else no worse
    ("table6", "J&F L3x", "Usage-based P=128", "Random P=128", False),
    ("table6", "J&F L3x", "Usage-based P=128", "K-means centroid P=128", False),
    ("table6", "J&F L3x", "Usage-based P=128", "No potentiation", False),
    ("table7", "J&F L1x", "Consolidation", "Eager compression", True),
    ("table7", "J&F L1x", "Consolidation", "Local window", True),
    ("table7", "J&F L1x", "Consolidation", "Sparse insertion", False),
    ("table7", "J&F L3x", "Consolidation", "Eager compression", True),
    ("table7", "J&F L3x", "Consolidation", "Local window", True),
    ("table7", "J&F L3x", "Consolidation", "Sparse insertion", False),
)


def check_claims(results: Mapping[str, TableResult], traces: Mapping[str, Trace]) -> list[Claim]:
    """Return those claims that these tables, and traces with and without long-term memory, can decide."""
    claims = memory_and_speed(*traces.values()) if len(traces) == 2 else []
    for table, column, ours, other, better in CLAIMS:
        if table in results:
            claims += compare(results[table], column, ours, other, better)
    return claims


def compare(result: TableResult, column: str, ours: str, other: str, better: bool) -> list[Claim]:
    """Return the claim that one row is better than another, or no worse: at most `MARGIN` below it.

    It holds, or fails, if the whole interval of `resampled_difference` says so; else, and with fewer than
    `FEWEST_VIDEOS` videos, it cannot be told. Rows that have nothing in common give no claim.
    """
    (metric,) = {each.metric for each in result.table.measured if each.title == column}
    mine, theirs = (result.cells.get(row, {}).get(column, Cell()).records for row in (ours, other))
    if (found := resampled_difference(mine, theirs, metric)) is None:
        return []
    least, holds = 0.0 if better else -MARGIN, None
    if found.videos >= FEWEST_VIDEOS and not found.low <= least <= found.high:
        holds = found.low > least
    measured = f"{found.mean:+.1f} [{found.low:+.1f}, {found.high:+.1f}], {found.videos} videos"
    return [Claim(f"{ours} is {'better' if better else 'no worse'} than {other} ({column})", measured, holds)]


class ResampledDifference(NamedTuple):
    """A difference of means over objects, in percent, and the interval that holds 95 % of its resamples."""

    mean: float
    low: float
    high: float
    videos: int


def resampled_difference(
    ours: Sequence[RunRecord], others: Sequence[RunRecord], metric: str
) -> ResampledDifference | None:
    """Return by how much some runs are above others in what both have: videos, and offsets of the memory insertion.

    Videos and offsets are drawn with replacement, 10,000 times, the same for both sides.
    """
    mine, theirs = (
        {record.config["inference"].get("mem_offset", 0): record for record in records} for records in (ours, others)
    )
    pairs = [(mine[offset], theirs[offset]) for offset in sorted(mine.keys() & theirs.keys())]
    scored = [{name for name, scores in record.video_scores.items() if metric in scores} for record in sum(pairs, ())]
    videos = sorted(set.intersection(*scored)) if scored else []
    if not videos:
        return None
    objects = np.array([pairs[0][0].objects[video] for video in videos], float)
    differences = np.array(
        [[one.video_scores[video][metric] - two.video_scores[video][metric] for video in videos] for one, two in pairs]
    )
    rng = np.random.default_rng(0)
    offsets = rng.multinomial(len(pairs), np.full(len(pairs), 1 / len(pairs)), RESAMPLES) / len(pairs)
    weights = objects * rng.multinomial(len(videos), np.full(len(videos), 1 / len(videos)), RESAMPLES)
    means = np.sum(weights * (offsets @ differences), axis=1) / weights.sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5]).tolist()
    return ResampledDifference(float(np.average(differences.mean(axis=0), weights=objects)), low, high, len(videos))


def memory_and_speed(with_long_term: Trace, without: Trace) -> list[Claim]:
    """Return the claims of flat memory and speed with long-term memory, and of growth and slowing without it."""
    claims = []
    for trace, grows, store in ((with_long_term, False, "with"), (without, True, "without")):
        frames = len(trace.seconds)
        if frames < 4 * EDGE:
            continue
        # Memory goes up and down as it is consolidated: its peaks are compared, in the middle and at the end.
        memory = max(trace.memory_bytes[-EDGE:]) / max(trace.memory_bytes[frames // 2 - EDGE : frames // 2])
        slowing = sum(trace.seconds[-EDGE:]) / sum(trace.seconds[1 : EDGE + 1])
        text = f"Memory {'continues to grow' if grows else 'stops growing'} {store} long-term memory"
        claims.append(Claim(text, f"×{memory:.2f} from frame {frames // 2} to {frames}", (memory > 1.3) == grows))
        text = f"Speed {'falls' if grows else 'stays'} {store} long-term memory"
        measured = f"a frame takes ×{slowing:.2f} as long at the end as at the beginning"
        claims.append(Claim(text, measured, (slowing > 1.3) == grows))
    return claims
