"""Sampling: how a training sample follows from its number alone, and how far apart its frames may lie.

A sample is a function of (seed, stage, number, max_jump) and of nothing else: not of the process that makes it, nor of
how many there are, nor of what was sampled before. So a run that is resumed, or spread over other processes, sees the
same samples.
"""

import logging
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from util.errors import UserError

logger = logging.getLogger(__name__)

Entry = TypeVar("Entry")

# Times that one entry is drawn until its first frame shows an object, and entries that are tried for one sample.
DRAWS = 5
ENTRIES_TRIED = 20

# (share of the iterations, max_jump from there on); it narrows again at the end, in stage 1 (BL30K) earlier.
WIDENING = ((0.0, 5), (0.1, 10), (0.3, 15))
NARROW = 5
NARROWS_AFTER = 0.9
NARROWS_AFTER_ON_BL30K = 0.8


@dataclass(frozen=True, eq=False)
class TrainingSample:
    """A short clip, not yet normalised, whose objects all show in frame 0.

    Attributes:
        images: RGB.
        labels: 0 is the background, 1..`objects` the objects, each with at least one pixel in frame 0.
        objects: the number of objects, at least 1.
        skipped: one line for each skipped entry, with the reason; another took its place.
    """

    images: UInt8[Tensor, "frames 3 height width"]
    labels: UInt8[Tensor, "frames height width"]
    objects: int
    skipped: tuple[str, ...] = ()


@runtime_checkable
class TrainingSource(Protocol):
    """The data of one stage."""

    def sample(self, number: int, max_jump: int) -> TrainingSample:
        """Return sample `number` (0, 1, ... over the whole stage), neighbouring frames at most `max_jump` apart."""


@dataclass(frozen=True)
class SamplingConfig:
    """What the samples of a stage look like.

    Raises:
        ValueError: a value out of its range.
    """

    seed: int
    stage: str
    """The name of the stage; stages draw different samples from one seed."""
    num_frames: int
    size: int = 384
    """Height and width of the frames in pixels."""
    max_objects: int = 3
    strict: bool = False
    """Raise where an entry cannot be used, instead of skipping it."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"the seed must not be negative: {self.seed}")
        if min(self.num_frames, self.size, self.max_objects) < 1 or not self.stage:
            raise ValueError(f"a stage needs a name, and at least one frame, pixel and object: {self}")


def sample_generator(config: SamplingConfig, number: int) -> np.random.Generator:
    """Return the random number generator of one sample."""
    return _generator(config.seed, config.stage, 0, number)


def epoch_entry(config: SamplingConfig, number: int, entries: int) -> int:
    """The index of the entry that sample `number` shows: each once in an epoch, in an order of the epoch's own."""
    epoch, position = divmod(number, entries)
    return int(_epoch_order(config.seed, config.stage, epoch, entries)[position])


@lru_cache(maxsize=4)
def _epoch_order(seed: int, stage: str, epoch: int, entries: int) -> Int[np.ndarray, " entries"]:
    return _generator(seed, stage, 1, epoch).permutation(entries)


def _generator(seed: int, stage: str, purpose: int, number: int) -> np.random.Generator:
    stage_number = int.from_bytes(stage.encode())
    return np.random.default_rng(np.random.SeedSequence([seed, stage_number, purpose, number]))


def max_jump(iteration: int, iterations: int, stage: str = "3") -> int:
    """Return the largest distance between neighbouring frames of a clip (section 4).

    Args:
        iteration: the iteration of the stage, from 0.
        iterations: the number of iterations before fine-tuning, during which the distance is `NARROW`.
        stage: the stage's name.
    """
    narrows_after = NARROWS_AFTER_ON_BL30K if stage == "1" else NARROWS_AFTER
    schedule = (*WIDENING, (narrows_after, NARROW))
    return [jump for share, jump in schedule if iteration >= round(share * iterations)][-1]


def choose_frames(rng: np.random.Generator, positions: Sequence[int], num_frames: int, max_jump: int) -> list[int]:
    """Choose the frames of a clip, forwards or (with probability ½) backwards, each within `max_jump` of the last.

    It starts anywhere and adds frames one by one, each within `max_jump` of any that is chosen (section 4), or, where
    there is none, the nearest.

    Args:
        positions: the places of the frames in the video, ascending; frames without a mask may lie between them.

    Returns:
        Indices of `positions`.

    Raises:
        ValueError: there are fewer than `num_frames` frames, or `max_jump` is below 1.
    """
    if len(positions) < num_frames or max_jump < 1:
        raise ValueError(f"{num_frames} frames of {len(positions)}, at most {max_jump} apart")
    chosen = [int(rng.integers(len(positions)))]
    while len(chosen) < num_frames:
        near: set[int] = set()
        for place in (positions[index] for index in chosen):
            near.update(range(bisect_left(positions, place - max_jump), bisect_right(positions, place + max_jump)))
        if near.issubset(chosen):
            beside = [index for index in (min(chosen) - 1, max(chosen) + 1) if 0 <= index < len(positions)]
            near = {min(beside, key=lambda index: min(abs(positions[index] - positions[one]) for one in chosen))}
        chosen.append(int(rng.choice(sorted(near.difference(chosen)))))
    chosen.sort()
    return chosen[::-1] if rng.random() < 0.5 else chosen


def clip_of_objects(
    images: UInt8[Tensor, "frames 3 height width"],
    labels: UInt8[np.ndarray, "frames height width"],
    objects: list[int],
) -> TrainingSample:
    """A sample in which `objects` get the labels 1, 2, ... in this order and everything else is background."""
    new_label = np.zeros(256, np.uint8)
    new_label[objects] = np.arange(1, len(objects) + 1)
    return TrainingSample(images, torch.from_numpy(new_label[labels]), len(objects))


def draw_sample(
    config: SamplingConfig,
    number: int,
    entries: Sequence[Entry],
    draw: Callable[[Entry, np.random.Generator], TrainingSample | None],
) -> TrainingSample:
    """Draw sample `number` of a source with these entries (images, videos), each once in an epoch.

    An entry is drawn again, up to five times in all, while its first frame shows no object (section 4). An entry that
    stays without one, or whose files cannot be read, is skipped: another one at random replaces it.

    Args:
        entries: the text of an entry names it in `skipped`.
        draw: makes a sample of an entry, or None where the first frame shows no object. May raise UserError.

    Raises:
        UserError: `config.strict` and a file cannot be read; or no entry was usable in twenty.
    """
    rng = sample_generator(config, number)
    entry = entries[epoch_entry(config, number, len(entries))]
    skipped: list[str] = []
    for _ in range(ENTRIES_TRIED):
        try:
            for _ in range(DRAWS):
                if (sample := draw(entry, rng)) is not None:
                    return replace(sample, skipped=tuple(skipped))
            skipped.append(f"{entry} showed no object in the first frame in {DRAWS} draws")
        except UserError as error:
            if config.strict:
                raise
            skipped.append(str(error))
        logger.debug("sample %d of stage %s skips: %s", number, config.stage, skipped[-1])
        entry = entries[int(rng.integers(len(entries)))]
    raise UserError(
        f"stage {config.stage}: none of {ENTRIES_TRIED} entries drawn could be used, the last because: {skipped[-1]}"
    )
