"""Carries out runs and traces, each at most once, and keeps what came out."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from dataset.evaluation_sets import EvaluationSet
from evaluation.config import EvaluationConfig
from evaluation.evaluate import Summary, evaluate
from evaluation.networks import videos_seen
from evaluation.output_folder import changed_settings, read_json
from evaluation.work_queue import WorkQueue
from model.checkpoint import Checkpoint, read_checkpoint
from model.network import XMem
from reproduction.data_sets import MissingError
from reproduction.planning import Budget, Task
from reproduction.profiles import Profile
from reproduction.records import read_record, write_record
from reproduction.runs import Run, RunRecord, as_json, recorded, without_places
from reproduction.traces import Trace, trace
from scoring.youtube_vos import has_ground_truth, score_youtube_vos
from util.device import hardware_name
from util.errors import UserError
from util.files import sha256_of
from util.provenance import git_commit

YOUTUBE_VOS = ("Y18", "Y19")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Networks:
    """The network that is asked for, and those beside it that some variants need: XMem.pth, XMem-s012.pth."""

    model: Path
    device: torch.device
    _last: dict[str, tuple[Checkpoint, XMem]] = field(default_factory=dict)
    _checksums: dict[str, str] = field(default_factory=dict)

    def file(self, suffix: str) -> Path:
        """Its file.

        Raises:
            MissingError: it is not there.
        """
        path = self.model.with_name(f"{self.model.stem}-{suffix}{self.model.suffix}") if suffix else self.model
        if not path.is_file():
            raise MissingError(f"weights: {path.name}, looked for beside {self.model.name}")
        return path

    def checksum(self, suffix: str) -> str:
        """Of its file."""
        if suffix not in self._checksums:
            self._checksums[suffix] = sha256_of(self.file(suffix))
        return self._checksums[suffix]

    def open(self, suffix: str) -> tuple[Checkpoint, XMem]:
        """What its file holds, and the network of it; the last one is kept."""
        if suffix not in self._last:
            self._last.clear()
            checkpoint = read_checkpoint(self.file(suffix))
            self._last[suffix] = checkpoint, XMem.from_checkpoint(checkpoint, self.device)
        return self._last[suffix]


@dataclass
class Runner:
    """All that is the same for all runs.

    Attributes:
        overwrite: runs with other settings that lie in their places are replaced; else they are an error.
        absent: name of a task → why it was not done, in process 0.
    """

    profile: Profile
    networks: Networks
    data_root: Path
    output: Path
    sharing: WorkQueue
    budget: Budget
    overwrite: bool = False
    absent: dict[str, str] = field(default_factory=dict)

    @cached_property
    def hardware(self) -> str:
        return hardware_name(self.networks.device)

    @cached_property
    def commit(self) -> str:
        return git_commit()

    @property
    def mixed(self) -> bool:
        """Whether mixed precision is usual, as in eval.py."""
        return self.networks.device.type == "cuda"

    @property
    def made_root(self) -> Path:
        """Where data sets that are made here lie."""
        return self.output / "made"

    def config(self, run: Run) -> EvaluationConfig:
        """The run's whole configuration.

        Raises:
            MissingError: its weights are not there.
        """
        weights, checksum = self.networks.file(run.variant.network), self.networks.checksum(run.variant.network)
        root = run.data_set.root(self.data_root, self.made_root)
        return run.evaluation(root, weights, checksum, self.mixed, self.profile.scales)

    def record_file(self, run: Run) -> Path:
        """Where what came out of a run is kept."""
        return self.output / "runs" / f"{run.folder}.json"

    def trace_file(self, run: Run) -> Path:
        """Where a trace is kept."""
        return self.output / "traces" / f"{run.variant.name}.json"

    def record(self, run: Run) -> RunRecord | None:
        """What came out of a run with the settings of now, if it has ended; videos may have failed.

        Raises:
            MissingError: its weights are not there.
            UserError: the record is damaged.
        """
        record = read_record(RunRecord, self.record_file(run))
        return record if record and record.is_of(self.config(run), run.data_set.videos) else None

    def trace(self, run: Run) -> Trace | None:
        """What was traced of a variant with the settings of now, if it is done.

        Raises:
            MissingError, UserError: as `record`.
        """
        done = read_record(Trace, self.trace_file(run))
        return done if done and done.is_of(self.config(run), self.profile.traced_frames) else None

    def do(self, tasks: Sequence[Task]) -> None:
        """Do what is not done yet, in this order, as far as the budget and what is there allow.

        Every process of the program does its share of each run's videos; process 0 traces.

        Raises:
            UserError: a run with other settings lies in the place of one.
        """
        for number, task in enumerate(tasks, start=1):
            if self.sharing.agreed(lambda task=task, number=number: self._is_to_be_done(task, number, len(tasks))):
                begun = time.monotonic()
                frames = self._trace(task.run) if task.is_trace else self._run(task.run)
                self.budget.spent(task.run.data_set.folder, frames, time.monotonic() - begun)

    def _is_to_be_done(self, task: Task, number: int, count: int) -> bool:
        """Asked of process 0: prepares what the task needs, and says what it does, or remembers why it does not."""
        try:
            if self._is_done(task):
                return False
            task.run.data_set.prepare(self.data_root, self.made_root)
            evaluation_set = self._open(task.run)
        except MissingError as error:
            self.absent[task.name] = str(error)
            return False
        if task.is_trace:
            self._refuse_other_trace(task.run)
        frames = self.profile.traced_frames if task.is_trace else frames_of(evaluation_set, self.config(task.run))
        kind = task.run.data_set.folder
        if refusal := self.budget.refusal(kind, frames):
            self.absent[task.name] = refusal
            return False
        needed = self.budget.estimate(kind, frames)
        log.info(
            "%d of %d: %s, %d frames%s", number, count, task.name, frames, f", {needed / 60:.1f} min" if needed else ""
        )
        return True

    def _is_done(self, task: Task) -> bool:
        if task.is_trace:
            return self.trace(task.run) is not None
        record = self.record(task.run)
        return record is not None and not record.failures  # those that failed are tried again

    def _open(self, run: Run) -> EvaluationSet:
        config = self.config(run)
        return run.data_set.open(self.data_root, self.made_root, config.sizes)

    def _run(self, run: Run) -> int:
        """Segment and score, or go on with it; gives the frames that the network has seen, in sizes of the first."""
        begun = time.monotonic()
        config, evaluation_set = self.config(run), self._open(run)
        folder = self.output / "runs" / run.folder
        checkpoint, network = self.networks.open(run.variant.network)
        summary = evaluate(
            evaluation_set,
            network,
            config,
            folder,
            self.sharing,
            videos_seen=videos_seen(checkpoint, evaluation_set),
            overwrite=self.overwrite and is_of_others(folder, config),
        )
        if summary is not None:
            server_zip = f"runs/{run.folder}.zip"
            record = recorded(
                run,
                config,
                summary,
                self._scores(run, summary, folder),
                server_zip if (self.output / server_zip).is_file() else None,
                time.monotonic() - begun,
                self.hardware,
                self.commit,
            )
            write_record(record, self.record_file(run), indent=2)
        return frames_of(evaluation_set, config)

    def _scores(self, run: Run, summary: Summary, folder: Path) -> dict[str, float]:
        """By metric, in percent; of YouTubeVOS G, where its ground truth is here."""
        if (scores := summary.scores) is not None:
            return {"J&F": scores.j_and_f, "J": scores.j, "F": scores.f}
        root = run.data_set.root(self.data_root, self.made_root)
        if run.data_set.layout not in YOUTUBE_VOS or summary.failures or not has_ground_truth(root):
            return {}
        try:
            return score_youtube_vos(root, folder / "Annotations")
        except UserError as error:
            log.warning("not scored: %s", error)
            return {}

    def _trace(self, run: Run) -> int:
        if self.sharing.rank > 0:
            return 0
        video, *_ = self._open(run).videos
        _, network = self.networks.open(run.variant.network)
        traced = trace(
            run.variant.name,
            network,
            self.config(run),
            video,
            self.profile.traced_frames,
            self.hardware,
            self.commit,
        )
        write_record(traced, self.trace_file(run))
        if traced.failed:
            self.absent[Task(0, run, is_trace=True).name] = traced.ended_by
        return len(traced.seconds)

    def _refuse_other_trace(self, run: Run) -> None:
        """As for runs: what was made with other settings is replaced only if the user says so."""
        file = self.trace_file(run)
        if self.overwrite or (there := read_record(Trace, file)) is None:
            return
        if changes := changed_settings(without_places(there.config), without_places(as_json(self.config(run)))):
            raise UserError(f"{file} was made with other settings: {', '.join(changes)}; remove it, or --overwrite")


def is_of_others(folder: Path, config: EvaluationConfig) -> bool:
    """Whether a run with other settings has begun in this folder."""
    begun = folder / "config.json"
    return begun.is_file() and bool(changed_settings(read_json(begun), as_json(config)))


def frames_of(evaluation_set: EvaluationSet, config: EvaluationConfig) -> int:
    """How many frames the network sees, every view of each counted by its pixels, in those of the first."""
    frames = sum(video.frames.frame_count or 0 for video in evaluation_set.videos)
    return round(frames * sum((view.size / config.size) ** 2 for view in config.views))
