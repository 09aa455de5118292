"""SAM 2 as a segmenter, where its package `sam2` is installed and a file of its weights is at hand."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
import torch
from jaxtyping import Bool, UInt8

from interactive.segmenters.interface import Box, Click, check_prompts, digest
from util.errors import UserError

SIZES = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}
CONFIGS = {
    f"{version}_hiera_{size}": f"configs/{version}/{version}_hiera_{letter}.yaml"
    for version in ("sam2", "sam2.1")
    for size, letter in SIZES.items()
}
"""The published files of weights, by their names without suffix, and the package's configuration of each."""

MASK_SIDE = 256
"""A mask is given to SAM 2 as logits of this side, whatever the image's aspect."""
SURE = 8.0
"""The logit of what a given mask says."""


@runtime_checkable
class Predictor(Protocol):
    """What is used of the package's `SAM2ImagePredictor`."""

    def set_image(self, image: np.ndarray) -> None:
        """Compute the features of an RGB image."""

    def predict(self, **prompts: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return masks (K×H×W), their scores, and logits of low resolution."""


class Sam2:
    """SAM 2; implements `Segmenter`."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self._frame = b""

    @torch.inference_mode()
    def segment(
        self,
        rgb: UInt8[np.ndarray, "height width 3"],
        clicks: Sequence[Click],
        box: Box | None = None,
        previous: Bool[np.ndarray, "height width"] | None = None,
    ) -> Bool[np.ndarray, "height width"]:
        """Return the object's mask: of those that SAM 2 offers, the one that it holds for the best."""
        check_prompts(clicks, box)
        if (frame := digest(rgb)) != self._frame:
            self._frame = b""  # should the predictor fail
            self.predictor.set_image(rgb)
            self._frame = frame
        logits = None
        if previous is not None and previous.any():
            share = cv2.resize(previous.astype(np.float32), (MASK_SIDE, MASK_SIDE), interpolation=cv2.INTER_AREA)
            logits = SURE * (2 * share[None] - 1)
        masks, scores, _ = self.predictor.predict(
            point_coords=np.array([(click.x, click.y) for click in clicks], np.float32) if clicks else None,
            point_labels=np.array([click.positive for click in clicks], np.int32) if clicks else None,
            box=None if box is None else np.array(box, np.float32),
            mask_input=logits,
            # A single click may mean an object or a part of it: several masks, of which the best is taken.
            multimask_output=len(clicks) == 1 and box is None and logits is None,
        )
        return masks[int(np.argmax(scores))] > 0


def open_sam2(file: Path | None, device: torch.device) -> Sam2:
    """Return SAM 2 with the weights of a published file, which keeps its name.

    Raises:
        UserError: the package or the file is missing, or it is not known by its name, or damaged.
    """
    try:
        build_sam2 = import_module("sam2.build_sam").build_sam2
        predictor_of = import_module("sam2.sam2_image_predictor").SAM2ImagePredictor
    except ImportError as error:
        raise UserError("SAM 2 is not installed: pip install sam2, or choose another segmenter") from error
    if file is None or not file.is_file():
        raise UserError(
            f"{file or 'SAM 2'}: no such file; SAM 2 needs that of its weights, such as sam2.1_hiera_tiny.pt"
        )
    if file.stem not in CONFIGS:
        raise UserError(f"{file}: which of SAM 2's networks this is shows in its name: {', '.join(CONFIGS)}")
    try:
        return Sam2(predictor_of(build_sam2(CONFIGS[file.stem], str(file), device=str(device))))
    except Exception as error:  # whatever the package stumbles over in a damaged file
        raise UserError(f"{file} is damaged, or not {file.stem} of the installed package sam2") from error
