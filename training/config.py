"""What a training run does: the stages it goes through, and how weights follow gradients."""

from dataclasses import dataclass

from training.losses import Bootstrapping


@dataclass(frozen=True)
class StageConfig:
    """One stage: its schedule and its clips. Batch sizes are totals over all processes.

    Raises:
        ValueError: a value out of its range.
    """

    name: str
    batch_size: int
    iterations: int
    finetune: int
    steps: tuple[int, ...]
    lr: float
    num_ref_frames: int
    num_frames: int
    bootstrapping: Bootstrapping
    crop: int = 384

    def __post_init__(self) -> None:
        if min(self.batch_size, self.iterations, self.num_ref_frames, self.crop) < 1 or self.finetune < 0:
            raise ValueError(f"stage {self.name}: sizes and iterations must be positive")
        if self.num_frames < 2:
            raise ValueError(f"stage {self.name}: a clip needs at least two frames, not {self.num_frames}")
        if self.crop % 16:
            raise ValueError(f"stage {self.name}: the crop must be a multiple of 16, not {self.crop}")
        if self.lr <= 0:
            raise ValueError(f"stage {self.name}: the learning rate must be positive, not {self.lr}")

    @property
    def total_iterations(self) -> int:
        return self.iterations + self.finetune

    def learning_rate(self, iteration: int, gamma: float) -> float:
        """Step decay: ×gamma at each of `steps`."""
        return self.lr * gamma ** sum(iteration >= step for step in self.steps)


STAGES = {
    stage.name: stage
    for stage in (
        StageConfig("0", 16, 150000, 0, (), 1e-5, 2, 3, Bootstrapping(20000, 70000)),
        StageConfig("1", 8, 250000, 0, (200000,), 1e-5, 3, 8, Bootstrapping(20000, 70000)),
        StageConfig("2", 8, 150000, 10000, (120000,), 1e-5, 3, 8, Bootstrapping(20000, 70000)),
        StageConfig("3", 8, 100000, 10000, (80000,), 1e-5, 3, 8, Bootstrapping(20000, 70000)),
    )
}
"""The published stages: 0 static images, 1 BL30K, 2 YouTubeVOS + DAVIS long, 3 YouTubeVOS + DAVIS short."""


@dataclass(frozen=True)
class OptimisationConfig:
    """How weights follow gradients; what is published stands as default."""

    weight_decay: float = 0.05
    gamma: float = 0.1
    deep_update_prob: float = 0.2
    mixed_precision: bool = False
    samples_at_once: int | None = None
    """Gradients are accumulated over this many of a process's samples at a time; None: all together."""

    def __post_init__(self) -> None:
        if not 0 <= self.deep_update_prob <= 1:
            raise ValueError(f"deep_update_prob is a probability, not {self.deep_update_prob}")
        if self.samples_at_once is not None and self.samples_at_once < 1:
            raise ValueError(f"samples_at_once must be at least 1, not {self.samples_at_once}")
