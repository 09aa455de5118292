"""Everything that decides what an evaluation run writes."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from inference.config import InferenceConfig

PUBLISHED_SIZE = 480
SMALLEST_SIZE = 16


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
    size: int = PUBLISHED_SIZE
    """Shorter side at which frames are segmented; −1: their own."""
    flip: bool = False
    mixed_precision: bool = False
    save_all: bool = False
    save_scores: bool = False
    overlay: bool = False
    inference: InferenceConfig = field(default_factory=InferenceConfig)

    def __post_init__(self) -> None:
        if self.size != -1 and self.size < SMALLEST_SIZE:
            raise ValueError(f"size must be at least {SMALLEST_SIZE} pixels, or -1 for the original, not {self.size}")

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values, paths made absolute so that they mean the same in any folder."""
        return {
            name: str(value.resolve()) if isinstance(value, Path) else value for name, value in asdict(self).items()
        }
