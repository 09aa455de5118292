"""What hands do to a label map: strokes, polygons and rectangles, and cleaning up."""

import math
from collections.abc import Collection, Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Integer, UInt8

from util.errors import UserError

Coordinate = float | int
Size = tuple[int, int]
"""(height, width)."""
Rectangle = tuple[Coordinate, Coordinate, Coordinate, Coordinate]
"""x0, y0, x1, y1 in pixels: two opposite corners."""
Point = tuple[Coordinate, Coordinate]
"""x, y in pixels: (0, 0) is the corner of the first pixel, whose middle is (0.5, 0.5)."""

FRACTION_BITS = 4
MOST_POINTS = 20_000
FARTHEST = 200
LARGEST_RADIUS = 1000


def stroke_region(
    points: Sequence[Point], radius: Coordinate, size: tuple[int, int]
) -> Bool[np.ndarray, "height width"]:
    """Return the pixels under a brush that was drawn along these points: at least those that the points are in.

    Raises:
        UserError: there is no point, or too many; or the radius is not above 0, or above LARGEST_RADIUS.
    """
    if not 0 < radius <= LARGEST_RADIUS:
        raise UserError(f"a brush has a radius of at most {LARGEST_RADIUS} pixels, and above 0, not {radius}")
    margin = math.ceil(radius) + 1  # what is drawn beyond the picture reaches into it so far
    canvas = np.ones((size[0] + 2 * margin, size[1] + 2 * margin), np.uint8)
    coordinates = _fixed_point(points) + (margin << FRACTION_BITS)
    ends = np.concatenate([coordinates[1:], coordinates[-1:]])
    for start, end in zip(coordinates.tolist(), ends.tolist(), strict=True):
        cv2.line(canvas, start, end, 0, 1, cv2.LINE_8, FRACTION_BITS)
    distance = cv2.distanceTransform(canvas, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    near: Bool[np.ndarray, "height width"] = distance[margin:-margin, margin:-margin] <= max(radius - 0.5, 0)
    return near


def polygon_region(points: Sequence[Point], size: Size) -> Bool[np.ndarray, "height width"]:
    """Return the pixels inside a polygon.

    Raises:
        UserError: it has fewer than three corners, or too many.
    """
    if len(points) < 3:
        raise UserError("a polygon has at least three corners")
    region = np.zeros(size, np.uint8)
    cv2.fillPoly(region, [_fixed_point(points)], 1, cv2.LINE_8, FRACTION_BITS)
    return region > 0


def rectangle_region(box: Rectangle, size: Size) -> Bool[np.ndarray, "height width"]:
    """Return the pixels whose middle is in a box (x0, y0, x1, y1)."""
    left, right, top, bottom = (
        max(math.ceil(end - 0.5), 0) for end in (*sorted((box[0], box[2])), *sorted((box[1], box[3])))
    )
    region = np.zeros(size, bool)
    region[top:bottom, left:right] = True
    return region


def _fixed_point(points: Sequence[Point]) -> Integer[np.ndarray, "points 2"]:
    if not 0 < len(points) <= MOST_POINTS:
        raise UserError(f"a line has between 1 and {MOST_POINTS} points, not {len(points)}")
    coordinates = (np.asarray(points, float) - 0.5).clip(-1e5, 1e5)  # OpenCV's pixels have their middle at integers
    return np.rint(coordinates * (1 << FRACTION_BITS)).astype(np.int32)


def painted(
    labels: UInt8[np.ndarray, "height width"],
    region: Bool[np.ndarray, "height width"],
    label: int,
    locked: Collection[int],
) -> UInt8[np.ndarray, "height width"]:
    """Return the label map with a region painted in a label, except where a locked object is."""
    free = region & ~np.isin(labels, list(locked))
    return np.where(free, np.uint8(label), labels)


def erased(
    labels: UInt8[np.ndarray, "height width"], region: Bool[np.ndarray, "height width"], label: int
) -> UInt8[np.ndarray, "height width"]:
    """Return the label map with an object removed from a region."""
    return np.where(region & (labels == label), np.uint8(0), labels)


def replaced(
    labels: UInt8[np.ndarray, "height width"],
    mask: Bool[np.ndarray, "height width"],
    label: int,
    locked: Collection[int],
) -> UInt8[np.ndarray, "height width"]:
    """Return the label map with an object's mask replaced by another."""
    return painted(erased(labels, np.ones_like(mask), label), mask, label, locked)


def with_locked(
    labels: UInt8[np.ndarray, "height width"], old: UInt8[np.ndarray, "height width"], locked: Collection[int]
) -> UInt8[np.ndarray, "height width"]:
    """Return a label map in which locked objects are where they are in the old one, and nowhere else."""
    others = np.where(np.isin(labels, list(locked)), np.uint8(0), labels)
    return np.where(np.isin(old, list(locked)), old, others)


def cleaned(mask: Bool[np.ndarray, "height width"], operation: str, pixels: int) -> Bool[np.ndarray, "height width"]:
    """Return a mask that was cleaned up.

    Args:
        mask: an object's mask.
        operation: fill_holes fills holes of at most so many pixels (0: all); drop_islands keeps the parts of more than
            so many pixels (0: the largest part alone); grow and shrink move the outline by so many pixels.
        pixels: a number of pixels.

    Raises:
        UserError: there is no such operation, or the outline would move too far, or `pixels` is negative.
    """
    if pixels < 0:
        raise UserError(f"a number of pixels is at least 0, not {pixels}")
    if operation in ("grow", "shrink") and pixels > FARTHEST:
        raise UserError(f"an outline moves by at most {FARTHEST} pixels at a time")
    match operation:
        case "fill_holes":
            parts, areas, touching = _parts(~mask, connectivity=4)
            holes = [part for part in areas if part not in touching and (not pixels or areas[part] <= pixels)]
            return mask | np.isin(parts, holes)
        case "drop_islands":
            parts, areas, _ = _parts(mask, connectivity=8)
            least = pixels + 1 if pixels else max(areas.values(), default=0)
            return np.isin(parts, [part for part in areas if areas[part] >= least])
        case "grow" | "shrink":
            kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1, 2 * pixels + 1))
            change = cv2.dilate if operation == "grow" else cv2.erode
            # By OpenCV's default nothing grows in from beyond the picture's edge, and nothing shrinks from there.
            return change(mask.astype(np.uint8), kernel) > 0
    raise UserError(f"{operation}: there is fill_holes, drop_islands, grow and shrink")


def _parts(
    mask: Bool[np.ndarray, "height width"], connectivity: int
) -> tuple[Integer[np.ndarray, "height width"], dict[int, int], set[int]]:
    """Return the connected parts of a mask by number, their areas, and those that touch the picture's edge."""
    count, parts, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=connectivity)
    edge = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    areas = {part: int(statistics[part, cv2.CC_STAT_AREA]) for part in range(1, count)}
    return parts, areas, set(edge.tolist())
