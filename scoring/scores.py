"""J and F of objects, of sequences and of a whole data set, in percent: as numbers, a table, JSON and CSV."""

import csv
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np
from jaxtyping import Float64


class Score:
    """J, F and J&F in percent: means over `all_objects`."""

    @property
    def all_objects(self) -> Collection["ObjectScore"]:
        """The objects that the means are over."""
        raise NotImplementedError

    @property
    def j(self) -> float:
        """Mean J in percent."""
        return fmean(score.j for score in self.all_objects)

    @property
    def f(self) -> float:
        """Mean F in percent."""
        return fmean(score.f for score in self.all_objects)

    @property
    def j_and_f(self) -> float:
        """(J + F) / 2 in percent."""
        return (self.j + self.f) / 2


@dataclass(frozen=True, eq=False)
class ObjectScore(Score):
    """One object: J and F of every scored frame, from 0 to 1; the means over the frames are in percent."""

    j_frames: Float64[np.ndarray, " frames"]
    f_frames: Float64[np.ndarray, " frames"]

    @property
    def j(self) -> float:
        return 100 * float(self.j_frames.mean())

    @property
    def f(self) -> float:
        return 100 * float(self.f_frames.mean())


@dataclass(frozen=True, eq=False)
class SequenceScore(Score):
    """One sequence; its objects by label."""

    objects: Mapping[int, ObjectScore]

    @property
    def all_objects(self) -> Collection[ObjectScore]:
        return self.objects.values()


@dataclass(frozen=True, eq=False)
class Scores(Score):
    """A data set; its sequences by name. The means are over all objects of all sequences, not over sequences.

    Attributes:
        sequences: the sequences that were scored.
        left_out: why other sequences could not be scored.
    """

    sequences: Mapping[str, SequenceScore]
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def all_objects(self) -> Collection[ObjectScore]:
        return [score for sequence in self.sequences.values() for score in sequence.all_objects]

    def table(self) -> str:
        """Lines of text: the whole data set first, then its sequences, in percent."""
        rows: dict[str, Score] = {"global": self, **self.sequences}
        width = max(len("sequence"), *map(len, rows))
        lines = [f"{'sequence':<{width}}  objects    J&F      J      F"]
        for name, row in rows.items():
            lines.append(f"{name:<{width}}  {len(row.all_objects):>7}  {row.j_and_f:5.1f}  {row.j:5.1f}  {row.f:5.1f}")
        return "\n".join(lines)

    def to_json_dict(self) -> dict[str, dict[str, Any]]:
        """{"global": {"J&F", "J", "F"}, "sequences": {SEQUENCE: {OBJECT: {"J", "F"}}}}, in percent; and "left_out"."""
        return {
            "global": {"J&F": self.j_and_f, "J": self.j, "F": self.f},
            "sequences": {
                name: {str(label): {"J": score.j, "F": score.f} for label, score in sequence.objects.items()}
                for name, sequence in self.sequences.items()
            },
            "left_out": dict(self.left_out),
        }

    def to_csv(self) -> str:
        """One row for each object: sequence, object, J&F, J, F, in percent."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["sequence", "object", "J&F", "J", "F"])
        for name, sequence in self.sequences.items():
            for label, score in sequence.objects.items():
                writer.writerow([name, label, score.j_and_f, score.j, score.f])
        return text.getvalue()
