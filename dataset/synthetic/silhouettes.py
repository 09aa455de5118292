"""Silhouettes of imaginary objects: how much of each pixel they cover (0 to 255), on a square canvas."""

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Float, UInt8

Coverage = UInt8[np.ndarray, "size size"]

# Share of the canvas that silhouettes leave free on each side, so that they can bend.
MARGIN = 0.1


def silhouette(rng: np.random.Generator, size: int) -> Coverage:
    """Draw a silhouette of any kind that touches the margin; one in eight has a hole."""
    coverage = KINDS[rng.integers(len(KINDS))](rng, size)
    if rng.random() < 0.125:
        centre, axes = rng.uniform(0.3, 0.7, 2) * size, rng.uniform(0.05, 0.3, 2) * size
        cv2.ellipse(coverage, (centre.tolist(), axes.tolist(), rng.uniform(0, 180)), 0.0, -1, cv2.LINE_AA)
    return coverage


def filled(outline: Float[np.ndarray, "points 2"], size: int, fit: bool = True) -> Coverage:
    """Fill a closed curve, scaled to the canvas; without `fit` its points are in canvas widths already."""
    if fit:
        (centred,) = _centred([outline], 1 - 2 * MARGIN)
        outline = 0.5 + centred
    pixels = np.rint(outline * size * 16).astype(np.int32)
    return cv2.fillPoly(np.zeros((size, size), np.uint8), [pixels], 255, cv2.LINE_AA, shift=4)


def blob(rng: np.random.Generator, size: int) -> Coverage:
    """Draw a round or long shape with a wavy outline."""
    angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    order = np.arange(1, 7)
    amplitude = rng.normal(0, rng.uniform(0.1, 0.6), 6) / order
    waves = amplitude @ np.cos(np.outer(order, angle) + rng.uniform(0, 2 * np.pi, (6, 1)))
    return filled(_turned(np.maximum(1 + waves, 0.15), angle, rng), size)


def star(rng: np.random.Generator, size: int) -> Coverage:
    """Draw a smooth outline with bays and limbs."""
    count = int(rng.integers(5, 14))
    spikes = rng.uniform(rng.uniform(0.15, 0.6), 1, count)
    # Periodic and smooth through few points: their Fourier series.
    radius = np.fft.irfft(np.fft.rfft(spikes), 96) * 96 / count
    return filled(_turned(np.maximum(radius, 0.1), np.linspace(0, 2 * np.pi, 96, endpoint=False), rng), size)


def polygon(rng: np.random.Generator, size: int) -> Coverage:
    """Draw a shape with straight sides: a triangle, a box, a crystal."""
    count = int(rng.integers(3, 9))
    if count == 4:
        angle = np.pi / 4 + np.arange(4) * np.pi / 2
    else:
        angle = np.sort(rng.uniform(0, 2 * np.pi / count, count)) + np.arange(count) * 2 * np.pi / count
    return filled(_turned(np.ones(count), angle, rng), size)


def puddle(rng: np.random.Generator, size: int) -> Coverage:
    """Draw the largest connected piece of noise above a level: ragged, forked, sometimes with holes."""
    cells = int(rng.integers(4, 9))
    field = cv2.resize(rng.standard_normal((cells, cells)), (size, size), interpolation=cv2.INTER_CUBIC)
    y, x = (np.mgrid[:size, :size] + 0.5) / size - 0.5
    distance = np.hypot(x, y) / (0.5 - MARGIN)
    field += 2.2 * (1 - distance) - rng.uniform(0.2, 0.8)
    field[distance > 1] = -1
    _, pieces, statistics, _ = cv2.connectedComponentsWithStats((field > 0).astype(np.uint8))
    largest = 1 + np.argmax(statistics[1:, cv2.CC_STAT_AREA]) if len(statistics) > 1 else 0
    if largest == 0 or statistics[largest, cv2.CC_STAT_AREA] < 0.03 * size**2:
        return blob(rng, size)
    return cv2.blur(255 * (pieces == largest).astype(np.uint8), (3, 3))


def wires(rng: np.random.Generator, size: int) -> Coverage:
    """Draw thin strokes that hang together: a wheel with spokes, or a stem with twigs."""
    turn, count = rng.uniform(0, 2 * np.pi), int(rng.integers(3, 9))
    if rng.random() < 0.5:
        angle = turn + np.linspace(0, 2 * np.pi, 49)
        rim = np.stack([np.cos(angle), np.sin(angle) * np.exp(rng.uniform(np.log(0.4), 0))], axis=1)
        strokes = [rim, *(np.stack([np.zeros(2), tip]) for tip in rim[:48][:: -(-48 // count)])]
    else:
        stem = np.cumsum(rng.normal([0.25, 0], [0.05, 0.12], (8, 2)), axis=0)
        roots = stem[rng.integers(0, len(stem), count)]
        twigs = roots[:, None] + rng.normal([0.2, 0], [0.2, 0.5], (count, 1, 2)) * np.array([[0], [0.6], [1]])[None]
        strokes = [stroke @ _rotation(turn) for stroke in (stem, *twigs)]
    thickness = max(2, round(rng.uniform(0.02, 0.06) * size))
    coverage = np.zeros((size, size), np.uint8)
    for stroke in _centred(strokes, (1 - 2 * MARGIN) * size - thickness):
        pixels = size / 2 + stroke
        cv2.polylines(coverage, [np.rint(16 * pixels).astype(np.int32)], False, 255, thickness, cv2.LINE_AA, shift=4)
    return coverage


def capsule(start: np.ndarray, end: np.ndarray, start_width: float, end_width: float, size: int) -> Coverage:
    """Draw a limb with round ends of different widths; all lengths are in canvas widths."""
    along = end - start
    side = np.array([-along[1], along[0]]) / max(np.hypot(*along), 1e-6)
    turn = np.linspace(0, np.pi, 9)[:, None]
    forward = along / max(np.hypot(*along), 1e-6)
    cap_start = start + start_width / 2 * (np.cos(turn) * side - np.sin(turn) * forward)
    cap_end = end + end_width / 2 * (-np.cos(turn) * side + np.sin(turn) * forward)
    return filled(np.concatenate([cap_start, cap_end]), size, fit=False)


def _turned(radius: np.ndarray, angle: np.ndarray, rng: np.random.Generator) -> Float[np.ndarray, "points 2"]:
    """Return points of these polar coordinates, squeezed and rotated at random."""
    points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle) * np.exp(rng.uniform(np.log(0.3), 0))], axis=1)
    return points @ _rotation(rng.uniform(0, 2 * np.pi))


def _rotation(angle: float) -> Float[np.ndarray, "2 2"]:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _centred(curves: list[np.ndarray], side: float) -> list[np.ndarray]:
    """Return curves moved and scaled together, so that the longer side of the box around them is `side`, about 0."""
    points = np.concatenate(curves)
    low, high = points.min(axis=0), points.max(axis=0)
    return [side * (curve - (low + high) / 2) / (high - low).max() for curve in curves]


KINDS: tuple[Callable[[np.random.Generator, int], Coverage], ...] = (blob, blob, star, polygon, puddle, wires)
