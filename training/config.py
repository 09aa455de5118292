"""Configuration of a training run: its stages, its data, the optimisation, and how often files are written.

Fields are checked when they are set, and a SettingError names the one that is wrong. They have the names of train.py's
flags.
"""

import math
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from model.config import NetworkConfig
from model.network import STRIDE
from util.errors import SettingError

Data = Literal["static images", "BL30K", "YouTubeVOS and DAVIS", "synthetic sequences", "synthetic and own videos"]
HARDEST = 0.15
"""Share of pixels that the cross entropy looks at in the end."""


def require(is_right: bool, field_name: str, reason: str) -> None:
    """Raise SettingError unless a field is right."""
    if not is_right:
        raise SettingError(field_name, reason)


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage: its data, its clips and its schedule. `STAGES` has the stages; train.py's flags are --sSTAGE_FIELD.

    The defaults are what most published stages have.

    Raises:
        SettingError: a value out of its range; its field is "stage NAME: FIELD".
    """

    name: str
    data: Data
    batch_size: int = 8  # samples of an iteration, over all processes
    iterations: int  # without those of fine-tuning
    finetune: int = 0  # iterations of fine-tuning, which follow
    steps: tuple[int, ...] = ()  # iterations at which the learning rate falls by the factor gamma
    lr: float = 1e-5
    num_ref_frames: int = 3  # earlier frames that a frame reads at most
    num_frames: int = 8  # of a clip
    start_warm: int = 20000  # iteration up to which the cross entropy is that of all pixels
    end_warm: int = 70000  # iteration from which on it is that of the hardest 15 %
    crop: int = 384  # height and width of the frames, in pixels
    max_objects: int = 3  # of a clip

    def __post_init__(self) -> None:
        for name in ("batch_size", "iterations", "num_ref_frames", "max_objects"):
            self.require(getattr(self, name) >= 1, name, f"must be at least 1, not {getattr(self, name)}")
        for name in ("finetune", "start_warm"):
            self.require(getattr(self, name) >= 0, name, f"must not be negative, but is {getattr(self, name)}")
        self.require(self.num_frames >= 2, "num_frames", f"must be at least 2, not {self.num_frames}")
        is_multiple = self.crop > 0 and self.crop % STRIDE == 0
        self.require(is_multiple, "crop", f"must be a multiple of {STRIDE}, not {self.crop}")
        self.require(0 < self.lr < math.inf, "lr", f"must be positive and finite, not {self.lr}")
        is_later = self.end_warm >= self.start_warm
        self.require(is_later, "end_warm", f"must not be before start_warm, {self.start_warm}, but is {self.end_warm}")

    def require(self, is_right: bool, name: str, reason: str) -> None:
        """Raise SettingError unless a field of this stage is right."""
        require(is_right, f"stage {self.name}: {name}", reason)

    @property
    def total_iterations(self) -> int:
        return self.iterations + self.finetune

    @property
    def single_object(self) -> bool:
        """Whether the network needs no channel for other objects' masks: static images show one object each."""
        return self.data == "static images"

    def hardest_fraction(self, iteration: int) -> float:
        """Return the share of pixels that the cross entropy looks at, which falls between start_warm and end_warm."""
        if iteration < self.start_warm:
            return 1.0
        if iteration >= self.end_warm:
            return HARDEST
        return HARDEST + (1 - HARDEST) * (self.end_warm - iteration) / (self.end_warm - self.start_warm)

    def learning_rate(self, iteration: int, gamma: float) -> float:
        return self.lr * gamma ** sum(iteration >= step for step in self.steps)


_SYNTHETIC = StageConfig(
    name="s", data="synthetic sequences", iterations=20000, steps=(16000,), lr=1e-4, num_ref_frames=2, num_frames=4,
    start_warm=4000, end_warm=14000, crop=192,
)  # fmt: skip
_VIDEOS: Data = "YouTubeVOS and DAVIS"
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

    Raises:
        SettingError: a value out of its range.
    """

    weight_decay: float = 0.05
    gamma: float = 0.1  # factor of the learning rate at each of a stage's `steps`
    deep_update_prob: float = 0.2  # of the sensory memory after a frame (section 3.5)
    sensory_dropout: float = 0.0  # probability that an object's sensory memory is lost before a frame; not published
    max_gradient_norm: float | None = None  # longer gradients are scaled down to it; None: never
    encoder_lr_factor: float = 1.0  # of the learning rate, for both encoders up to stride 16
    average_decay: float | None = None  # of the weights' moving average, which networks then hold
    mixed_precision: bool = False
    samples_at_once: int | None = None  # gradients are accumulated over so many of a process's samples; None: all
    checkpoint_activations: bool = False  # compute activations again in the backward pass, rather than keep them
    compile: bool = False

    def __post_init__(self) -> None:
        for name in ("deep_update_prob", "sensory_dropout"):
            require(0 <= getattr(self, name) <= 1, name, f"is a probability, not {getattr(self, name)}")
        at_once, norm = self.samples_at_once, self.max_gradient_norm
        require(at_once is None or at_once >= 1, "samples_at_once", f"must be at least 1, not {at_once}")
        require(norm is None or norm > 0, "max_gradient_norm", f"must be positive, not {norm}")
        require(0 < self.gamma < math.inf, "gamma", f"must be positive and finite, not {self.gamma}")
        factor, average = self.encoder_lr_factor, self.average_decay
        require(0 < factor < math.inf, "encoder_lr_factor", f"must be positive and finite, not {factor}")
        require(average is None or 0 < average < 1, "average_decay", f"must lie between 0 and 1, not {average}")
        decay = self.weight_decay
        require(0 <= decay < math.inf, "weight_decay", f"must be finite and not negative, but is {decay}")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the data sets are, and what is used of them.

    Raises:
        SettingError: a share out of its range.
    """

    static_root: Path = Path("../static")
    bl_root: Path = Path("../BL30K")
    yv_root: Path = Path("../YouTube")
    davis_root: Path = Path("../DAVIS")
    yv_subset: Path | None = None  # file with the names of the videos to use, one a line; None: all
    videos_root: Path | None = None  # own videos: {JPEGImages,Annotations}/V, or with a folder 480p between
    videos_subset: Path | None = None
    videos_share: float = 0.5  # of the samples of a stage that mixes own videos with synthetic sequences
    videos_smallest_crop: float = 0.36  # least share of an own frame's area that a crop shows
    videos_colour_jitter: float = 0.0  # change of their colours beyond that of section 4, as a share
    videos_paste_share: float = 0.0  # of their clips onto which an object of another clip is pasted
    cutout_root: Path | None = None  # images with masks, whose objects the synthetic sequences show as well
    strict: bool = False  # stop at a file that cannot be used, instead of skipping it

    def __post_init__(self) -> None:
        shares = {
            "videos_share": self.videos_share,
            "videos_paste_share": self.videos_paste_share,
        }
        for name, share in shares.items():
            require(0 <= share <= 1, name, f"is a share between 0 and 1, not {share}")
        jitter = self.videos_colour_jitter
        require(0 <= jitter <= 0.9, "videos_colour_jitter", f"is between 0 and 0.9, not {jitter}")
        crop = self.videos_smallest_crop
        require(0 < crop <= 1, "videos_smallest_crop", f"is a share of the area, not {crop}")


@dataclass(frozen=True, kw_only=True)
class IntervalConfig:
    """How often a run logs, validates and writes files: in iterations, and in minutes. All but pictures
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
            require(value > 0, name, f"must be positive, not {value}")


def stage_key(index: int, stage: StageConfig) -> str:
    """Return what stands for a stage in recorded settings: its place among the run's stages, and its name."""
    return f"{index} ({stage.name})"


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """All settings of a run.

    Raises:
        SettingError: a value out of its range.
    """

    exp_id: str  # name of the run, of its folder in `output`, and at the beginning of its files' names
    stages: tuple[StageConfig, ...]
    output: Path = Path("saves")
    network: NetworkConfig | None = None  # None: that of the file which training starts from, else the published one
    optimisation: OptimisationConfig = field(default_factory=OptimisationConfig)
    data: DataConfig = field(default_factory=DataConfig)
    intervals: IntervalConfig = field(default_factory=IntervalConfig)
    seed: int = 14159265  # decides all random choices
    num_workers: int = 0  # processes that make batches, in all; 0: the training processes make them
    keep_checkpoints: int = 3  # number of checkpoints that are kept, the newest ones
    resume: bool = False  # continue from the newest whole checkpoint of this run, if there is one
    resume_changed: bool = False  # continue even if settings differ from the checkpoint's
    load_checkpoint: Path | None = None  # checkpoint to continue from, unless `resume` finds one
    load_network: Path | None = None  # network file to start from, if there is no checkpoint
    pretrained: bool = True  # without either: start from ImageNet's weights; False: from random ones

    def __post_init__(self) -> None:
        names = "".join(stage.name for stage in self.stages)
        once = len(names) == len(set(names)) > 0
        require(once, "stages", f"{names!r}: name one stage or several, none of them twice")
        is_name = re.fullmatch(r"[\w+-][\w.+-]*", self.exp_id) is not None
        require(
            is_name, "exp_id", f"{self.exp_id!r} is part of file names: use letters, digits, _ . + and -, no dot first"
        )
        require(self.keep_checkpoints >= 1, "keep_checkpoints", f"must be at least 1, not {self.keep_checkpoints}")
        for name, value in (("seed", self.seed), ("num_workers", self.num_workers)):
            require(value >= 0, name, f"must not be negative, but is {value}")
        require(self.seed < 2**63, "seed", f"must be less than 2^63, but is {self.seed}")

    def deciding_settings(self) -> dict[str, Any]:
        """Return the settings that decide the weights, as plain values to be recorded and compared.

        What decides only how fast training is, or where files lie, is not among them.
        """
        optimisation = asdict(self.optimisation)
        for name in ("samples_at_once", "checkpoint_activations", "compile"):
            del optimisation[name]
        return {
            "stages": {stage_key(index, stage): asdict(stage) for index, stage in enumerate(self.stages)},
            "network": asdict(self.network or NetworkConfig()),
            "optimisation": optimisation,
            "seed": self.seed,
            "videos_share": self.data.videos_share,
            "videos_smallest_crop": self.data.videos_smallest_crop,
            "videos_colour_jitter": self.data.videos_colour_jitter,
            "videos_paste_share": self.data.videos_paste_share,
        }
