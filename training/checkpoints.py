"""Checkpoints: everything a run needs to continue as if it had never stopped.

`NAME_checkpoint_STAGE_ITERATION.pth` resumes training; `NAME_STAGE_ITERATION.pth` holds the network alone. Both are
written whole or not at all.
"""

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from util.errors import UserError
from util.files import atomic_path
from util.torch_files import read_torch_file

FORMAT = "xmem-training-1"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckpointFolder:
    """The checkpoints of one experiment."""

    path: Path
    name: str
    keep: int = 3

    def write(self, stage_index: int, iteration: int, content: dict[str, Any]) -> Path:
        """Write a checkpoint and remove the oldest beyond `keep`.

        Raises:
            OSError: it cannot be written; earlier ones are as they were.
        """
        path = self.path / f"{self.name}_checkpoint_{stage_index}_{iteration:08}.pth"
        with atomic_path(path) as temporary:
            torch.save({"format": FORMAT, "stage_index": stage_index, "iteration": iteration, **content}, temporary)
        for old in self.newest_first()[self.keep :]:
            old.unlink()
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
