"""The files of a run: checkpoints, which resume it as if it had never stopped, networks, and a record of every start.

`NAME_checkpoint_STAGEINDEX_ITERATION.pth` resumes training; `NAME_STAGE_ITERATION.pth` and `NAME_best.pth` hold the
network alone; `run_N.json` is the record of start N. All are written whole or not at all.
"""

import json
import logging
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from model.checkpoint import read_checkpoint, save_network
from model.config import NetworkConfig
from model.network import XMem
from training.config import StageConfig
from training.data import TrainedOn
from training.step import StepperState
from util.errors import UserError
from util.files import atomic_path, write_text_atomically, writing
from util.provenance import git_commit, package_versions
from util.torch_files import DamagedFileError, read_torch_file

FORMAT = "xmem-training-3"
REMEDY = "make room there, then resume"  # where a file cannot be written
WEIGHTS_IN_CHECKPOINT = 4  # the network's, Adam's two moments of each, and their moving average, if it is wanted

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What decides the weights that a run gives: compared when it is resumed, and recorded in its files."""

    config: dict[str, Any]  # RunConfig.deciding_settings
    load_network: str  # digest of the network file that the run started from; "none", or "none, random weights"
    data: dict[str, dict[str, str]]  # contents of the data sets of each stage


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingCheckpoint:
    """All that a run needs to continue as if it had never stopped."""

    stage_index: int  # place of the stage among the run's stages, from 0
    iteration: int  # iterations done in this stage
    skipped_iterations: int  # those without a step, since something was not finite
    network_config: NetworkConfig
    stepper: StepperState
    settings: RunSettings
    trained_on: TrainedOn

    def save(self, path: Path) -> None:
        """Write the checkpoint, whole or not at all.

        Raises:
            UserError: it cannot be written.
        """
        content = vars(self) | {
            "format": FORMAT,
            "network_config": asdict(self.network_config),
            "stepper": vars(self.stepper),
            "settings": asdict(self.settings),
            "trained_on": asdict(self.trained_on),
        }
        with writing(path, REMEDY, by_torch=True), atomic_path(path) as temporary:
            torch.save(content, temporary)

    @classmethod
    def read(cls, path: Path) -> "TrainingCheckpoint":
        """Read a checkpoint onto the CPU.

        Raises:
            UserError: the file is missing, truncated, or something else.
        """
        content = read_torch_file(path, FORMAT, "a training checkpoint", map_location="cpu")
        del content["format"]
        types = {
            "network_config": NetworkConfig, "stepper": StepperState, "settings": RunSettings, "trained_on": TrainedOn,
        }  # fmt: skip
        try:
            return cls(**content | {name: kind(**content[name]) for name, kind in types.items()})
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedFileError(f"{path} is damaged, or of another version of this program") from error


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """The folder of a run, whose files' names begin with `name`; of the checkpoints the newest `keep` are kept."""

    path: Path
    name: str
    keep: int = 3

    def write_checkpoint(self, checkpoint: TrainingCheckpoint) -> Path:
        """Write a checkpoint and remove the oldest beyond `keep`.

        Raises:
            UserError: it cannot be written; earlier ones are as they were.
        """
        path = self.path / f"{self.name}_checkpoint_{checkpoint.stage_index}_{checkpoint.iteration:08}.pth"
        checkpoint.save(path)
        # One that is further on can only be damaged, or this run would have continued it.
        for old in [other for other in self.newest_first() if progress(other) <= progress(path)][self.keep :]:
            old.unlink()
        return path

    def network_path(self, stage: str, iteration: int) -> Path:
        return self.path / f"{self.name}_{stage}_{iteration:08}.pth"

    @property
    def best_path(self) -> Path:
        return self.path / f"{self.name}_best.pth"

    def write_network(self, network: XMem, stage: str, iteration: int, metadata: Mapping[str, Any]) -> Path:
        """Write the network alone, for evaluation or to start from.

        Raises:
            UserError: it cannot be written.
        """
        path = self.network_path(stage, iteration)
        self._write_network(path, network, {**metadata, "stage": stage, "iteration": iteration})
        return path

    def write_if_best(
        self, network: XMem, stage: str, iteration: int, metadata: Mapping[str, Any], *, validated_on: str, score: float
    ) -> Path | None:
        """Write the network if its score is better than that of the best one so far.

        A best one that was validated on something else is kept under another name, and the network written.

        Raises:
            UserError: it cannot be written, or the best one's file is damaged.
        """
        best = self.best_path
        if best.exists():
            so_far = read_checkpoint(best).metadata
            if so_far["validated_on"] != validated_on:
                renamed = best.with_name(f"{self.name}_best_{so_far['stage']}_{so_far['iteration']:08}.pth")
                best.replace(renamed)
                logger.warning("the best network of another validation (%s) is now %s", so_far["validated_on"], renamed)
            elif so_far["validation_j_and_f"] >= score:
                return None
        here = {"stage": stage, "iteration": iteration, "validated_on": validated_on, "validation_j_and_f": score}
        self._write_network(best, network, {**metadata, **here})
        return best

    def _write_network(self, path: Path, network: XMem, metadata: Mapping[str, Any]) -> None:
        with writing(path, REMEDY, by_torch=True):
            save_network(path, network.config, network.state_dict(), metadata)

    def record_start(self, settings: RunSettings, command: Sequence[str], device: str) -> None:
        """Record a start of the run in `run_N.json`: settings, command, device, and versions of program and packages.

        Raises:
            UserError: it cannot be written.
        """
        numbers = [path.stem.removeprefix("run_") for path in self.path.glob("run_*.json")]
        path = self.path / f"run_{1 + max((int(number) for number in numbers if number.isdigit()), default=0)}.json"
        record = {
            "time": datetime.now().astimezone().isoformat(timespec="seconds"),
            "command": list(command),
            "device": device,
            "commit": git_commit(),
            "packages": package_versions(),
            "settings": asdict(settings),
        }
        with writing(path, REMEDY):
            write_text_atomically(path, json.dumps(record, indent=2) + "\n")

    def check_space(self, network: XMem) -> None:
        """Check that the disk has room for the checkpoints to be kept, one more, and a network.

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
                "make room there, choose another output, or lower keep_checkpoints"
            )

    def newest_first(self) -> list[Path]:
        """Return the paths of all checkpoints, ordered by stage and iteration."""
        pattern = re.compile(re.escape(self.name) + r"_checkpoint_\d+_\d+\.pth")
        return sorted((path for path in self.path.glob("*.pth") if pattern.fullmatch(path.name)), key=progress)[::-1]

    def newest_checkpoint(self) -> TrainingCheckpoint | None:
        """Read the newest checkpoint that can be read, if there is any; damaged ones are skipped with a warning.

        Raises:
            UserError: all are damaged; or one cannot be read, or is of another version of the program.
        """
        paths = self.newest_first()
        for path in paths:
            try:
                return TrainingCheckpoint.read(path)
            except DamagedFileError as error:
                logger.warning("%s; trying the one before", error)
        if paths:
            raise UserError(f"none of the checkpoints in {self.path} is whole: remove them to restart")
        return None

    def refuse_earlier_run(self) -> None:
        """Check that a run that starts here would not replace another run's files.

        Raises:
            UserError: it would.
        """
        if self.newest_first():
            raise UserError(f"{self.path} holds checkpoints of an earlier run: resume it, or choose another exp_id")
        if any(self.path.glob(f"{self.name}_*.pth")):
            raise UserError(f"{self.path} holds networks of an earlier run: choose another exp_id")

    def refuse_networks_of_others(self, settings: RunSettings, last: StageConfig) -> None:
        """Check that a run without checkpoints would replace no networks but its own.

        A run may have written some before it was killed without a checkpoint. From the same settings come the same.

        Args:
            settings: of the run.
            last: its last stage. With the network of its end, the run was finished, and its checkpoints removed.

        Raises:
            UserError: it would, or a network's file is damaged.
        """
        finished = self.network_path(last.name, last.total_iterations)
        for path in sorted(self.path.glob(f"{self.name}_*.pth")):
            if path == finished or read_checkpoint(path).metadata.get("settings") != asdict(settings):
                raise UserError(f"{path} is of an earlier run: choose another exp_id")


def progress(checkpoint: Path) -> tuple[int, int]:
    """Return stage index and iteration, from the file's name."""
    stage_index, iteration = checkpoint.stem.split("_")[-2:]
    return int(stage_index), int(iteration)
