"""Make the example clip: two fish that cross over a reef, one hiding the other, with the true label map of every frame.

Everything is painted from random numbers, so that the clip can be shared freely and made again:

    python -m scripts.make_example_clip FOLDER
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32
from PIL import Image
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter

from dataset.label_map import write_label_map
from util.painting import davis_palette

VIDEO = "crossing"
SEED = 0
FRAMES, HEIGHT, WIDTH = 54, 240, 432
JPEG_QUALITY = 92

# Pictures are averages of samples finer than a pixel, in space and within the time the shutter is open.
SAMPLES_PER_PIXEL = 2
SHUTTER = (-0.25, 0.0, 0.25)  # in frames

Plane = Float32[np.ndarray, "height width"]
Picture = Float32[np.ndarray, "height width 3"]
Colour = tuple[float, float, float]
Points = tuple[tuple[float, float], ...]

WATER_TOP, WATER_DEEP = (0.45, 0.80, 0.82), (0.05, 0.27, 0.42)


# --- Textures ---------------------------------------------------------------------------------------------------------


def noise(rng: np.random.Generator, shape: tuple[int, int], size: float, octaves: int = 1) -> Plane:
    """Draw smooth noise that tiles, of mean 0 and deviation 1; its coarsest blobs measure `size` pixels."""
    spectrum = np.fft.rfft2(rng.standard_normal(shape))
    frequency = 2 * np.pi * np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1]))
    sizes = size / 2.0 ** np.arange(octaves)
    # A sum of Gaussian blurs; every octave is weaker than the one before.
    spectrum *= sum(s * np.exp(-((frequency * s) ** 2) / 2) / 1.7**octave for octave, s in enumerate(sizes))
    spectrum[0, 0] = 0
    values = np.fft.irfft2(spectrum, shape)
    return (values / values.std()).astype(np.float32)


def mix(first: Picture | Colour, second: Picture | Colour, share: Plane | float) -> Picture:
    """Mix a `share` (0 to 1) of `second` with the rest of `first`."""
    begin, end = np.asarray(first, np.float32), np.asarray(second, np.float32)
    return begin + np.clip(np.asarray(share, np.float32), 0, 1)[..., None] * (end - begin)


def step(value: Plane, softness: float) -> Plane:
    """Return 0 where `value` is negative, 1 where it is positive, with a smooth step between −softness and softness."""
    share = np.clip(value / (2 * softness) + 0.5, 0, 1)
    return share * share * (3 - 2 * share)


def emboss(height_map: Plane, strength: float) -> Plane:
    """Return the brightness (about 1) of a surface of that height under light from the upper left."""
    down, right = np.gradient(height_map)
    return np.clip(1 + strength * (0.45 * right + down), 0.3, 1.8).astype(np.float32)


# --- The fish ---------------------------------------------------------------------------------------------------------

# Outlines in body lengths: the nose at (0, 0), the tail to the right, y downwards.
BODY: Points = ((0, 0.02), (0.07, -0.10), (0.24, -0.23), (0.5, -0.28), (0.75, -0.19), (0.95, -0.07), (1.03, -0.06))
BODY += ((1.03, 0.06), (0.95, 0.07), (0.75, 0.18), (0.5, 0.26), (0.24, 0.22), (0.07, 0.11))
DORSAL = ((0.26, -0.2), (0.36, -0.35), (0.52, -0.37), (0.68, -0.36), (0.84, -0.34), (0.93, -0.22), (0.92, -0.08))
ANAL = ((0.52, 0.2), (0.62, 0.35), (0.76, 0.37), (0.9, 0.25), (0.92, 0.08), (0.7, 0.12))
PELVIC = ((0.3, 0.19), (0.34, 0.33), (0.45, 0.41), (0.48, 0.31), (0.44, 0.2))
PECTORAL = ((0.33, 0.04), (0.43, -0.03), (0.54, 0.0), (0.58, 0.09), (0.5, 0.15), (0.39, 0.12))
ROUND_TAIL: Points = ((0.97, -0.05), (1.12, -0.16), (1.27, -0.2), (1.31, -0.1), (1.29, 0), (1.31, 0.1), (1.27, 0.2))
ROUND_TAIL += ((1.12, 0.16), (0.97, 0.05))
FORKED_TAIL: Points = ((0.97, -0.06), (1.1, -0.21), (1.32, -0.34), (1.22, -0.11), (1.18, 0), (1.22, 0.11), (1.32, 0.34))
FORKED_TAIL += ((1.1, 0.21), (0.97, 0.06))
EYE, EYE_RADIUS = (0.115, -0.045), 0.03

CANVAS_SCALE = 380  # pixels per body length where a fish is painted
CANVAS_SIZE = (420, 600)  # height and width
CANVAS_NOSE = (40, 210)  # x and y


@dataclass(frozen=True)
class Species:
    """How a fish looks: its height as a share of the outlines', its tail, its fins, and the colours of its skin."""

    height: float
    tail: Points
    fin: Colour
    fin_rim: Colour
    skin: Callable[[np.random.Generator, Plane, Plane], Picture]


def banded_skin(rng: np.random.Generator, x: Plane, y: Plane) -> Picture:
    """Orange with three white bands that have dark rims."""
    wavy = x + 0.012 * noise(rng, x.shape, 24) + 0.10 * y**2
    skin = mix((0.97, 0.50, 0.09), (0.84, 0.22, 0.04), 0.5 - 2.2 * y)
    for centre, half_width in ((0.24, 0.050), (0.56, 0.060), (0.91, 0.035)):
        depth = half_width - np.abs(wavy - centre - 0.25 * np.abs(y) * (centre - 0.5))
        skin = mix(skin, (0.10, 0.05, 0.06), step(depth + 0.022, 0.008))
        skin = mix(skin, (0.96, 0.95, 0.90), step(depth, 0.006))
    return skin


def spotted_skin(rng: np.random.Generator, x: Plane, y: Plane) -> Picture:
    """Violet at the head and yellow at the tail, with turquoise spots in staggered rows."""
    skin = mix((0.42, 0.16, 0.62), (0.98, 0.80, 0.16), step(x - 0.62 + 0.035 * noise(rng, x.shape, 14, 3), 0.13))
    row = np.round(y / 0.062)
    column = x / 0.075 + 0.5 * (row % 2) + 0.10 * noise(rng, x.shape, 30)
    distance = np.hypot((column - np.round(column)) * 0.075, y - row * 0.062 + 0.006 * noise(rng, x.shape, 30))
    skin = mix(skin, (0.20, 0.06, 0.36), 0.7 * step(0.025 - distance, 0.006) * step(0.75 - x, 0.1))
    return mix(skin, (0.35, 0.92, 0.90), step(0.017 - distance, 0.005) * step(0.80 - x, 0.1))


BANDED = Species(1.0, ROUND_TAIL, fin=(0.95, 0.44, 0.07), fin_rim=(0.13, 0.05, 0.05), skin=banded_skin)
SPOTTED = Species(0.6, FORKED_TAIL, fin=(0.96, 0.74, 0.20), fin_rim=(0.40, 0.16, 0.58), skin=spotted_skin)


def filled(points: Points, height: float) -> Plane:
    """Return the coverage (0 to 1) of the canvas by the smooth closed curve through `points`, y scaled by `height`."""
    closed = np.array([*points, points[0]]) * [1, height]
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    outline = CubicSpline(along, closed, bc_type="periodic")(np.linspace(0, along[-1], 400))
    pixels = np.rint((outline * CANVAS_SCALE + CANVAS_NOSE) * 16).astype(np.int32)
    coverage = cv2.fillPoly(np.zeros(CANVAS_SIZE, np.uint8), [pixels], 255, cv2.LINE_AA, shift=4)
    return coverage.astype(np.float32) / 255


def painted_fin(points: Points, species: Species, x: Plane, y: Plane) -> tuple[Picture, Plane]:
    """Paint a fin: colours and coverage, with rays that fan out from its root and a rim of another colour."""
    coverage = filled(points, species.height)
    rays = np.sin(75 * np.arctan2(y - 0.3 * points[0][1] * species.height, x - points[0][0] + 0.12))
    rim = step(0.80 - gaussian_filter(coverage, 5), 0.15)
    fin = np.array(species.fin, np.float32) * (0.86 + 0.14 * rays)[..., None]
    return mix(fin, species.fin_rim, 0.85 * rim), coverage


def paint(species: Species, rng: np.random.Generator) -> tuple[Picture, Plane]:
    """Paint a fish at rest that looks to the left: colours and coverage."""
    rows, columns = np.mgrid[: CANVAS_SIZE[0], : CANVAS_SIZE[1]].astype(np.float32)
    x, y = (columns - CANVAS_NOSE[0]) / CANVAS_SCALE, (rows - CANVAS_NOSE[1]) / CANVAS_SCALE
    rgb, coverage = np.zeros((*CANVAS_SIZE, 3), np.float32), np.zeros(CANVAS_SIZE, np.float32)
    for points in (species.tail, DORSAL, ANAL, PELVIC):
        fin, fin_coverage = painted_fin(points, species, x, y)
        rgb, coverage = mix(rgb, fin, fin_coverage), np.maximum(coverage, fin_coverage)

    body = filled(BODY, species.height)
    # The distance from the outline, rounded off, is the height of a plump body; then come scales and a gloss.
    inside = cv2.distanceTransform((body > 0.5).astype(np.uint8), cv2.DIST_L2, 5) / CANVAS_SCALE
    plump = gaussian_filter(np.sqrt(inside * (2 * inside.max() - inside)), 4)
    light = 0.3 + 0.7 * emboss(plump * CANVAS_SCALE, 0.45) * (0.97 - 0.3 * y) + 0.04 * noise(rng, x.shape, 8, 3)
    light += 0.05 * step(x - 0.28, 0.05) * np.cos(x * 190 + np.pi * np.round(y * 60)) * np.cos(y * 190)
    gloss = 0.35 * np.exp(-(((y + 0.55 * plump.max()) / 0.045) ** 2)) * step(plump - 0.1, 0.1)
    skin = species.skin(rng, x, y) * light[..., None] + gloss[..., None]
    # The body fades into the root of the tail.
    rgb, coverage = mix(rgb, skin, body * step(1.0 - x, 0.05)), np.maximum(coverage, body)

    gill = np.abs(np.hypot(x - EYE[0] + 0.06, 0.8 * y) - 0.21)
    rgb = mix(rgb, (0.15, 0.05, 0.05), 0.45 * step(0.006 - gill, 0.006) * step(x - 0.2, 0.03) * body)
    fin, fin_coverage = painted_fin(PECTORAL, species, x, y)
    shadow = gaussian_filter(np.roll(fin_coverage, (6, 4), (0, 1)), 5)
    rgb = mix(mix(rgb, (0, 0, 0), 0.35 * shadow * body), fin, 0.92 * fin_coverage)
    right, down = x - EYE[0], y - EYE[1] * species.height
    rgb = mix(rgb, (0.95, 0.86, 0.55), step(EYE_RADIUS - np.hypot(right, down), 0.004))
    rgb = mix(rgb, (0.03, 0.03, 0.05), step(0.68 * EYE_RADIUS - np.hypot(right, down), 0.004))
    glint = np.hypot(right + 0.3 * EYE_RADIUS, down + 0.35 * EYE_RADIUS)
    rgb = mix(rgb, (1, 1, 1), step(0.22 * EYE_RADIUS - glint, 0.003))
    return np.clip(rgb, 0, 1), coverage


@dataclass(frozen=True)
class Swim:
    """The motion of a fish through the clip; time goes from 0 to 1, lengths are in picture widths, y goes downwards."""

    start: tuple[float, float]
    end: tuple[float, float]
    body_length: float
    beats: float  # of the tail, in the whole clip
    bob: float  # how far it goes down, and then up, from its straight way

    def deform(self, time: float, shape: tuple[int, int]) -> tuple[Plane, Plane]:
        """Return, for every pixel of a picture, the place (x, y) on the canvas that it shows."""
        height, width = shape
        phase = 2 * np.pi * (1.2 * time + 0.1)
        centre_x, centre_y = np.array(self.start) * (1 - time) + np.array(self.end) * time
        pitch = -0.16 * np.sign(self.bob) * np.cos(phase)
        turn = 0.90 + 0.10 * np.cos(3 * np.pi * time)

        rows, columns = np.mgrid[:height, :width].astype(np.float32)
        back = (columns + 0.5) / width - centre_x - 0.012 * np.sin(4 * np.pi * time)
        back *= np.sign(self.start[0] - self.end[0])
        down = (rows + 0.5) / width - centre_y - self.bob * np.sin(phase)
        x = (back * np.cos(pitch) + down * np.sin(pitch)) / (self.body_length * turn) + 0.6
        y = (down * np.cos(pitch) - back * np.sin(pitch)) / self.body_length
        # A wave runs from head to tail and grows on its way.
        y -= (0.012 + 0.085 * np.clip(x, 0, 1.4) ** 2) * np.sin(2 * np.pi * (0.75 * x - self.beats * time))
        x, y = x * CANVAS_SCALE + CANVAS_NOSE[0], y * CANVAS_SCALE + CANVAS_NOSE[1]
        return x.astype(np.float32), y.astype(np.float32)


# --- The reef ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """A layer of the scenery, wider than the picture, since the camera pans."""

    rgb: Picture
    coverage: Plane
    parallax: float  # speed relative to the nearest layer
    caustics: float  # how strongly the net of light from the waves shows on it


class Reef:
    """Water, two ridges of rock and a sandy floor, painted once and seen through a panning camera.

    `shape` is the picture's (height, width); textures keep their share of it at any size.
    """

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int]):
        self.shape = height, width = shape
        self.pan = 0.25 * width
        wide = (height, round(1.3 * width))
        unit = height / 480
        y = np.repeat(np.linspace(0, 1, height, dtype=np.float32)[:, None], wide[1], axis=1)
        water = mix(WATER_TOP, WATER_DEEP, 1.15 * y + 0.03 * noise(rng, wide, 60 * unit))
        self.layers = [Layer(water, np.ones_like(y), parallax=0.1, caustics=0)]
        for top, roughness, haze, blur, parallax in ((0.50, 0.10, 0.72, 5.0, 0.35), (0.70, 0.07, 0.22, 1.6, 0.7)):
            ridge = top + roughness * noise(rng, wide, 70 * unit, 5)[0] + 0.015 * noise(rng, wide, 10 * unit, 3)
            rock = mix((0.20, 0.17, 0.20), (0.50, 0.44, 0.38), 0.5 + 0.3 * noise(rng, wide, 40 * unit, 4))
            for coral in ((0.80, 0.30, 0.42), (0.88, 0.55, 0.20), (0.40, 0.50, 0.20), (0.55, 0.30, 0.62)):
                rock = mix(rock, coral, 0.8 * step(noise(rng, wide, 22 * unit, 4) - 1.0, 0.25))
            rock *= emboss(noise(rng, wide, 26 * unit, 5) * 7 * unit, 0.9)[..., None]
            rock *= (1.15 - 0.55 * np.clip((y - ridge) * 3, 0, 1))[..., None]
            rock = cv2.GaussianBlur(mix(rock, water, haze), (0, 0), blur * unit)
            coverage = gaussian_filter(step(y - ridge, 0.006), blur * unit)
            self.layers.append(Layer(rock, coverage, parallax, caustics=0.5 * (haze < 0.5)))
        ripples = np.sin(150 * np.sqrt(np.maximum(y - 0.8, 0)) + 1.4 * noise(rng, wide, 30 * unit))
        grain = 0.06 * noise(rng, wide, 1.2 * unit) + 0.05 * noise(rng, wide, 9 * unit, 3)
        sand = np.array([0.83, 0.76, 0.58], np.float32) * (0.80 + 0.10 * ripples + grain)[..., None]
        shore = 0.87 + 0.02 * noise(rng, wide, 60 * unit)[0]
        sand = mix(sand, water, 1.35 - 1.25 * y)
        self.layers.append(Layer(sand, step(y - shore, 0.012), parallax=1, caustics=0.45))
        # Squeezed to half their height, as a floor seen from the side.
        self.nets = [noise(rng, (2 * height, wide[1]), 14 * unit)[::2] for _ in range(2)]
        self.beams = noise(rng, (1, 2 * wide[1]), 30 * unit, 2)

    def from_left(self, painted: np.ndarray, shift: float) -> np.ndarray:
        """Return the picture-sized part that begins `shift` pixels from the left."""
        move = np.array([[1, 0, -shift], [0, 1, 0]], np.float32)
        return cv2.warpAffine(painted, move, self.shape[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)

    def view(self, time: float) -> Picture:
        """Return what the camera sees at `time` (0 to 1 in the clip)."""
        rgb = np.zeros((*self.shape, 3), np.float32)
        for layer in self.layers:
            shift = layer.parallax * self.pan * time
            # Waves cast light where either of two noises, drifting apart, is near zero.
            drift = 0.10 * self.shape[1] * time
            first, second = self.from_left(self.nets[0], shift + drift), self.from_left(self.nets[1], shift - drift)
            brightness = 1 + layer.caustics * (np.exp(-4 * np.minimum(np.abs(first), np.abs(second))) - 0.3)
            seen = self.from_left(layer.rgb, shift) * brightness[..., None]
            rgb = mix(rgb, seen, self.from_left(layer.coverage, shift))
        return rgb

    def light(self, time: float) -> Plane:
        """Return the brightness, about 1, of the whole scene: beams from above, and a passing cloud."""
        rows, columns = np.mgrid[: self.shape[0], : self.shape[1]].astype(np.float32)
        along = columns + 0.45 * rows + 0.06 * self.shape[1] * time
        beams = cv2.remap(self.beams, along, np.zeros_like(rows), cv2.INTER_LINEAR)
        return 0.98 + 0.07 * np.sin(2 * np.pi * (time + 0.1)) + 0.07 * beams * (1 - rows / self.shape[0]) ** 1.5


# --- The clip ---------------------------------------------------------------------------------------------------------


def render(frames: int = FRAMES, height: int = HEIGHT, width: int = WIDTH) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield every frame (RGB, 8 bits) with its label map: 1 is the banded fish, which is nearer, and 2 the spotted one.

    The label of a pixel is that of what it shows most while the shutter is open.
    """
    rng = np.random.default_rng(SEED)
    fine = (height * SAMPLES_PER_PIXEL, width * SAMPLES_PER_PIXEL)
    middle = height / width / 2
    reef = Reef(rng, fine)
    fish = (  # from far to near
        (2, paint(SPOTTED, rng), Swim((0.84, middle - 0.01), (0.17, middle - 0.015), 0.205, 6.5, -0.03), 0.16),
        (1, paint(BANDED, rng), Swim((0.215, middle + 0.02), (0.77, middle), 0.285, 4.5, 0.025), 0.03),
    )
    for frame in range(frames):
        # The scenery moves too little within a frame to blur.
        now = frame / max(frames - 1, 1)
        scenery, light = reef.view(now), reef.light(now)[..., None]
        exposures, shares = [], []
        for moment in SHUTTER:
            rgb, shown = scenery, np.array([1, 0, 0], np.float32) * np.ones((*fine, 1), np.float32)
            for label, (painted, coverage), swim, haze in fish:
                canvas = swim.deform((frame + moment) / max(frames - 1, 1), fine)
                there = cv2.remap(coverage, *canvas, cv2.INTER_LINEAR)
                rgb = mix(rgb, mix(cv2.remap(painted, *canvas, cv2.INTER_LINEAR), WATER_DEEP, haze), there)
                shown = mix(shown, np.eye(3)[label], there)
            exposures.append(rgb * light)
            shares.append(shown)
        rgb, share = (
            cv2.resize(np.mean(samples, axis=0), (width, height), interpolation=cv2.INTER_AREA)
            for samples in (exposures, shares)
        )
        yield np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8), share.argmax(axis=2).astype(np.uint8)


def write_clip(output: Path, frames: int = FRAMES, height: int = HEIGHT, width: int = WIDTH) -> None:
    """Write JPEGImages/crossing/00000.jpg, ... and Annotations/crossing/00000.png, ... into `output`.

    Raises:
        FileExistsError: there is a clip in `output`.
    """
    images, annotations = output / "JPEGImages" / VIDEO, output / "Annotations" / VIDEO
    for folder in (images, annotations):
        folder.mkdir(parents=True)
    for index, (rgb, labels) in enumerate(render(frames, height, width)):
        Image.fromarray(rgb).save(images / f"{index:05d}.jpg", quality=JPEG_QUALITY)
        write_label_map(annotations / f"{index:05d}.png", labels, davis_palette())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python -m scripts.make_example_clip FOLDER\n\n{__doc__}")
    write_clip(Path(sys.argv[1]))
