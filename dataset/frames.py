"""Frames of a clip as RGB images, read one at a time from a folder of image files, and what else lies in folders."""

import os
import re
import struct
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from util.errors import UserError

FRAME_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
JPEG_END = b"\xff\xd9"
MASK_SUFFIXES = frozenset({".png", ".bmp", ".tif", ".tiff"})

BYTES_AT_ONCE = 256 * 2**20
"""The most memory for frames of a source that is read backward."""

NO_VIDEOS = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"})
"""Folders that archivers, network drives and Windows leave beside those of a data set."""


class MissingError(UserError):
    """A file or folder of a data set does not exist; `registry.RegisteredSet.checked` adds what the root has to be."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One image of a clip: `name` is the stem of its mask's file, `path` the file that it was read from."""

    name: str
    rgb: UInt8[np.ndarray, "height width 3"]
    path: Path | None = None


@runtime_checkable
class FrameSource(Protocol):
    """A clip that can be iterated any number of times, each time from its first frame."""

    @property
    def frame_count(self) -> int | None:
        """Number of frames; None where it is unknown before all have been read."""

    @property
    def frame_rate(self) -> Fraction:
        """Frames per second."""

    def files(self) -> Iterable[Path]:
        """The files that the frames are read from."""

    def __iter__(self) -> Iterator[Frame]: ...


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open the image file `path`; damage that shows only when the block decodes it is a UserError as well.

    Raises:
        UserError: `path` is missing, no image, truncated or otherwise unreadable.
    """
    try:
        with Image.open(path) as image:
            yield upright(image)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder, not an image") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is not an image, or it is damaged") from error
    # Pillow's decoders report damage by any of these, depending on where in the file it lies.
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read, it may be damaged: {reason}") from error


def upright(image: Image.Image) -> Image.Image:
    """Return an image turned and mirrored as the EXIF orientation in its header says."""
    return ImageOps.exif_transpose(image) if is_turned(image) else image


def is_deep(image: Image.Image) -> bool:
    """Return whether an image has more than 8 bits of grey, which Pillow clips instead of scaling."""
    return image.mode.startswith(("I", "F"))


def is_turned(image: Image.Image) -> bool:
    """Return whether an image has to be turned or mirrored to be upright, by the EXIF orientation in its header."""
    # A PNG may have it at its end, and looking there would decode the whole image: none is known that does.
    return "exif" in image.info and image.getexif().get(ExifTags.Base.Orientation, 1) != 1


def read_frame(path: Path) -> Frame:
    """Decode one frame as 8-bit RGB, upright: like a video file's rotation, an EXIF orientation is applied.

    Raises:
        UserError: `path` is missing, truncated, not an image, or has more than 8 bits of grey.
    """
    with open_image(path) as image:
        # Pillow decodes the same, but takes half as long again. An image that it has turned has no format any more.
        if image.format == "JPEG" and image.mode in ("RGB", "L") and (decoded := decode_jpeg(path)) is not None:
            return Frame(name=path.stem, rgb=decoded, path=path)
        if is_deep(image):
            raise UserError(f"{path} has more than 8 bits per pixel of grey: convert it to 8 bits")
        rgb = image if image.mode == "RGB" else image.convert("RGB")  # which would copy it
        return Frame(name=path.stem, rgb=np.array(rgb), path=path)


def decode_jpeg(path: Path) -> UInt8[np.ndarray, "height width 3"] | None:
    """Decode a JPEG file as RGB, as it lies; None if it is cut off or otherwise damaged."""
    data = path.read_bytes()
    if not data.endswith(JPEG_END):
        return None
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return None if bgr is None else cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr)


def frame_size(path: Path) -> tuple[int, int]:
    """Return (height, width) of an image file, read from its header alone.

    Raises:
        UserError: `path` is missing or not an image.
    """
    with open_image(path) as image:
        return image.height, image.width


def size_text(size: tuple[int, int]) -> str:
    """Return a size (height, width) as text, width first."""
    height, width = size
    return f"{width}x{height}"


def require_folder(folder: Path) -> Path:
    """Return `folder`.

    Raises:
        MissingError: it does not exist or is not a folder.
    """
    if not os.path.isdir(folder):  # unlike Path.is_dir, does not raise on a folder that may not be entered
        raise MissingError(f"{folder} does not exist or is not a folder")
    return folder


def read_text(path: Path) -> str:
    """Read a text file.

    Raises:
        MissingError: `path` does not exist.
        UserError: `path` cannot be read or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")  # Windows programs put a byte order mark at the beginning
    except FileNotFoundError as error:
        raise MissingError(f"{path} does not exist") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def listed_lines(path: Path) -> list[str]:
    """Read the lines of a list of videos; blank lines are skipped.

    Raises:
        MissingError, UserError: as `read_text`.
        UserError: there is no line.
    """
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if not lines:
        raise UserError(f"{path} names no video")
    return lines


def listed_videos(path: Path) -> list[str]:
    """Read a text file that names a video in each line.

    Raises:
        MissingError, UserError: as `listed_lines` and `plain_name`.
    """
    return [plain_name(name, path) for name in listed_lines(path)]


def davis_2016_frames(path: Path) -> dict[str, set[str]]:
    """Return the names of frames by video that a list of DAVIS 2016 gives, one pair of frame and mask a line.

    Raises:
        MissingError, UserError: as `listed_lines` and `plain_name`.
        UserError: a line is no such pair.
    """
    frames: dict[str, set[str]] = {}
    for line in listed_lines(path):
        pair = [PurePosixPath(field) for field in line.split()]
        if len(pair) != 2 or not pair[0].parent.name or len({(each.parent.name, each.stem) for each in pair}) != 1:
            raise UserError(f"{path}: '{line}' is not '/JPEGImages/480p/V/F.jpg /Annotations/480p/V/F.png'")
        frames.setdefault(plain_name(pair[0].parent.name, path), set()).add(pair[0].stem)
    return frames


def is_plain(name: str) -> bool:
    """Return whether a name is that of one file or folder, which is not hidden."""
    return bool(name) and not name.startswith(".") and not set(name) & set("/\\\0")


def plain_name(name: str, path: Path) -> str:
    """Return a name that the file `path` gives, if it is that of one file or folder.

    Raises:
        UserError: it would lead out of the folder that it is meant for.
    """
    if not is_plain(name):
        raise UserError(f"{path} holds the name {name!r}: names of videos and frames have no slash and no leading dot")
    return name


def video_folders(*places: Path) -> list[str]:
    """Return the names of the folders in these places, one for each video, in the order of each place.

    Raises:
        UserError: there are none, or a place cannot be listed.
    """
    names = {path.name: None for place in places for path in folder_entries(place) if path.is_dir()}
    if not names:
        raise UserError(f"{places[0]} has no folders, one for each video")
    return list(names)


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return the key by which names are sorted: their numbers count as such, so "2" comes before "10".

    Names that are padded to one length are in the order of their characters.
    """
    parts = re.split(r"([0-9]+)", name)  # every second one is a number
    return [(0, int(part), part) if index % 2 else (1, 0, part) for index, part in enumerate(parts) if part]


def folder_entries(folder: Path) -> list[Path]:
    """Return the files and folders in `folder`, sorted by `natural_key`, without hidden ones and `NO_VIDEOS`.

    Raises:
        UserError: `folder` does not exist, is no folder or may not be read.
    """
    try:
        paths = [path for path in folder.iterdir() if not path.name.startswith(".") and path.name not in NO_VIDEOS]
        return sorted(paths, key=lambda path: natural_key(path.name))
    except FileNotFoundError as error:
        raise UserError(f"{folder} does not exist") from error
    except NotADirectoryError as error:
        raise UserError(f"{folder} is a file, not a folder") from error
    except OSError as error:
        raise UserError(f"{folder} cannot be listed: {error.strerror}") from error


def list_images(folder: Path, suffixes: frozenset[str] = FRAME_SUFFIXES) -> dict[str, Path]:
    """Return the image files of `folder` by their stems, sorted, with one of the (lower-case) `suffixes` in any case.

    Raises:
        UserError: as `folder_entries`; or two files have the same stem (a.jpg and a.png), so one mask name.
    """
    by_stem: dict[str, Path] = {}
    for path in folder_entries(folder):
        if path.suffix.lower() not in suffixes:
            continue
        if path.stem in by_stem:
            raise UserError(f"{folder} holds both {by_stem[path.stem].name} and {path.name}: keep one of them")
        by_stem[path.stem] = path
    return by_stem


class FrameFolder:
    """The frames of a folder in the order of their names.

    Args:
        paths: frame name → image file; by default all images in `folder`, by their stems.

    Raises:
        UserError: as `list_images`; during iteration as `read_frame`.
    """

    # Image files carry no rate; this is the one of the DAVIS videos.
    frame_rate = Fraction(24)

    def __init__(self, folder: Path, paths: Mapping[str, Path] | None = None):
        self.folder = folder
        self.paths = list_images(folder) if paths is None else paths

    def files(self) -> Iterable[Path]:
        """The image files, in the order of the frames."""
        return self.paths.values()

    def __iter__(self) -> Iterator[Frame]:
        return (replace(read_frame(path), name=name) for name, path in self.paths.items())

    def __repr__(self) -> str:
        return f"FrameFolder({str(self.folder)!r}, {self.frame_count} frames)"

    @property
    def frame_count(self) -> int:
        """Number of frames."""
        return len(self.paths)


class BackwardFrames:
    """The first frames of any source, the last of them first; few are held in memory at a time.

    A source that can only be read forward is read again from its beginning for each part that fits in memory.

    Args:
        count: the number of frames.
    """

    def __init__(self, frames: FrameSource, count: int) -> None:
        self.frame_count, self.frame_rate = count, frames.frame_rate
        self._frames = frames

    def files(self) -> Iterable[Path]:
        """The files that the frames are read from."""
        return self._frames.files()

    def __iter__(self) -> Iterator[Frame]:
        end = self.frame_count
        while end > 0:
            part: deque[Frame] = deque()
            count = 0
            for frame in islice(self._frames, end):
                count += 1
                part.append(frame)
                if len(part) > max(1, BYTES_AT_ONCE // frame.rgb.nbytes):
                    part.popleft()
            end = count - len(part)  # there may be fewer frames than announced
            yield from reversed(part)


def backward_from(frames: FrameSource, count: int) -> FrameSource:
    """Return the first `count` frames in reverse order."""
    if isinstance(frames, FrameFolder):
        names = list(frames.paths)[:count]
        return FrameFolder(frames.folder, {each: frames.paths[each] for each in reversed(names)})
    return BackwardFrames(frames, count)
