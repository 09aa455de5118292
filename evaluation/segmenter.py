"""Segmentation of one video after another, in one or several views: from frames to label maps and probabilities."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from dataset.evaluation_video import EvaluationVideo
from dataset.frames import Frame
from dataset.label_map import LabelMap
from evaluation.config import EvaluationConfig, View
from evaluation.frame_reader import annotated_frames_for
from evaluation.prefetch import prefetch
from evaluation.timer import NetworkTimer
from inference.images import label_map_of
from inference.inference_core import InferenceCore
from inference.video_segmenter import VideoSegmenter
from model.cuda_graphs import graphed
from model.network import XMem

PREFETCHED_FRAMES = 8


@dataclass(frozen=True, eq=False)
class SegmentedFrame:
    """A frame with its result, which is still on the network's device.

    Attributes:
        frame: the frame.
        labels: its label map, at the output's size.
        prob: probabilities of background and objects at the same size, in the order of `objects`.
        objects: the labels of channels 1, 2, ….
        palette: the palette of the video's first label map that has one.
    """

    frame: Frame
    labels: Integer[Tensor, "height width"]
    prob: Float[Tensor, "channels height width"]
    objects: list[int]
    palette: bytes | None


class MultiViewSegmenter:
    """Follows the objects of one video after another, and times the network.

    With several views of each frame, every view has a memory of its own, and their probabilities are averaged at the
    size of the output. The network is prepared for inference, and itself left as it is.
    """

    def __init__(self, network: XMem, config: EvaluationConfig) -> None:
        self.config = config
        self._network = network
        network = network.for_inference(config.mixed_precision)
        if config.cuda_graphs:
            network = graphed(network)
        self.views: dict[View, VideoSegmenter] = {
            view: VideoSegmenter(
                network, config.inference, size=view.size, flip=view.flip, mixed_precision=config.mixed_precision
            )
            for view in config.views
        }
        self.palette: bytes | None = None
        """The palette of the last video's first label map that has one."""
        self.names: dict[int, str] = {}
        """The objects of the last video by their labels, where its label maps have something else for them."""
        self.device = network.device
        self.timer = NetworkTimer(self.device)

    def in_full_precision(self) -> "MultiViewSegmenter":
        """Return another segmenter, of the same network and settings but without mixed precision."""
        return MultiViewSegmenter(self._network, replace(self.config, mixed_precision=False))

    @property
    def core(self) -> InferenceCore:
        """The core of the first view."""
        return next(iter(self.views.values())).core

    def segment(self, video: EvaluationVideo) -> Generator[SegmentedFrame, None, None]:
        """Yield every frame from the first annotated one on. The timer then shows this video's network time.

        Raises:
            UserError: a frame or label map that cannot be read or does not fit the others.
        """
        for view in self.views.values():
            view.reset(video.name, video.frames.frame_count)
        self.timer.reset()
        self.palette, self.names = None, {}
        with prefetch(annotated_frames_for(video, self.config.sizes), PREFETCHED_FRAMES) as reader:
            for (frames, label_map), is_last in reader:
                frame = frames[self.config.size]
                if label_map is not None:
                    self.palette = self.palette or label_map.palette
                    self.names |= label_map.names
                height, width = video.output_size or frame.rgb.shape[:2]
                with self.timer.running():
                    prob = self._segment_frame(frames, label_map, (height, width), is_last)
                    labels = label_map_of(prob, self.core.objects)
                yield SegmentedFrame(frame, labels, prob, self.core.objects, self.palette)

    @torch.inference_mode()
    def _segment_frame(
        self,
        frames: Mapping[int, Frame],
        label_map: LabelMap | None,
        output_size: tuple[int, int],
        is_last: bool,
    ) -> Float[Tensor, "channels out_height out_width"]:
        """Return the frame's probabilities, averaged over views, which have the same objects in the same channels."""
        labels: np.ndarray | None = None if label_map is None else label_map.labels
        first, *others = (
            segmenter.step(torch.from_numpy(frames[view.size].rgb), labels, end=is_last, output_size=output_size)
            for view, segmenter in self.views.items()
        )
        return torch.stack([first, *others]).mean(dim=0) if others else first
