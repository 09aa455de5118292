"""Batches of training samples, made ahead of time by worker processes, and the report of skipped samples.

Which samples an iteration has follows from its number alone, so a run can start at any iteration.
"""

import logging
import signal
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from dataset.sampling import TrainingSample, max_jump
from training.clip import draw_choices
from training.config import OptimisationConfig, StageConfig
from training.data import StageData
from training.step import TrainingBatch
from util.errors import UserError, first_few
from util.processes import Processes

logger = logging.getLogger(__name__)

Request = tuple[int, int]
"""A sample's iteration, and its index in the whole batch."""
LoadedBatch = tuple[TrainingBatch, tuple[str, ...]]
"""A batch, and a line for each entry of the data that was skipped."""


@dataclass(frozen=True, eq=False)
class StageSamples(Dataset[Any]):
    """A stage's samples, by iteration and index in the whole batch, and the batches made of them."""

    stage: StageConfig
    data: StageData
    seed: int
    optimisation: OptimisationConfig

    def __getitem__(self, request: Request) -> tuple[Request, TrainingSample | UserError]:
        (iteration, index), stage = request, self.stage
        source = self.data.finetuning if iteration >= stage.iterations else self.data.main
        jump = max_jump(iteration, stage.iterations, stage.name)
        try:
            return request, source.sample(iteration * stage.batch_size + index, jump)
        except UserError as error:  # a value, since the loader adds the worker's traceback to what is raised there
            return request, error

    def collate(self, samples: list[tuple[Request, TrainingSample | UserError]]) -> LoadedBatch | UserError:
        """Make a batch of samples, with their random choices; also return a line for each entry that was skipped."""
        requests, clips = zip(*samples, strict=True)
        for clip in clips:
            if isinstance(clip, UserError):
                return clip
        (iteration, first), (_, last) = requests[0], requests[-1]
        stage, indices = self.stage, range(first, last + 1)
        batch = TrainingBatch(
            images=torch.stack([clip.images for clip in clips]),
            labels=torch.stack([clip.labels for clip in clips]),
            objects=torch.tensor([clip.objects for clip in clips]),
            choices=draw_choices(
                self.seed,
                iteration,
                indices,
                frames=stage.num_frames,
                reference_frames=stage.num_ref_frames,
                objects=stage.max_objects,
                deep_update_prob=self.optimisation.deep_update_prob,
                sensory_dropout=self.optimisation.sensory_dropout,
            ),
        )
        return batch, tuple(line for clip in clips for line in clip.skipped)


def start_worker(_: int) -> None:
    """Give a worker one thread, and let it ignore signals: the training process ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def load_batches(
    stage: StageConfig,
    data: StageData,
    *,
    seed: int,
    share: range,
    optimisation: OptimisationConfig,
    workers: int,
    first_iteration: int = 0,
    pin_memory: bool = False,
) -> Generator[LoadedBatch, None, None]:
    """Yield batches from `first_iteration` to the stage's last, each with a line for each entry that was skipped.

    Args:
        share: the indices of this process's samples in the whole batch.
        workers: processes that make batches ahead of time; 0: this one makes them.
        pin_memory: give batches in page-locked memory, from which CUDA copies without waiting.

    Raises:
        UserError: a sample cannot be made (see `draw_sample`).
    """
    samples = StageSamples(stage, data, seed, optimisation)
    iterations = range(first_iteration, stage.total_iterations)
    loader = DataLoader(
        samples,
        batch_sampler=([(iteration, index) for index in share] for iteration in iterations),
        collate_fn=samples.collate,
        num_workers=workers,
        worker_init_fn=start_worker,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # seeds workers, which do not use it; PyTorch's own is part of checkpoints
    )
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch


class SkippedSamples:
    """Reports what was skipped in one stage, in all processes: once for every pass through the data.

    Args:
        samples_in_pass: None: the data have no end, so all is reported when the stage ends.
    """

    def __init__(self, stage: StageConfig, samples_in_pass: int | None, processes: Processes) -> None:
        self._stage, self._samples_in_pass, self._processes = stage, samples_in_pass, processes
        self._noted: dict[str, None] = {}
        self._reported: set[str] = set()

    def add(self, lines: Iterable[str], iteration: int) -> None:
        """Note what was skipped in iteration `iteration`, and report it if a pass ends there. All processes call it."""
        self._noted |= dict.fromkeys(lines)
        done = iteration * self._stage.batch_size, (iteration + 1) * self._stage.batch_size
        if self._samples_in_pass is not None and done[0] // self._samples_in_pass < done[1] // self._samples_in_pass:
            self.report()

    def report(self) -> None:
        """Report what has not been reported yet. All processes call it."""
        noted = [line for lines in self._processes.gather(list(self._noted)) for line in lines]
        if new := [line for line in dict.fromkeys(noted) if line not in self._reported]:
            logger.warning("stage %s skipped %s", self._stage.name, f"{len(new)} entries of its data: {first_few(new)}")
        self._reported.update(new)
