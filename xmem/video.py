"""The two functions that most users need: loading a network, and segmenting a video with it."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sized
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Integer, UInt8
from PIL import Image
from torch import Tensor

from dataset.frames import is_deep, upright
from dataset.given_label_maps import GivenLabelMaps
from dataset.video_file import open_source
from evaluation.networks import build_network, default_network_file, read_network_file
from inference.config import InferenceConfig
from inference.images import PUBLISHED_SIZE, label_map_of
from inference.inputs import as_tensor
from inference.strategies.insertion import SparseInsertion
from inference.video_segmenter import VideoSegmenter
from model.cuda_graphs import graphed
from model.network import XMem
from util.device import choose_device

FRAME_REQUIREMENT = "a frame is 8-bit RGB of H×W×3 (or a PIL image)"

logger = logging.getLogger(__name__)


class FrameResult(NamedTuple):
    """One segmented frame, on the network's device."""

    number: int
    """The frame's number in the video, from 0."""
    labels: Integer[Tensor, "height width"]
    """The label map: 0 is the background, every other number an object's label."""
    prob: Float[Tensor, "channels height width"]
    """Probabilities of the background, and of each of `objects` in their order."""
    objects: list[int]
    """The labels of the objects that are followed."""


def load_network(file: str | PathLike[str] | None = None, device: str = "auto", provider: str | None = None) -> XMem:
    """Load a network, ready for inference.

    Args:
        file: a network file, published or trained with this program, or the folder of an export; None: saves/XMem.pth
            if it is there, or else the small network that comes with the program.
        device: auto (a GPU if there is one), cuda, cuda:N, mps or cpu.
        provider: what runs an export in ONNX Runtime: cpu, cuda, tensorrt, openvino or coreml; None: cuda on a CUDA
            device, else cpu.

    Raises:
        UserError: the file is missing, damaged, or no network; what an export needs is not installed.
        SettingError: there is no such device here.
    """
    path = Path(file) if file is not None else default_network_file()
    return build_network(read_network_file(path), choose_device(device), provider).for_inference()


def segment_video(
    network: XMem,
    frames: Any,
    mask: Any,
    size: int = PUBLISHED_SIZE,
    config: InferenceConfig | None = None,
    mixed_precision: bool | None = None,
) -> Iterator[FrameResult]:
    """Follow objects through a video; frames are read and segmented one at a time, as results are asked for.

    Args:
        network: the network, as from `load_network`.
        frames: a video file, a folder of images, or any iterable of frames: 8-bit RGB as H×W×3 arrays, PIL images, or
            tensors of H×W×3 or 3×H×W.
        mask: the first frame's label map: an H×W array of integers, or the path of a PNG. Or a dictionary from frame
            numbers to such: masks with new labels are objects that enter, and those with known labels corrections.
            Frames before the first mask are background.
        size: the shorter side in pixels at which frames are segmented; −1: their own. Results have the frames' size.
        config: settings of the memory; None: the published ones.
        mixed_precision: compute in half precision where that is accurate enough; None: on CUDA.

    Returns:
        An iterator over the results of all frames, in order.

    Raises:
        UserError: a file or folder that cannot be read; or results are not finite, as where activations overflow.
        ValueError: frames or masks of another kind, or of sizes that do not fit together.
    """
    masks = dict(mask) if isinstance(mask, Mapping) else {0: mask}
    if wrong := [number for number in masks if not isinstance(number, Integral) or number < 0]:
        raise ValueError(f"masks are given by the numbers of their frames (0, 1, …), not by {wrong[0]!r}")
    if not masks:
        raise ValueError("there is no mask: at least one frame's objects have to be given")
    device = network.device
    mixed = device.type == "cuda" if mixed_precision is None else mixed_precision
    segmenter = VideoSegmenter(graphed(network), config, size=size, mixed_precision=mixed)
    opened, count = _open_frames(frames)
    if count is None and isinstance(segmenter.core.config.insertion, SparseInsertion):
        raise ValueError("sparse insertion has to know how many frames there are: give a file, a folder or a list")
    segmenter.reset(video_length=count)
    return _segment(segmenter, opened, dict(sorted(masks.items())))


def _segment(segmenter: VideoSegmenter, frames: Iterable[Any], masks: dict[int, Any]) -> Iterator[FrameResult]:
    core, number = segmenter.core, -1
    label_maps = GivenLabelMaps(Path(mask) for mask in masks.values() if isinstance(mask, str | PathLike))
    for number, frame in enumerate(frames):
        rgb = _as_rgb(frame, number)
        label_map = _as_label_map(masks.pop(number), rgb, number, label_maps) if number in masks else None
        prob = segmenter.step(rgb, label_map)
        if label_map is not None and not core.objects and not masks:
            raise ValueError(f"the mask of frame {number} holds no object: all its labels are 0")
        yield FrameResult(number, label_map_of(prob, core.objects), prob, core.objects)
    segmenter.check_finite()
    if masks:
        logger.warning("the video has %d frames: masks of the frames %s were not used", number + 1, sorted(masks))


def _open_frames(frames: Any) -> tuple[Iterable[Any], int | None]:
    """Return frames that can be iterated over, and how many there are, if that is known.

    Raises:
        UserError: a file or folder that cannot be read.
        ValueError: something else than described in `segment_video`.
    """
    if isinstance(frames, str | PathLike):
        source = open_source(Path(frames))
        return (frame.rgb for frame in source), source.frame_count
    if not isinstance(frames, Iterable):
        raise ValueError(f"frames are a video file, a folder or an iterable of frames, not a {type(frames).__name__}")
    return frames, len(frames) if isinstance(frames, Sized) else None


def _as_rgb(frame: Any, number: int) -> UInt8[Tensor, "height width 3"]:
    """Return a frame as a tensor on the CPU.

    Raises:
        ValueError: it is no 8-bit RGB image.
    """
    if isinstance(frame, Image.Image):
        if is_deep(frame):
            raise ValueError(f"{FRAME_REQUIREMENT}; frame {number} has more than 8 bits per pixel of grey")
        frame = upright(frame).convert("RGB")
    try:
        rgb = as_tensor(frame)
    except ValueError as error:
        raise ValueError(f"{FRAME_REQUIREMENT}; frame {number} is a {type(frame).__name__}") from error
    if rgb.dim() == 3 and rgb.shape[2] != 3 and rgb.shape[0] == 3:
        rgb = rgb.permute(1, 2, 0)
    if rgb.dim() != 3 or rgb.shape[2] != 3 or rgb.dtype != torch.uint8:
        found = f"{rgb.dtype} of {'×'.join(map(str, rgb.shape))}"
        raise ValueError(f"{FRAME_REQUIREMENT}; frame {number} is {found}")
    return rgb.cpu().contiguous()


def _as_label_map(
    mask: Any, rgb: UInt8[Tensor, "height width 3"], number: int, label_maps: GivenLabelMaps
) -> Integer[np.ndarray, "height width"]:
    """Return a mask as a label map of the frame's size.

    Raises:
        UserError: a file that cannot be read.
        ValueError: it is no label map, or of another size.
    """
    if isinstance(mask, str | PathLike):
        labels = label_maps.read(Path(mask)).labels
    else:
        try:
            labels = as_tensor(mask).cpu().numpy()
        except ValueError as error:
            raise ValueError(f"{error} (frame {number})") from error
    if labels.ndim != 2 or labels.dtype.kind not in "biu":
        raise ValueError(f"a mask is an H×W array of integers; that of frame {number} is {labels.dtype} {labels.shape}")
    if labels.shape != tuple(rgb.shape[:2]):
        raise ValueError(f"the mask of frame {number} is {labels.shape}, but the frame {tuple(rgb.shape[:2])}")
    if labels.min() < 0:
        raise ValueError(f"labels must be positive, but the mask of frame {number} has {labels.min()}")
    return labels.astype(np.int64) if labels.dtype.kind == "b" else labels
