"""One video from its frames to its label maps."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from dataset.evaluation_sets import EvaluationVideo
from dataset.frames import Frame
from dataset.label_map import LabelMap
from evaluation.clock import NetworkClock
from evaluation.config import EvaluationConfig, View
from evaluation.overlap import read_ahead
from evaluation.reading import annotated_frames_for
from inference.images import label_map_of, network_size, normalise_image, resize_channels, resize_label_map
from inference.inference_core import InferenceCore
from model.network import XMem
from util.device import send

FRAMES_AHEAD = 8


@dataclass(frozen=True, eq=False)
class SegmentedFrame:
    """A frame with what the network made of it, still on the network's device.

    Attributes:
        frame: the frame.
        labels: its label map, at the output's size.
        prob: probabilities of background and objects at the same size, in the order of `objects`.
        objects: the labels of channels 1, 2, ….
        palette: that of the video's first label map with one.
    """

    frame: Frame
    labels: UInt8[Tensor, "height width"]
    prob: Float[Tensor, "channels height width"]
    objects: list[int]
    palette: bytes | None


class Segmenter:
    """Follows the objects of one video after another, and times the network.

    With several views of each frame, every view has a memory of its own, and their probabilities are averaged at the
    size of the output.
    """

    def __init__(self, network: XMem, config: EvaluationConfig) -> None:
        self.config = config
        self.cores = {view: InferenceCore(network, config.inference) for view in config.views}
        self.device = next(network.parameters()).device
        self.clock = NetworkClock(self.device)

    @property
    def core(self) -> InferenceCore:
        """That of the first view."""
        return next(iter(self.cores.values()))

    def segment(self, video: EvaluationVideo) -> Iterator[SegmentedFrame]:
        """Every frame from the first annotated one on. The clock then shows this video's network time.

        Raises:
            UserError: a frame or label map that cannot be read or does not fit the others.
        """
        for core in self.cores.values():
            core.reset(video.name, video.frames.frame_count)
        self.clock.restart()
        palette: bytes | None = None
        with read_ahead(annotated_frames_for(video, self.config.sizes), FRAMES_AHEAD) as reading:
            for (frames, label_map), is_last in reading:
                frame = frames[self.config.size]
                if label_map is not None:
                    palette = palette or label_map.palette
                output_size = tuple(video.output_size or frame.rgb.shape[:2])
                with self.clock.running():
                    prob = self._average(frames, label_map, output_size, is_last)
                    labels = label_map_of(prob, self.core.objects)
                yield SegmentedFrame(frame, labels, prob, self.core.objects, palette)

    @torch.inference_mode()
    def _average(
        self,
        frames: Mapping[int, Frame],
        label_map: LabelMap | None,
        output_size: tuple[int, int],
        is_last: bool,
    ) -> Float[Tensor, "channels out_height out_width"]:
        """Probabilities of the frame, averaged over its views, which have the same objects in the same channels."""
        first, *others = (
            self._probabilities(view, core, frames[view.size].rgb, label_map, output_size, is_last)
            for view, core in self.cores.items()
        )
        return torch.stack([first, *others]).mean(dim=0) if others else first

    def _probabilities(
        self,
        view: View,
        core: InferenceCore,
        rgb: UInt8[np.ndarray, "height width 3"],
        label_map: LabelMap | None,
        output_size: tuple[int, int],
        is_last: bool,
    ) -> Float[Tensor, "channels out_height out_width"]:
        """The network's step on one view of a frame, at the view's size and orientation, which are then undone."""
        image = normalise_image(send(torch.from_numpy(rgb), self.device))
        size = network_size(*image.shape[-2:], view.size)
        image = resize_channels(image, size)
        mask = objects = None
        if label_map is not None:
            mask = resize_label_map(send(torch.from_numpy(label_map.labels), self.device), size)
            # From the original: one that vanishes in resizing is an object all the same.
            objects = np.unique(label_map.labels[label_map.labels > 0]).tolist()
        if view.flip:
            image, mask = image.flip(-1), None if mask is None else mask.flip(-1)
        half = torch.bfloat16 if self.device.type == "cpu" else torch.float16
        with torch.autocast(self.device.type, dtype=half, enabled=self.config.mixed_precision):
            prob = core.step(image, mask, objects, end=is_last)
        return resize_channels(prob.flip(-1) if view.flip else prob, output_size)
