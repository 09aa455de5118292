"""Label maps: 0 is the background and each value from 1 to 255 an object.

Values may have gaps and are kept as they are (DAVIS 2016 stores its one object as 255). Most are images with one
channel, in which a palette is optional. A video's label maps may also be images in colours, where a palette for all of
them says which label a colour is (`colour_palette`), or one mask file for each object (`ObjectMasks`).
"""

import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Integer, UInt8
from PIL import Image

from dataset.frames import MASK_SUFFIXES, folder_entries, frame_size, list_images, natural_key, open_image, size_text
from util.errors import UserError
from util.files import atomic_path
from util.painting import as_label_map, davis_palette

VOID = 255
"""The label of pixels that are unknown, where a video has it beside other labels (`marks_void`)."""
COLOUR_MODES = frozenset({"RGB", "RGBA", "LA"})  # Pillow's names of images with colours, or grey with transparency
GREY_PALETTE = np.arange(256, dtype=np.uint8).repeat(3).tobytes()


@dataclass(frozen=True, eq=False)
class LabelMap:
    """The label map of one frame.

    Attributes:
        labels: the label of each pixel.
        palette: up to 256 RGB triples with one byte a channel; None for a grey image.
        names: what the file has instead of a label, where it has something else: a colour, or a folder's name.
        overlap: the number of pixels that several objects' masks cover.
        covered: objects whose masks are not empty, but covered by others'.
    """

    labels: UInt8[np.ndarray, "height width"]
    palette: bytes | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    overlap: int = 0
    covered: frozenset[int] = frozenset()


@dataclass(frozen=True)
class ObjectMasks:
    """The label map of one frame as one mask file for each object: FOLDER/OBJECT/FRAME.png.

    Attributes:
        folder: the folder of the video.
        files: the label and the mask of each object, which is where the mask is not 0. Later ones cover earlier ones.
        smaller_on_top: the smaller of two masks covers the larger one instead.
    """

    folder: Path
    files: tuple[tuple[int, Path], ...]
    smaller_on_top: bool = False

    def only(self, labels: Collection[int]) -> "ObjectMasks":
        """Return the masks of some objects alone; there may be none."""
        return replace(self, files=tuple(each for each in self.files if each[0] in labels))

    @property
    def parent(self) -> Path:
        """The video's folder, under the name that it has for a path."""
        return self.folder

    @property
    def name(self) -> str:
        """The file name of the frame, the same for all objects."""
        return self.files[0][1].name

    def __str__(self) -> str:
        return str(self.folder / "*" / self.name)


LabelMapSource = Path | ObjectMasks
"""What the label map of one frame is read from."""


def files_of(source: LabelMapSource) -> tuple[Path, ...]:
    """Return the files that a label map is read from."""
    return tuple(path for _, path in source.files) if isinstance(source, ObjectMasks) else (source,)


def folder_labels(sources: Iterable[LabelMapSource]) -> dict[str, int]:
    """Return the labels of objects by the names of their folders; none where label maps are files."""
    files = (each for source in sources if isinstance(source, ObjectMasks) for each in source.files)
    return {path.parent.name: label for label, path in files}


def lacking_objects(sources: Mapping[str, LabelMapSource]) -> dict[str, list[str]]:
    """Return the frames in which objects with folders of their own have no mask file, and the objects' names."""
    names = folder_labels(sources.values())
    lacking: dict[str, list[str]] = {}
    for frame, source in sources.items():
        if isinstance(source, ObjectMasks) and len(source.files) < len(names):
            lacking[frame] = sorted(names.keys() - {path.parent.name for _, path in source.files})
    return lacking


def label_map_size(source: LabelMapSource) -> tuple[int, int]:
    """Return the (height, width) of a label map, read from a header alone.

    Raises:
        UserError: the file is missing or not an image.
    """
    return frame_size(files_of(source)[0])


def list_label_maps(folder: Path, labels: Mapping[str, int] | None = None) -> dict[str, LabelMapSource]:
    """Return a video's label maps by the names of their frames: FOLDER/FRAME.png, or else FOLDER/OBJECT/FRAME.png.

    The labels of objects with folders of their own are the folders' names, where all are numbers from 1 to 255, or else
    1, 2, … in the order of these names.

    Args:
        labels: the labels of objects by the names of their folders, where another folder of the video has set them.

    Raises:
        UserError: as `list_images`; there are more than 255 objects.
    """
    if files := list_images(folder, MASK_SUFFIXES):
        return dict(files)
    masks = {path: list_images(path, MASK_SUFFIXES) for path in folder_entries(folder) if path.is_dir()}
    names = [path.name for path, files in masks.items() if files]  # other folders are no objects
    if len(names) > 255:
        raise UserError(f"{folder} holds folders of {len(names)} objects; there can be 255")
    if labels is None:
        labels = dict(zip(names, labels_of_folders(names), strict=True))
    else:  # those that are new come after the others
        new = [name for name in names if name not in labels]
        labels = {**labels, **{name: max(labels.values(), default=0) + n for n, name in enumerate(new, start=1)}}
    by_frame: dict[str, list[tuple[int, Path]]] = {}
    for path, files in masks.items():
        for frame, file in files.items():
            by_frame.setdefault(frame, []).append((labels[path.name], file))
    return {frame: ObjectMasks(folder, tuple(by_frame[frame])) for frame in sorted(by_frame, key=natural_key)}


def labels_of_folders(names: Sequence[str]) -> list[int]:
    """Return the labels of objects whose masks lie in folders with these names, in the order of the names."""
    are_labels = all(name.isascii() and name.isdigit() and name[0] != "0" and int(name) <= 255 for name in names)
    return [int(name) for name in names] if are_labels else list(range(1, len(names) + 1))


def read_label_map(source: LabelMapSource, palette: bytes | None = None) -> LabelMap:
    """Read a palette, grey, 16-bit grey or 1-bit image (whose labels are then 0 and 1), colours, or objects' masks.

    Args:
        palette: in images in colours, a colour's label is its place here; `colour_palette` makes one.

    Raises:
        UserError: a file is missing, truncated, not an image, a JPEG image, has labels above 255, or colours that the
            palette lacks; objects' masks differ in size.
    """
    if isinstance(source, ObjectMasks):
        return _joined(source)
    with open_image(source) as image:
        if image.format == "JPEG":  # whatever the file is called
            raise UserError(f"{source} is a JPEG image, which blurs labels: save label maps as PNG")
        if image.mode in COLOUR_MODES:
            if palette is None:
                raise UserError(
                    f"{source} is an {image.mode} image, whose colours alone do not say the labels; python -m "
                    "scripts.convert makes label maps of a video whose maps are all in colours"
                )
            return _labels_of_colours(_packed_colours(image, source), palette, source)
        if image.mode not in ("P", "L", "1") and not image.mode.startswith("I"):
            raise UserError(f"{source} is an {image.mode} image; a label map has one channel, or colours (RGB, RGBA)")
        labels = np.array(image)
        own_palette = bytes(image.getpalette() or b"") if image.mode == "P" else b""
    if labels.max() > 255 or labels.min() < 0:
        raise UserError(f"{source} holds the label {labels.max()}; labels go from 0 to 255")
    return LabelMap(labels.astype(np.uint8, copy=False), own_palette or None)


def colour_palette(sources: Iterable[LabelMapSource]) -> bytes | None:
    """Return the palette by which all label maps of a video are read, where they are images in colours.

    Black is 0, and what is transparent counts as black. Where all colours are grey, a label is their brightness; where
    all are in the palette of DAVIS, a label is its place there; or else the colours are numbered in the order in which
    they appear: over the files, and in each from the top left.

    Returns:
        RGB triples; None where the first label map has one channel, or is one mask for each object.

    Raises:
        UserError: a file cannot be read; there are more than 255 colours, or black is not among them.
    """
    colours: dict[int, None] = {0: None}
    has_background = False
    for source in sources:
        if isinstance(source, ObjectMasks):
            return None
        with open_image(source) as image:
            if image.format == "JPEG":
                continue  # reading it says what is wrong with it
            if image.mode not in COLOUR_MODES:
                if len(colours) == 1 and not has_background:
                    return None
                raise UserError(
                    f"{source} is not in colours, as others of its video: label maps of one are of one kind"
                )
            packed, places = np.unique(_packed_colours(image, source), return_index=True)
        if len(packed) > 256:
            raise UserError(
                f"{source} holds {len(packed)} colours; a label map has one for each object: it was smoothed, resized "
                "or saved as JPEG; export it again as PNG without smoothing, resized by nearest neighbour only"
            )
        has_background = has_background or packed[0] == 0
        colours.update(dict.fromkeys(packed[np.argsort(places)].tolist()))
        if len(colours) > 256:
            raise UserError(f"{source}: the label maps of its video hold more than 255 colours")
    if len(colours) == 1 and not has_background:
        return None
    if not has_background:
        raise UserError(f"{source} has no black pixel, but black is the background: save it with a black background")
    for usual in (GREY_PALETTE, davis_palette()):
        if colours.keys() <= set(colours_of(usual).tolist()):
            return usual
    return b"".join(colour.to_bytes(3, "big") for colour in colours)


def colours_of(palette: bytes) -> Integer[np.ndarray, " labels"]:
    """Return the colours of a palette as numbers 0xrrggbb."""
    return _packed(np.frombuffer(palette, np.uint8).reshape(-1, 3))


def _packed_colours(image: Image.Image, path: Path) -> Integer[np.ndarray, "height width"]:
    """Return the colours of an image as numbers 0xrrggbb, 0 where it is transparent."""
    rgba = np.array(image.convert("RGBA"))
    opacity = rgba[..., 3]
    if ((opacity > 0) & (opacity < 255)).any():
        raise UserError(
            f"{path} holds half-transparent pixels: its edges were smoothed; export it again without smoothing"
        )
    return _packed(rgba[..., :3]) * (opacity > 0)


def _packed(rgb: UInt8[np.ndarray, "*shape 3"]) -> Integer[np.ndarray, "*shape"]:
    return rgb.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)


def _labels_of_colours(packed: Integer[np.ndarray, "height width"], palette: bytes, path: Path) -> LabelMap:
    known = colours_of(palette)
    order = np.argsort(known, kind="stable")
    labels = order[np.searchsorted(known[order], packed).clip(max=len(known) - 1)].astype(np.uint8)
    if (unknown := packed[known[labels] != packed]).size:
        raise UserError(f"{path} holds the colour #{unknown[0]:06x}, which no other label map of its video has")
    if palette == GREY_PALETTE:
        return LabelMap(labels)
    return LabelMap(labels, palette, {label: f"#{known[label]:06x}" for label in objects_of(labels)})


def _joined(masks: ObjectMasks) -> LabelMap:
    read = [(label, path, read_object_mask(path)) for label, path in masks.files]
    assert read, "a frame with no mask has no ObjectMasks"
    if masks.smaller_on_top:
        read.sort(key=lambda each: -np.count_nonzero(each[2]))
    height, width = read[0][2].shape
    labels = np.zeros((height, width), np.uint8)
    overlap = 0
    for label, path, covered in read:
        if covered.shape != labels.shape:
            raise UserError(f"{path} is {size_text(covered.shape)}, but {read[0][1]} is {size_text((height, width))}")
        overlap += int(np.count_nonzero(labels[covered]))
        labels[covered] = label
    names = {label: path.parent.name for label, path in masks.files}
    hidden = {label for label, _, mask in read if mask.any()} - set(labels_of(labels))
    return LabelMap(labels, davis_palette(), names, overlap, frozenset(hidden))


def read_object_mask(path: Path) -> Bool[np.ndarray, "height width"]:
    """Read the mask of one object: it is where the image is not 0 or black.

    Raises:
        UserError: the file is missing, damaged, a JPEG image, or holds more than one label.
    """
    with open_image(path) as image:
        if image.format == "JPEG":
            raise UserError(f"{path} is a JPEG image, which blurs masks: save them as PNG")
        values = _packed_colours(image, path) if image.mode in COLOUR_MODES else np.array(image)
    mask: Bool[np.ndarray, "height width"] = values > 0
    if mask.any() and (values[mask] != values[mask][0]).any():
        raise UserError(
            f"{path} holds several labels, but it is taken for the mask of one object, as it lies in a folder below "
            f"{path.parent.parent}: it was smoothed, or the folder {path.parent} is meant"
        )
    return mask


def labels_of(labels: UInt8[np.ndarray, "height width"]) -> list[int]:
    """Return the labels that occur in a label map, the background's 0 among them, in ascending order."""
    return list(pixels_of_labels(labels))


def objects_of(labels: UInt8[np.ndarray, "height width"]) -> list[int]:
    """Return the labels of the objects that occur in a label map, in ascending order."""
    return [label for label in labels_of(labels) if label]


def pixels_of_labels(labels: UInt8[np.ndarray, "height width"]) -> dict[int, int]:
    """Return how many pixels have each label that occurs in a label map, in ascending order of the labels."""
    counts = cv2.calcHist([labels], [0], None, [256], [0, 256]).flatten()
    return {label: int(counts[label]) for label in np.flatnonzero(counts).tolist()}


def marks_void(labels: Collection[int]) -> bool:
    """Return whether 255 means void (unknown), given the labels of a video's first label map: beside other objects.

    So in DAVIS 2017. Alone, as in DAVIS 2016, it is an object.
    """
    return any(label not in (0, VOID) for label in labels)


def write_label_map(path: Path, labels: Any, palette: bytes | None = None) -> None:
    """Write a label map as an 8-bit PNG, in the colours of `palette` or, without one, grey; atomically.

    Args:
        labels: an H×W array or tensor of integers.

    Raises:
        UserError: it is no label map, or a label is outside 0..255.
        OSError: the folder cannot be written to, or the disk is full.
    """
    try:
        content = encode_label_map(as_label_map(labels), palette)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def encode_label_map(labels: UInt8[np.ndarray, "height width"], palette: bytes | None = None) -> bytes:
    """Return the PNG of a label map, in the colours of `palette` or, without one, grey."""
    image = Image.fromarray(labels)
    if palette is not None:
        # With fewer than 256 colours Pillow would cut off the labels that have none (few colours: fewer bits a pixel).
        image.putpalette(palette.ljust(256 * 3, b"\0"))
    content = BytesIO()
    # Label maps are runs of equal values: on DAVIS 480p run-length matching takes 0.9 ms and 3.1 kB a map, zlib's
    # default strategy 3.1 ms and 3.4 kB.
    image.save(content, format="PNG", compress_type=zlib.Z_RLE)
    return content.getvalue()
