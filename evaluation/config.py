"""Everything that decides what an evaluation run writes."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from inference.config import InferenceConfig
from util.errors import UserError

VIDEO_FILE = "video"
"""The name of the data set that is one video file."""


@dataclass(frozen=True)
class EvaluationConfig:
    """One run of eval.py, as recorded in its output folder.

    Raises:
        UserError: flags that contradict each other.
    """

    dataset: str
    root: Path
    """The data set's root, or the video file."""
    weights: str
    """The network file, or a plain word on random weights."""
    split: str = "val"
    mask: Path | None = None
    """The first mask of a video file."""
    size: int = 480
    """Shorter side at which frames are segmented; −1: their own."""
    flip: bool = False
    mixed_precision: bool = False
    save_all: bool = False
    save_scores: bool = False
    overlay: bool = False
    inference: InferenceConfig = field(default_factory=InferenceConfig)

    def __post_init__(self) -> None:
        if (self.dataset == VIDEO_FILE) != (self.mask is not None):
            raise UserError("--video and --mask go together: a video file and the label map of its first frame")
        if self.size != -1 and self.size < 16:
            raise UserError(f"--size {self.size}: the shorter side in pixels, at least 16; or -1 for the original size")

    def as_json(self) -> dict[str, Any]:
        """Plain values, paths made absolute so that a run means the same from any folder."""
        fields = asdict(self)
        fields["root"] = str(self.root.resolve())
        fields["mask"] = str(self.mask.resolve()) if self.mask else None
        return fields
