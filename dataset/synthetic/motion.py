"""How objects move, rotate, grow and bend; time is in frames from the first frame of a clip, and may run backwards."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32


@dataclass(frozen=True, eq=False)
class Path:
    """How some quantities change: each drifts, more slowly as it nears its reach, and swings."""

    start: Float[np.ndarray, " quantities"]
    velocity: Float[np.ndarray, " quantities"]
    reach: Float[np.ndarray, " quantities"]
    swing: Float[np.ndarray, " quantities"]
    rate: Float[np.ndarray, " quantities"]
    """Frequency of the swing, in cycles per frame."""
    phase: Float[np.ndarray, " quantities"]

    def at(self, time: float) -> Float[np.ndarray, " quantities"]:
        """Return the quantities at `time`; at time 0 they are `start`."""
        drift = self.reach * np.tanh(self.velocity * time / self.reach)
        angle = 2 * np.pi * self.rate * time + self.phase
        return self.start + drift + self.swing * (np.sin(angle) - np.sin(self.phase))


@dataclass(frozen=True, eq=False)
class Pose:
    """Where a square canvas lies: the path of its centre (x, y, in picture sides), log size (in picture sides), angle
    (radians) and log aspect."""

    path: Path

    def matrix(self, time: float, canvas: int, picture: int) -> Float[np.ndarray, "3 3"]:
        """Return the map from pixels of a canvas to pixels of a picture, given their sides."""
        x, y, log_size, angle, log_aspect = self.path.at(time)
        scale = np.exp(log_size) * picture / canvas
        stretch = np.exp(np.array([log_aspect, -log_aspect]) / 2) * scale
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * stretch
        centre = np.full(2, (canvas - 1) / 2)
        matrix = np.eye(3)
        matrix[:2, :2] = turn
        matrix[:2, 2] = np.array([x, y]) * picture - 0.5 - turn @ centre
        return matrix


def random_path(
    rng: np.random.Generator, start: np.ndarray, speed: np.ndarray, reach: np.ndarray, swing: np.ndarray
) -> Path:
    """Draw a path: speed and swing are log-normal about these scales, in either direction."""
    count = len(start)
    spread = np.exp(rng.normal(0, 1, (2, count)))
    direction = rng.normal(0, 1, count)
    return Path(
        start=np.asarray(start, float),
        velocity=speed * direction * spread[0],
        reach=np.asarray(reach, float) * rng.uniform(0.5, 1.5, count),
        swing=swing * spread[1] * rng.uniform(0, 1, count),
        rate=np.exp(rng.uniform(np.log(0.01), np.log(0.08), count)),
        phase=rng.uniform(0, 2 * np.pi, count),
    )


@dataclass(frozen=True, eq=False)
class Waves:
    """Waves that run over a surface and bend it; lengths are in canvas widths."""

    amplitude: Float[np.ndarray, "waves 2"]
    frequency: Float[np.ndarray, "waves 2"]
    rate: Float[np.ndarray, " waves"]
    phase: Float[np.ndarray, " waves"]

    def displacement(self, points: Float32[np.ndarray, "rows columns 2"], time: float) -> Float32[np.ndarray, "..."]:
        """Return the place on the canvas at rest of what is seen at `points`, relative to them."""
        angle = 2 * np.pi * (points @ self.frequency.T.astype(np.float32)) + (
            2 * np.pi * self.rate * time + self.phase
        ).astype(np.float32)
        return np.sin(angle) @ self.amplitude.astype(np.float32)


def random_waves(rng: np.random.Generator, strength: float) -> Waves:
    """Draw three waves whose displacement is about `strength` canvas widths."""
    count = 3
    angle = rng.uniform(0, 2 * np.pi, count)
    frequency = rng.uniform(0.4, 2.0, count)
    return Waves(
        # Shorter waves are lower, or the surface would fold.
        amplitude=rng.normal(0, strength, (count, 2)) / frequency[:, None],
        frequency=frequency[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1),
        rate=rng.normal(0, 0.04, count),
        phase=rng.uniform(0, 2 * np.pi, count),
    )
