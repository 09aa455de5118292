"""One video from its frames to its label maps."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from dataset.evaluation_sets import EvaluationVideo
from dataset.frames import Frame
from dataset.label_map import LabelMap, read_label_map
from evaluation.ahead import read_ahead
from evaluation.clock import NetworkClock
from evaluation.config import EvaluationConfig
from inference.images import label_map_of, network_size, normalise_image, resize_channels, resize_label_map
from inference.inference_core import InferenceCore
from model.network import XMem
from util.errors import UserError

FRAMES_AHEAD = 8


@dataclass(frozen=True, eq=False)
class SegmentedFrame:
    """A frame with what the network made of it, still on the network's device."""

    frame: Frame
    labels: UInt8[Tensor, "height width"]
    prob: Float[Tensor, "channels height width"]
    objects: list[int]
    palette: bytes | None
    wanted: bool
    """Whether the data set (or --save_all) asks for this frame's mask."""


class Segmenter:
    """Follows the objects of one video after another."""

    def __init__(self, network: XMem, config: EvaluationConfig) -> None:
        self.core = InferenceCore(network, config.inference)
        self.config = config
        self.device = next(network.parameters()).device
        self.clock = NetworkClock(self.device)

    def segment(self, video: EvaluationVideo) -> Iterator[SegmentedFrame]:
        """Every frame from the first annotated one on.

        Raises:
            UserError: a frame or mask that cannot be read or does not fit the others.
        """
        if video.problem is not None:
            raise UserError(video.problem)
        self.core.reset()
        size = palette = None
        with read_ahead(video.frames, FRAMES_AHEAD) as frames:
            for frame, is_last in frames:
                label_map = None
                if frame.name in video.annotations:
                    label_map = self._read_annotation(video, frame)
                elif not self.core.objects:
                    continue
                if size not in (None, frame.rgb.shape[:2]):
                    raise UserError(
                        f"{frame.path}: frame {frame.name} is {describe(frame.rgb.shape)}, "
                        f"those before are {describe(size)}; frames of one video have one size"
                    )
                size = frame.rgb.shape[:2]
                if label_map is not None and palette is None:
                    palette = label_map.palette
                prob, labels = self._step(frame.rgb, label_map, video.output_size or size, is_last)
                wanted = self.config.save_all or video.saved_frames is None or frame.name in video.saved_frames
                yield SegmentedFrame(frame, labels, prob, self.core.objects, palette, wanted)
        if size is None:
            raise UserError(f"{video.name}: no frame has a mask")

    def _read_annotation(self, video: EvaluationVideo, frame: Frame) -> LabelMap | None:
        """The frame's label map, checked against the frame; None where a later one defines no object."""
        path: Path = video.annotations[frame.name]
        label_map = read_label_map(path)
        expected = video.output_size or frame.rgb.shape[:2]
        if label_map.labels.shape != tuple(expected):
            raise UserError(f"{path} is {describe(label_map.labels.shape)}, its frame {describe(expected)}")
        if label_map.labels.any():
            return label_map
        if not self.core.objects and frame.name == next(reversed(video.annotations)):
            raise UserError(f"{path}: this first mask holds no object, all its labels are 0")
        return None

    def _step(
        self,
        rgb: UInt8[np.ndarray, "height width 3"],
        label_map: LabelMap | None,
        output_size: tuple[int, int],
        is_last: bool,
    ) -> tuple[Float[Tensor, "channels out_height out_width"], UInt8[Tensor, "out_height out_width"]]:
        """Probabilities and label map of one frame, at the output's size."""
        with self.clock.running(), torch.inference_mode():
            image = normalise_image(torch.from_numpy(rgb).to(self.device))
            size = network_size(*image.shape[-2:], self.config.size)
            image = resize_channels(image, size)
            mask = None
            if label_map is not None:
                mask = resize_label_map(torch.from_numpy(label_map.labels).to(self.device), size)
            if self.config.flip:
                image, mask = image.flip(-1), None if mask is None else mask.flip(-1)
            objects = None if label_map is None else np.unique(label_map.labels[label_map.labels > 0]).tolist()
            prob = self.core.step(image, mask, objects, end=is_last)
            if self.config.flip:
                prob = prob.flip(-1)
            prob = resize_channels(prob, tuple(output_size))
            return prob, label_map_of(prob, self.core.objects)


def describe(shape: tuple[int, ...]) -> str:
    """A size as people write it."""
    return f"{shape[1]}x{shape[0]}"
