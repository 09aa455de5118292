"""Label maps in colours, and painted over their frames."""

from functools import cache
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

# The one object of DAVIS 2016 has label 255, for which the DAVIS palette holds a pale grey that no eye would find.
COLOUR_OF_255 = (255, 40, 130)


@cache
def davis_palette() -> bytes:
    """256 RGB triples in which any number of the first colours are far apart: (0, 0, 0), (128, 0, 0), (0, 128, 0), ...

    The palette of the DAVIS and PASCAL VOC annotations: bits 0, 3 and 6 of a label are the upper bits of red, bits 1,
    4 and 7 those of green, bits 2 and 5 those of blue.
    """
    labels = np.arange(256)
    channels = [sum((labels >> (3 * i + channel) & 1) << (7 - i) for i in range(3)) for channel in range(3)]
    return np.stack(channels, axis=1).astype(np.uint8).tobytes()


@cache
def display_palette() -> bytes:
    """The DAVIS palette made brighter, to be seen over a photograph: the same hues, still 256 different colours."""
    colours = np.frombuffer(davis_palette(), np.uint8).reshape(256, 3) / 255
    bright = np.rint(255 * colours**0.4).astype(np.uint8)
    bright[255] = COLOUR_OF_255
    return bright.tobytes()


def as_label_map(labels: Any) -> UInt8[np.ndarray, "height width"]:
    """Return a label map, an array or a tensor on any device, as an array of 8 bits.

    Raises:
        ValueError: it is none, or has labels outside 0..255.
    """
    labels = np.asarray(labels.cpu() if hasattr(labels, "cpu") else labels)
    if labels.ndim != 2 or labels.dtype.kind not in "biu":
        raise ValueError(f"a label map is an H×W array of integers, not {labels.dtype} {labels.shape}")
    if labels.size and (labels.min() < 0 or labels.max() > 255):
        raise ValueError(f"labels go from 0 to 255, and there are {labels.min()}..{labels.max()}")
    return labels.astype(np.uint8, copy=False)


def overlay_masks(
    rgb: UInt8[np.ndarray, "height width 3"],
    labels: Any,
    palette: bytes | None = None,
    opacity: float = 0.5,
) -> UInt8[np.ndarray, "height width 3"]:
    """Paint every object in its colour, with a bright line along its inside and a dark one along its outside.

    Args:
        rgb: the frame, left as it is.
        labels: its label map, as `as_label_map` takes it; 0 is the background.
        palette: RGB triples as in a palette image, used as they are; for labels beyond its end, and without a
            palette, the colours are those of `display_palette`.
        opacity: of the colour over the frame, 0 (the lines only) to 1 (the colour only).

    Raises:
        ValueError: `opacity` is outside 0..1, or the label map is none.
    """
    labels = as_label_map(labels)
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity goes from 0 to 1, not {opacity}")
    palette = (palette or b"") + display_palette()[len(palette or b"") :]
    colours = np.frombuffer(palette, np.uint8).reshape(256, 3)

    # The lines keep their share of the picture at any resolution.
    width = 2 * max(1, round(min(labels.shape) / 400)) + 1
    neighbourhood = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    edge = cv2.dilate(labels, neighbourhood) != cv2.erode(labels, neighbourhood)
    objects = labels > 0

    painted = rgb.astype(np.float32)
    colour = colours[labels].astype(np.float32)
    painted[objects] += opacity * (colour - painted)[objects]
    painted[edge & objects] = (0.6 * colour + 0.4 * 255)[edge & objects]
    painted[edge & ~objects] *= 0.4
    return np.rint(painted).astype(np.uint8)
