"""The training loop: batch after batch, so that nothing is lost whenever it stops."""

import logging
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from dataset.sampling import TrainingSource
from model.network import XMem
from training.batches import load_batches
from training.checkpoints import RunFolder
from training.config import OptimisationConfig, StageConfig
from training.passed_over import PassedOver
from training.step import Stepper, StepReport, TrainingBatch
from util.errors import UserError
from util.processes import Processes

MOST_SKIPPED_IN_A_ROW = 20
SECONDS_BEFORE_A_SECOND_SIGNAL = 1.0  # torchrun passes on what the terminal has sent to all already

log = logging.getLogger(__name__)

Validate = Callable[[XMem, Callable[[], None]], float]
"""Gives a network's J&F in percent, and leaves the network as it was; what the second argument raises ends it."""


@dataclass(frozen=True)
class Saving:
    """When files are written besides the end of a stage; in iterations and minutes.

    Raises:
        ValueError: a value is not positive.
    """

    checkpoint_iterations: int = 50000
    checkpoint_minutes: float = 30.0
    network_iterations: int = 25000
    validation_iterations: int = 5000
    """After so many, the network is validated if it is at all, and kept if it is the best so far."""

    def __post_init__(self) -> None:
        intervals = (self.checkpoint_iterations, self.network_iterations, self.validation_iterations)
        if min(intervals) < 1 or self.checkpoint_minutes <= 0:
            raise ValueError(
                f"--save_checkpoint_interval, --save_checkpoint_minutes, --save_network_interval and "
                f"--validation_interval must be positive: {self}"
            )


@runtime_checkable
class Observer(Protocol):
    """Whoever watches a run, in process 0."""

    def on_stage(self, stage: StageConfig, begin: int) -> None:
        """Called before the first iteration, number `begin`."""

    def on_step(
        self, stage: StageConfig, iteration: int, report: StepReport, batch: TrainingBatch, seconds_waited: float
    ) -> None:
        """Called after every iteration."""

    def on_network(self, stage: StageConfig, done: int, network: XMem) -> None:
        """Called when `done` iterations are done, and saved if due; leaves the network as it was."""

    def on_validation(self, stage: StageConfig, done: int, j_and_f: float) -> None:
        """Called when the network has been validated after `done` iterations; J&F is in percent."""


class StopRequest(AbstractContextManager):
    """SIGTERM and SIGINT ask to stop after the iteration that runs; another SIGINT, later on, interrupts at once."""

    def __enter__(self) -> "StopRequest":
        self.requested = False
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def _note(self, number: int, _: Any) -> None:
        if not self.requested:
            self.requested, self._since = True, time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self._since > SECONDS_BEFORE_A_SECOND_SIGNAL:
            raise KeyboardInterrupt

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class GivenUpError(Exception):
    """A validation was ended, since the run is to stop."""


@dataclass(eq=False)
class StageProgress:
    """How far a stage has come."""

    stage: StageConfig
    stage_index: int
    stepper: Stepper
    done: int = 0
    """Iterations."""
    skipped: int = 0
    """Of them, those that were not finite."""
    skipped_in_a_row: int = 0
    saved_at: float = field(default_factory=time.monotonic)

    @property
    def at_end(self) -> bool:
        return self.done == self.stage.total_iterations

    def is_due(self, every: int) -> bool:
        """Whether something is to be done now, `every` so many iterations and at the stage's end."""
        return self.at_end or self.done % every == 0

    def count(self, report: StepReport) -> None:
        """One more iteration is done.

        Raises:
            UserError: too many in a row gave something that is not finite.
        """
        self.done += 1
        self.skipped += report.skipped
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if report.skipped and not report.overflowed else 0
        if self.skipped_in_a_row == MOST_SKIPPED_IN_A_ROW:
            raise UserError(
                f"stage {self.stage.name}: the loss or its gradient was not finite in {MOST_SKIPPED_IN_A_ROW} "
                f"iterations in a row, the last {self.done}; lower --s{self.stage.name}_lr, or continue from an "
                "earlier checkpoint"
            )


@dataclass(frozen=True, eq=False)
class Trainer:
    """What all stages of a run share.

    Attributes:
        workers: processes that make batches ahead of time, for each training process; 0: none.
        observer: None in all processes but the first.
        settings: recorded in checkpoints, for comparison when they are resumed.
        validate: used by process 0, while the others wait.
    """

    optimisation: OptimisationConfig
    processes: Processes
    folder: RunFolder
    saving: Saving
    seed: int
    workers: int
    observer: Observer | None
    stop: StopRequest
    settings: dict[str, Any]
    validate: Validate | None = None

    def train(
        self,
        network: XMem,
        stage: StageConfig,
        stage_index: int,
        source_of: Callable[[bool], TrainingSource],
        resume: dict[str, Any] | None = None,
        samples_in_pass: int | None = None,
    ) -> bool:
        """Train one stage to its end, or to where the run is asked to stop; returns whether it may go on.

        Args:
            source_of: the stage's data; its argument says whether the run is fine-tuning.
            resume: a checkpoint of this stage to continue from. The state is taken out of it, to free its memory.
            samples_in_pass: how many show all data once, if they have an end.

        Raises:
            UserError: too many iterations in a row gave something that is not finite; a file cannot be written; with
                `strict` data, one cannot be read. All processes raise the same.
        """
        progress = StageProgress(stage, stage_index, Stepper(network, stage, self.optimisation, self.processes))
        stepper = progress.stepper
        if resume is not None:
            progress.done, progress.skipped = resume["iteration"], resume.get("skipped", 0)
            stepper.load_state(resume.pop("stepper"))
        if self.observer is not None:
            self.observer.on_stage(stage, progress.done)
        share = self.processes.share_of(stage.batch_size)
        batches = load_batches(stage, source_of, self.optimisation, self.seed, share, progress.done, self.workers)
        passed_over = PassedOver(stage.name, stage.batch_size, samples_in_pass, self.processes)
        stopping = False
        while not (progress.at_end or stopping):
            waiting_since = time.monotonic()
            with self.processes.failing_together(stepper.device):
                batch, unusable = next(batches)
            waited = time.monotonic() - waiting_since
            report = stepper.step(batch, progress.done)
            if self.observer is not None:
                self.observer.on_step(stage, progress.done, report, batch, waited)
            progress.count(report)
            passed_over.note(unusable)
            passed_over.iteration_done(progress.done)
            stopping = self.processes.any(self.stop.requested, stepper.device)
            with self.processes.failing_together(stepper.device):
                if self.processes.rank == 0:
                    self._keep(network, progress, stopping)
            if self.observer is not None:
                self.observer.on_network(stage, progress.done, network)
        passed_over.tell()
        if progress.skipped:
            log.warning("stage %s: %d of %d iterations were skipped, since the loss or its gradient was not finite",
                        stage.name, progress.skipped, progress.done)  # fmt: skip
        return not stopping

    def _keep(self, network: XMem, progress: StageProgress, stopping: bool) -> None:
        """In process 0: validate the network and write files, as far as that is due."""
        stage, done = progress.stage, progress.done
        failure = None
        if self.validate is not None and progress.is_due(self.saving.validation_iterations) and not stopping:
            try:
                self._validate(network, stage, done)
            except Exception as error:  # whatever it is, it must not cost what has been learned
                failure = error
        leaving = stopping or failure is not None
        minutes = (time.monotonic() - progress.saved_at) / 60
        if leaving or minutes >= self.saving.checkpoint_minutes or progress.is_due(self.saving.checkpoint_iterations):
            content = {"settings": self.settings, "skipped": progress.skipped, "stepper": progress.stepper.state()}
            log.info("checkpoint: %s", self.folder.write_checkpoint(progress.stage_index, done, content))
            progress.saved_at = time.monotonic()
        if progress.is_due(self.saving.network_iterations):
            log.info("network: %s", self.folder.write_network(network, stage.name, done))
        if failure is not None:
            raise failure

    def _validate(self, network: XMem, stage: StageConfig, done: int) -> None:
        def end_if_asked_to_stop() -> None:
            if self.stop.requested:
                raise GivenUpError

        try:
            j_and_f = self.validate(network, end_if_asked_to_stop)
        except GivenUpError:
            log.warning("validation after %d iterations was given up, to stop soon", done)
            return
        if self.observer is not None:
            self.observer.on_validation(stage, done, j_and_f)
        if (path := self.folder.write_if_best(network, stage.name, done, j_and_f)) is not None:
            log.info("best network so far, J&F %.1f: %s", j_and_f, path)
