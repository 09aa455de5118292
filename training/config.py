"""Configuration of a training run: its stages, its data, the optimisation, and how often files are written.

Fields are checked when they are set, and a SettingError names the one that is wrong. They have the names of train.py's
flags.
"""

import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from model.config import NetworkConfig
from model.network import STRIDE
from training.losses import hardest_fraction
from util.errors import SettingError

Data = Literal["static images", "BL30K", "YouTubeVOS and DAVIS", "synthetic sequences", "synthetic and own videos"]


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage: its data, its clips and its schedule. The defaults are what most published stages have.

    Attributes:
        batch_size: samples of an iteration, over all processes.
        iterations: without those of fine-tuning.
        finetune: iterations of fine-tuning, which follow.
        steps: iterations at which the learning rate falls by the factor gamma.
        lr: learning rate at the beginning.
        num_ref_frames: earlier frames that a frame reads at most.
        num_frames: frames of a clip.
        start_warm: iteration up to which the cross entropy is that of all pixels.
        end_warm: iteration from which on it is that of the hardest 15 %; in between the share falls linearly.
        crop: height and width of the frames, in pixels.
        max_objects: objects of a clip at most.

    Raises:
        SettingError: a value out of its range; its field is "stage NAME: FIELD".
    """

    name: str
    data: Data
    batch_size: int = 8
    iterations: int
    finetune: int = 0
    steps: tuple[int, ...] = ()
    lr: float = 1e-5
    num_ref_frames: int = 3
    num_frames: int = 8
    start_warm: int = 20000
    end_warm: int = 70000
    crop: int = 384
    max_objects: int = 3

    def __post_init__(self) -> None:
        least = {
            "batch_size": (self.batch_size, 1),
            "iterations": (self.iterations, 1),
            "finetune": (self.finetune, 0),
            "num_ref_frames": (self.num_ref_frames, 1),
            "num_frames": (self.num_frames, 2),
            "start_warm": (self.start_warm, 0),
            "crop": (self.crop, STRIDE),
            "max_objects": (self.max_objects, 1),
        }
        for name, (value, minimum) in least.items():
            if value < minimum:
                raise self.error(name, f"must be at least {minimum}, not {value}")
        if self.end_warm < self.start_warm:
            raise self.error("end_warm", f"must not be before start_warm, {self.start_warm}, but is {self.end_warm}")
        if self.crop % STRIDE:
            raise self.error("crop", f"must be a multiple of {STRIDE}, not {self.crop}")
        if self.lr <= 0:
            raise self.error("lr", f"must be positive, not {self.lr}")

    def error(self, name: str, reason: str) -> SettingError:
        """Return an error of the field `name` of this stage."""
        return SettingError(f"stage {self.name}: {name}", reason)

    @property
    def total_iterations(self) -> int:
        return self.iterations + self.finetune

    @property
    def single_object(self) -> bool:
        """Whether the network needs no channel for other objects' masks: static images show one object each."""
        return self.data == "static images"

    def hardest_fraction(self, iteration: int) -> float:
        """Return the share of pixels that the cross entropy looks at."""
        return hardest_fraction(iteration, self.start_warm, self.end_warm)

    def learning_rate(self, iteration: int, gamma: float) -> float:
        return self.lr * gamma ** sum(iteration >= step for step in self.steps)


_SYNTHETIC = StageConfig(
    name="s", data="synthetic sequences", iterations=20000, steps=(16000,), lr=1e-4, num_ref_frames=2, num_frames=4,
    start_warm=4000, end_warm=14000, crop=192,
)  # fmt: skip
_VIDEOS = "YouTubeVOS and DAVIS"
STAGES = {
    stage.name: stage
    for stage in (
        StageConfig(
            name="0", data="static images", batch_size=16, iterations=150000, num_ref_frames=2, num_frames=3,
            max_objects=1,
        ),
        StageConfig(name="1", data="BL30K", iterations=250000, steps=(200000,)),
        StageConfig(name="2", data=_VIDEOS, iterations=150000, finetune=10000, steps=(120000,)),
        StageConfig(name="3", data=_VIDEOS, iterations=100000, finetune=10000, steps=(80000,)),
        _SYNTHETIC,
        replace(_SYNTHETIC, name="m", data="synthetic and own videos"),
    )
}  # fmt: skip
"""The published stages 0 to 3, and two that need no download: s, then m with what videos there are."""


@dataclass(frozen=True, kw_only=True)
class OptimisationConfig:
    """How weights follow gradients; the defaults are the published values.

    Attributes:
        gamma: factor of the learning rate at each of a stage's `steps`.
        deep_update_prob: probability of a deep update of the sensory memory after a frame (section 3.5).
        max_gradient_norm: longer gradients are scaled down to it; None: never.
        samples_at_once: gradients are accumulated over this many of a process's samples at a time; None: all together.
        checkpoint_activations: compute activations again in the backward pass, rather than keep them.

    Raises:
        SettingError: a value out of its range.
    """

    weight_decay: float = 0.05
    gamma: float = 0.1
    deep_update_prob: float = 0.2
    max_gradient_norm: float | None = None
    mixed_precision: bool = False
    samples_at_once: int | None = None
    checkpoint_activations: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.deep_update_prob <= 1:
            raise SettingError("deep_update_prob", f"is a probability, not {self.deep_update_prob}")
        if self.samples_at_once is not None and self.samples_at_once < 1:
            raise SettingError("samples_at_once", f"must be at least 1, not {self.samples_at_once}")
        for name, value in (("max_gradient_norm", self.max_gradient_norm), ("gamma", self.gamma)):
            if value is not None and value <= 0:
                raise SettingError(name, f"must be positive, not {value}")
        if self.weight_decay < 0:
            raise SettingError("weight_decay", f"must not be negative, but is {self.weight_decay}")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the data sets are, and what is used of them.

    Attributes:
        yv_subset: file with the names of the videos of YouTubeVOS to use, one a line; None: all.
        videos_root: own videos: `{JPEGImages,Annotations}/V`, or the same with a folder 480p between.
        videos_subset: as `yv_subset`, for own videos.
        videos_share: share of own videos in the samples of a stage that mixes them with synthetic sequences.
        videos_smallest_crop: least share of an own frame's area that a crop shows; small crops show objects large.
        cutout_root: images with masks, as in `static_root`, whose objects the synthetic sequences show as well.
        strict: stop at a file that cannot be used, instead of skipping it.

    Raises:
        SettingError: a share out of its range.
    """

    static_root: Path = Path("../static")
    bl_root: Path = Path("../BL30K")
    yv_root: Path = Path("../YouTube")
    davis_root: Path = Path("../DAVIS")
    yv_subset: Path | None = None
    videos_root: Path | None = None
    videos_subset: Path | None = None
    videos_share: float = 0.5
    videos_smallest_crop: float = 0.36
    cutout_root: Path | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.videos_share <= 1:
            raise SettingError("videos_share", f"is a share between 0 and 1, not {self.videos_share}")
        if not 0 < self.videos_smallest_crop <= 1:
            raise SettingError("videos_smallest_crop", f"is a share of the area, not {self.videos_smallest_crop}")


@dataclass(frozen=True, kw_only=True)
class IntervalConfig:
    """How often a run logs, validates and writes files: in iterations, and in minutes. All but log lines and pictures
    come at the end of a stage as well.

    Raises:
        SettingError: a value is not positive.
    """

    log_text_interval: int = 100
    log_image_interval: int = 1000
    save_network_interval: int = 25000
    save_checkpoint_interval: int = 50000
    save_checkpoint_minutes: float = 30.0
    validation_interval: int = 5000

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value <= 0:
                raise SettingError(name, f"must be positive, not {value}")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All settings of a run.

    Attributes:
        exp_id: name of the run, of its folder in `output`, and at the beginning of its files' names.
        network: None: that of the checkpoint or file which training starts from; without either, the published one.
        seed: decides all random choices.
        num_workers: processes that make batches, over all training processes; 0: the training processes make them.
        keep_checkpoints: so many of the newest are kept.
        resume: continue from the run's newest whole checkpoint, if there is one.
        resume_changed: continue although settings differ from the checkpoint's.
        load_checkpoint: start from this checkpoint, unless there is one to resume from.
        load_network: else, start from this network file.
        pretrained: else, start from ImageNet's weights rather than from random initialisation.

    Raises:
        SettingError: a value out of its range.
    """

    exp_id: str
    stages: tuple[StageConfig, ...]
    output: Path = Path("saves")
    network: NetworkConfig | None = None
    optimisation: OptimisationConfig = field(default_factory=OptimisationConfig)
    data: DataConfig = field(default_factory=DataConfig)
    intervals: IntervalConfig = field(default_factory=IntervalConfig)
    seed: int = 14159265
    num_workers: int = 0
    keep_checkpoints: int = 3
    resume: bool = False
    resume_changed: bool = False
    load_checkpoint: Path | None = None
    load_network: Path | None = None
    pretrained: bool = True

    def __post_init__(self) -> None:
        names = "".join(stage.name for stage in self.stages)
        if not names or len(set(names)) < len(names):
            raise SettingError("stages", f"{names!r}: name one stage or several, none of them twice")
        if not re.fullmatch(r"[\w.+-]+", self.exp_id):
            raise SettingError("exp_id", f"{self.exp_id!r} is part of file names: use letters, digits, _ . + and -")
        if self.keep_checkpoints < 1:
            raise SettingError("keep_checkpoints", f"must be at least 1, not {self.keep_checkpoints}")
        for name, value in (("seed", self.seed), ("num_workers", self.num_workers)):
            if value < 0:
                raise SettingError(name, f"must not be negative, but is {value}")

    def deciding_settings(self) -> dict[str, Any]:
        """Return the settings that decide the weights, as plain values to be recorded and compared.

        What decides only how fast training is, or where files lie, is not among them.
        """
        optimisation = asdict(self.optimisation)
        for name in ("samples_at_once", "checkpoint_activations", "compile"):
            del optimisation[name]
        return {
            "stages": {f"{index} ({stage.name})": asdict(stage) for index, stage in enumerate(self.stages)},
            "network": asdict(self.network or NetworkConfig()),
            "optimisation": optimisation,
            "seed": self.seed,
            "videos_share": self.data.videos_share,
            "videos_smallest_crop": self.data.videos_smallest_crop,
        }
