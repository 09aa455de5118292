"""The training loop: batch after batch, so that nothing is lost whenever it stops."""

import logging
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from dataset.training_source import TrainingSource
from model.network import XMem
from training.batches import load_batches
from training.checkpoints import RunFolder
from training.config import OptimisationConfig, StageConfig
from training.processes import Processes
from training.step import Stepper, StepReport, TrainingBatch
from util.errors import UserError

MOST_SKIPPED_IN_A_ROW = 20

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Saving:
    """When files are written besides the end of a stage."""

    checkpoint_iterations: int = 50000
    checkpoint_minutes: float = 30.0
    network_iterations: int = 25000

    def __post_init__(self) -> None:
        if min(self.checkpoint_iterations, self.network_iterations) < 1 or self.checkpoint_minutes <= 0:
            raise ValueError(f"--save_… intervals must be positive: {self}")


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
        """Called when `done` iterations are done; may look at the network, and leaves it as it was."""


class StopRequest(AbstractContextManager):
    """SIGTERM and SIGINT ask to stop after the iteration that runs; a second SIGINT interrupts at once."""

    def __enter__(self) -> "StopRequest":
        self.requested = False
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def _note(self, number: int, _: Any) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


@dataclass(frozen=True, eq=False)
class Trainer:
    """What all stages of a run share.

    Attributes:
        settings: recorded in checkpoints, for comparison when they are resumed.
        workers: processes that make batches ahead of time, for each training process; 0: none.
    """

    optimisation: OptimisationConfig
    processes: Processes
    folder: RunFolder
    saving: Saving
    seed: int
    workers: int
    observer: Observer
    stop: StopRequest
    settings: dict[str, Any]

    def train(
        self,
        network: XMem,
        stage: StageConfig,
        stage_index: int,
        source_of: Callable[[bool], TrainingSource],
        resume: dict[str, Any] | None = None,
    ) -> bool:
        """Train one stage to its end, or to where it is asked to stop; returns whether it reached the end.

        Args:
            source_of: the stage's data; its argument says whether the run is fine-tuning.
            resume: a checkpoint of this stage to continue from.

        Raises:
            UserError: too many iterations in a row gave something that is not finite; a file cannot be written.
        """
        stepper = Stepper(network, stage, self.optimisation, self.processes)
        begin = 0
        if resume is not None:
            begin = resume["iteration"]
            stepper.load_state(resume["stepper"])
        leads = self.processes.rank == 0
        if leads:
            self.observer.on_stage(stage, begin)

        def save(done: int, checkpoint: bool, trained_network: bool) -> None:
            if leads and checkpoint:
                content = {"settings": self.settings, "stepper": stepper.state()}
                log.info("checkpoint: %s", self.folder.write_checkpoint(stage_index, done, content))
            if leads and trained_network:
                log.info("network: %s", self.folder.write_network(network, stage.name, done))

        share = self.processes.share_of(stage.batch_size)
        batches = load_batches(stage, source_of, self.optimisation, self.seed, share, begin, self.workers)
        skipped_in_a_row, saved_at, waiting_since = 0, time.monotonic(), time.monotonic()
        for iteration, (batch, passed_over) in enumerate(batches, start=begin):
            waited = time.monotonic() - waiting_since
            for line in passed_over:
                log.warning("passed over: %s", line)
            report = stepper.step(batch, iteration)
            if leads:
                self.observer.on_step(stage, iteration, report, batch, waited)
            skipped_in_a_row = skipped_in_a_row + 1 if report.skipped and not report.overflowed else 0
            if skipped_in_a_row == MOST_SKIPPED_IN_A_ROW:
                raise UserError(
                    f"stage {stage.name}: the loss or its gradient was not finite in {skipped_in_a_row} iterations in "
                    f"a row, the last {iteration}; lower --s{stage.name}_lr, or continue from an earlier checkpoint"
                )
            done = iteration + 1
            if self.processes.any(self.stop.requested, stepper.device):
                save(done, checkpoint=True, trained_network=done == stage.total_iterations)
                return done == stage.total_iterations
            is_last = done == stage.total_iterations
            is_time = self.processes.any(
                time.monotonic() - saved_at >= 60 * self.saving.checkpoint_minutes, stepper.device
            )
            if is_last or is_time or done % self.saving.checkpoint_iterations == 0:
                save(done, checkpoint=True, trained_network=False)
                saved_at = time.monotonic()
            if is_last or done % self.saving.network_iterations == 0:
                save(done, checkpoint=False, trained_network=True)
            if leads:
                self.observer.on_network(stage, done, network)
            waiting_since = time.monotonic()
        return True
