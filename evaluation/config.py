"""The settings of an evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from inference.config import InferenceConfig
from inference.images import PUBLISHED_SIZE, check_size
from util.errors import SettingError
from util.provenance import differences


class View(NamedTuple):
    """A size and orientation in which frames are shown to the network."""

    size: int
    flip: bool


@dataclass(frozen=True)
class EvaluationConfig:
    """The settings of one evaluation, as recorded in its output folder. The same settings give the same label maps.

    Attributes:
        dataset: the name of the data set.
        root: the data set's root, a video file, or a folder of frames.
        split: val or test; None for a single video.
        mask: the first label map of a video file or of a folder of frames.
        masks: the folder of its label maps, all of which count as given.
        weights: the network file; None: the network comes from elsewhere.
        weights_sha256: the digest of the network file, since training may write another one of the same name.
        provider: what runs the network in ONNX Runtime, where it is an export.
        use_all_masks: every label map counts as given, rather than as ground truth: objects enter with it, and those
            that are known are corrected.
        backward: also follow the objects of the first label map from its frame back to the beginning of the video.
        separate_objects: follow each object of a video by itself, so that results may overlap.
        repeat: videos are made so many times as long, by playing them back and forth.
        size: the shorter side in pixels at which frames are segmented; −1: their own. (Programs take what the network
            is meant for where no size is given: `evaluation/networks.py`.)
        other_sizes: further sizes; the probabilities of all sizes are averaged.
        flip: mirror every frame.
        flip_too: segment every size both as it is and mirrored, and average.
        mixed_precision: compute in half precision where that is accurate enough.
        cuda_graphs: where there is a CUDA device, launch the network's operations as recorded graphs.
        save_all: write the label maps of all frames, not only of those that are scored.
        save_scores: also write probabilities.
        overlay: also write a video with the masks painted over it.
        inference: how videos are followed.

    Raises:
        SettingError: a value out of its range.
    """

    dataset: str
    root: Path
    split: str | None = "val"
    mask: Path | None = None
    masks: Path | None = None
    weights: Path | None = None
    weights_sha256: str | None = None
    provider: str | None = None
    use_all_masks: bool = False
    backward: bool = False
    separate_objects: bool = False
    repeat: int = 1
    size: int = PUBLISHED_SIZE
    other_sizes: tuple[int, ...] = ()
    flip: bool = False
    flip_too: bool = False
    mixed_precision: bool = False
    cuda_graphs: bool = True
    save_all: bool = False
    save_scores: bool = False
    overlay: bool = False
    inference: InferenceConfig = field(default_factory=InferenceConfig)

    def __post_init__(self) -> None:
        for size in self.sizes:
            check_size(size)
        if len(set(self.sizes)) < len(self.sizes):
            raise SettingError("size", f"must name different sizes, not {', '.join(map(str, self.sizes))}")
        if self.flip and self.flip_too:
            raise SettingError("flip", "does not go together", {"flip_too": True})
        if self.repeat < 1:
            raise SettingError("repeat", f"must be at least 1, not {self.repeat}")
        for name in ("save_scores", "overlay"):
            if self.separate_objects and getattr(self, name):
                raise SettingError("separate_objects", "does not go together", {name: True})
        for name in ("use_all_masks", "backward"):
            if self.repeat > 1 and getattr(self, name):
                raise SettingError("repeat", f"{self.repeat} does not go together", {name: True})

    @property
    def sizes(self) -> tuple[int, ...]:
        """All sizes at which frames are segmented."""
        return (self.size, *self.other_sizes)

    @property
    def views(self) -> tuple[View, ...]:
        """The views of each frame; the result is the average of their probabilities."""
        flips = (False, True) if self.flip_too else (self.flip,)
        return tuple(View(size, flip) for size in self.sizes for flip in flips)

    def to_json_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; paths are absolute, so that they mean the same in any folder."""
        return {name: _as_json(value) for name, value in vars(self).items()}


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return one text for each setting that decides results and differs between two configurations as JSON has them.

    The place of a network does not count where it is known to be the same one. Nor do CUDA graphs, which decide how
    fast it is, and nothing else.
    """
    ignored = {"cuda_graphs"}
    if now.get("weights_sha256") and before.get("weights_sha256") == now["weights_sha256"]:
        ignored.add("weights")
    before, now = ({name: each[name] for name in each.keys() - ignored} for each in (before, now))
    return differences(before, now)


def _as_json(value: Any) -> Any:
    match value:
        case InferenceConfig():
            return dict(value.settings())
        case Path():
            return str(value.resolve())
        case tuple():
            return list(value)
        case _:
            return value
