"""Sprites: objects of textured parts, which swing about their joints, on a canvas that bends as a whole."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from dataset.augmentation import enclosing_circle, inscribed_circle
from dataset.synthetic.motion import Waves, random_waves
from dataset.synthetic.silhouettes import MARGIN, capsule, silhouette
from dataset.synthetic.textures import TextureBank

Canvas = UInt8[np.ndarray, "size size 4"]


@dataclass(frozen=True, eq=False)
class Part:
    """A rigid piece of an object: colours, coverage, and how it moves on the canvas.

    Attributes:
        joint: the point (x, y) about which the part swings, in pixels.
        swing: amplitude in radians.
        rate: frequency in cycles per frame.
        slide: (x, y) in pixels per frame, by which the texture moves over the part, as on a rotating object.
    """

    texture: UInt8[np.ndarray, "size size 3"]
    coverage: UInt8[np.ndarray, "size size"]
    joint: Float[np.ndarray, "2"]
    swing: float = 0.0
    rate: float = 0.0
    phase: float = 0.0
    slide: tuple[float, float] = (0.0, 0.0)

    def at(self, time: float) -> Canvas:
        """Return RGB, multiplied by the coverage, and the coverage."""
        texture, side = self.texture, (self.texture.shape[1], self.texture.shape[0])
        if any(self.slide):
            shift = np.array([[1, 0, self.slide[0] * time], [0, 1, self.slide[1] * time]])
            texture = cv2.warpAffine(texture, shift, side, borderMode=cv2.BORDER_REFLECT)
        covered = cv2.multiply(texture, cv2.merge([self.coverage] * 3), scale=1 / 255)
        canvas = cv2.merge([*cv2.split(covered), self.coverage])
        if self.swing:
            angle = self.swing * np.sin(2 * np.pi * self.rate * time + self.phase)
            turn = cv2.getRotationMatrix2D(self.joint.tolist(), np.degrees(angle), 1)
            canvas = cv2.warpAffine(canvas, turn, side)
        return canvas


@dataclass(frozen=True, eq=False)
class Sprite:
    """An object at rest in the middle of its canvas: parts from far to near, and the waves that bend them all."""

    parts: tuple[Part, ...]
    waves: Waves

    @property
    def size(self) -> int:
        """Side of the canvas in pixels."""
        return len(self.parts[0].coverage)

    def at(self, time: float) -> Canvas:
        """Return the parts at `time`, not yet bent: RGB, multiplied by the coverage, and the coverage."""
        canvas = self.parts[0].at(time)
        for part in self.parts[1:]:
            canvas = over(part.at(time), canvas)
        return canvas

    def circles(self) -> "Circles":
        """Return the circles around and within the sprite at time 0, in canvas sides, from the canvas's middle."""
        mask = (self.at(0.0)[..., 3] > 127).astype(np.uint8)
        if not mask.any():
            return Circles(0.5, np.zeros(2), 0.5)
        (_, radius), (inner_centre, inner_radius) = enclosing_circle(mask), inscribed_circle(mask)
        return Circles(radius / self.size, inner_centre / self.size - 0.5, inner_radius / self.size)


@dataclass(frozen=True, eq=False)
class Circles:
    """The radius of the smallest circle around a sprite, and a largest circle within it, in canvas sides."""

    radius: float
    inner_centre: Float[np.ndarray, "2"]
    inner_radius: float


def over(near: UInt8[np.ndarray, "height width 4"], far: UInt8[np.ndarray, "height width _"]) -> np.ndarray:
    """Compose `near`, multiplied by its coverage, with `far` behind it, which may have a coverage or be opaque."""
    channels = far.shape[2]
    coverage = near[..., 3]
    behind = cv2.multiply(far, cv2.merge([255 - coverage] * channels), scale=1 / 255)
    return cv2.add(behind, np.ascontiguousarray(near[..., :channels]))


def random_sprite(rng: np.random.Generator, bank: TextureBank, size: int) -> Sprite:
    """Draw an imaginary object: one piece with a few marks, or a body with limbs and a head."""
    parts = _figure(rng, bank, size) if rng.random() < 0.4 else (_piece(rng, bank, size),)
    return Sprite(parts, random_waves(rng, strength=rng.choice([0.0, 0.01, 0.025])))


def cut_out(
    rng: np.random.Generator,
    rgb: UInt8[np.ndarray, "height width 3"],
    mask: Bool[np.ndarray, "height width"],
    size: int,
) -> Sprite:
    """Cut the masked object out of a photograph, and scale it to the canvas.

    Raises:
        ValueError: the mask is empty.
    """
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    if not width:
        raise ValueError("nothing to cut out: the mask is empty")
    scale = (1 - 2 * MARGIN) * size / max(width, height)
    matrix = np.array(
        [[scale, 0, size / 2 - scale * (left + width / 2)], [0, scale, size / 2 - scale * (top + height / 2)]]
    )
    # Averaging before a large object is made smaller avoids aliasing.
    average = (max(1, int(1 / scale)),) * 2

    def placed(image: np.ndarray, border: int) -> np.ndarray:
        return cv2.warpAffine(cv2.blur(image, average), matrix, (size, size), borderMode=border)

    texture, coverage = placed(rgb, cv2.BORDER_REFLECT), placed(255 * mask.astype(np.uint8), cv2.BORDER_CONSTANT)
    # Eroded, or the background's colour would show at the border.
    inner = cv2.erode(coverage, np.ones((3, 3), np.uint8))
    part = Part(texture, inner, np.full(2, size / 2))
    return Sprite((part,), random_waves(rng, strength=rng.choice([0.0, 0.01, 0.02])))


def restless(rng: np.random.Generator, sprite: Sprite) -> Sprite:
    """Return the same object in another phase of its motion."""
    parts = tuple(replace(part, phase=part.phase + rng.uniform(0, 2 * np.pi)) for part in sprite.parts)
    return replace(
        sprite, parts=parts, waves=replace(sprite.waves, phase=rng.uniform(0, 2 * np.pi, len(sprite.waves.phase)))
    )


def _shaded(
    rng: np.random.Generator, texture: UInt8[np.ndarray, "size size 3"], coverage: UInt8[np.ndarray, "size size"]
) -> UInt8[np.ndarray, "size size 3"]:
    """Shade a texture as that of a round object: darker towards the outline and to one side."""
    size = len(coverage)
    depth = cv2.distanceTransform((coverage > 127).astype(np.uint8), cv2.DIST_L2, 3)
    depth = np.sqrt(depth / max(depth.max(), 1))
    across = np.arange(size, dtype=np.float32) / size - 0.5
    down, right = rng.uniform(-0.4, 0.4, 2).astype(np.float32)
    light = 1 + down * across[:, None] + right * across - np.float32(rng.uniform(0, 0.5)) * (1 - depth)
    return cv2.multiply(texture, cv2.merge([light] * 3), dtype=cv2.CV_8U)


def _piece(rng: np.random.Generator, bank: TextureBank, size: int) -> Part:
    coverage, texture = silhouette(rng, size), bank.texture(rng, size, size)
    for _ in range(rng.integers(0, 4)):
        mark = cv2.resize(silhouette(rng, size), None, fx=0.5, fy=0.5)
        left, top = rng.integers(0, size - len(mark), 2)
        area = texture[top : top + len(mark), left : left + len(mark)]
        cv2.copyTo(bank.texture(rng, *mark.shape), (mark > 127).astype(np.uint8), area)
    slide = (0.0, 0.0)
    if rng.random() < 0.2:
        slide = tuple((rng.normal(0, 0.01, 2) * size).tolist())
    else:
        texture = _shaded(rng, texture, coverage)
    return Part(texture, coverage, np.full(2, size / 2), slide=slide)


def _figure(rng: np.random.Generator, bank: TextureBank, size: int) -> tuple[Part, ...]:
    """Draw a body, two to six limbs, some before and some behind it, and in most cases a head."""
    lean = rng.choice([0.0, np.pi / 2]) + rng.normal(0, 0.3)
    axis, side = np.array([np.cos(lean), np.sin(lean)]), np.array([-np.sin(lean), np.cos(lean)])
    middle, half_length, width = np.full(2, 0.5), rng.uniform(0.12, 0.22), rng.uniform(0.12, 0.26)
    ends = middle - half_length * axis, middle + half_length * axis
    textures = [bank.texture(rng, size, size) for _ in range(rng.integers(1, 4))]

    def part(coverage: np.ndarray, texture: np.ndarray, joint: np.ndarray, swing: float, rate: float) -> Part:
        phase = rng.uniform(0, 2 * np.pi)
        return Part(_shaded(rng, texture, coverage), coverage, joint * size, swing, rate, phase)

    def limb() -> Part:
        joint = middle + rng.choice([-1, 1]) * half_length * axis * rng.uniform(0.5, 1.1) + rng.normal(0, 0.02, 2)
        direction = side * rng.choice([-1, 1], p=[0.2, 0.8]) + rng.normal(0, 0.4, 2)
        tip = np.clip(joint + rng.uniform(0.2, 0.38) * direction / np.hypot(*direction), MARGIN, 1 - MARGIN)
        thickness = rng.uniform(0.04, 0.12)
        coverage = capsule(joint, tip, thickness, thickness * rng.uniform(0.4, 1), size)
        return part(coverage, textures[rng.integers(len(textures))], joint, swing=rng.uniform(0, 0.7), rate=pace)

    pace = np.exp(rng.uniform(np.log(0.01), np.log(0.08)))
    limbs = [limb() for _ in range(rng.integers(2, 7))]
    body = part(capsule(*ends, width, width * rng.uniform(0.6, 1.3), size), textures[0], middle, 0.0, 0.0)
    head = []
    if rng.random() < 0.8:
        radius = rng.uniform(0.05, 0.1)
        neck = ends[0] - 0.3 * width * axis
        crown = neck - radius * axis * rng.uniform(0.5, 2) + rng.normal(0, 0.03, 2)
        coverage = capsule(neck, crown, 2 * radius, 2 * radius * rng.uniform(0.6, 1.2), size)
        head = [part(coverage, textures[-1], neck, rng.uniform(0, 0.3), 0.5 * pace)]
    before = int(rng.integers(0, len(limbs) + 1))
    return (*limbs[before:], body, *head, *limbs[:before])
