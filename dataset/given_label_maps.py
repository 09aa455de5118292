"""Label maps that define the objects of a video: what they share, and checks that they are what they should be."""

import logging
from collections.abc import Collection, Iterable
from dataclasses import replace

import numpy as np
from jaxtyping import UInt8

from dataset.label_map import (
    VOID,
    LabelMap,
    LabelMapSource,
    ObjectMasks,
    colour_palette,
    labels_of,
    marks_void,
    read_label_map,
)
from util.errors import UserError

MOST_LABELS_UNCHECKED = 3
"""Label maps with so few labels are never taken for smoothed ones."""

logger = logging.getLogger(__name__)


class GivenLabelMaps:
    """Reads the label maps of one video that define objects: with one palette, and one meaning of label 255.

    Args:
        sources: all label maps of the video, also those that define nothing: together they decide a colour's label.
        has_void: 255 is void whatever other labels there are; otherwise `label_map.marks_void` decides.
        objects: the labels that are objects, where the data set says so; others count as background.

    Raises:
        UserError: as `colour_palette`.
    """

    def __init__(
        self, sources: Iterable[LabelMapSource], has_void: bool = False, objects: Collection[int] | None = None
    ) -> None:
        self._palette = colour_palette(sources)
        self._has_void, self._objects = has_void, objects
        # None: not known before the first label map with an object. Where objects are named, 255 may be one of them.
        self._marks_void: bool | None = has_void if has_void or objects is not None else None
        self._said: set[str] = set()  # once for a video is enough

    def read(self, source: LabelMapSource, only: Collection[int] | None = None) -> LabelMap:
        """Read a label map that holds objects, or none; where 255 means void, it becomes the background.

        Args:
            only: the objects that are wanted; the others count as background.

        Raises:
            UserError: as `read_label_map` and `check_objects`.
        """
        if only is not None and isinstance(source, ObjectMasks):
            source = source.only(only)
        label_map = read_label_map(source, self._palette)
        labels = labels_of(label_map.labels)
        if labels == [0]:
            return label_map
        check_objects(label_map, source)
        if label_map.overlap and not (isinstance(source, ObjectMasks) and source.smaller_on_top):
            self._warn_once(
                "%s: masks overlap in %d pixels; the object with the higher label has them", source, label_map.overlap
            )
        if self._marks_void is None:
            self._marks_void = marks_void(labels)
        dropped = {VOID} if self._marks_void else set()
        if VOID in dropped & set(labels) and not self._has_void:
            self._warn_once("%s: label 255 beside others means void and is not followed; give it another label", source)
        if self._objects is not None:
            if unknown := set(labels) - {0, *dropped, *self._objects}:
                names = ", ".join(map(str, sorted(unknown)))
                self._warn_once("%s: labels that are no objects of the data set are not followed: %s", source, names)
            dropped |= unknown
        if only is not None:
            dropped |= set(labels) - {0, *only}
        if dropped.isdisjoint(labels):
            return label_map
        kept = np.array([0 if label in dropped else label for label in range(256)], np.uint8)
        return replace(label_map, labels=kept[label_map.labels])

    def _warn_once(self, message: str, *values: object) -> None:
        if message not in self._said:
            self._said.add(message)
            logger.warning(message, *values)


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
