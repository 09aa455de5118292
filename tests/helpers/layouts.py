"""The data sets' folder layouts in miniature, with frames that differ and rectangles for objects."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

Names = Sequence[str] | range


def frame_name(index: int) -> str:
    return f"{index:05d}"


def write_frames(folder: Path, names: Names, size: tuple[int, int] = (6, 10), seed: int = 0) -> None:
    """A JPEG of `size` = (height, width) for each name (or number): a blurred noise that moves from frame to frame."""
    folder.mkdir(parents=True, exist_ok=True)
    height, width = size
    noise = np.random.default_rng(seed).integers(0, 256, (height // 4 + 2, width // 4 + 2, 3), np.uint8)
    scene = Image.fromarray(noise).resize((2 * width, height), Image.Resampling.BICUBIC)
    for index, name in enumerate(_names(names)):
        shift = index % width
        scene.crop((shift, 0, shift + width, height)).save(folder / f"{name}.jpg", quality=90)


def label_map(size: tuple[int, int], labels: Sequence[int] = (255,)) -> np.ndarray:
    """A rectangle for each label, side by side, none of them at the image's border."""
    height, width = size
    bounds = np.linspace(1, width - 1, len(labels) + 1).astype(int)
    array = np.zeros(size, np.uint8)
    for label, left, right in zip(labels, bounds[:-1], bounds[1:], strict=True):
        array[height // 4 : 3 * height // 4, left : max(right - 1, left + 1)] = label
    return array


def write_masks(
    folder: Path,
    names: Names,
    size: tuple[int, int] = (6, 10),
    labels: Sequence[int] = (255,),
    palette: bytes | None = None,
) -> None:
    """The same label map of `size` = (height, width) for each name (or number)."""
    folder.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(label_map(size, labels))
    if palette is not None:
        image.putpalette(palette)
    for name in _names(names):
        image.save(folder / f"{name}.png")


def _names(names: Names) -> list[str]:
    return [frame_name(name) for name in names] if isinstance(names, range) else list(names)


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def davis_2016_pairs(name: str, frames: range) -> str:
    """The lines of a DAVIS 2016 image set for one video."""
    return "".join(
        f"/JPEGImages/480p/{name}/{frame:05d}.jpg /Annotations/480p/{name}/{frame:05d}.png\n" for frame in frames
    )


def youtube_meta(videos: dict[str, dict[str, list[str]]]) -> str:
    """A meta.json from the saved frames of every object: {video: {object: [frame, …]}}."""
    return json.dumps(
        {
            "videos": {
                name: {"objects": {label: {"category": "owl", "frames": frames} for label, frames in objects.items()}}
                for name, objects in videos.items()
            }
        }
    )
