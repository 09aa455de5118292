"""Textures from a small bank of patterns, which are coloured, rotated, scaled and mixed differently for each use."""

from collections.abc import Callable
from itertools import product

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8
from scipy.spatial import cKDTree

PATTERN_SIZE = 256

Pattern = UInt8[np.ndarray, "pattern_size pattern_size"]
Plane = Float32[np.ndarray, "height width"]
Picture = UInt8[np.ndarray, "height width 3"]


class TextureBank:
    """Grey patterns that tile, of all kinds, made once from a seed.

    Args:
        count: number of patterns; each takes 260 kB and some milliseconds.
    """

    def __init__(self, seed: np.random.SeedSequence, count: int = 96):
        kinds = (PATTERN_KINDS[index % len(PATTERN_KINDS)] for index in range(count))
        # Two by two tiles: cv2 is several times as fast inside an image as at its borders.
        self.patterns = tuple(
            np.tile(kind(np.random.default_rng(child)), (2, 2))
            for kind, child in zip(kinds, seed.spawn(count), strict=True)
        )

    def pattern(
        self, rng: np.random.Generator, height: int, width: int, scales: tuple[float, float] = (0.5, 3.0)
    ) -> UInt8[np.ndarray, "height width"]:
        """Return a part of one pattern, rotated and scaled at random."""
        angle, scale = rng.uniform(0, 2 * np.pi), np.exp(rng.uniform(*np.log(scales)))
        cosine, sine = np.cos(angle) / scale, np.sin(angle) / scale
        left, top = rng.uniform(0, PATTERN_SIZE, 2)
        matrix = np.array([[cosine, sine, left], [-sine, cosine, top]])
        pattern = self.patterns[rng.integers(len(self.patterns))]
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(pattern, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_WRAP)

    def texture(self, rng: np.random.Generator, height: int, width: int) -> Picture:
        """Draw a coloured texture; six in ten are mixed of two: in patches, in bands, or one at either end."""
        texture = self._plain_texture(rng, height, width)
        kind = rng.random()
        if kind < 0.25:
            patches = self.pattern(rng, height, width, (1.5, 4.0)) > rng.integers(90, 190)
            cv2.copyTo(self._plain_texture(rng, height, width), patches.astype(np.uint8), texture)
        elif kind < 0.4:
            self._paint_bands(rng, texture)
        elif kind < 0.6:
            self._paint_end(rng, texture)
        return texture

    def _paint_end(self, rng: np.random.Generator, texture: Picture) -> None:
        """Paint one end, with a soft or a hard border: a head, a tail, a pair of trousers."""
        height, width, _ = texture.shape
        border = np.float32(rng.uniform(0.35, 0.65)) - self._across(rng, height, width)
        border += np.float32(rng.uniform(0, 0.2) / 255) * self.pattern(rng, height, width, (2.0, 6.0))
        sharpness = np.float32(np.exp(rng.uniform(np.log(2), np.log(50))))
        share = np.clip(0.5 + sharpness * border, 0, 1)[..., None]
        np.copyto(texture, share * self._plain_texture(rng, height, width) + (1 - share) * texture, casting="unsafe")

    def _paint_bands(self, rng: np.random.Generator, texture: Picture) -> None:
        """Paint a few wide, uneven bands, some with rims, as on zebras, fish and shirts."""
        height, width, _ = texture.shape
        wobble = rng.uniform(0, 0.3)
        phase = self._across(rng, height, width) * np.float32(rng.uniform(1.5, 8)) + np.float32(rng.uniform())
        phase += np.float32(wobble / 255) * self.pattern(rng, height, width, (2.0, 6.0))
        depth = np.float32(rng.uniform(0.1, 0.35)) - np.abs(phase % 1 - np.float32(0.5))  # in bands from their edges
        if rng.random() < 0.5:
            texture[depth > -0.07] = palette(rng)[0]
        cv2.copyTo(self._plain_texture(rng, height, width), (depth > 0).astype(np.uint8), texture)

    @staticmethod
    def _across(rng: np.random.Generator, height: int, width: int) -> Plane:
        """Return each pixel's position along a random direction: 0.5 in the middle, about 0 and 1 at the ends."""
        angle = rng.uniform(0, 2 * np.pi)
        return ramp(np.float32(np.sin(angle)), np.float32(np.cos(angle)), height, width) + np.float32(0.5)

    def _plain_texture(self, rng: np.random.Generator, height: int, width: int) -> Picture:
        texture = palette(rng).take(self.pattern(rng, height, width), axis=0)
        if rng.random() < 0.5:
            # Brightness of a finer grain.
            strength = rng.uniform(0.05, 0.5)
            grain = self.pattern(rng, height, width, (0.5, 1.0))
            shade = cv2.convertScaleAbs(grain, alpha=strength, beta=255 * (1 - strength))
            texture = cv2.multiply(texture, cv2.merge([shade] * 3), scale=1 / 255)
        return texture


def ramp(down: np.floating, right: np.floating, height: int, width: int) -> Float[np.ndarray, "height width"]:
    """Return each pixel's position along a unit vector, from about -0.5 to 0.5, in units of the longer side."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32) / max(height, width) - np.float32(0.5)
    return rows * down + columns * right


def palette(rng: np.random.Generator) -> UInt8[np.ndarray, "256 3"]:
    """Draw colours for the levels of a pattern: a few, blended or in steps; mostly of muted, related hues."""
    count = int(rng.integers(2, 7))
    hues = rng.uniform(0, 360) + rng.normal(0, rng.choice([10, 40, 120]), count)
    saturations = np.clip(rng.beta(1.0, 2.5) + rng.normal(0, 0.12, count), 0, 1)
    values = np.clip(rng.uniform(0.2, 0.95) + rng.normal(0, rng.choice([0.05, 0.15, 0.35]), count), 0.03, 1)
    hsv = np.stack([hues % 360, saturations, values], axis=1).astype(np.float32)
    colours = 255 * cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0]
    inner = np.sort(rng.uniform(0, 255, count - 2))
    levels, places = np.arange(256), np.concatenate([[0], inner, [255]])
    if rng.random() < 0.3:
        return colours[np.searchsorted(inner, levels)].astype(np.uint8)
    return np.stack([np.interp(levels, places, channel) for channel in colours.T], axis=1).astype(np.uint8)


# --- Patterns: grey, of PATTERN_SIZE², continuing beyond one edge at the other ----------------------------------------


def _scaled(plane: np.ndarray) -> Pattern:
    """Scale to 0..255."""
    return cv2.normalize(plane, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def _levels(plane: np.ndarray) -> Pattern:
    """Scale to 0..255 such that all levels are about equally frequent."""
    return cv2.equalizeHist(_scaled(plane))


def _frequencies() -> tuple[np.ndarray, np.ndarray]:
    """Return the cycles per pattern, down and to the right, of each entry of a real Fourier transform."""
    return np.fft.fftfreq(PATTERN_SIZE, 1 / PATTERN_SIZE)[:, None], np.fft.rfftfreq(PATTERN_SIZE, 1 / PATTERN_SIZE)


def _filtered_noise(rng: np.random.Generator, gain: np.ndarray) -> np.ndarray:
    """Draw noise of standard deviation 1 with these amplitudes."""
    shape = (PATTERN_SIZE, PATTERN_SIZE)
    plane = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * gain, shape)
    return plane / plane.std()


def _smooth_noise(rng: np.random.Generator, cycles: float) -> np.ndarray:
    down, right = _frequencies()
    return _filtered_noise(rng, np.exp(-(down**2 + right**2) / cycles**2))


def cloudy(rng: np.random.Generator) -> Pattern:
    """Noise whose amplitude falls with frequency, as in photographs."""
    down, right = _frequencies()
    frequency = np.hypot(down, right)
    exponent, coarsest = rng.uniform(0.6, 2.2), rng.uniform(1, 12)
    return _levels(_filtered_noise(rng, (frequency > 0) * (frequency + coarsest) ** -exponent))


def smooth(rng: np.random.Generator) -> Pattern:
    """Very smooth noise: a sky, a wall, a coat."""
    return _levels(_smooth_noise(rng, rng.uniform(0.8, 2.5)))


def fibrous(rng: np.random.Generator) -> Pattern:
    """Noise stretched in one direction: fur, grass, wood, water."""
    down, right = _frequencies()
    along, across = rng.uniform(1, 5), rng.uniform(15, 70)
    angle = rng.uniform(0, np.pi)
    u, v = right * np.cos(angle) + down * np.sin(angle), down * np.cos(angle) - right * np.sin(angle)
    gain = np.exp(-((u / along) ** 2) - (v / across) ** 2)
    gain[0, 0] = 0
    return _levels(_filtered_noise(rng, gain))


def striped(rng: np.random.Generator) -> Pattern:
    """Stripes, or two sets of them crossing, straight or wavy."""
    rows, columns = np.mgrid[:PATTERN_SIZE, :PATTERN_SIZE] / PATTERN_SIZE
    bend = rng.choice([0, 0.3, 1.5]) * _smooth_noise(rng, rng.uniform(2, 6))

    def waves() -> np.ndarray:
        down, right = rng.integers(-14, 15, 2)
        return np.sin(2 * np.pi * (down * rows + (right or 3) * columns) + bend)

    plane = waves()
    if rng.random() < 0.4:
        plane = plane + waves() if rng.random() < 0.5 else plane * waves()
    sharpness = rng.choice([1, 8])
    return _scaled(np.tanh(sharpness * plane))


def spotted(rng: np.random.Generator) -> Pattern:
    """Spots of one size, from noise of one frequency, with sharp or soft edges."""
    down, right = _frequencies()
    cycles = rng.uniform(6, 30)
    gain = np.exp(-(((np.hypot(down, right) - cycles) / (0.25 * cycles)) ** 2))
    plane = _filtered_noise(rng, gain) - rng.uniform(-0.5, 1.5)
    plane = np.tanh(rng.choice([1.5, 10]) * plane) + 0.2 * _smooth_noise(rng, 6.0)
    return _scaled(plane)


def cellular(rng: np.random.Generator) -> Pattern:
    """Cells around points, flat or rounded, or the net of their borders: mosaic, scales, pebbles, leaves."""
    points = rng.uniform(0, PATTERN_SIZE, (int(np.exp(rng.uniform(np.log(20), np.log(500)))), 2))
    coarse = np.moveaxis(np.mgrid[:PATTERN_SIZE:2, :PATTERN_SIZE:2], 0, -1).reshape(-1, 2)
    distances, nearest = cKDTree(points, boxsize=PATTERN_SIZE).query(coarse, k=2)
    level = rng.uniform(0, 1, len(points))[nearest[:, 0]]
    plane = (level, distances[:, 0], distances[:, 1] - distances[:, 0])[rng.integers(3)]
    if rng.random() < 0.5:
        plane = plane / plane.max() + rng.uniform(0.2, 1) * level
    half = PATTERN_SIZE // 2
    plane = cv2.copyMakeBorder(plane.reshape(half, half).astype(np.float32), 1, 1, 1, 1, cv2.BORDER_WRAP)
    plane = cv2.resize(plane, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)[2:-2, 2:-2]
    return _scaled(plane)


def layered(rng: np.random.Generator) -> Pattern:
    """Leaves of all sizes that lie on each other, each with its own level: edges like those of photographs."""
    plane = np.zeros((PATTERN_SIZE, PATTERN_SIZE), np.uint8)
    grain = cv2.convertScaleAbs(cloudy(rng), alpha=rng.uniform(0, 0.35))
    smallest, half = rng.uniform(3, 10), PATTERN_SIZE / 2
    angular = rng.random() < 0.5
    for _ in range(300):
        radius = smallest * (1 - rng.random() * 0.99) ** -0.5
        centre, angle, level = rng.uniform(0, PATTERN_SIZE, 2).tolist(), rng.uniform(0, 180), rng.uniform(0, 200)
        axes = 2 * radius, 2 * radius * rng.uniform(0.3, 1)
        # Repeated beyond the edges that the leaf crosses.
        places = (
            [
                place
                for place in (along - PATTERN_SIZE, along, along + PATTERN_SIZE)
                if abs(place - half) < half + radius
            ]
            for along in centre
        )
        for place in product(*places):
            if angular:
                corners = np.rint(cv2.boxPoints((place, axes, angle))).astype(np.int32)
                cv2.fillPoly(plane, [corners], level, cv2.LINE_AA)
            else:
                cv2.ellipse(plane, (place, axes, angle), level, -1, cv2.LINE_AA)
    return cv2.add(plane, grain)


def tiled(rng: np.random.Generator) -> Pattern:
    """Bricks, tiles or windows in rows, each with its own level."""
    rows, columns = rng.integers(4, 24, 2)
    y, x = np.mgrid[:PATTERN_SIZE, :PATTERN_SIZE] / PATTERN_SIZE
    row = np.floor(y * rows).astype(int)
    shifted = x * columns + (row % 2) * rng.choice([0, 0.5]) * (rows % 2 == 0)
    column = np.floor(shifted).astype(int) % columns
    inside = np.minimum(y * rows % 1, 1 - y * rows % 1) > rng.uniform(0.03, 0.2)
    inside &= np.minimum(shifted % 1, 1 - shifted % 1) > rng.uniform(0.03, 0.2)
    level = rng.uniform(0.5 * rng.random(), 1, (rows, columns))[row, column]
    plane = np.where(inside, level, 0.1) + 0.1 * rng.random() * _smooth_noise(rng, 40.0)
    return _scaled(plane)


# Kinds that look natural come more often.
PATTERN_KINDS: tuple[Callable[[np.random.Generator], Pattern], ...] = (
    cloudy,
    layered,
    smooth,
    fibrous,
    cloudy,
    cellular,
    smooth,
    striped,
    layered,
    smooth,
    spotted,
    tiled,
)
