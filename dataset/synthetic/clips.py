"""The source of synthetic clips: scenes of painted objects, or of objects cut out of photographs."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
import torch
from jaxtyping import UInt8

from dataset.label_map import objects_of
from dataset.sampling import (
    SamplingConfig,
    TrainingSample,
    choose_frames,
    clip_of_objects,
    draw_sample,
)
from dataset.synthetic.scene import Materials, random_scene
from dataset.synthetic.sprites import Sprite, cut_out, random_sprite
from dataset.synthetic.textures import TextureBank, ramp

# Frames of a clip are chosen from a video of this length, with the same max_jump as for real videos.
VIDEO_LENGTH = 100

# Smallest share of the first frame's pixels that an object must cover.
LEAST_SHARE = 0.002

# Shares of sprites and backgrounds that come from photographs, if there are any.
CUT_OUT_SHARE = 0.6
PHOTOGRAPH_SHARE = 0.6


@runtime_checkable
class Photograph(Protocol):
    """A picture with a label map of its objects."""

    def read(self) -> tuple[UInt8[np.ndarray, "height width 3"], UInt8[np.ndarray, "height width"]]:
        """Read the picture as RGB, and its label map; raises UserError."""


class SyntheticClips:
    """Clips of 1 to `config.max_objects` objects that move, bend, and hide each other, among distractors.

    Args:
        photographs: their objects are cut out, one at a time, and moved over other photographs; without photographs,
            everything is painted.
    """

    def __init__(self, config: SamplingConfig, photographs: Sequence[Photograph] = ()):
        self.config = config
        self.photographs = photographs
        self.bank = TextureBank(np.random.SeedSequence(config.seed))
        self.materials = Materials(self._sprite, self._background)

    def sample(self, number: int, max_jump: int) -> TrainingSample:
        """Return sample `number`; neighbouring frames are at most `max_jump` frames of a 24 Hz video apart.

        Raises:
            UserError: as `draw_sample`.
        """
        return draw_sample(self.config, number, ("a synthetic clip",), lambda _, rng: self._draw(max_jump, rng))

    def _draw(self, max_jump: int, rng: np.random.Generator) -> TrainingSample | None:
        size, num_frames = self.config.size, self.config.num_frames
        frames = choose_frames(rng, range(max(VIDEO_LENGTH, num_frames)), num_frames, max_jump)
        times = [float(frame - frames[0]) for frame in frames]  # the scene is arranged for time 0
        scene = random_scene(rng, self.materials, size, self.config.max_objects, times[-1])
        rendered = [scene.render(time, rng) for time in times]
        images, labels = (np.stack(stack) for stack in zip(*rendered, strict=True))
        shown = np.bincount(labels[0].ravel(), minlength=self.config.max_objects + 1)[1:]
        objects = (1 + np.flatnonzero(shown >= LEAST_SHARE * size**2)).tolist()
        return clip_of_objects(torch.from_numpy(images).permute(0, 3, 1, 2), labels, objects) if objects else None

    def _sprite(self, rng: np.random.Generator, size: int) -> Sprite:
        if self.photographs and rng.random() < CUT_OUT_SHARE:
            rgb, labels = self._photograph(rng)
            if objects := objects_of(labels):
                return cut_out(rng, rgb, labels == objects[rng.integers(len(objects))], size)
        return random_sprite(rng, self.bank, size)

    def _background(self, rng: np.random.Generator, side: int) -> UInt8[np.ndarray, "side side 3"]:
        if self.photographs and rng.random() < PHOTOGRAPH_SHARE:
            rgb, _ = self._photograph(rng)
            height, width, _ = rgb.shape
            square = min(height, width)
            top, left = (int(rng.integers(room - square + 1)) for room in (height, width))
            part = rgb[top : top + square, left : left + square]
            return cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA if square > side else cv2.INTER_LINEAR)
        return self._painted_background(rng, side)

    def _painted_background(self, rng: np.random.Generator, side: int) -> UInt8[np.ndarray, "side side 3"]:
        """One texture, or two that meet at a horizon or along a ragged border."""
        background = self.bank.texture(rng, side, side)
        if rng.random() < 0.6:
            border = self.bank.pattern(rng, side, side, (2.0, 6.0)).astype(np.float32) / 255 - 0.5
            angle = rng.normal(0, 0.5)
            down = ramp(np.cos(angle), np.sin(angle), side, side)
            nearer = down + rng.choice([0.05, 1.0]) * border > rng.normal(0, 0.15)
            cv2.copyTo(self.bank.texture(rng, side, side), nearer.astype(np.uint8), background)
        return background

    def _photograph(
        self, rng: np.random.Generator
    ) -> tuple[UInt8[np.ndarray, "height width 3"], UInt8[np.ndarray, "height width"]]:
        return self.photographs[int(rng.integers(len(self.photographs)))].read()
