"""The paper's figures, drawn from what was measured: PNG to look at, SVG to print."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reproduction.results import TableResult
from reproduction.traces import GROWTH_BETWEEN, Trace
from util.errors import UserError
from util.files import atomic_path

FORMATS = ("png", "svg")
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # to be told apart by everybody (Okabe and Ito)
MEBIBYTE = 2**20

Numbers = Sequence[int | float]


@dataclass(frozen=True)
class Points:
    """One line or cloud of a figure, with deviations where there are some, and a straight line through it if wanted."""

    label: str
    x: Numbers
    y: Numbers
    deviations: Numbers | None = None
    fitted: bool = False


def require_matplotlib() -> Any:
    """matplotlib, which nothing else needs.

    Raises:
        UserError: it is not installed.
    """
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise UserError("figures are drawn by matplotlib, which is not installed: pip install matplotlib") from None
    return matplotlib


def least_squares_line(x: Numbers, y: Numbers) -> tuple[float, float]:
    """Slope and intercept of the straight line with the least squared distances in y; two different x at least."""
    x_mean, y_mean = np.mean(x), np.mean(y)
    away = np.asarray(x) - x_mean
    slope = float(away @ (np.asarray(y) - y_mean) / (away @ away))
    return slope, float(y_mean - slope * x_mean)


def draw(path: Path, lines: Sequence[Points], title: str, x_label: str, y_label: str) -> list[Path]:
    """Draw into `path` with the suffix of each format; gives the files.

    Raises:
        UserError: matplotlib is not there.
    """
    matplotlib = require_matplotlib()
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": path.stem, "font.size": 10}):  # the same drawing is the same file
        figure = Figure(figsize=(7, 4.2), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
        for points, colour in zip(lines, COLOURS, strict=False):
            _draw_points(axes, points, colour)
        axes.set(title=title, xlabel=x_label, ylabel=y_label)
        axes.set_ylim(bottom=0) if not any(points.fitted for points in lines) else axes.margins(y=0.15)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        files = [path.with_suffix(f".{suffix}") for suffix in FORMATS]
        for file in files:
            with atomic_path(file) as temporary:
                figure.savefig(temporary, dpi=150, metadata={"Date": None} if file.suffix == ".svg" else None)
    return files


def _draw_points(axes: Any, points: Points, colour: str) -> None:
    if not points.fitted:
        axes.plot(points.x, points.y, color=colour, label=points.label)
        return
    label = points.label
    if len(set(points.x)) > 1:
        slope, intercept = least_squares_line(points.x, points.y)
        ends = np.array([min(points.x), max(points.x)])
        axes.plot(ends, intercept + slope * ends, color=colour, alpha=0.6)
        label += f" ({slope:+.2f} per 1×)"
    axes.errorbar(points.x, points.y, yerr=points.deviations, fmt="o", color=colour, capsize=3, label=label)


def memory_lines(traces: Mapping[str, Trace]) -> list[Points]:
    """Figure 1, left: memory against frames, and its growth."""

    def label(title: str, trace: Trace) -> str:
        growth = trace.growth_per_frame()
        begin, end = GROWTH_BETWEEN
        return title if growth is None else f"{title}: {growth / 1024:.1f} KiB a frame between {begin} and {end}"

    return [
        Points(
            label(title, trace), range(len(trace.occupied_bytes)), [size / MEBIBYTE for size in trace.occupied_bytes]
        )
        for title, trace in traces.items()
        if trace.memory_bytes
    ]


def speed_lines(traces: Mapping[str, Trace], window: int = 100) -> list[Points]:
    """Frames per second against frames."""
    lines = [Points(title, *trace.fps_by_frame(window)) for title, trace in traces.items()]
    return [line for line in lines if line.x]


def length_points(result: TableResult, lengths: Mapping[str, int]) -> list[Points]:
    """Figure 7: J&F against how many times as long the videos are; columns by their titles."""
    clouds = []
    for row in result.table.rows:
        measured = {n: here for title, n in lengths.items() if (here := result.here(row.title, title)) is not None}
        if measured:
            means, deviations = [m.mean for m in measured.values()], [m.deviation or 0 for m in measured.values()]
            clouds.append(Points(row.title, list(measured), means, deviations, fitted=True))
    return clouds
