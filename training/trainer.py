"""The training loop: stage after stage, batch after batch, so that nothing is lost whenever it stops."""

import logging
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch

from dataset.training_source import TrainingSource
from model.network import XMem
from training.batches import load_batches
from training.checkpoints import CheckpointFolder
from training.config import OptimisationConfig, StageConfig
from training.processes import Processes
from training.step import Stepper, StepReport, TrainingBatch
from util.errors import UserError

MOST_SKIPPED_IN_A_ROW = 20

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Saving:
    """When checkpoints are written."""

    every_iterations: int = 50000
    every_minutes: float = 30.0


@runtime_checkable
class Observer(Protocol):
    """Whoever watches a run."""

    def on_step(
        self, stage: StageConfig, iteration: int, report: StepReport, batch: TrainingBatch, seconds_waited: float
    ) -> None:
        """Called by process 0 after every iteration."""


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


def train_stage(
    network: XMem,
    stage: StageConfig,
    stage_index: int,
    source_of: Callable[[bool], TrainingSource],
    optimisation: OptimisationConfig,
    processes: Processes,
    checkpoints: CheckpointFolder,
    saving: Saving,
    seed: int,
    workers: int,
    observer: Observer,
    stop: StopRequest,
    resume: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
) -> bool:
    """Train one stage to its end, or to where it is asked to stop; returns whether it reached the end.

    Args:
        resume: a checkpoint of this stage to continue from.
        settings: recorded in checkpoints, for comparison when they are resumed.

    Raises:
        UserError: too many iterations in a row gave something that is not finite.
    """
    max_objects = 1 if network.config.single_object else 3
    stepper = Stepper(network, stage, optimisation, processes, max_objects)
    begin = 0
    if resume is not None:
        begin = resume["iteration"]
        network.load_state_dict(resume["network"])
        stepper.optimizer.load_state_dict(resume["optimizer"])
        stepper.scaler.load_state_dict(resume["scaler"])
        torch.set_rng_state(resume["random_state"])

    def save(iteration: int) -> None:
        if processes.rank == 0:
            content = {
                "settings": settings or {},
                "network": network.state_dict(),
                "optimizer": stepper.optimizer.state_dict(),
                "scaler": stepper.scaler.state_dict(),
                "random_state": torch.get_rng_state(),
            }
            log.info("checkpoint: %s", checkpoints.write(stage_index, iteration, content))

    share = processes.share_of(stage.batch_size)
    batches = load_batches(stage, source_of, optimisation, seed, share, begin, workers)
    skipped_in_a_row, saved_at, waiting_since = 0, time.monotonic(), time.monotonic()
    for iteration, (batch, passed_over) in enumerate(batches, start=begin):
        waited = time.monotonic() - waiting_since
        for line in passed_over:
            log.warning("passed over: %s", line)
        report = stepper.step(batch, iteration)
        if processes.rank == 0:
            observer.on_step(stage, iteration, report, batch, waited)
        skipped_in_a_row = skipped_in_a_row + 1 if report.skipped and not report.overflowed else 0
        if skipped_in_a_row == MOST_SKIPPED_IN_A_ROW:
            raise UserError(
                f"stage {stage.name}: the loss or its gradient was not finite in {skipped_in_a_row} iterations in a "
                f"row, the last {iteration}; lower --s{stage.name}_lr, or continue from an earlier checkpoint"
            )
        done = iteration + 1
        if processes.any(stop.requested, stepper.device):
            save(done)
            return done == stage.total_iterations
        is_time = time.monotonic() - saved_at >= 60 * saving.every_minutes
        if done % saving.every_iterations == 0 or processes.any(is_time, stepper.device):
            save(done)
            saved_at = time.monotonic()
        waiting_since = time.monotonic()
    return True
