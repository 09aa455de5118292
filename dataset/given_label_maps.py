"""Label maps that define the objects of a video: what they share, and checks that they are what they should be."""

import logging
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from jaxtyping import UInt8

from dataset.label_map import VOID, LabelMap, LabelMapSource, colour_palette, labels_of, marks_void, read_label_map
from util.errors import UserError

MOST_LABELS_UNCHECKED = 3
"""Label maps with so few labels are never taken for smoothed ones."""

logger = logging.getLogger(__name__)


class GivenLabelMaps:
    """Reads the label maps of one video that define objects: with one palette, and one meaning of label 255.

    Args:
        sources: those and all others of the video, so that a colour has one label in all of them.

    Raises:
        UserError: as `colour_palette`.
    """

    def __init__(self, sources: Iterable[LabelMapSource]) -> None:
        self._palette = colour_palette(sources)
        self._marks_void: bool | None = None  # not known before the first label map that holds an object
        self._said_void = self._said_overlap = False  # once for a video is enough

    def read(self, source: LabelMapSource) -> LabelMap:
        """Read a label map that holds objects, or none; where 255 means void, it becomes the background.

        Raises:
            UserError: as `read_label_map` and `check_objects`.
        """
        label_map = read_label_map(source, self._palette)
        labels = labels_of(label_map.labels)
        if labels == [0]:
            return label_map
        check_objects(label_map, source)
        if label_map.overlap and not self._said_overlap:
            self._said_overlap = True
            logger.warning(
                "%s: masks overlap in %d pixels; the object with the higher label has them", source, label_map.overlap
            )
        if self._marks_void is None:
            self._marks_void = marks_void(labels)
        if not self._marks_void or VOID not in labels:
            return label_map
        if not self._said_void:
            self._said_void = True
            logger.warning("%s: label 255 beside others means void and is not followed; give it another label", source)
        return replace(label_map, labels=np.where(label_map.labels == VOID, np.uint8(0), label_map.labels))


def check_objects(label_map: LabelMap, source: LabelMapSource) -> None:
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
                f"{source} holds {len(labels)} labels, {len(blurred)} of them along the borders of others only: it was "
                "smoothed, resized or saved as JPEG; export it again as PNG, resized by nearest neighbour only"
            )
    if label_map.palette:
        colours = {label: tuple(label_map.palette[3 * label : 3 * label + 3]) for label in labels}
        black = [label for label, colour in colours.items() if label and colour == (0, 0, 0)]
        background = tuple(label_map.palette[:3])
        if black and any(background):
            raise UserError(
                f"{source}: label 0 is the background, but its palette has {background} for it, and black for label "
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
