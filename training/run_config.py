"""All that a run does, checked; and what of it decides the weights that come out."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from model.config import NetworkConfig
from training.config import OptimisationConfig, StageConfig
from training.sources import TrainingData
from training.trainer import Saving


@dataclass(frozen=True)
class RunConfig:
    """Stages to go through, and everything that they share.

    Raises:
        ValueError: a value out of its range; the message names the flag.
    """

    stages: tuple[StageConfig, ...]
    network: NetworkConfig
    optimisation: OptimisationConfig
    data: TrainingData
    saving: Saving
    seed: int

    def __post_init__(self) -> None:
        names = "".join(stage.name for stage in self.stages)
        if not names or len(set(names)) < len(names):
            raise ValueError(f"--stages {names!r}: name one stage or several, none of them twice")
        if self.seed < 0:
            raise ValueError(f"--seed must not be negative, but is {self.seed}")

    def settings(self) -> dict[str, Any]:
        """What decides the weights, as JSON has it. What only decides how fast, or where files lie, is not in it."""
        optimisation = asdict(self.optimisation)
        for name in ("samples_at_once", "checkpoint_activations", "compile"):
            del optimisation[name]
        return {
            "stages": {f"{index} ({stage.name})": plain(asdict(stage)) for index, stage in enumerate(self.stages)},
            "network": plain(asdict(self.network)),
            "optimisation": optimisation,
            "seed": self.seed,
            "videos_share": self.data.videos_share,
            "videos_smallest_crop": self.data.videos_smallest_crop,
        }


def plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """With lists for tuples."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
