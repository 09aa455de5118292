"""The curves of a run as a table and a picture in its folder, for those who do without TensorBoard."""

import csv
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from util.errors import UserError
from util.figures import drawing, require_matplotlib
from util.files import write_text_atomically

DRAWN_EVERY = 60.0
"""Seconds between two drawings: one takes about half a second."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Point:
    """Means over the iterations since the point before."""

    stage: str
    iteration: int
    loss: float  # of a frame
    cross_entropy: float
    dice: float
    gradient_norm: float
    learning_rate: float
    seconds: float  # of an iteration

    @classmethod
    def from_row(cls, row: dict[str, str]) -> "Point":
        """Return the point in a line of a table.

        Raises:
            KeyError, TypeError, ValueError: the line is something else.
        """
        return cls(**{name: kind(row[name]) for name, kind in KINDS.items()})


KINDS: dict[str, Any] = {field.name: {"stage": str, "iteration": int}.get(field.name, float) for field in fields(Point)}


class Curves:
    """The points of a run: `curves.csv`, and `curves.png` where matplotlib is installed.

    Args:
        folder: the run's. What is there of an earlier start is continued.
    """

    def __init__(self, folder: Path) -> None:
        self._table, self._picture = folder / "curves.csv", folder / "curves"
        self._points: list[Point] = []
        self._drawn_at = 0.0
        self._has_failed = False
        if self._table.is_file():
            with self._table.open(newline="", encoding="utf-8", errors="replace") as file:
                for row in csv.DictReader(file):
                    try:
                        self._points.append(Point.from_row(row))
                    except (KeyError, TypeError, ValueError):
                        logger.warning("%s: left out a line that is no point: %s", self._table, row)
        self._can_draw = True
        try:
            require_matplotlib()
        except UserError as error:
            self._can_draw = False
            logger.info("curves.png is left out: %s", error)

    def start_stage(self, stage: str, done: int) -> None:
        """Forget what was recorded of this stage after `done` iterations: it comes again."""
        self._points = [point for point in self._points if point.stage != stage or point.iteration <= done]
        rows = [tuple(KINDS), *(astuple(point) for point in self._points)]
        with self._at_no_cost():
            write_text_atomically(self._table, "".join(f"{','.join(map(str, row))}\n" for row in rows))

    def add(self, point: Point) -> None:
        """Add a point to the table, and to the picture if it is time to."""
        self._points.append(point)
        with self._at_no_cost(), self._table.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerow(astuple(point))
        if time.monotonic() - self._drawn_at > DRAWN_EVERY:
            self.draw()

    @contextmanager
    def _at_no_cost(self) -> Iterator[None]:
        """Go on where a file cannot be written: a full disk must not end the run."""
        try:
            yield
        except OSError as error:
            if not self._has_failed:
                logger.warning("the curves in %s are not up to date: %s", self._table.parent, error)
            self._has_failed = True

    def draw(self) -> None:
        """Draw the loss, its parts and the learning rate over the iterations of all stages, one after another."""
        self._drawn_at = time.monotonic()
        if not (self._can_draw and self._points):
            return
        places: list[int] = []
        begin = 0
        ends: dict[str, int] = {}
        for point in self._points:
            if point.stage not in ends:
                begin = max(places, default=0)
            places.append(begin + point.iteration)
            ends[point.stage] = places[-1]
        picture = drawing(self._picture, "Training", "iteration", "loss of a frame", svg=False)
        with self._at_no_cost(), picture as axes:
            for name in ("loss", "cross_entropy", "dice"):
                axes.plot(places, [getattr(point, name) for point in self._points], label=name.replace("_", " "))
            rates = axes.twinx()
            rates.plot(places, [point.learning_rate for point in self._points], color="grey", linestyle=":")
            rates.set(yscale="log", ylabel="learning rate (dotted)")
            for stage, end in ends.items():
                axes.annotate(f"stage {stage}", (end, 1), xycoords=("data", "axes fraction"), ha="right", va="bottom")
