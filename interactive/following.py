"""The network on its way through the video, from a frame that has masks to others, forward or backward.

The memory is built anew from what a person has made, so the same annotations give the same masks: first the permanent
frames, wherever in the video they are; then the last few masks before the start, as they are now; then the start. Only
where following goes on at the frame that it came to, and nothing was changed, does it keep its memory.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from dataset.random_access import FrameAccess
from evaluation.prefetch import prefetch
from inference.images import label_map_of, network_size, resize_channels
from inference.video_segmenter import VideoSegmenter
from interactive.document import MemorySettings
from interactive.workspace import SoftMasks
from model.cuda_graphs import graphed
from model.network import XMem
from util.errors import UserError

FRAMES_AHEAD = 3


@dataclass(frozen=True, eq=False)
class GivenFrame:
    """The label map of a frame, as far as it is known."""

    labels: UInt8[np.ndarray, "height width"]
    objects: tuple[int, ...]
    """The labels that the map defines; one without a pixel is not to be seen."""
    permanent: bool


@runtime_checkable
class GivenFrames(Protocol):
    """What a person has made, and following before, while nothing of it changes."""

    permanent: tuple[int, ...]
    """The frames of the permanent memory, in ascending order."""

    def is_annotated(self, number: int) -> bool:
        """Return whether a person has made a frame's masks, which are not to be replaced."""

    def masks(self, number: int) -> GivenFrame | None:
        """Return the masks of a frame; None: it has none."""


@dataclass(frozen=True)
class Plan:
    """Where following starts, and the frames that it then goes through, in their order."""

    start: int
    frames: range

    @property
    def step(self) -> int:
        """1 forward, −1 backward."""
        return self.frames.step


@dataclass(frozen=True, eq=False)
class FollowedFrame:
    """A frame that was followed; without labels if it could not be decoded, or a person has made its masks."""

    number: int
    labels: UInt8[np.ndarray, "height width"] | None = None
    soft: SoftMasks | None = None
    """At the size at which the frame was followed."""
    uncertainty: float | None = None
    problem: str | None = None


@dataclass(frozen=True)
class MemoryGauge:
    """How full the memory is."""

    working_frames: int = 0
    working_capacity: int = 0
    working_elements: int = 0
    long_term_elements: int = 0
    long_term_capacity: int = 0
    sensory_objects: int = 0
    bytes: int = 0
    device_bytes: int | None = None


class Follower:
    """Follows the objects of one video; one caller at a time."""

    def __init__(self, network: XMem, video: FrameAccess) -> None:
        self._network, self._video = graphed(network), video
        self._segmenter: VideoSegmenter | None = None
        self._came_to: tuple[int, int] | None = None  # the frame, and the direction
        self._as_of: int | None = None  # the step of the history after which that is so
        self._settings = MemorySettings()

    def forget(self) -> None:
        """Forget all but what a person has made: the next time memory is built anew."""
        self._segmenter, self._came_to, self._as_of = None, None, None

    def stored(self, step: int | None) -> None:
        """Tell by which step of the history all masks are stored: while it is the last one, following may go on."""
        self._as_of = step

    @property
    def objects(self) -> list[int]:
        """The objects that are in the memory."""
        return [] if self._segmenter is None else self._segmenter.core.objects

    @property
    def gauge(self) -> MemoryGauge:
        """How full the memory is now."""
        device = self._network.device
        on_device = torch.cuda.memory_allocated(device) if device.type == "cuda" else None
        if self._segmenter is None:
            return MemoryGauge(device_bytes=on_device)
        memory, settings = self._segmenter.core.memory, self._settings
        hidden = memory.sensory.hidden
        return MemoryGauge(
            working_frames=memory.working.counted_frames,
            working_capacity=settings.max_mid_term_frames,
            working_elements=memory.working.size,
            long_term_elements=memory.long_term.size,
            long_term_capacity=settings.max_long_term_elements,
            sensory_objects=0 if hidden is None else hidden.shape[1],
            bytes=memory.nbytes,
            device_bytes=on_device,
        )

    def save_memory(self, path: str) -> list[int]:
        """Write the memory to a file, and return its objects.

        Raises:
            UserError: there is none yet; it cannot be written.
        """
        if self._segmenter is None or not self.objects:
            raise UserError("there is no memory yet: follow first")
        self._segmenter.core.save_memory(path)
        return self.objects

    def follow(
        self, plan: Plan, given: GivenFrames, settings: MemorySettings, last_step: int | None
    ) -> Iterator[FollowedFrame]:
        """Go through the frames of a plan, and yield each.

        Args:
            plan: where to go.
            given: the masks that there are.
            settings: of the memory.
            last_step: the last step of the history.

        Raises:
            UserError: there is nothing to follow, or results are not finite.
            SettingError: a setting out of its range.
        """
        segmenter = self._segmenter
        frames: Sequence[int] = plan.frames
        goes_on = self._came_to == (plan.start, plan.step) and self._as_of == last_step is not None
        if segmenter is None or not goes_on:
            self.forget()
            segmenter = VideoSegmenter(
                self._network,
                settings.inference(),
                size=settings.size,
                mixed_precision=self._network.device.type == "cuda",
            )
            self._segmenter, self._settings = segmenter, settings
            self._build(segmenter, plan, given, settings)
            if given.masks(plan.start) is None:
                frames = [plan.start, *frames]
            if not segmenter.core.objects:
                raise UserError("there is nothing to follow yet: mark an object in a frame first")
        with prefetch(self._read(frames), FRAMES_AHEAD) as read:
            for (number, rgb, problem), _ in read:
                self._came_to, self._as_of = None, None
                if rgb is None:
                    yield FollowedFrame(number, problem=problem)
                    continue
                if given.is_annotated(number) and (masks := given.masks(number)) is not None:
                    self._give(segmenter, rgb, masks)
                    followed = FollowedFrame(number)
                else:
                    followed = self._step(segmenter, number, rgb, settings.size)
                self._came_to = number, plan.step
                yield followed

    def _build(self, segmenter: VideoSegmenter, plan: Plan, given: GivenFrames, settings: MemorySettings) -> None:
        for number in sorted(set(given.permanent) - {plan.start}, reverse=plan.step < 0):
            masks = given.masks(number)
            rgb = self._read_one(number)
            if masks is not None and masks.objects and rgb is not None:
                segmenter.remember(rgb, masks.labels, masks.objects)
        for number in [*self._context(plan, given, settings), plan.start]:
            masks = given.masks(number)
            rgb = self._read_one(number)
            if masks is not None and rgb is not None:
                self._give(segmenter, rgb, masks)

    def _context(self, plan: Plan, given: GivenFrames, settings: MemorySettings) -> list[int]:
        """Return the frames before the start that memory would have, as far as they have masks without a gap."""
        distances = range(settings.mem_every, settings.mem_every * settings.min_mid_term_frames, settings.mem_every)
        found: list[int] = []
        for number in (plan.start - plan.step * distance for distance in distances):
            if not 0 <= number < self._video.count or given.masks(number) is None:
                break
            if number not in given.permanent:
                found.append(number)
        return found[::-1]

    def _give(self, segmenter: VideoSegmenter, rgb: UInt8[Tensor, "height width 3"], masks: GivenFrame) -> None:
        if masks.objects or segmenter.core.objects:
            permanent = masks.permanent and bool(masks.objects)
            segmenter.step(rgb, masks.labels, objects=masks.objects, permanent=permanent, output_size=(1, 1))

    def _step(
        self, segmenter: VideoSegmenter, number: int, rgb: UInt8[Tensor, "height width 3"], size: int
    ) -> FollowedFrame:
        full = (rgb.shape[0], rgb.shape[1])
        small = network_size(*full, size)
        prob = segmenter.step(rgb, output_size=small)
        objects = segmenter.core.objects
        labels = label_map_of(resize_channels(prob, full), objects).cpu().numpy()
        packed = prob.mul(255).round().byte().cpu().numpy()
        return FollowedFrame(number, labels, SoftMasks(packed, objects), uncertainty_of(prob[:, ::2, ::2]))

    def _read(self, numbers: Sequence[int]) -> Iterator[tuple[int, UInt8[Tensor, "height width 3"] | None, str | None]]:
        for number in numbers:
            try:
                yield number, torch.from_numpy(self._video.read(number)), None
            except UserError as error:
                yield number, None, str(error)

    def _read_one(self, number: int) -> UInt8[Tensor, "height width 3"] | None:
        return next(self._read([number]))[1]


def uncertainty_of(prob: Float[Tensor, "channels height width"]) -> float | None:
    """Return how uncertain the least certain of the objects in a frame is: 1 − its mean probability where it is seen.

    Returns:
        From 0 to 1; None where no object is seen.
    """
    best, channels = prob.max(dim=0)
    flat: Integer[Tensor, " pixels"] = channels.flatten()
    counts = torch.bincount(flat, minlength=len(prob))
    sums = torch.bincount(flat, weights=best.flatten(), minlength=len(prob))
    seen = counts[1:] > 0
    if not seen.any():
        return None
    return float((1 - sums[1:][seen] / counts[1:][seen]).max())
