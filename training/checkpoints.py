"""A run's folder: checkpoints, with everything it needs to continue as if it had never stopped, and networks.

`NAME_checkpoint_STAGEINDEX_ITERATION.pth` resumes training; `NAME_STAGE_ITERATION.pth` and `NAME_best.pth` hold the
network alone. All are written whole or not at all.
"""

import logging
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from model.checkpoint import read_checkpoint, save_network
from model.network import XMem
from util.errors import UserError
from util.files import atomic_path
from util.torch_files import read_torch_file

FORMAT = "xmem-training-1"
VALIDATED_ON = "validated_on"  # in metadata
WEIGHTS_IN_CHECKPOINT = 3  # the network's, and Adam's two moments of each

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFolder:
    """The files of one experiment.

    Attributes:
        keep: checkpoints that are kept, the newest.
        metadata: where the weights come from; recorded in checkpoints and network files.

    Raises:
        ValueError: a value out of its range; the message names the flag.
    """

    path: Path
    name: str
    keep: int = 3
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.+-]+", self.name):
            raise ValueError(f"--exp_id {self.name!r} is part of file names: use letters, digits, and any of _ . + -")
        if self.keep < 1:
            raise ValueError(f"--keep_checkpoints must be at least 1, not {self.keep}")

    def write_checkpoint(self, stage_index: int, iteration: int, content: Mapping[str, Any]) -> Path:
        """Write a checkpoint and remove the oldest beyond `keep`.

        Raises:
            UserError: it cannot be written; earlier ones are as they were.
        """
        path = self.path / f"{self.name}_checkpoint_{stage_index}_{iteration:08}.pth"
        content = {"format": FORMAT, "stage_index": stage_index, "iteration": iteration, **content}
        with writing(path), atomic_path(path) as temporary:
            torch.save({**content, "metadata": dict(self.metadata)}, temporary)
        # One that is further on can only be damaged, or this run would have continued it.
        for old in [other for other in self.newest_first() if progress(other) <= progress(path)][self.keep :]:
            old.unlink()
        return path

    def write_network(self, network: XMem, stage: str, iteration: int) -> Path:
        """Write the network alone, for eval.py and --load_network.

        Raises:
            UserError: it cannot be written.
        """
        return self._write_network(network, f"{self.name}_{stage}_{iteration:08}.pth", stage, iteration)

    def write_if_best(self, network: XMem, stage: str, iteration: int, score: float) -> Path | None:
        """Write the network if it scores better than the one that was written as the best so far.

        One that was validated on something else (`metadata`) is no rival: it is kept under a name that says so.

        Raises:
            UserError: it cannot be written, or what was written before is damaged.
        """
        best = self.path / f"{self.name}_best.pth"
        if best.exists():
            rival = read_checkpoint(best).metadata
            if rival.get(VALIDATED_ON) != self.metadata.get(VALIDATED_ON):
                earlier = best.with_name(f"{self.name}_best_{rival['stage']}_{rival['iteration']:08}.pth")
                best.replace(earlier)
                log.warning("the best of another validation (%s) is now %s", rival.get(VALIDATED_ON), earlier)
            elif rival.get("validation_j_and_f", score) >= score:
                return None
        return self._write_network(network, best.name, stage, iteration, validation_j_and_f=score)

    def _write_network(self, network: XMem, name: str, stage: str, iteration: int, **more: float) -> Path:
        path = self.path / name
        metadata = {**self.metadata, "stage": stage, "iteration": iteration, **more}
        with writing(path):
            save_network(path, network.config, network.state_dict(), metadata)
        return path

    def check_space(self, network: XMem) -> None:
        """See that the checkpoints which will be kept, one more, and a network fit on the disk.

        Raises:
            UserError: they do not.
        """
        weights = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
        needed = weights * (WEIGHTS_IN_CHECKPOINT * (self.keep + 1) + 1)
        needed -= sum(path.stat().st_size for path in self.newest_first())
        free = shutil.disk_usage(self.path).free
        if free < needed:
            raise UserError(
                f"{self.path} has room for {free / 2**20:.0f} MiB, and checkpoints will take {needed / 2**20:.0f} MiB: "
                "make room there, choose another --output, or lower --keep_checkpoints"
            )

    def newest_first(self) -> list[Path]:
        """All checkpoint files, by stage and iteration."""
        pattern = re.compile(re.escape(self.name) + r"_checkpoint_\d+_\d+\.pth")
        return sorted((path for path in self.path.glob("*.pth") if pattern.fullmatch(path.name)), key=progress)[::-1]

    def newest_whole(self) -> dict[str, Any] | None:
        """The newest checkpoint that can be read, if there is any; damaged ones are passed over with a warning.

        Raises:
            UserError: all are damaged.
        """
        paths = self.newest_first()
        for path in paths:
            try:
                return read_training_checkpoint(path)
            except UserError as error:
                log.warning("%s; trying the one before", error)
        if paths:
            raise UserError(f"none of the checkpoints in {self.path} is whole: remove them to begin anew")
        return None

    def refuse_earlier_run(self) -> None:
        """See that a run which begins here would not replace another's files.

        Raises:
            UserError: it would.
        """
        if self.newest_first():
            remedy = "continue it with --resume auto, or give this one another --exp_id"
            raise UserError(f"{self.path} holds checkpoints of an earlier run: {remedy}")
        if any(self.path.glob(f"{self.name}_*.pth")):
            raise UserError(f"{self.path} holds networks of an earlier run: give this one another --exp_id")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What keeps `path` from being written is the user's to mend."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch's own writer turns a full disk into a RuntimeError
        reason = " ".join(str(error).split())
        raise UserError(f"{path} cannot be written: {reason}; make room there, then --resume auto") from error


def progress(checkpoint: Path) -> tuple[int, int]:
    """Stage index and iteration, from the file's name."""
    stage_index, iteration = checkpoint.stem.split("_")[-2:]
    return int(stage_index), int(iteration)


def read_training_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content, on the CPU.

    Raises:
        UserError: the file is missing, truncated, or something else.
    """
    return read_torch_file(path, FORMAT, "a training checkpoint", map_location="cpu")
