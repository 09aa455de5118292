"""What turns clicks and boxes on one frame into the mask of one object."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import Bool, Shaped, UInt8


@dataclass(frozen=True)
class Click:
    """A place in the image that belongs to the object, or does not: whole numbers are the middles of pixels."""

    x: float
    y: float
    positive: bool


Box = tuple[float, float, float, float]
"""The object lies within: x0, y0, x1, y1 in pixels."""


@runtime_checkable
class Segmenter(Protocol):
    """Turns clicks and boxes into masks; the same arguments give the same mask, whatever was asked before."""

    def segment(
        self,
        rgb: UInt8[np.ndarray, "height width 3"],
        clicks: Sequence[Click],
        box: Box | None = None,
        previous: Bool[np.ndarray, "height width"] | None = None,
    ) -> Bool[np.ndarray, "height width"]:
        """Return the object's mask.

        Args:
            clicks: all clicks on this object in this frame, in the order in which they were made.
            box: a box that the object lies in.
            previous: the object's mask before the clicks, which they correct.

        Raises:
            ValueError: there is neither a click nor a box.
        """


def check_prompts(clicks: Sequence[Click], box: Box | None) -> None:
    """Check that there is something to go by.

    Raises:
        ValueError: there is neither a click nor a box.
    """
    if not clicks and box is None:
        raise ValueError("an object is shown by a click or a box, and there is neither")


def digest(array: Shaped[np.ndarray, "..."]) -> bytes:
    """Return what tells one image or mask from another, to remember what was computed of it."""
    content = hashlib.blake2b(str(array.shape).encode(), digest_size=16)
    content.update(np.ascontiguousarray(array).data)
    return content.digest()


def place_in(shape: tuple[int, ...], click: Click) -> tuple[int, int]:
    """Return the row and column of a click, within an image of this shape."""
    return int(np.clip(round(click.y), 0, shape[0] - 1)), int(np.clip(round(click.x), 0, shape[1] - 1))


def parts_at(mask: Bool[np.ndarray, "height width"], clicks: Iterable[Click]) -> Bool[np.ndarray, "height width"]:
    """Return those connected parts of a mask that a click is on."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return np.isin(labels, list({int(labels[place_in(mask.shape, click)]) for click in clicks} - {0}))
