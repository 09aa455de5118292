"""The click network as a segmenter: it looks at the whole frame first, then at a window about the object.

For each click the network also sees its own answer to the clicks before, so a list of clicks is answered from the first
one on. The latest answers are cached.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8

from interactive.segmenters.click_network import ClickNetwork, Features, PromptTensors
from interactive.segmenters.interface import Box, Click, check_prompts, digest, parts_at
from model.efficientnet_lite import STRIDE
from model.network import normalise_images
from util.provenance import shipped_file

BUNDLED = shipped_file("XMem-clicks.pth")
"""The click network that comes with the program."""

FIRST, FIRST_IN_BOX, CLOSE = 448, 256, 320
"""Longer side, in pixels, at which a whole frame is looked at first, or what is about a box; and then a window."""
MARGIN = 0.2
"""What a window shows on each side of an object, in sides of its bounding box."""
SMALLEST_WINDOW = 64
LARGEST_SHARE = 2.2
"""A window is kept for the next click while its sides are at most this often what the object needs."""
LOOKS = 2
"""Times that the network looks closely for every click, the second time with what it said the first time."""
REMEMBERED_WINDOWS, REMEMBERED_ANSWERS = 8, 64

Value = TypeVar("Value")


@dataclass(frozen=True)
class Window:
    """A part of the frame, in pixels."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def longer_side(self) -> int:
        """In pixels."""
        return max(self.right - self.left, self.bottom - self.top)

    def contains(self, other: "Window") -> bool:
        """Return whether no part of the other is outside."""
        return (
            self.left <= other.left
            and self.top <= other.top
            and self.right >= other.right
            and self.bottom >= other.bottom
        )

    def place(self, click: Click, size: tuple[int, int]) -> tuple[float, float]:
        """Return the x and y of a click where the window is resized to (height, width), in pixels."""
        return (
            (click.x + 0.5 - self.left) * size[1] / (self.right - self.left) - 0.5,
            (click.y + 0.5 - self.top) * size[0] / (self.bottom - self.top) - 0.5,
        )

    def size_within(self, longer_side: int) -> tuple[int, int]:
        """Return the (height, width) at which the window is looked at, multiples of the network's stride."""
        scale = longer_side / self.longer_side
        sides = self.bottom - self.top, self.right - self.left
        height, width = (max(STRIDE, STRIDE * round(side * scale / STRIDE)) for side in sides)
        return height, width


@dataclass(frozen=True, eq=False)
class Answer:
    """What the network says of a window, from 0 to 1, at the size at which it looked; outside it is no object."""

    prob: Float32[np.ndarray, "rows columns"]
    window: Window
    is_close: bool = True
    """Whether the window was chosen for the object."""

    def spread(self, shape: tuple[int, ...]) -> Float32[np.ndarray, "height width"]:
        """Return it for every pixel of the frame."""
        prob = np.zeros(shape[:2], np.float32)
        prob[self.window.slices] = resized(self.prob, prob[self.window.slices].shape)
        return prob


@dataclass
class Recent:
    """Values that were computed last."""

    most: int
    values: OrderedDict[Hashable, object] = field(default_factory=OrderedDict)

    def get(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        """Return the value of `key`, computed if it is not remembered."""
        if key not in self.values:
            self.values[key] = compute()
        self.values.move_to_end(key)
        if len(self.values) > self.most:
            self.values.popitem(last=False)
        return self.values[key]  # type: ignore[return-value]  # what was computed for the key


class NetworkSegmenter:
    """The click network; implements `Segmenter`."""

    def __init__(self, network: ClickNetwork) -> None:
        self.network = network
        self._features = Recent(REMEMBERED_WINDOWS)
        self._answers = Recent(REMEMBERED_ANSWERS)

    @torch.inference_mode()
    def segment(
        self,
        rgb: UInt8[np.ndarray, "height width 3"],
        clicks: Sequence[Click],
        box: Box | None = None,
        previous: Bool[np.ndarray, "height width"] | None = None,
    ) -> Bool[np.ndarray, "height width"]:
        """Return the object's mask; as `Segmenter.segment`."""
        check_prompts(clicks, box)
        if previous is not None and not previous.any():
            previous = None
        frame = digest(rgb)
        key = (frame, box, None if previous is None else digest(previous))
        whole = Window(0, 0, rgb.shape[1], rgb.shape[0])
        answer = None if previous is None else Answer(previous.astype(np.float32), whole, is_close=False)
        from_nothing = box is None and previous is None
        for count in range(0 if box is not None else 1, len(clicks) + 1):
            given = tuple(clicks[:count])
            compute = partial(self._answer, rgb, frame, given, box, answer, from_nothing)
            answer = self._answers.get((*key, given), compute)
        assert answer is not None
        mask = answer.spread(rgb.shape) > 0.5
        return mask if previous is None else merged(previous, mask, clicks, box)

    def _answer(
        self,
        rgb: np.ndarray,
        frame: bytes,
        clicks: Sequence[Click],
        box: Box | None,
        before: Answer | None,
        from_nothing: bool,
    ) -> Answer:
        """Return the network's answer to some clicks.

        Args:
            before: its answer to all clicks but the last, or the previous mask; None: there is neither.
            from_nothing: there is neither a box nor a previous mask.
        """
        if before is None:
            nothing = np.zeros(rgb.shape[:2], bool)
            window = window_about(nothing, clicks, box, None)
            seen = self._look(rgb, frame, window, FIRST_IN_BOX if box else FIRST, clicks, box, None)
            before = Answer(clicked_parts(seen, window, clicks) if from_nothing else seen, window, is_close=False)
        answer = before
        for _ in range(LOOKS):
            prob = answer.spread(rgb.shape)
            window = window_about(prob > 0.5, clicks, box, answer.window if answer.is_close else None)
            seen = self._look(rgb, frame, window, CLOSE, clicks, box, prob)
            answer = Answer(clicked_parts(seen, window, clicks) if from_nothing else seen, window)
        return answer

    def _look(
        self,
        rgb: np.ndarray,
        frame: bytes,
        window: Window,
        longer_side: int,
        clicks: Sequence[Click],
        box: Box | None,
        before: Float32[np.ndarray, "height width"] | None,
    ) -> Float32[np.ndarray, "rows columns"]:
        """Return what the network says of a window that is resized to a longer side of about so many pixels."""
        size = window.size_within(longer_side)
        features = self._features.get((frame, window, size), lambda: self._features_of(rgb, window, size))
        device = features.f2.device
        maps = np.zeros((2, *size), np.float32)
        if box is not None:
            ends = [window.place(Click(x - 0.5, y - 0.5, True), size) for x, y in (box[:2], box[2:])]
            (left, top), (right, bottom) = np.clip(np.rint(np.array(ends) + 0.5), 0, size[::-1]).astype(int)
            maps[0] = -1
            maps[0, top:bottom, left:right] = 1
        if before is not None:
            maps[1] = 2 * resized(before[window.slices], size) - 1
        places = [window.place(click, size) for click in clicks] or [(0.0, 0.0)]
        signs = [1.0 if click.positive else -1.0 for click in clicks] or [0.0]
        prompts = PromptTensors(
            places=torch.tensor([places], device=device),
            signs=torch.tensor([signs], device=device),
            box=torch.from_numpy(maps[:1, None]).to(device),
            previous=torch.from_numpy(maps[1:, None]).to(device),
        )
        return self.network.decode(features, prompts)[0, 0].sigmoid().cpu().numpy()

    def _features_of(self, rgb: np.ndarray, window: Window, size: tuple[int, int]) -> Features:
        part = torch.from_numpy(resized(np.ascontiguousarray(rgb[window.slices]), size))
        device = next(self.network.parameters()).device
        image = normalise_images(part.permute(2, 0, 1)[None].to(device))
        return self.network.prepare(self.network.encode(image.contiguous(memory_format=torch.channels_last)))


def clicked_parts(
    prob: Float32[np.ndarray, "rows columns"], window: Window, clicks: Sequence[Click]
) -> Float32[np.ndarray, "rows columns"]:
    """Return the probabilities without those of connected parts that no positive click is on; if none is, all."""
    mask = prob > 0.5
    height, width = mask.shape
    places = [Click(*window.place(click, (height, width)), click.positive) for click in clicks if click.positive]
    clicked = parts_at(mask, places)
    return np.where(clicked | ~mask, prob, np.float32(0)) if clicked.any() else prob


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize to (height, width): averaging where that is smaller, bilinearly where it is larger."""
    smaller = size[0] * size[1] < image.shape[0] * image.shape[1]
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def window_about(
    mask: Bool[np.ndarray, "height width"], clicks: Sequence[Click], box: Box | None, before: Window | None
) -> Window:
    """Return a window that shows the object, all clicks and the box, with a margin; the one before if it still fits."""
    height, width = mask.shape
    xs, ys = [click.x for click in clicks], [click.y for click in clicks]
    if mask.any():
        columns, rows = (np.flatnonzero(mask.any(axis=axis)).astype(float).tolist() for axis in (0, 1))
        xs += [columns[0], columns[-1] + 1]
        ys += [rows[0], rows[-1] + 1]
    if box is not None:
        xs += [box[0], box[2]]
        ys += [box[1], box[3]]
    elif not mask.any():
        return Window(0, 0, width, height)
    needed = enclosing(xs, ys, MARGIN / 2, (height, width))
    if before and before.contains(needed) and before.longer_side <= LARGEST_SHARE * needed.longer_side:
        return before
    return enclosing(xs, ys, MARGIN, (height, width))


def enclosing(xs: Sequence[float], ys: Sequence[float], margin: float, size: tuple[int, int]) -> Window:
    """Return a window about these points, with a margin in sides of their bounding box, within an image of a size."""
    extent = max(max(xs) - min(xs), max(ys) - min(ys), SMALLEST_WINDOW / (1 + 2 * margin))
    ends = []
    for values, most in ((xs, size[1]), (ys, size[0])):
        # Not much narrower than long, since the network was trained on squares.
        middle, half = (max(values) + min(values)) / 2, max((max(values) - min(values)) / 2, extent / 4)
        reach = half + margin * extent
        ends.append((max(0, int(middle - reach)), min(most, math.ceil(middle + reach))))
    (left, right), (top, bottom) = ends
    return Window(left, top, max(right, left + 1), max(bottom, top + 1))


def merged(
    previous: Bool[np.ndarray, "height width"],
    mask: Bool[np.ndarray, "height width"],
    clicks: Sequence[Click],
    box: Box | None,
) -> Bool[np.ndarray, "height width"]:
    """Return the previous mask with those connected changes that a click is on; with a box, all changes."""
    if box is not None:
        return mask
    result = previous.copy()
    for added, changed in ((True, mask & ~previous), (False, previous & ~mask)):
        result[parts_at(changed, [click for click in clicks if click.positive == added])] = added
    return result
