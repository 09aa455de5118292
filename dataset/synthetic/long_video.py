"""Long synthetic videos: objects move about before a slowly changing background, leave the picture, and return.

In harder ones, others that look like them pass, and size, turn and light change more.

The paths of `motion.py` are made for clips; after hundreds of frames, objects on them would stand still.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from dataset.synthetic.motion import Path, Pose
from dataset.synthetic.scene import Layer, Look, Scene
from dataset.synthetic.sprites import Sprite, random_sprite, restless
from dataset.synthetic.textures import TextureBank

# A distance, in picture sides, that leads from anywhere in the picture beyond its border, for an object of any size.
WAY_OUT = 1.7

# Frames that an object takes to move by WAY_OUT.
FRAMES_TO_LEAVE = 24

# Ranges of the number of frames that an object is in the picture, and out of it, drawn each time.
PRESENT, ABSENT = (60, 140), (60, 120)

OBJECT_SIZES = (0.35, 0.5)  # Sides of canvases, in sides of the picture.


@dataclass(frozen=True)
class Absence:
    """A time out of the picture: the object leaves in `direction` (x, y), from `begin` on, and is back at `end`."""

    begin: int
    end: int
    direction: tuple[float, float]

    def offset(self, time: float) -> Float[np.ndarray, "2"]:
        """Return the shift from where the object would be otherwise, in picture sides."""
        share = np.clip(min(time - self.begin, self.end - time) / FRAMES_TO_LEAVE, 0, 1)
        return WAY_OUT * np.array(self.direction) * share**2 * (3 - 2 * share)


@dataclass(frozen=True, eq=False)
class Roaming(Path):
    """A path that swings without end, and from time to time leads out of the picture."""

    absences: tuple[Absence, ...] = ()

    def at(self, time: float) -> Float[np.ndarray, " quantities"]:
        quantities = super().at(time)
        for absence in self.absences:
            quantities[:2] += absence.offset(time)
        return quantities


def long_video(
    seed: int,
    frames: int,
    height: int,
    width: int,
    objects: int = 1,
    patterns: int = 96,
    distractors: int = 0,
    change: float = 1.0,
) -> Iterator[tuple[UInt8[np.ndarray, "height width 3"], UInt8[np.ndarray, "height width"]]]:
    """Yield every frame with its label map; equal arguments give equal videos. All objects (1, 2, …) are in frame 0.

    Args:
        height: in pixels, at most `width`.
        patterns: number of patterns that all textures are made from.
        distractors: number of things that look like the objects and are none.
        change: factor of how much size, turn and aspect of everything, and the light, change.
    """
    rng = np.random.default_rng(seed)
    bank = TextureBank(np.random.SeedSequence(seed), patterns)
    scene = long_scene(rng, bank, frames, height / width, width, objects, distractors, change)
    top = (width - height) // 2  # scenes are square
    for time in range(frames):
        picture, labels = scene.render(float(time), rng)
        yield picture[top : top + height], labels[top : top + height]


def long_scene(
    rng: np.random.Generator,
    bank: TextureBank,
    frames: int,
    aspect: float,
    size: int,
    objects: int,
    distractors: int = 0,
    change: float = 1.0,
) -> Scene:
    """A square scene, of which only a strip in the middle is shown: its height is `aspect` times its width."""
    starts = np.linspace(0.3, 0.7, objects) if objects > 1 else np.array([0.5])

    def layer(sprite: Sprite, x: float, label: int) -> Layer:
        start = np.array([x, 0.5 + aspect * rng.uniform(-0.15, 0.15), np.log(rng.uniform(*OBJECT_SIZES)), 0.0, 0.0])
        swing = np.array([0.2, 0.25 * aspect, 0.15 * change, 0.6 * change, 0.15 * change])
        return Layer(sprite, Pose(roaming(rng, start, swing, random_absences(rng, frames))), label)

    layers = []
    for label, x in enumerate(rng.permutation(starts), start=1):
        layers.append(layer(random_sprite(rng, bank, size // 2), x, label))
    for index in range(distractors):  # behind the objects, so that they hide none of them at the beginning
        layers.insert(0, layer(restless(rng, layers[-1 - index % objects].sprite), rng.uniform(0.1, 0.9), label=0))
    still, sway = np.array([0.5, 0.5, np.log(1.5), 0.0, 0.0]), np.array([0.15, 0.05, 0.1, 0.1, 0.0])
    return Scene(
        size=size,
        background=bank.texture(rng, 3 * size // 2, 3 * size // 2),
        background_pose=Pose(roaming(rng, still, sway)),
        background_waves=None,
        camera=Pose(roaming(rng, np.array([0.5, 0.5, 0.0, 0.0, 0.0]), np.array([0.02, 0.01, 0.03, 0.03, 0.0]))),
        layers=tuple(layers),
        look=Look(
            light=np.clip(rng.normal(1, 0.08 * change, (2, 3, 3, 3)), 0.7, 1.3).astype(np.float32),
            light_rate=0.004,
            grey=False,
            noise=2.0,
            blur=0.0,
            jpeg_quality=None,
            motion_blur=False,
        ),
    )


def roaming(
    rng: np.random.Generator, start: np.ndarray, swing: np.ndarray, absences: tuple[Absence, ...] = ()
) -> Roaming:
    """A path that swings about `start` by 0.5 to 1 times `swing`, with periods of some hundred frames."""
    count = len(start)
    return Roaming(
        start=start,
        velocity=np.zeros(count),
        reach=np.ones(count),
        swing=swing * rng.uniform(0.5, 1, count),
        rate=rng.uniform(0.003, 0.012, count),
        phase=rng.choice([0, np.pi], count),  # so that it swings to both sides of its start
        absences=absences,
    )


def random_absences(rng: np.random.Generator, frames: int) -> tuple[Absence, ...]:
    """Draw absences, one after another, throughout the video except its beginning."""
    absences, time = [], int(rng.integers(*PRESENT))
    while time < frames:
        end = time + int(rng.integers(*ABSENT))
        side = rng.choice([-1.0, 1.0])
        absences.append(Absence(time, end, (side, 0.0) if rng.random() < 0.7 else (0.0, side)))
        time = end + int(rng.integers(*PRESENT))
    return tuple(absences)
