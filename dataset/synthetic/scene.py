"""A scene: sprites, from far to near, before a background, seen by a moving camera and rendered at any time."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float, Float32, UInt8

from dataset.augmentation import SCALES_OF_PASSING
from dataset.synthetic.motion import Path, Pose, Waves, random_path, random_waves
from dataset.synthetic.sprites import Sprite, over, restless

Picture = UInt8[np.ndarray, "height width 3"]
LabelMap = UInt8[np.ndarray, "height width"]

# Side of the background in sides of the picture; it is mirrored beyond its border.
BACKGROUND_SCALE = 1.5

# Range of the sides of objects' canvases, in sides of the picture; objects are a little smaller than their canvas.
SIZES = (0.25, 1.2)

# Waves are computed for every eighth pixel and interpolated.
WAVE_STEP = 8

# Share of clips in which something passes an object and hides it, and the fewest frames that such a clip spans.
PASSING_SHARE, LEAST_PASSAGE = 0.75, 6
LABELLED_PASSING_SHARE = 0.7
"""How often it is a labelled object that passes another one, where there are two."""
LARGEST_PASSING = 1.2
"""Largest side of the canvas of what passes, in sides of the picture."""

FAST_SHARE = 0.1
"""Share of the objects that move fast whatever their size: 0.02 to 0.05 sides of the picture in a frame, or about."""

SHUTTER = 0.5  # Exposure time with motion blur, in frames.


@dataclass(frozen=True, eq=False)
class Layer:
    """A sprite on its path through the scene; `label` 0 is a distractor, which is not to be segmented."""

    sprite: Sprite
    pose: Pose
    label: int
    shadow: float = 0.0
    """Strength, 0 to 1, of the shadow that the sprite casts on what is behind it."""


@dataclass(frozen=True, eq=False)
class Look:
    """What the camera does to the picture: exposure of 3 × 3 regions for each channel, at two times, and defects."""

    light: Float32[np.ndarray, "2 3 3 3"]
    light_rate: float
    grey: bool
    noise: float
    """Standard deviation in levels of 255."""
    blur: float
    """Standard deviation in pixels."""
    jpeg_quality: int | None
    motion_blur: bool


@dataclass(frozen=True, eq=False)
class Scene:
    """Everything that is seen in a clip, from far to near."""

    size: int
    background: UInt8[np.ndarray, "background background 3"]
    background_pose: Pose
    background_waves: Waves | None
    camera: Pose
    layers: tuple[Layer, ...]
    look: Look

    def render(self, time: float, rng: np.random.Generator) -> tuple[Picture, LabelMap]:
        """Render the picture at `time` (in frames from the clip's first), and the label of each pixel.

        Args:
            rng: generates the camera's noise.
        """
        picture = self._background(time)
        labels = np.zeros((self.size, self.size), np.uint8)
        for layer in self.layers:
            self._paint(layer, time, picture, labels)
        return self._developed(picture, time, rng), labels

    def _background(self, time: float) -> Picture:
        whole = (slice(0, self.size), slice(0, self.size))
        matrix = self._matrix(self.background_pose, len(self.background), time)
        picture = warped(self.background, matrix, self.background_waves, time, whole, cv2.BORDER_REFLECT_101)
        return self._exposed(picture, self.background_pose, time)

    def _paint(self, layer: Layer, time: float, picture: Picture, labels: LabelMap) -> None:
        """Paint a layer over the picture and its labels."""
        sprite = layer.sprite
        matrix = self._matrix(layer.pose, sprite.size, time)
        region = visible_region(matrix, sprite.size, self.size)
        if region is None:
            return
        seen = warped(sprite.at(time), matrix, sprite.waves, time, region, cv2.BORDER_CONSTANT)
        seen = self._exposed(seen, layer.pose, time)
        coverage = seen[..., 3]
        if layer.shadow:
            self._shade(picture, region, coverage, layer.shadow)
        picture[region] = over(seen, picture[region])
        labels[region][coverage > 127] = layer.label

    def _matrix(self, pose: Pose, canvas: int, time: float) -> Float[np.ndarray, "3 3"]:
        """Return the map from a canvas of side `canvas` to the picture."""
        return self.camera.matrix(time, self.size, self.size) @ pose.matrix(time, canvas, self.size)

    def _shade(
        self,
        picture: Picture,
        region: tuple[slice, slice],
        coverage: UInt8[np.ndarray, "region_height region_width"],
        strength: float,
    ) -> None:
        """Darken the picture below and beside a sprite, with a soft edge."""
        drop = max(1, self.size // 24)
        rows, columns = region
        shadow = np.zeros((self.size + drop, self.size + drop), np.uint8)
        shadow[rows.start + drop : rows.stop + drop, columns.start + drop // 2 : columns.stop + drop // 2] = coverage
        shadow = cv2.blur(shadow[: self.size, : self.size], (drop, drop))
        light = 255 - cv2.convertScaleAbs(shadow, alpha=strength)
        cv2.multiply(picture, cv2.merge([light] * 3), picture, scale=1 / 255)

    def _exposed(
        self, image: UInt8[np.ndarray, "height width channels"], pose: Pose, time: float
    ) -> UInt8[np.ndarray, "height width channels"]:
        """Blur the image along the way of the canvas's middle while the shutter is open."""
        if not self.look.motion_blur:
            return image
        way = (self._matrix(pose, 1, time + SHUTTER) - self._matrix(pose, 1, time))[:2, 2]
        length = min(float(np.hypot(*way)), self.size / 10)
        return image if length < 1.5 else cv2.filter2D(image, -1, line_kernel(way, length))

    def _developed(self, picture: Picture, time: float, rng: np.random.Generator) -> Picture:
        look = self.look
        share = 0.5 - 0.5 * np.cos(np.pi * look.light_rate * time)
        light = cv2.resize(look.light[0] * (1 - share) + look.light[1] * share, (self.size, self.size))
        exposed = cv2.multiply(picture, light, dtype=cv2.CV_32F)
        if look.grey:
            exposed = cv2.merge([cv2.cvtColor(exposed, cv2.COLOR_RGB2GRAY)] * 3)
        if look.blur:
            exposed = cv2.GaussianBlur(exposed, (0, 0), look.blur)
        if look.noise:
            exposed += look.noise * rng.standard_normal(exposed.shape, np.float32)
        picture = np.clip(exposed, 0, 255).astype(np.uint8)
        if look.jpeg_quality is not None:
            _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, look.jpeg_quality])
            picture = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
        return picture


# --- Geometry ---------------------------------------------------------------------------------------------------------


def visible_region(matrix: Float[np.ndarray, "3 3"], canvas: int, picture: int) -> tuple[slice, slice] | None:
    """Return the rows and columns of the picture that the canvas covers; None if it is outside."""
    corners = matrix[:2, :2] @ np.array([[0, canvas, 0, canvas], [0, 0, canvas, canvas]]) + matrix[:2, 2:]
    left, top = np.clip(np.floor(corners.min(axis=1)), 0, picture).astype(int).tolist()
    right, bottom = np.clip(np.ceil(corners.max(axis=1)), 0, picture).astype(int).tolist()
    return (slice(top, bottom), slice(left, right)) if right > left and bottom > top else None


def warped(
    canvas: UInt8[np.ndarray, "size size channels"],
    matrix: Float[np.ndarray, "3 3"],
    waves: Waves | None,
    time: float,
    region: tuple[slice, slice],
    border: int,
) -> UInt8[np.ndarray, "height width channels"]:
    """Render a region of the picture that shows the canvas, placed by `matrix` and bent by the waves.

    Args:
        matrix: map from canvas to picture, in pixels.
        border: how the canvas continues beyond its border, as a constant of cv2.
    """
    (top, bottom), (left, right) = ((side.start, side.stop) for side in region)
    height, width = bottom - top, right - left
    inverse = np.linalg.inv(matrix)
    inverse[:2, 2] += inverse[:2, :2] @ [left, top]
    if waves is None:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(canvas, inverse[:2], (width, height), flags=flags, borderMode=border)
    inverse = inverse.astype(np.float32)
    rows, columns = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None]
    source = inverse[:2, 0] * columns[..., None] + (inverse[:2, 1] * rows[..., None] + inverse[:2, 2])
    coarse = (-(-height // WAVE_STEP), -(-width // WAVE_STEP))
    # The centres of the coarse pixels, as cv2.resize places them.
    coarse_rows = (np.arange(coarse[0], dtype=np.float32)[:, None, None] + 0.5) * (height / coarse[0]) - 0.5
    coarse_columns = (np.arange(coarse[1], dtype=np.float32)[None, :, None] + 0.5) * (width / coarse[1]) - 0.5
    points = inverse[:2, 0] * coarse_columns + inverse[:2, 1] * coarse_rows + inverse[:2, 2]
    bend = waves.displacement(points / np.float32(len(canvas)), time) * np.float32(len(canvas))
    source += cv2.resize(bend, (width, height))
    return cv2.remap(canvas, source, None, cv2.INTER_LINEAR, borderMode=border)


def line_kernel(direction: Float[np.ndarray, "2"], length: float) -> Float32[np.ndarray, "side side"]:
    """Return the kernel that averages along a line of this length (in pixels) and direction (x, y)."""
    half = direction / np.hypot(*direction) * length / 2
    radius = int(np.ceil(np.abs(half).max()))
    kernel = np.zeros((2 * radius + 1, 2 * radius + 1), np.uint8)
    ends = [np.rint((radius + sign * half) * 16).astype(int).tolist() for sign in (-1, 1)]
    cv2.line(kernel, *ends, 255, 1, cv2.LINE_AA, shift=4)
    return kernel / np.float32(kernel.sum())


# --- Random scenes ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Materials:
    """The sources of a scene's sprites (given the canvas size) and backgrounds (given the side)."""

    sprite: Callable[[np.random.Generator, int], Sprite]
    background: Callable[[np.random.Generator, int], Picture]


def random_scene(rng: np.random.Generator, materials: Materials, size: int, max_objects: int, end: float) -> Scene:
    """Draw a scene with 1 to `max_objects` labelled objects (1, 2, ..., in any order of depth) and some distractors.

    All objects are there at time 0; some cross, some move together, some look alike, and some are hidden for a while.

    Args:
        end: the time of the clip's last picture, negative if it runs backwards.
    """
    objects = int(rng.integers(1, max_objects + 1))
    canvas = max(32, size * 3 // 4)
    background_path = random_background_path(rng)
    layers: list[Layer] = []
    for label in [*range(1, objects + 1), *[0] * rng.choice([0, 1, 2], p=[0.4, 0.35, 0.25])]:
        twin = layers[rng.integers(len(layers))].sprite if layers and rng.random() < 0.25 else None
        sprite = materials.sprite(rng, canvas) if twin is None else restless(rng, twin)
        pose = random_pose(rng, [layer.pose for layer in layers])
        if label == 0 and rng.random() < 0.5:
            pose = Pose(replace(background_path, start=pose.path.start))  # stands still before the background
        shadow = rng.uniform(0.15, 0.6) if rng.random() < 0.25 else 0.0
        layers.append(Layer(sprite, pose, label, shadow))
    rng.shuffle(layers)
    if len(layers) > 1 and abs(end) >= LEAST_PASSAGE and rng.random() < PASSING_SHARE:
        let_one_pass_another(rng, layers, end)
    return Scene(
        size=size,
        background=_background(rng, materials, round(BACKGROUND_SCALE * size), canvas),
        background_pose=Pose(background_path),
        background_waves=random_waves(rng, 0.005) if rng.random() < 0.25 else None,
        camera=random_camera(rng),
        layers=tuple(layers),
        look=random_look(rng),
    )


def random_pose(rng: np.random.Generator, others: list[Pose]) -> Pose:
    """Draw the motion of an object: independent, or such that it meets (1/3) or accompanies (1/6) another one."""
    start = np.array([*rng.uniform(0.15, 0.85, 2), rng.uniform(*np.log(SIZES)), 0.0, 0.0])
    start[3:] = rng.normal(0, [0.4, 0.2])
    # Large objects are near, and seem to move faster; some move fast whatever their size.
    speed = np.array([0.007, 0.004, 0.004, 0.006, 0.003]) * np.exp(start[2])
    if rng.random() < FAST_SHARE:
        speed[:2] = rng.uniform(0.02, 0.05)
    reach = np.array([0.6, 0.5, 0.5, 0.8, 0.4])
    swing = np.array([0.015, 0.015, 0.02, 0.08, 0.05])
    path = random_path(rng, start, speed, reach, swing)
    company = rng.random()
    if others and company < 1 / 3:
        meeting = rng.uniform(10, 50) * rng.choice([-1, 1])
        other = others[rng.integers(len(others))].path
        path.velocity[:2] = (other.at(meeting) - start)[:2] / meeting
        path.reach[:2] = 1.5
    elif others and company < 1 / 2:
        other = others[rng.integers(len(others))].path
        beside = rng.normal(0, 0.3 * np.exp(other.start[2]), 2)
        start[:2] = np.clip(other.start[:2] + beside, 0.1, 0.9)
        path = Path(
            start,
            *(np.append(leading[:3], own[3:]) for leading, own in zip(_changes(other), _changes(path), strict=True)),
        )
    return Pose(path)


def let_one_pass_another(rng: np.random.Generator, layers: list[Layer], end: float) -> None:
    """Let something nearer pass a labelled object and hide it within the clip, mostly all of it."""
    hidden = layers.pop(rng.choice([place for place, layer in enumerate(layers) if layer.label]))
    labelled = [place for place, layer in enumerate(layers) if layer.label]
    among_labelled = labelled and rng.random() < LABELLED_PASSING_SHARE
    passing = layers.pop(rng.choice(labelled) if among_labelled else rng.integers(len(layers)))
    size = min(np.exp(hidden.pose.path.start[2]), rng.uniform(0.2, 0.5))
    of_hidden, of_passing = hidden.sprite.circles(), passing.sprite.circles()
    factor = rng.uniform(0.9, 1.8) * of_hidden.radius / of_passing.inner_radius
    factor = float(np.clip(factor, *SCALES_OF_PASSING))
    size *= min(1, LARGEST_PASSING / (size * factor))
    size_of_passing = size * factor
    hidden.pose.path.start[2] = np.log(size)
    meeting = end * rng.uniform(0.35, 0.65)
    apart = (size * of_hidden.radius + size_of_passing * of_passing.radius) * rng.uniform(0.8, 1.4)
    angle = rng.choice([0, np.pi]) + rng.normal(0, 0.5)
    path = deepcopy(passing.pose.path)  # it may share its motion with the background
    path.velocity[:2] = apart / min(abs(meeting), abs(end - meeting)) * np.array([np.cos(angle), np.sin(angle)])
    path.reach[:2], path.swing[:2] = 5.0, 0.0
    thickest = Pose(path).matrix(meeting, 1, 1)[:2, :2] @ of_passing.inner_centre / np.exp(path.at(meeting)[2])
    path.start[:2] = hidden.pose.path.at(meeting)[:2] - size_of_passing * thickest - path.velocity[:2] * meeting
    path.start[2] = np.log(size_of_passing)
    layers += [hidden, replace(passing, pose=Pose(path))]


def _changes(path: Path) -> tuple[np.ndarray, ...]:
    return path.velocity, path.reach, path.swing, path.rate, path.phase


def random_background_path(rng: np.random.Generator) -> Path:
    """Draw the background's motion: half stand still, half move as behind objects that a camera follows."""
    start = np.array([0.5, 0.5, np.log(BACKGROUND_SCALE), 0.0, 0.0])
    runs = rng.random() < 0.5
    speed = runs * np.array([0.012, 0.004, 0.0, 0.0, 0.0])
    return random_path(rng, start, speed, reach=np.full(5, 5.0), swing=np.zeros(5))


def random_camera(rng: np.random.Generator) -> Pose:
    """Draw a camera that stands still, moves slowly or (one in five) shakes."""
    start = np.array([0.5, 0.5, 0.0, 0.0, 0.0])
    unrest = rng.choice([0.1, 0.5, 1.5])
    speed = unrest * np.array([0.004, 0.002, 0.002, 0.002, 0.0])
    swing = unrest * np.array([0.003, 0.003, 0.003, 0.006, 0.0])
    path = random_path(rng, start, speed, np.array([0.8, 0.5, 0.3, 0.3, 1.0]), swing)
    if rng.random() < 0.2:
        path.rate[:2] = rng.uniform(0.15, 0.5, 2)
        path.swing[:2] = rng.uniform(0, 0.012, 2)
    return Pose(path)


def random_look(rng: np.random.Generator) -> Look:
    """Draw a look, mostly with even light and few defects."""
    tint = rng.normal(1, 0.06, (2, 1, 1, 3)) * np.exp(rng.normal(0, 0.12, (2, 1, 1, 1)))
    uneven = rng.normal(0, rng.choice([0.03, 0.2]), (2, 3, 3, 1))
    return Look(
        light=np.clip(tint + uneven, 0.3, 1.7).astype(np.float32),
        light_rate=float(rng.choice([0.01, 0.03, 0.1])),
        grey=bool(rng.random() < 0.05),
        noise=float(rng.uniform(1, 8)) if rng.random() < 0.4 else 0.0,
        blur=float(rng.uniform(0.4, 1.2)) if rng.random() < 0.25 else 0.0,
        jpeg_quality=int(rng.integers(30, 90)) if rng.random() < 0.3 else None,
        motion_blur=bool(rng.random() < 0.4),
    )


def _background(
    rng: np.random.Generator, materials: Materials, side: int, canvas: int
) -> UInt8[np.ndarray, "side side 3"]:
    """Draw a background with up to four sprites that stand still in it, some blurred, and are never labelled."""
    background = materials.background(rng, side)
    canvas //= int(rng.integers(1, 3))
    for _ in range(rng.integers(0, 5)):
        sprite, pose = materials.sprite(rng, canvas), random_pose(rng, [])
        matrix = pose.matrix(0.0, canvas, side)
        if (region := visible_region(matrix, canvas, side)) is not None:
            standing = warped(sprite.at(0.0), matrix, None, 0.0, region, cv2.BORDER_CONSTANT)
            background[region] = over(standing, background[region])
    return background
