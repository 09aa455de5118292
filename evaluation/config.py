"""Everything that decides what an evaluation run writes."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from inference.config import InferenceConfig

PUBLISHED_SIZE = 480
SMALLEST_SIZE = 16


class View(NamedTuple):
    """One way of showing a frame to the network."""

    size: int
    flip: bool


@dataclass(frozen=True)
class EvaluationConfig:
    """One run of eval.py, as recorded in its output folder. What is the same in all of them gives the same masks.

    Raises:
        ValueError: a value out of its range.
    """

    dataset: str
    root: Path
    """The data set's root, or the video file."""
    split: str | None = "val"
    """None for a video file."""
    mask: Path | None = None
    """The first mask of a video file."""
    weights: Path | None = None
    """The network file; None: the network comes from elsewhere."""
    weights_sha256: str | None = None
    """Of the network file, since a training run may write another one of the same name."""
    repeat: int = 1
    """Videos are so many times as long, played back and forth."""
    size: int = PUBLISHED_SIZE
    """Shorter side at which frames are segmented; −1: their own."""
    other_sizes: tuple[int, ...] = ()
    """Further ones: the probabilities of all are averaged."""
    flip: bool = False
    """Frames are mirrored."""
    flip_too: bool = False
    """Every size is segmented both as it is and mirrored, and the average taken."""
    mixed_precision: bool = False
    save_all: bool = False
    save_scores: bool = False
    overlay: bool = False
    inference: InferenceConfig = field(default_factory=InferenceConfig)

    def __post_init__(self) -> None:
        for size in self.sizes:
            if size != -1 and size < SMALLEST_SIZE:
                raise ValueError(f"size must be at least {SMALLEST_SIZE} pixels, or -1 for the original, not {size}")
        if len(set(self.sizes)) < len(self.sizes):
            raise ValueError(f"size has to name different ones, not {', '.join(map(str, self.sizes))}")
        if self.flip and self.flip_too:
            raise ValueError("flip mirrors every frame, and flip_too also those that are not: give one of them")
        if self.repeat < 1:
            raise ValueError(f"repeat must be at least 1, not {self.repeat}")

    @property
    def sizes(self) -> tuple[int, ...]:
        """All of them."""
        return (self.size, *self.other_sizes)

    @property
    def views(self) -> tuple[View, ...]:
        """In how many ways each frame is segmented; the result is the average of their probabilities."""
        flips = (False, True) if self.flip_too else (self.flip,)
        return tuple(View(size, flip) for size in self.sizes for flip in flips)

    def to_json_dict(self) -> dict[str, Any]:
        """Values as JSON has them, paths made absolute so that they mean the same in any folder."""
        return {name: _as_json(value) for name, value in asdict(self).items()}


def _as_json(value: Any) -> Any:
    match value:
        case Path():
            return str(value.resolve())
        case tuple():
            return list(value)
        case _:
            return value
