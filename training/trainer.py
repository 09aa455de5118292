"""The training loop of one stage, and what it writes on the way."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import torch

from model.network import XMem
from training.batches import LoadedBatch, SkippedSamples, load_batches
from training.checkpoints import RunFolder, RunSettings, TrainingCheckpoint
from training.config import RunConfig
from training.data import StageData, TrainedOn
from training.logger import TrainingLogger
from training.signals import StopRequest
from training.step import StepFigures, Stepper, StepReport, read_figures
from util.errors import UserError
from util.processes import Processes
from util.provenance import git_commit

MOST_SKIPPED_IN_A_ROW = 20
READ_EVERY = 10
"""Iterations between two readings of figures from a GPU; each waits until the GPU has caught up."""

logger = logging.getLogger(__name__)


@runtime_checkable
class Validator(Protocol):
    """Scores a network on videos that it is not trained on, and leaves it as it was."""

    @property
    def description(self) -> str:
        """What it validates on: scores are comparable where this is the same."""

    def __call__(self, network: XMem, on_frame: Callable[[], None], /) -> float:
        """Return J&F in percent. `on_frame` is called after every frame; what it raises ends the validation."""


@dataclass(frozen=True, eq=False)
class Step:
    """An iteration that has been started: its seconds, and those among them in which it waited for its batch."""

    report: StepReport
    seconds: float
    waited: float


class Trainer:
    """Trains one stage of a run.

    Args:
        network: on its device; trained in place.
        data: the stage's data.
        settings: recorded in checkpoints and network files.
        trained_on: what the network has been trained on once the stage ends.
        stop: asks to stop, with a checkpoint, after the current iteration.
        logger: in process 0, if the run is to be logged.
        validation: in process 0, if the network is to be validated; the other processes wait meanwhile.
        checkpoint: of this stage, to continue from.
    """

    def __init__(
        self,
        *,
        config: RunConfig,
        stage_index: int,
        network: XMem,
        data: StageData,
        folder: RunFolder,
        settings: RunSettings,
        trained_on: TrainedOn,
        processes: Processes,
        stop: StopRequest,
        logger: TrainingLogger | None = None,
        validation: Validator | None = None,
        checkpoint: TrainingCheckpoint | None = None,
    ) -> None:
        self.config, self.stage_index, self.stage = config, stage_index, config.stages[stage_index]
        self.network, self.data, self.folder = network, data, folder
        self.settings, self.trained_on = settings, trained_on
        self.processes, self.stop, self.logger, self.validation = processes, stop, logger, validation
        self.stepper = Stepper(network, stage=self.stage, optimisation=config.optimisation, processes=processes)
        self.iteration = 0
        """Iterations done."""
        self.skipped_iterations = self.skipped_in_a_row = 0
        self.saved_at = time.monotonic()
        self._steps: list[Step] = []  # taken, but not yet waited for
        if checkpoint is None:
            torch.manual_seed(config.seed)  # a stage begins alike in the process of the one before and in another
        else:
            self.iteration, self.skipped_iterations = checkpoint.iteration, checkpoint.skipped_iterations
            self.stepper.load_state(checkpoint.stepper)

    def train(self) -> bool:
        """Train to the end of the stage, or until the run is asked to stop; return whether it may continue.

        Raises:
            UserError: too many iterations in a row gave something that is not finite; a file cannot be written; with
                `strict` data, one cannot be read. All processes raise the same.
        """
        stage, processes, device = self.stage, self.processes, self.stepper.device
        if self.logger is not None:
            self.logger.start_stage(stage, self.iteration, device)
        if (in_pass := self.data.samples_in_pass) is not None:
            passes = stage.total_iterations * stage.batch_size / in_pass
            logger.info("stage %s passes %.3g times through its data, of %d entries each", stage.name, passes, in_pass)
        batches = load_batches(
            stage,
            self.data,
            seed=self.config.seed,
            share=processes.share_of(stage.batch_size),
            optimisation=self.config.optimisation,
            workers=self.config.num_workers and max(1, self.config.num_workers // processes.count),
            first_iteration=self.iteration,
            pin_memory=device.type == "cuda",
        )
        skipped_samples = SkippedSamples(stage, self.data.samples_in_pass, processes)
        with closing(batches):  # an exception would keep it, and its workers would keep this process from ending
            stopping = self._iterate(batches, skipped_samples)
        self._read_steps()
        skipped_samples.report()
        if self.skipped_iterations:
            logger.warning(
                "stage %s: %d of %d iterations were skipped, since the loss or its gradient was not finite",
                stage.name, self.skipped_iterations, self.iteration,
            )  # fmt: skip
        return not stopping

    def _iterate(self, batches: Iterator[LoadedBatch], skipped_samples: SkippedSamples) -> bool:
        """Train to the end of the stage, or until the run is asked to stop, and return whether it was."""
        stage, processes, device = self.stage, self.processes, self.stepper.device
        stopping = False
        while self.iteration < stage.total_iterations and not stopping:
            begin = time.perf_counter()
            with processes.failing_together():
                batch, skipped = next(batches)
            waited = time.perf_counter() - begin
            report = self.stepper.step(batch, self.iteration)
            skipped_samples.add(skipped, self.iteration)
            self.iteration += 1
            if self.iteration == stage.total_iterations:
                self.stepper.finish()
            if self.logger is not None:
                self.logger.log_pictures(self.iteration, batch, report.predictions)
            self._steps.append(Step(report, time.perf_counter() - begin, waited))
            if device.type == "cpu" or self._is_due(READ_EVERY):
                self._read_steps()
            stopping = processes.any(self.stop.requested)
            with processes.failing_together():
                if processes.rank == 0:
                    self._validate_and_save(stopping)
        return stopping

    def _is_due(self, interval: int) -> bool:
        return self.iteration % interval == 0 or self.iteration == self.stage.total_iterations

    def _read_steps(self) -> None:
        """Wait for the steps that have been taken, log them, and count those that were skipped."""
        steps, self._steps = self._steps, []
        if not steps:
            return
        first, begin = self.iteration - len(steps) + 1, time.perf_counter()
        read = read_figures([each.report for each in steps])
        for_device = (time.perf_counter() - begin) / len(steps)  # the time that each took longer than its launch
        for done, (step, figures) in enumerate(zip(steps, read, strict=True), first):
            if self.logger is not None:
                self.logger.log_step(done, figures, step.seconds + for_device, step.waited)
            self._count_if_skipped(done, figures)

    def _count_if_skipped(self, done: int, figures: StepFigures) -> None:
        self.skipped_iterations += figures.skipped
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if figures.skipped and not figures.overflowed else 0
        if self.skipped_in_a_row == MOST_SKIPPED_IN_A_ROW:
            raise UserError(
                f"stage {self.stage.name}: the loss or its gradient was not finite in {MOST_SKIPPED_IN_A_ROW} "
                f"iterations in a row, the last {done}; lower its lr, or continue from an earlier checkpoint"
            )

    def _validate_and_save(self, stopping: bool) -> None:
        """Validate the network and write files, as far as that is due; in process 0."""
        intervals = self.config.intervals
        failure = None
        if self.validation is not None and self._is_due(intervals.validation_interval) and not stopping:
            try:
                self._validate(self.validation)
            except Exception as error:  # whatever it is, it must not cost what has been learned
                failure = error
        minutes = (time.monotonic() - self.saved_at) / 60
        ending = stopping or failure is not None
        # The network first: a run that is killed between the two continues before it, and writes it again.
        if self._is_due(intervals.save_network_interval):
            path = self.folder.write_network(self.stepper.result(), self.stage.name, self.iteration, self._metadata())
            logger.info("network: %s", path)
        if ending or minutes >= intervals.save_checkpoint_minutes or self._is_due(intervals.save_checkpoint_interval):
            logger.info("checkpoint: %s", self.folder.write_checkpoint(self._checkpoint()))
            self.saved_at = time.monotonic()
        if failure is not None:
            raise failure

    def _validate(self, validation: Validator) -> None:
        def end_if_asked_to_stop() -> None:
            if self.stop.requested:
                raise ValidationStopped

        network = self.stepper.result()
        try:
            j_and_f = validation(network, end_if_asked_to_stop)
        except ValidationStopped:
            logger.warning("validation after %d iterations was ended, to stop soon", self.iteration)
            return
        if self.logger is not None:
            self.logger.log_validation(self.iteration, j_and_f)
        path = self.folder.write_if_best(
            network, self.stage.name, self.iteration, self._metadata(),
            validated_on=validation.description, score=j_and_f,
        )  # fmt: skip
        if path is not None:
            logger.info("best network so far, J&F %.1f: %s", j_and_f, path)

    def _checkpoint(self) -> TrainingCheckpoint:
        self._read_steps()
        return TrainingCheckpoint(
            stage_index=self.stage_index,
            iteration=self.iteration,
            skipped_iterations=self.skipped_iterations,
            network_config=self.network.config,
            stepper=self.stepper.state(),
            settings=self.settings,
            trained_on=self.trained_on,
        )

    def _metadata(self) -> dict[str, Any]:
        """Return where the network's weights come from, to be recorded in its file."""
        return {"settings": asdict(self.settings), "commit": git_commit(), **self.trained_on.to_metadata()}


class ValidationStopped(Exception):  # noqa: N818  it is no error
    """A validation was ended, since the run is to stop."""
