"""What scoring gives: J and F of objects, of sequences and of a whole data set, in percent."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from jaxtyping import Float64


@dataclass(frozen=True, eq=False)
class ObjectScore:
    """One object: J and F of every scored frame (0 to 1), and their means (percent)."""

    j_frames: Float64[np.ndarray, " frames"]
    f_frames: Float64[np.ndarray, " frames"]

    @property
    def j(self) -> float:
        """Mean J over the frames, in percent."""
        return 100 * float(self.j_frames.mean())

    @property
    def f(self) -> float:
        """Mean F over the frames, in percent."""
        return 100 * float(self.f_frames.mean())

    @property
    def j_and_f(self) -> float:
        """(J + F) / 2 in percent."""
        return (self.j + self.f) / 2


class MeanScore:
    """J, F and J&F in percent, as means over the objects that a subclass names."""

    @property
    def all_objects(self) -> Collection[ObjectScore]:
        """The objects that the means are over."""
        raise NotImplementedError

    @property
    def j(self) -> float:
        """Mean J over the objects, in percent."""
        return fmean(score.j for score in self.all_objects)

    @property
    def f(self) -> float:
        """Mean F over the objects, in percent."""
        return fmean(score.f for score in self.all_objects)

    @property
    def j_and_f(self) -> float:
        """(J + F) / 2 in percent."""
        return (self.j + self.f) / 2


@dataclass(frozen=True, eq=False)
class SequenceScore(MeanScore):
    """One sequence; its objects by label."""

    objects: Mapping[int, ObjectScore]

    @property
    def all_objects(self) -> Collection[ObjectScore]:
        """The objects of the sequence."""
        return self.objects.values()


@dataclass(frozen=True, eq=False)
class Scores(MeanScore):
    """A data set; its sequences by name. The means are over all objects of all sequences, not over sequences."""

    sequences: Mapping[str, SequenceScore]

    @property
    def all_objects(self) -> Collection[ObjectScore]:
        """The objects of all sequences."""
        return [score for sequence in self.sequences.values() for score in sequence.all_objects]

    def to_json_dict(self) -> dict[str, dict]:
        """{"global": {"J&F", "J", "F"}, "sequences": {SEQUENCE: {OBJECT: {"J", "F"}}}}, all in percent."""
        return {
            "global": {"J&F": self.j_and_f, "J": self.j, "F": self.f},
            "sequences": {
                name: {str(label): {"J": score.j, "F": score.f} for label, score in sequence.objects.items()}
                for name, sequence in self.sequences.items()
            },
        }
