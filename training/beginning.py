"""Where a run begins: at a checkpoint, with the weights of a network file, or with none."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.checkpoint import Checkpoint, read_checkpoint
from model.config import NetworkConfig
from model.network import XMem
from training.config import StageConfig
from training.initialisation import RGB_AND_MASK, network_from
from training.sources import Seen


@dataclass(eq=False)
class Beginning:
    """What there is to go on from.

    Attributes:
        origin: what it is called in messages.
        network: None: one is to be made.
        checkpoint: a training checkpoint's content, if the run continues another.
        seen: what the network has been trained on.
    """

    origin: str = ""
    network: XMem | None = None
    checkpoint: dict[str, Any] = field(default_factory=dict)
    seen: Seen = field(default_factory=Seen)

    @classmethod
    def at_checkpoint(cls, checkpoint: dict[str, Any]) -> "Beginning":
        """
        Raises:
            UserError: its network is none that this program makes.
        """
        weights, fields = checkpoint["stepper"]["network"], dict(checkpoint["settings"]["network"])
        fields["single_object"] = weights["value_encoder.conv1.weight"].shape[1] == RGB_AND_MASK  # the stage's network
        network = network_from(Checkpoint(Path("the checkpoint"), NetworkConfig.from_plain(fields), weights, {}))
        seen = Seen.from_metadata(checkpoint.get("metadata", {}), "the run before")
        return cls("the checkpoint", network, checkpoint, seen)

    @classmethod
    def with_weights(cls, path: Path) -> "Beginning":
        """
        Raises:
            UserError: `path` is no network file.
        """
        file = read_checkpoint(path)
        return cls(f"--load_network {path}", network_from(file), seen=Seen.from_metadata(file.metadata, path.name))

    def first_stage(self, stages: tuple[StageConfig, ...]) -> int:
        """The index of the first stage that is not finished; their number if all are."""
        if not self.checkpoint:
            return 0
        index = self.checkpoint["stage_index"]
        is_finished = index < len(stages) and self.checkpoint["iteration"] >= stages[index].total_iterations
        return min(index + is_finished, len(stages))
