"""J (region similarity) and F (boundary accuracy) of one frame, exactly as the DAVIS 2017 toolkit defines them.

The toolkit matches boundaries by dilating each of them with a disk over the whole frame, which is nearly all it costs.
Here only the boundary pixels ask whether the disk about them holds a pixel of the other boundary. A disk of pixels is a
union of a few rectangles, and an integral image counts a rectangle's pixels in four look-ups: integers throughout, so
that the result is the same, not merely close.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import cv2
import numpy as np
from jaxtyping import Bool, Float64, UInt8

from dataset.label_map import VOID, labels_of

BOUNDARY_TOLERANCE = 0.008
"""Radius within which boundaries match, as a share of the image's diagonal."""

BinaryMask = Bool[np.ndarray, "height width"]


@dataclass(frozen=True, eq=False)
class FrameScore:
    """The measures (0 to 1) of each object in one frame, by their names.

    Attributes:
        values: J and F, or other measures.
        shown, predicted: whether the ground truth, and the prediction, shows each object.
        predicted_labels, true_labels: those in prediction and ground truth outside void pixels, without the background.
    """

    values: Mapping[str, Float64[np.ndarray, " objects"]]
    shown: Bool[np.ndarray, " objects"]
    predicted: Bool[np.ndarray, " objects"]
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
    return score_objects(truth, prediction, objects, ("J", "F"), partial(score_masks, radius=radius), void=void)


def score_objects(
    truth: UInt8[np.ndarray, "height width"],
    prediction: UInt8[np.ndarray, "height width"],
    objects: Sequence[int],
    measures: Sequence[str],
    score: Callable[[BinaryMask, BinaryMask], tuple[float, ...]],
    *,
    void: bool = False,
) -> FrameScore:
    """Score each of the labels `objects` by itself, by a function that returns the `measures` of two masks."""
    window = content_window(truth | prediction)
    truth, prediction = truth[window], prediction[window]
    scores = np.array([score(truth == label, prediction == label) for label in objects], np.float64)
    values = dict(zip(measures, scores.reshape(-1, len(measures)).T, strict=True))
    true_labels, predicted_labels = (frozenset(labels_of(each)) - {0} for each in (truth, prediction))
    return FrameScore(
        values,
        np.array([label in true_labels for label in objects], bool),
        np.array([label in predicted_labels for label in objects], bool),
        predicted_labels,
        true_labels - {VOID} if void else true_labels,
    )


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
    return boundary_match(boundary(truth), boundary(prediction), float(radius))


def boundary_match(
    true_boundary: Bool[np.ndarray, "height width"],
    predicted_boundary: Bool[np.ndarray, "height width"],
    radius: float,
    shift: float = 0.0,
) -> float:
    """F of two boundaries that match within the disk that `disk_rectangles` describes."""
    true_count, predicted_count = np.count_nonzero(true_boundary), np.count_nonzero(predicted_boundary)
    if not true_count or not predicted_count:
        return float(true_count == predicted_count)
    precision = count_within(predicted_boundary, true_boundary, radius, shift) / predicted_count
    recall = count_within(true_boundary, predicted_boundary, radius, shift) / true_count
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
    points: Bool[np.ndarray, "height width"],
    others: Bool[np.ndarray, "height width"],
    radius: float,
    shift: float = 0.0,
) -> int:
    """Count the `points` that have one of `others` within the disk about them that `disk_rectangles` describes."""
    margin = math.ceil(radius)
    padded = cv2.copyMakeBorder(others.view(np.uint8), margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=0)
    sums = cv2.integral(padded)
    stride = sums.shape[1]
    sums = sums.ravel()
    rows, columns = np.divmod(np.flatnonzero(points), points.shape[1])
    # For each point without a match so far: where in `sums` the square of the disk has its upper left corner.
    corners = rows * stride + columns
    total = len(corners)
    for top, bottom, left, right in disk_rectangles(radius, shift):
        above, below = (margin + top) * stride + margin, (margin + bottom + 1) * stride + margin
        in_rows_above = sums[above + right + 1 :][corners] - sums[above + left :][corners]
        in_rows = sums[below + right + 1 :][corners] - sums[below + left :][corners]
        corners = corners[in_rows_above == in_rows]
    return total - len(corners)


@cache
def disk_rectangles(radius: float, shift: float = 0.0) -> tuple[tuple[int, int, int, int], ...]:
    """Rectangles whose union is the disk (dy + shift)² + (dx + shift)² ≤ radius²: first and last dy, first and last dx.

    The largest come first: most boundary pixels find their match there.

    Args:
        shift: 0 for a disk about the origin, less than 1 for a lopsided one.
    """
    reach = math.ceil(radius)
    rows: dict[int, tuple[int, int]] = {}
    for dy in range(-reach, reach + 1):
        inside = [dx for dx in range(-reach, reach + 1) if (dy + shift) ** 2 + (dx + shift) ** 2 <= radius**2]
        if inside:
            rows[dy] = inside[0], inside[-1]
    rectangles = set()
    for left, right in rows.values():
        as_wide = [dy for dy, (first, last) in rows.items() if first <= left and last >= right]
        rectangles.add((as_wide[0], as_wide[-1], left, right))
    return tuple(sorted(rectangles, key=lambda r: (r[1] - r[0] + 1) * (r[3] - r[2] + 1), reverse=True))


def content_window(content: UInt8[np.ndarray, "height width"]) -> tuple[slice, slice]:
    """Return the rows and columns of everything that is not 0, and one pixel around it where the image has one.

    The boundary of a mask lies within the window of its content, and is the same in it as in the whole image.
    """
    left, top, width, height = cv2.boundingRect(content)
    return slice(max(top - 1, 0), top + height + 1), slice(max(left - 1, 0), left + width + 1)
