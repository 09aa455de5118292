"""Following objects through decoded frames of any size: resizing, mirroring and mixed precision around the core."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from inference.config import InferenceConfig
from inference.images import (
    PUBLISHED_SIZE,
    check_size,
    network_size,
    normalise_image,
    resize_channels,
    resize_label_map,
)
from inference.inference_core import InferenceCore
from inference.inputs import as_tensor
from model.network import XMem
from util.device import half_precision, send
from util.errors import UserError

FRAMES_PER_CHECK = 64
"""On a GPU the host waits for the device only so often to see whether results are finite."""


class NotFiniteError(UserError):
    """The network's results are not finite numbers."""


class VideoSegmenter:
    """Follows objects through the frames of one video; `reset` starts the next video.

    Args:
        size: the shorter side in pixels at which frames are segmented; −1: their own size.
        flip: mirror every frame, and mirror the result back.
        mixed_precision: compute in half precision where that is accurate enough.

    Raises:
        SettingError: frames cannot be segmented at that size.
    """

    def __init__(
        self,
        network: XMem,
        config: InferenceConfig | None = None,
        *,
        size: int = PUBLISHED_SIZE,
        flip: bool = False,
        mixed_precision: bool = False,
    ) -> None:
        check_size(size)
        self.core = InferenceCore(network, config)
        self.device = network.device
        self._size, self._flip = size, flip
        self._mixed_precision = mixed_precision and not network.has_fixed_precision
        self.reset()

    def reset(self, video_name: str = "", video_length: int | None = None) -> None:
        """Forget everything, as `InferenceCore.reset`."""
        self.core.reset(video_name, video_length)
        self._frames, self._sum = 0, torch.zeros((), device=self.device)

    def check_finite(self) -> None:
        """Check that all results since the last reset are finite; on a GPU this waits for the device.

        Raises:
            NotFiniteError: they are not, as where activations overflow in half precision.
        """
        if not torch.isfinite(self._sum):
            in_half = " in half precision (mixed_precision=False may help)" if self._mixed_precision else ""
            raise NotFiniteError(
                f"the network's results are not finite numbers, found at frame {self._frames}: its activations "
                f"overflow{in_half}"
            )

    @torch.inference_mode()
    def step(
        self,
        rgb: UInt8[Tensor, "height width 3"],
        label_map: Integer[np.ndarray, "mask_height mask_width"] | None = None,
        *,
        objects: Sequence[int] | None = None,
        end: bool = False,
        permanent: bool = False,
        output_size: tuple[int, int] | None = None,
    ) -> Float[Tensor, "channels out_height out_width"]:
        """Segment the next frame.

        Args:
            rgb: the decoded frame.
            label_map: the masks that it comes with, at the frame's size or any other of its aspect ratio.
            objects: the labels that `label_map` defines; None: those that occur in it.
            end: this is the last frame.
            permanent: never forget this frame.
            output_size: (height, width) of the result; None: the frame's.

        Returns:
            Probabilities of background and objects, in the order of `core.objects`.

        Raises:
            ValueError: as `InferenceCore.step`.
            NotFiniteError: results so far are not finite, which on a GPU is noticed some frames later.
        """
        image, mask, objects = self._prepare(rgb, label_map, objects)
        with self._precision():
            prob = self.core.step(image, mask, objects, end=end, permanent=permanent)
        self._sum += prob.float().sum()  # whatever is not finite stays in it
        self._frames += 1
        if end or self.device.type == "cpu" or self._frames % FRAMES_PER_CHECK == 0:
            self.check_finite()
        height, width = rgb.shape[:2]
        return resize_channels(prob.flip(-1) if self._flip else prob, output_size or (height, width))

    @torch.inference_mode()
    def remember(
        self,
        rgb: UInt8[Tensor, "height width 3"],
        label_map: Integer[np.ndarray, "mask_height mask_width"],
        objects: Sequence[int] | None = None,
    ) -> None:
        """Store a frame of another place in the video for good, as `InferenceCore.remember`."""
        with self._precision():
            self.core.remember(*self._prepare(rgb, label_map, objects))

    def _prepare(
        self,
        rgb: UInt8[Tensor, "height width 3"],
        label_map: Integer[np.ndarray, "mask_height mask_width"] | None,
        objects: Sequence[int] | None,
    ) -> tuple[
        Float[Tensor, "3 new_height new_width"], Integer[Tensor, "new_height new_width"] | None, Sequence[int] | None
    ]:
        """Return image, mask and objects as the core takes them: normalised, resized and mirrored."""
        image = normalise_image(send(rgb, self.device))
        height, width = image.shape[-2:]
        size = network_size(height, width, self._size)
        image = resize_channels(image, size)
        mask = None
        if label_map is not None:
            if objects is None:  # from the original: an object that vanishes in resizing is one all the same
                objects = np.unique(label_map[label_map > 0]).tolist()
            mask = resize_label_map(send(as_tensor(label_map), self.device), size)
        if self._flip:
            image, mask = image.flip(-1), None if mask is None else mask.flip(-1)
        return image, mask, objects

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=half_precision(self.device), enabled=self._mixed_precision)
