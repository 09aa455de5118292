"""Label maps: images with one channel, in which 0 is the background and each value from 1 to 255 an object.

Values may have gaps and are kept as they are (DAVIS 2016 stores its one object as 255). A palette is optional.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image

from dataset.frames import open_image
from util.errors import UserError
from util.files import atomic_path

MOST_LABELS_UNCHECKED = 3
"""Label maps with so few labels are never taken for smoothed ones."""


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Labels, and a palette of up to 256 RGB triples with one byte a channel; None for a grey image."""

    labels: UInt8[np.ndarray, "height width"]
    palette: bytes | None = None


def read_label_map(path: Path) -> LabelMap:
    """Read a palette, grey, 16-bit grey or 1-bit image (whose labels are then 0 and 1).

    Raises:
        UserError: `path` is missing, truncated, not an image, has several channels or labels above 255.
    """
    with open_image(path) as image:
        if image.mode not in ("P", "L", "1") and not image.mode.startswith("I"):
            raise UserError(
                f"{path} is an {image.mode} image; a label map has one channel (palette or grey) that holds the labels"
            )
        if image.format == "JPEG":  # whatever the file is called
            raise UserError(f"{path} is a JPEG image, which blurs labels: save label maps as PNG")
        labels = np.array(image)
        palette = bytes(image.getpalette() or b"") if image.mode == "P" else b""
    if labels.max() > 255 or labels.min() < 0:
        raise UserError(f"{path} holds the label {labels.max()}; labels go from 0 to 255")
    return LabelMap(labels.astype(np.uint8, copy=False), palette or None)


def labels_of(labels: UInt8[np.ndarray, "height width"]) -> list[int]:
    """Return the labels that occur in a label map, the background's 0 among them, in ascending order."""
    return np.flatnonzero(cv2.calcHist([labels], [0], None, [256], [0, 256])).tolist()


def check_objects(label_map: LabelMap, path: Path) -> None:
    """Check that a label map given as input holds objects, rather than what other programs make of one.

    Raises:
        UserError: most of its labels lie along the borders of others only, as smoothing or JPEG leave them; or the
            colours of its palette say that label 0 is no background.
    """
    labels = labels_of(label_map.labels)
    if len(labels) > MOST_LABELS_UNCHECKED:
        blurred = labels_on_borders_only(label_map.labels)
        if len(blurred) >= len(labels) / 2:
            raise UserError(
                f"{path} holds {len(labels)} labels, {len(blurred)} of them along the borders of others only: it was "
                "smoothed, resized or saved as JPEG; save it without, resized to the nearest neighbour, as PNG"
            )
    if label_map.palette:
        colours = {label: tuple(label_map.palette[3 * label : 3 * label + 3]) for label in labels}
        black = [label for label, colour in colours.items() if label and colour == (0, 0, 0)]
        background = tuple(label_map.palette[:3])
        if black and any(background):
            raise UserError(
                f"{path}: label 0 is the background, but its palette has {background} for it, and black for label "
                f"{black[0]}: save it with the background at index 0"
            )


def labels_on_borders_only(labels: UInt8[np.ndarray, "height width"]) -> list[int]:
    """Return the labels of which every pixel touches at least two other labels."""
    height, width = labels.shape
    padded = np.pad(labels.astype(np.int16), 1, mode="edge")
    own = padded[1:-1, 1:-1]
    least, most = np.full(labels.shape, 256, np.int16), np.full(labels.shape, -1, np.int16)
    for y in range(3):
        for x in range(3):
            neighbour = padded[y : y + height, x : x + width]
            is_other = neighbour != own
            np.minimum(least, neighbour, out=least, where=is_other)
            np.maximum(most, neighbour, out=most, where=is_other)
    inside = np.bincount(labels[least >= most].ravel(), minlength=256)
    present = np.bincount(labels.ravel(), minlength=256)
    return np.flatnonzero((present > 0) & (inside == 0)).tolist()


def write_label_map(path: Path, labels: Integer[np.ndarray, "height width"], palette: bytes | None = None) -> None:
    """Write `labels` as an 8-bit PNG, in the colours of `palette` or, without one, grey; atomically.

    Raises:
        UserError: a label is outside 0..255.
        OSError: the folder cannot be written to, or the disk is full.
    """
    if labels.min() < 0 or labels.max() > 255:
        raise UserError(f"{path}: labels go from 0 to 255, and there are {labels.min()}..{labels.max()}")
    image = Image.fromarray(labels.astype(np.uint8))
    if palette is not None:
        # With fewer than 256 colours Pillow would cut off the labels that have none (few colours: fewer bits a pixel).
        image.putpalette(palette.ljust(256 * 3, b"\0"))
    with atomic_path(path) as temporary:
        # Label maps are runs of equal values: on DAVIS 480p run-length matching takes 0.9 ms and 3.1 kB a map, zlib's
        # default strategy 3.1 ms and 3.4 kB.
        image.save(temporary, format="PNG", compress_type=zlib.Z_RLE)
