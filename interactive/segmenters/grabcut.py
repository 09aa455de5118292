"""GrabCut (C. Rother et al., SIGGRAPH 2004) of OpenCV as a segmenter, which needs no network.

What may be the object at first is what resembles the positive clicks in colour and is near them. The cut is made in a
reduced image, and once more in a window about what it found.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float64, UInt8

from interactive.segmenters.interface import Box, Click, check_prompts, place_in

SIDE = 256
"""Longer side, in pixels, at which the cut is made."""
RADIUS = 3
"""Radius of the disk about a click that is certain to have its label, in pixels of the reduced image."""
COLOUR_SCALE, DISTANCE_SCALE = 60.0, 0.15
"""How far from a click is far: in Lab colours, and in sides of the image."""
ITERATIONS = 2
LEAST_SHARE = 0.2
"""A cut that leaves less than this of what the object was thought to be is given up."""
MARGIN = 0.25
"""What a window shows on each side of an object, in sides of its bounding box."""


class GrabCut:
    """GrabCut; implements `Segmenter`."""

    def segment(
        self,
        rgb: UInt8[np.ndarray, "height width 3"],
        clicks: Sequence[Click],
        box: Box | None = None,
        previous: Bool[np.ndarray, "height width"] | None = None,
    ) -> Bool[np.ndarray, "height width"]:
        """Return the object's mask; as `Segmenter.segment`."""
        check_prompts(clicks, box)
        height, width = rgb.shape[:2]
        whole = (slice(0, height), slice(0, width))
        if previous is None or not previous.any():
            previous = cut(rgb, whole, clicks, box, None)
        window = window_about(previous, clicks, box)
        return cut(rgb, window, clicks, box, previous)


def cut(
    rgb: UInt8[np.ndarray, "height width 3"],
    window: tuple[slice, slice],
    clicks: Sequence[Click],
    box: Box | None,
    previous: Bool[np.ndarray, "height width"] | None,
) -> Bool[np.ndarray, "height width"]:
    """Return the mask within a window (rows and columns); nothing is the object outside it."""
    part = rgb[window]
    rows, columns = part.shape[:2]
    scale = min(1.0, SIDE / max(rows, columns))
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    image = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    to_part = np.array([size[0] / columns, size[1] / rows])
    corner = np.array([window[1].start, window[0].start])
    places = [((np.array([click.x, click.y]) - corner) * to_part, click.positive) for click in clicks]
    if previous is None:
        likely = resembling(image, places)[0] if clicks else np.ones(image.shape[:2], bool)
    else:
        likely = cv2.resize(previous[window].astype(np.uint8), size, interpolation=cv2.INTER_AREA) > 0
        object_like, other_like = resembling(image, places)
        likely = (likely | object_like) & ~other_like
    labels = np.where(likely, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    if box is not None:
        (left, top), (right, bottom) = ((np.array(box).reshape(2, 2) - corner) * to_part).round().astype(int)
        inside = np.zeros(labels.shape, bool)
        inside[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
        labels[~inside] = cv2.GC_BGD
    for (x, y), positive in places:
        value = cv2.GC_FGD if positive else cv2.GC_BGD
        cv2.circle(labels, (round(x), round(y)), RADIUS, value, cv2.FILLED)
    objects = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
    if 0 < objects.sum() < objects.size:  # the colours of both sides are learned
        cv2.setRNGSeed(0)  # for the same mask every time
        models = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(image, labels, None, *models, ITERATIONS, cv2.GC_INIT_WITH_MASK)
        found = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
        if found.sum() > LEAST_SHARE * objects.sum():  # else the colours of both sides are too much alike
            objects = found
    mask = np.zeros(rgb.shape[:2], bool)
    mask[window] = cv2.resize(objects.astype(np.float32), (columns, rows), interpolation=cv2.INTER_LINEAR) > 0.5
    return meant(mask, clicks, previous)


def resembling(
    image: UInt8[np.ndarray, "height width 3"],
    places: Sequence[tuple[Float64[np.ndarray, "2"], bool]],
) -> tuple[Bool[np.ndarray, "height width"], Bool[np.ndarray, "height width"]]:
    """Return what is not far from a positive click, and nearer than to negative ones, in colour and place; and the
    same for negative clicks."""
    height, width = image.shape[:2]
    lab = cv2.cvtColor(cv2.GaussianBlur(image, (0, 0), 1.5), cv2.COLOR_RGB2Lab).astype(np.float32)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    nearest = {sign: np.full((height, width), np.inf, np.float32) for sign in (True, False)}
    for (x, y), positive in places:
        row, column = (int(np.clip(round(at), 0, side - 1)) for at, side in ((y, height), (x, width)))
        colour = ((lab - lab[row, column]) ** 2).sum(axis=2) / COLOUR_SCALE**2
        distance = ((rows - y) ** 2 + (columns - x) ** 2) / (DISTANCE_SCALE * max(height, width)) ** 2
        nearest[positive] = np.minimum(nearest[positive], colour + distance)
    is_positive = nearest[True] < nearest[False]
    return is_positive & (nearest[True] < 2), ~is_positive & (nearest[False] < 2)


def meant(
    mask: Bool[np.ndarray, "height width"], clicks: Sequence[Click], previous: Bool[np.ndarray, "height width"] | None
) -> Bool[np.ndarray, "height width"]:
    """Return the connected parts that a positive click is on, or that overlap the previous mask; without any, all.

    Where anything is left, parts about negative clicks are left out whole.
    """
    whole = mask.astype(np.uint8)
    places = {
        sign: [place_in(mask.shape, click) for click in clicks if click.positive == sign] for sign in (True, False)
    }
    for row, column in places[False]:
        cv2.circle(whole, (column, row), 2 * RADIUS, 1, cv2.FILLED)
    _, labels = cv2.connectedComponents(whole, connectivity=8)
    positive, negative = ({int(labels[place]) for place in places[sign]} - {0} for sign in (True, False))
    kept = positive | set(np.unique(labels[previous & mask]).tolist() if previous is not None else [])
    kept = kept - (negative - positive) or kept
    return mask & np.isin(labels, list(kept)) if kept else mask


def window_about(
    mask: Bool[np.ndarray, "height width"], clicks: Sequence[Click], box: Box | None
) -> tuple[slice, slice]:
    """Return rows and columns that show the object, all clicks and the box, with a margin."""
    columns, rows = (np.flatnonzero(mask.any(axis=axis)) for axis in (0, 1))
    corners = [(0.0, 0.0), mask.shape[::-1]] if box is None and not mask.any() else []
    corners += [(click.x, click.y) for click in clicks]
    corners += [box[:2], box[2:]] if box is not None else []
    corners += [(columns[0], rows[0]), (columns[-1] + 1, rows[-1] + 1)] if mask.any() else []
    ends = np.array(corners, float)
    margin = MARGIN * np.ptp(ends, axis=0).max() + 4
    left, top = np.maximum(np.floor(ends.min(axis=0) - margin), 0).astype(int).tolist()
    right, bottom = np.minimum(np.ceil(ends.max(axis=0) + margin), mask.shape[::-1]).astype(int).tolist()
    return slice(top, bottom), slice(left, right)
