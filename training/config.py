"""What a training run does: the stages it goes through, and how weights follow gradients."""

from dataclasses import dataclass
from typing import Literal

from model.network import STRIDE
from training.losses import Bootstrapping

Data = Literal["static images", "BL30K", "YouTubeVOS and DAVIS", "synthetic sequences", "synthetic and own videos"]


@dataclass(frozen=True)
class StageConfig:
    """One stage: its data, its clips and its schedule. Batch sizes are totals over all processes.

    Raises:
        ValueError: a value out of its range; the message names the flag.
    """

    name: str
    data: Data
    batch_size: int
    iterations: int
    finetune: int
    steps: tuple[int, ...]
    lr: float
    num_ref_frames: int
    num_frames: int
    start_warm: int
    end_warm: int
    crop: int = 384
    max_objects: int = 3

    def __post_init__(self) -> None:
        for name in ("batch_size", "iterations", "num_ref_frames", "crop", "max_objects"):
            if getattr(self, name) < 1:
                raise ValueError(f"--s{self.name}_{name} must be at least 1, not {getattr(self, name)}")
        for name in ("finetune", "start_warm"):
            if getattr(self, name) < 0:
                raise ValueError(f"--s{self.name}_{name} must not be negative, but is {getattr(self, name)}")
        if self.num_frames < 2:
            raise ValueError(f"--s{self.name}_num_frames: a clip needs at least two frames, not {self.num_frames}")
        if self.crop % STRIDE:
            raise ValueError(f"--s{self.name}_crop must be a multiple of {STRIDE}, not {self.crop}")
        if self.lr <= 0:
            raise ValueError(f"--s{self.name}_lr must be positive, not {self.lr}")
        if self.end_warm < self.start_warm:
            raise ValueError(f"--s{self.name}_end_warm must not be before --s{self.name}_start_warm, {self.start_warm}")

    @property
    def total_iterations(self) -> int:
        return self.iterations + self.finetune

    @property
    def single_object(self) -> bool:
        """Static images show one object each, so the network needs no channel for the others' masks."""
        return self.data == "static images"

    @property
    def bootstrapping(self) -> Bootstrapping:
        return Bootstrapping(self.start_warm, self.end_warm)

    def learning_rate(self, iteration: int, gamma: float) -> float:
        """Step decay: ×gamma at each of `steps`."""
        return self.lr * gamma ** sum(iteration >= step for step in self.steps)


STAGES = {
    stage.name: stage
    for stage in (
        StageConfig("0", "static images", 16, 150000, 0, (), 1e-5, 2, 3, 20000, 70000, max_objects=1),
        StageConfig("1", "BL30K", 8, 250000, 0, (200000,), 1e-5, 3, 8, 20000, 70000),
        StageConfig("2", "YouTubeVOS and DAVIS", 8, 150000, 10000, (120000,), 1e-5, 3, 8, 20000, 70000),
        StageConfig("3", "YouTubeVOS and DAVIS", 8, 100000, 10000, (80000,), 1e-5, 3, 8, 20000, 70000),
        StageConfig("s", "synthetic sequences", 8, 20000, 0, (16000,), 1e-4, 2, 4, 4000, 14000, crop=192),
        StageConfig("m", "synthetic and own videos", 8, 20000, 0, (16000,), 1e-4, 2, 4, 4000, 14000, crop=192),
    )
}
"""The published stages 0 to 3, and two that need no download: s, then m with what videos there are."""


@dataclass(frozen=True)
class OptimisationConfig:
    """How weights follow gradients; what is published stands as default.

    Raises:
        ValueError: a value out of its range; the message names the flag.
    """

    weight_decay: float = 0.05
    gamma: float = 0.1
    deep_update_prob: float = 0.2
    max_gradient_norm: float | None = None
    """Longer gradients are scaled down to this; None: never."""
    mixed_precision: bool = False
    samples_at_once: int | None = None
    """Gradients are accumulated over this many of a process's samples at a time; None: all together."""
    checkpoint_activations: bool = False
    """Compute every frame's activations again in the backward pass, rather than keep them."""
    compile: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.deep_update_prob <= 1:
            raise ValueError(f"--deep_update_prob is a probability, not {self.deep_update_prob}")
        if self.samples_at_once is not None and self.samples_at_once < 1:
            raise ValueError(f"--samples_at_once must be at least 1, not {self.samples_at_once}")
        if self.max_gradient_norm is not None and self.max_gradient_norm <= 0:
            raise ValueError(f"--max_gradient_norm must be positive, not {self.max_gradient_norm}")
        if self.gamma <= 0 or self.weight_decay < 0:
            raise ValueError(f"--gamma must be positive and --weight_decay not negative: {self}")
