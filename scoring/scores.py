"""Figures of objects, of sequences and of a whole data set, in percent: as numbers, a table, JSON and CSV."""

import csv
import io
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

PARTS = 10
"""The equal parts of a sequence that show how its scores change over time."""

FrameValues = Mapping[str, Float64[np.ndarray, " frames"]]
"""Measure → its value (0 to 1) in every frame."""

Shown = Bool[np.ndarray, " frames"]
"""Whether an object is to be seen in each frame."""

Figures = Mapping[str, float]
"""Figure → percent; nan where there is nothing to measure."""


@dataclass(frozen=True)
class Rules:
    """How a benchmark makes its figures from measures of single frames.

    Attributes:
        name: the benchmark.
        measures: the measures of a frame whose mean says how good it is: J and F, or J alone.
        columns: the figures of an object, in the order in which they are shown.
        of_object: makes an object's figures from the measures of its frames, and from whether it shows in them.
        of_all: makes the figures of the data set from all objects.
        unit: what 100 percent are in files: 100 or 1.
        first_counted: returns the first of an object's frames that counts, given in which of them the ground truth, and
            in which the prediction, shows it.
    """

    name: str
    measures: tuple[str, ...]
    columns: tuple[str, ...]
    of_object: Callable[[FrameValues, Shown], Figures]
    of_all: Callable[[Collection["ObjectScore"]], Figures]
    unit: float = 100.0
    first_counted: Callable[[Shown, Shown], int] = lambda shown, predicted: 0


@dataclass(frozen=True, eq=False)
class ObjectScore:
    """One object.

    Attributes:
        frames: the names of its scored frames.
        values: the measures of every scored frame, from 0 to 1.
        shown: whether the ground truth shows it there.
        figures: its figures.
        group: "seen" or "unseen", of data sets that tell these apart.
    """

    frames: tuple[str, ...]
    values: FrameValues
    shown: Shown
    figures: Figures
    group: str = ""


@dataclass(frozen=True, eq=False)
class SequenceScore:
    """One sequence.

    Attributes:
        objects: by label, or by the folder's name where masks lie in a folder for each object.
        frames: the names of all scored frames, in order.
        figures: means over the objects.
    """

    objects: Mapping[int | str, ObjectScore]
    frames: tuple[str, ...]
    figures: Figures


@dataclass(frozen=True, eq=False)
class Scores:
    """A data set; its sequences by name.

    Attributes:
        rules: those of the benchmark.
        sequences: the sequences that were scored.
        left_out: why other sequences, or objects of these (SEQUENCE/OBJECT), could not be scored.
    """

    rules: Rules
    sequences: Mapping[str, SequenceScore]
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def all_objects(self) -> Collection[ObjectScore]:
        """All objects of all sequences."""
        return [score for sequence in self.sequences.values() for score in sequence.objects.values()]

    @property
    def figures(self) -> Figures:
        """The figures of the data set."""
        return self.rules.of_all(self.all_objects)

    def line(self) -> str:
        """Return the figures of the data set in one line, in percent."""
        return "  ".join(f"{name} {_rounded(value)}" for name, value in self.figures.items())

    def table(self) -> str:
        """Lines of text: the whole data set first, then its sequences, in percent."""
        columns = self.rules.columns
        figures, rows = self.figures, {}
        if set(columns) <= figures.keys():
            rows["global"] = (len(self.all_objects), figures)
        rows |= {name: (len(sequence.objects), sequence.figures) for name, sequence in self.sequences.items()}
        width = max(len("sequence"), *map(len, rows))
        widths = [max(5, len(column)) for column in columns]
        heads = (f"{column:>{wide}}" for column, wide in zip(columns, widths, strict=True))
        lines = [] if "global" in rows else [self.line(), ""]
        lines.append("  ".join([f"{'sequence':<{width}}  objects", *heads]))
        for name, (objects, row) in rows.items():
            cells = (f"{_rounded(row[column]):>{wide}}" for column, wide in zip(columns, widths, strict=True))
            lines.append("  ".join([f"{name:<{width}}  {objects:>7}", *cells]))
        return "\n".join(lines)

    def to_json_dict(self) -> dict[str, Any]:
        """Return all figures in the rules' unit, as summary.json has them.

        They are "global": {FIGURE}, "sequences": {SEQUENCE: {OBJECT: {FIGURE}}}, "left_out" and "parts", beside
        "protocol" and "unit". "parts" holds the mean of J and F (or of what there is) in each tenth of the sequences
        that have a frame for every tenth, as `parts` returns it.
        """
        factor = self.rules.unit / 100

        def in_unit(value: float) -> float | None:
            return None if math.isnan(value) else factor * value

        def all_in_unit(figures: Figures) -> dict[str, float | None]:
            return {name: in_unit(value) for name, value in figures.items()}

        parts = {name: each for name, sequence in self.sequences.items() if (each := self.parts(sequence))}
        means = [_mean([each[part] for each in parts.values()]) for part in range(PARTS)] if parts else []
        return {
            "protocol": self.rules.name,
            "unit": "percent" if self.rules.unit == 100 else "fraction",
            "global": all_in_unit(self.figures),
            "sequences": {
                name: {str(label): all_in_unit(self._in_json(each.figures)) for label, each in sequence.objects.items()}
                for name, sequence in self.sequences.items()
            },
            "left_out": dict(self.left_out),
            "parts": {
                "measure": "&".join(self.rules.measures),
                "global": [in_unit(each) for each in means],
                "sequences": {name: [in_unit(each) for each in values] for name, values in parts.items()},
            },
        }

    def _in_json(self, figures: Figures) -> Figures:
        """The figures of an object that are written: J&F is left out where J and F say the same."""
        return figures if self.rules.name == "mose2" else {name: figures[name] for name in figures if name != "J&F"}

    def parts(self, sequence: SequenceScore) -> list[float]:
        """Return the mean over objects in each tenth of a sequence, in percent; nothing for fewer than ten frames.

        A tenth in which no object is scored has nan.
        """
        count = len(sequence.frames)
        if count < PARTS:
            return []
        part_of = {name: PARTS * position // count for position, name in enumerate(sequence.frames)}
        means: list[list[float]] = [[] for _ in range(PARTS)]
        for score in sequence.objects.values():
            values, parts = self.by_frame(score), np.array([part_of[name] for name in score.frames])
            for part in range(PARTS):
                if (here := values[parts == part]).size:
                    means[part].append(100 * float(here.mean()))
        return [_mean(each) for each in means]

    def by_frame(self, score: ObjectScore) -> Float64[np.ndarray, " frames"]:
        """Return how good each frame of an object is, 0 to 1: the mean of the rules' measures."""
        return np.mean([score.values[measure] for measure in self.rules.measures], axis=0)

    def to_csv(self) -> str:
        """One row for each object: sequence, object, and its figures in percent."""
        rows = (
            [name, label, *(score.figures[column] for column in self.rules.columns)]
            for name, sequence in self.sequences.items()
            for label, score in sequence.objects.items()
        )
        return _csv(["sequence", "object", *self.rules.columns], rows)

    def to_frame_csv(self) -> str:
        """One row for each scored frame of each object: sequence, object, frame, whether it shows, and its measures."""
        measures = list(next(iter(self.all_objects)).values)
        rows = (
            [name, label, frame, int(shown), *(100 * score.values[measure][position] for measure in measures)]
            for name, sequence in self.sequences.items()
            for label, score in sequence.objects.items()
            for position, (frame, shown) in enumerate(zip(score.frames, score.shown, strict=True))
        )
        return _csv(["sequence", "object", "frame", "shown", *measures], rows)


def j_and_f_of_object(values: FrameValues, shown: Shown) -> dict[str, float]:
    """J&F, J and F of an object in percent: means over its frames."""
    j, f = (100 * float(values[measure].mean()) for measure in ("J", "F"))
    return {"J&F": (j + f) / 2, "J": j, "F": f}


def j_and_f_of_all(objects: Collection[ObjectScore]) -> dict[str, float]:
    """J&F, J and F of a data set in percent: means over all objects, not over sequences."""
    j, f = (fmean(score.figures[name] for score in objects) for name in ("J", "F"))
    return {"J&F": (j + f) / 2, "J": j, "F": f}


def mean_figures(scores: Collection[ObjectScore]) -> dict[str, float]:
    """Return the mean over objects of each figure, over those objects that have it; nan where none has."""
    if not scores:
        return {}
    names = next(iter(scores)).figures
    return {name: _mean([score.figures[name] for score in scores]) for name in names}


def in_groups(scores: Collection[ObjectScore], group: str, figure: str) -> float:
    """Return the mean of a figure over the objects of a group, nan if there are none."""
    return _mean([score.figures[figure] for score in scores if score.group == group])


def _mean(values: Sequence[float]) -> float:
    """Return the mean of what is not nan; nan where all is."""
    there = [value for value in values if not math.isnan(value)]
    return fmean(there) if there else math.nan


def _rounded(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.1f}"


def _csv(head: Sequence[str], rows: Any) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(["" if isinstance(cell, float) and math.isnan(cell) else cell for cell in row] for row in rows)
    return text.getvalue()
