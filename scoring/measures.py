"""J (region similarity) and F (boundary accuracy) of one frame, exactly as the DAVIS 2017 toolkit defines them.

The toolkit matches boundaries by dilating each of them with a disk over the whole frame, which is nearly all it costs.
Here only the boundary pixels ask whether the disk about them holds a pixel of the other boundary. A disk of pixels is a
union of a few rectangles, and an integral image counts a rectangle's pixels in four look-ups: integers throughout, so
that the result is the same, not merely close.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from jaxtyping import Bool, Float64, UInt8

from dataset.label_map import VOID, labels_of

BOUNDARY_TOLERANCE = 0.008
"""Radius within which boundaries match, as a share of the image's diagonal."""


@dataclass(frozen=True, eq=False)
class FrameScore:
    """J and F (0 to 1) of each object, and the labels that prediction and ground truth have outside void pixels."""

    j: Float64[np.ndarray, " objects"]
    f: Float64[np.ndarray, " objects"]
    predicted_labels: frozenset[int]
    true_labels: frozenset[int]


def score_label_maps(
    truth: UInt8[np.ndarray, "height width"],
    prediction: UInt8[np.ndarray, "height width"],
    objects: Sequence[int],
    *,
    void: bool = False,
) -> FrameScore:
    """J and F of the labels `objects`, in their order; other labels count as background.

    With `void`, pixels that are 255 in the ground truth count as background in both maps.
    """
    radius = boundary_radius(*truth.shape)
    if void and not (kept := truth != VOID).all():
        prediction = prediction * kept  # the ground truth's void pixels are no object's as they are
    window = content_window(truth | prediction)
    truth, prediction = truth[window], prediction[window]
    scores = np.array([score_masks(truth == label, prediction == label, radius) for label in objects])
    j, f = scores.reshape(-1, 2).T
    no_objects = {0, VOID} if void else {0}
    return FrameScore(j, f, frozenset(labels_of(prediction)) - {0}, frozenset(labels_of(truth)) - no_objects)


def score_masks(
    truth: Bool[np.ndarray, "height width"], prediction: Bool[np.ndarray, "height width"], radius: int
) -> tuple[float, float]:
    """(J, F) of one object, 0 to 1; boundaries match within `radius` pixels."""
    window = content_window((truth | prediction).view(np.uint8))
    truth, prediction = truth[window], prediction[window]
    return region_similarity(truth, prediction), boundary_accuracy(truth, prediction, radius)


def region_similarity(truth: Bool[np.ndarray, "height width"], prediction: Bool[np.ndarray, "height width"]) -> float:
    """J, 0 to 1: intersection over union, 1 where both masks are empty."""
    union = np.count_nonzero(truth | prediction)
    return np.count_nonzero(truth & prediction) / union if union else 1.0


def boundary_accuracy(
    truth: Bool[np.ndarray, "height width"], prediction: Bool[np.ndarray, "height width"], radius: int
) -> float:
    """F, 0 to 1: harmonic mean of the shares of either boundary that lies within `radius` pixels of the other."""
    true_boundary, predicted_boundary = boundary(truth), boundary(prediction)
    true_count, predicted_count = np.count_nonzero(true_boundary), np.count_nonzero(predicted_boundary)
    if not true_count or not predicted_count:
        return float(true_count == predicted_count)
    precision = count_within(predicted_boundary, true_boundary, radius) / predicted_count
    recall = count_within(true_boundary, predicted_boundary, radius) / true_count
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary_radius(height: int, width: int) -> int:
    """Radius in pixels within which the boundaries of an image of this size match."""
    return math.ceil(BOUNDARY_TOLERANCE * math.hypot(height, width))


def boundary(mask: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """Return the pixels that differ from a right, lower or lower right neighbour within the image."""
    # That is: the 2×2 window that begins at the pixel holds two values. The windows end where the image ends.
    window = np.ones((2, 2), np.uint8)
    return cv2.morphologyEx(mask.view(np.uint8), cv2.MORPH_GRADIENT, window, anchor=(0, 0)).view(bool)


def count_within(
    points: Bool[np.ndarray, "height width"], others: Bool[np.ndarray, "height width"], radius: int
) -> int:
    """Count the `points` that have one of `others` at a distance of at most `radius` pixels."""
    padded = cv2.copyMakeBorder(others.view(np.uint8), radius, radius, radius, radius, cv2.BORDER_CONSTANT, value=0)
    sums = cv2.integral(padded)
    stride = sums.shape[1]
    sums = sums.ravel()
    rows, columns = np.divmod(np.flatnonzero(points), points.shape[1])
    # For each point without a match so far: where in `sums` the square of the disk has its upper left corner.
    corners = rows * stride + columns
    total = len(corners)
    for half_height, half_width in disk_rectangles(radius):
        top, bottom = (radius - half_height) * stride, (radius + half_height + 1) * stride
        left, right = radius - half_width, radius + half_width + 1
        above = sums[top + right :][corners] - sums[top + left :][corners]
        below = sums[bottom + right :][corners] - sums[bottom + left :][corners]
        corners = corners[above == below]
    return total - len(corners)


@cache
def disk_rectangles(radius: int) -> tuple[tuple[int, int], ...]:
    """Rectangles about the origin whose union is the disk dx² + dy² ≤ radius², as (half height, half width).

    The largest come first: most boundary pixels find their match there.
    """
    tallest = {math.isqrt(radius**2 - dy**2): dy for dy in range(radius + 1)}
    return tuple(sorted(((height, width) for width, height in tallest.items()), key=math.prod, reverse=True))


def content_window(content: UInt8[np.ndarray, "height width"]) -> tuple[slice, slice]:
    """Return the rows and columns of everything that is not 0, and one pixel around it where the image has one.

    The boundary of a mask lies within the window of its content, and is the same in it as in the whole image.
    """
    left, top, width, height = cv2.boundingRect(content)
    return slice(max(top - 1, 0), top + height + 1), slice(max(left - 1, 0), left + width + 1)
