"""A run's folder: checkpoints, with everything it needs to continue as if it had never stopped, and networks.

`NAME_checkpoint_STAGEINDEX_ITERATION.pth` resumes training; `NAME_STAGE_ITERATION.pth` holds the network alone. Both
are written whole or not at all.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from model.checkpoint import save_network
from model.network import XMem
from util.errors import UserError
from util.files import atomic_path
from util.torch_files import read_torch_file

FORMAT = "xmem-training-1"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFolder:
    """The files of one experiment.

    Attributes:
        keep: checkpoints that are kept, the newest.
        metadata: where the weights come from; recorded in network files.
    """

    path: Path
    name: str
    keep: int = 3
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def write_checkpoint(self, stage_index: int, iteration: int, content: Mapping[str, Any]) -> Path:
        """Write a checkpoint and remove the oldest beyond `keep`.

        Raises:
            UserError: it cannot be written; earlier ones are as they were.
        """
        path = self.path / f"{self.name}_checkpoint_{stage_index}_{iteration:08}.pth"
        try:
            with atomic_path(path) as temporary:
                torch.save({"format": FORMAT, "stage_index": stage_index, "iteration": iteration, **content}, temporary)
        except (OSError, RuntimeError) as error:  # torch's own writer turns a full disk into a RuntimeError
            raise UserError(f"{path} cannot be written: {error}; make room there, then --resume auto") from error
        for old in self.newest_first()[self.keep :]:
            old.unlink()
        return path

    def write_network(self, network: XMem, stage: str, iteration: int) -> Path:
        """Write the network alone, for eval.py and --load_network.

        Raises:
            UserError: it cannot be written.
        """
        return self._write_network(network, f"{self.name}_{stage}_{iteration:08}.pth", stage, iteration)

    def write_best(self, network: XMem, stage: str, iteration: int, score: float) -> Path:
        """Write the network that scored best so far.

        Raises:
            UserError: it cannot be written.
        """
        return self._write_network(network, f"{self.name}_best.pth", stage, iteration, validation_j_and_f=score)

    def _write_network(self, network: XMem, name: str, stage: str, iteration: int, **more: float) -> Path:
        path = self.path / name
        metadata = {**self.metadata, "stage": stage, "iteration": iteration, **more}
        try:
            save_network(path, network.config, network.state_dict(), metadata)
        except (OSError, RuntimeError) as error:
            raise UserError(f"{path} cannot be written: {error}; make room there, then --resume auto") from error
        return path

    def newest_first(self) -> list[Path]:
        """All checkpoint files, by stage and iteration."""

        def progress(path: Path) -> tuple[int, int]:
            stage_index, iteration = path.stem.split("_")[-2:]
            return int(stage_index), int(iteration)

        pattern = re.compile(re.escape(self.name) + r"_checkpoint_\d+_\d+\.pth")
        return sorted((path for path in self.path.glob("*.pth") if pattern.fullmatch(path.name)), key=progress)[::-1]

    def newest_whole(self) -> dict[str, Any] | None:
        """The newest checkpoint that can be read; damaged ones are passed over with a warning."""
        for path in self.newest_first():
            try:
                return read_training_checkpoint(path)
            except UserError as error:
                log.warning("%s; trying the one before", error)
        return None


def read_training_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content, on the CPU.

    Raises:
        UserError: the file is missing, truncated, or something else.
    """
    return read_torch_file(path, FORMAT, "a training checkpoint", map_location="cpu")
