"""Batches of training samples, made ahead of time by worker processes.

Which samples an iteration has follows from the iteration alone, so a run can start at any.
"""

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from dataset.sampling import TrainingSample, TrainingSource, max_jump
from training.clip import draw_choices
from training.config import OptimisationConfig, StageConfig
from training.step import TrainingBatch
from util.errors import UserError


@dataclass(frozen=True)
class SampleRequest:
    """One sample of one iteration."""

    iteration: int
    index: int
    """In the whole batch."""


@dataclass(frozen=True, eq=False)
class Samples(Dataset):
    """A stage's samples by request."""

    stage: StageConfig
    source_of: Callable[[bool], TrainingSource]
    """The stage's data; its argument says whether the run is fine-tuning."""

    def __getitem__(self, request: SampleRequest) -> tuple[SampleRequest, TrainingSample | UserError]:
        stage = self.stage
        jump = max_jump(request.iteration, stage.iterations, stage.name)
        source = self.source_of(request.iteration >= stage.iterations)
        try:
            return request, source.sample(request.iteration * stage.batch_size + request.index, jump)
        except UserError as error:  # a value, since the loader adds the worker's traceback to what is raised there
            return request, error


@dataclass(frozen=True)
class Requests:
    """This process's requests, iteration by iteration."""

    iterations: range
    share: range

    def __iter__(self) -> Iterator[list[SampleRequest]]:
        for iteration in self.iterations:
            yield [SampleRequest(iteration, index) for index in self.share]

    def __len__(self) -> int:
        return len(self.iterations)


@dataclass(frozen=True)
class Collate:
    """Samples to a batch, with the random choices that belong to them."""

    stage: StageConfig
    seed: int
    deep_update_prob: float

    def __call__(
        self, samples: list[tuple[SampleRequest, TrainingSample | UserError]]
    ) -> tuple[TrainingBatch, tuple[str, ...]] | UserError:
        requests, clips = zip(*samples, strict=True)
        for clip in clips:
            if isinstance(clip, UserError):
                return clip
        choices = draw_choices(
            self.seed,
            requests[0].iteration,
            range(requests[0].index, requests[-1].index + 1),
            self.stage.num_frames,
            self.stage.num_ref_frames,
            self.deep_update_prob,
        )
        batch = TrainingBatch(
            images=torch.stack([clip.images for clip in clips]),
            labels=torch.stack([clip.labels for clip in clips]),
            objects=torch.tensor([clip.objects for clip in clips]),
            choices=choices,
        )
        return batch, tuple(line for clip in clips for line in clip.skipped)


def start_worker(_: int) -> None:
    """A worker has one thread, and leaves it to the training process to end in good order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def load_batches(
    stage: StageConfig,
    source_of: Callable[[bool], TrainingSource],
    optimisation: OptimisationConfig,
    seed: int,
    share: range,
    begin: int,
    workers: int,
) -> Iterator[tuple[TrainingBatch, tuple[str, ...]]]:
    """This process's share of every batch from iteration `begin` to the stage's last: (batch, what was skipped).

    Raises:
        UserError: a sample cannot be made (see `draw_sample`).
    """
    loader = DataLoader(
        Samples(stage, source_of),
        batch_sampler=Requests(range(begin, stage.total_iterations), share),
        collate_fn=Collate(stage, seed, optimisation.deep_update_prob),
        num_workers=workers,
        worker_init_fn=start_worker,
    )
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch
