"""Data sets to measure on: those of the paper, and long videos that are made here."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zlib import crc32

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from dataset.back_and_forth import repeat_videos, turning_order
from dataset.evaluation_sets import EvaluationSet
from dataset.label_map import read_label_map, write_label_map
from dataset.registry import open_evaluation_set
from dataset.synthetic.long_video import long_video
from evaluation.validation import chosen_videos
from inference.images import network_size
from util.errors import UserError
from util.painting import davis_palette

JPEG_QUALITY = 95

ImageAndLabels = tuple[UInt8[np.ndarray, "height width 3"], UInt8[np.ndarray, "height width"]]


class MissingError(UserError):
    """Data or weights that are not there; a row says so, and others go on."""


@dataclass(frozen=True)
class DataSet:
    """Videos, and how they are followed.

    Attributes:
        name: of the folder of its runs.
        title: what it is, for people.
        layout: D16, D17, Y18, Y19, LV1, LV3, MOSE or G.
        folder: where it lies below the data root.
        split: "val" or "test".
        size: shorter side at which frames are segmented; −1: their own.
        repeat: times as long, played back and forth.
        inference: fields of `InferenceConfig` that the paper, or the profile, has for it.
        videos: names of those to use; None: all.
        make: writes it, from the data root into a folder that is not there yet; it is none that one could have.
    """

    name: str
    title: str
    layout: str
    folder: str
    split: str = "val"
    size: int = 480
    repeat: int = 1
    inference: Mapping[str, Any] = field(default_factory=dict)
    videos: tuple[str, ...] | None = None
    make: Callable[[Path, Path], None] | None = None

    def root(self, data_root: Path, made_root: Path) -> Path:
        """The folder in which it lies; that of one made here is another one if it is made of something else."""
        if self.make:
            return made_root / f"{self.folder}-{crc32(repr(self.make).encode()):08x}"
        return data_root / self.folder

    def prepare(self, data_root: Path, made_root: Path) -> None:
        """Make it, if it has to be made and is not there yet. One process at a time.

        Raises:
            MissingError: what it is made of is not there.
        """
        target = self.root(data_root, made_root)
        if self.make is None or target.is_dir():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as unfinished:
            self.make(data_root, Path(unfinished) / "set")
            (Path(unfinished) / "set").replace(target)

    def open(self, data_root: Path, made_root: Path, sizes: Iterable[int] = ()) -> EvaluationSet:
        """Its videos, to be segmented at its own size and at `sizes`.

        Raises:
            MissingError: it is not there, or not as it should be.
        """
        root = self.root(data_root, made_root)
        if not root.is_dir():
            raise MissingError(f"data: {self.title}, looked for in {self.folder} below --data-root")
        try:
            evaluation_set = open_evaluation_set(self.layout, self.split, root, *dict.fromkeys((self.size, *sizes)))
            evaluation_set = replace(evaluation_set, videos=tuple(chosen_videos(evaluation_set.videos, self.videos)))
            return repeat_videos(evaluation_set, self.repeat)
        except UserError as error:
            raise MissingError(f"data: {error}") from error


# --- Made here --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GeneratedVideo:
    """A video of the repository's own generator."""

    name: str
    seed: int
    frames: int
    objects: int
    patterns: int = 96

    def write(self, target: Path, size: tuple[int, int]) -> None:
        """Write it below `target`, at `size` = (height, width)."""
        height, width = size
        write_video(target, self.name, long_video(self.seed, self.frames, height, width, self.objects, self.patterns))


@dataclass(frozen=True)
class MadeSet:
    """Writes a set of small long videos in the layout of G: DAVIS sequences back and forth, and generated ones.

    Attributes:
        size: shorter side in pixels.
        sequences: of DAVIS 2016, at `DAVIS/2016` below the data root, by name; how many frames they are to have.
        generated: of the same size as a sequence would have, 16:9.
    """

    size: int
    sequences: Mapping[str, int] = field(default_factory=dict)
    generated: tuple[GeneratedVideo, ...] = ()

    def __call__(self, data_root: Path, target: Path) -> None:
        """Raises: MissingError: DAVIS 2016 or one of the sequences is not there."""
        for name, length in self.sequences.items():
            frames = read_sequence(data_root / "DAVIS" / "2016", name, self.size)
            write_video(target, name, (frames[index] for index in turning_order(len(frames), length)))
        for video in self.generated:
            video.write(target, (self.size, 16 * self.size // 9))


def read_sequence(davis: Path, name: str, size: int) -> list[ImageAndLabels]:
    """The frames and label maps of a sequence of DAVIS 2016, scaled to a shorter side of `size`.

    Raises:
        MissingError: it is not there.
    """
    if not davis.is_dir():
        raise MissingError("data: DAVIS 2016, looked for in DAVIS/2016 below --data-root")
    try:
        (video,) = chosen_videos(open_evaluation_set("D16", "val", davis, size).videos, [name])
        return [
            scaled(frame.rgb, read_label_map(video.ground_truth[frame.name]).labels, size) for frame in video.frames
        ]
    except UserError as error:
        raise MissingError(f"data: {error}") from error


def scaled(
    rgb: UInt8[np.ndarray, "height width 3"], labels: UInt8[np.ndarray, "height width"], size: int
) -> tuple[UInt8[np.ndarray, "new_height new_width 3"], UInt8[np.ndarray, "new_height new_width"]]:
    """A frame and its label map with a shorter side of `size`: pixels averaged, labels the nearest ones."""
    height, width = network_size(*labels.shape, size)
    return (
        cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA),
        cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST),
    )


def write_video(target: Path, name: str, frames: Iterable[ImageAndLabels]) -> None:
    """Write JPEGImages/NAME/00000.jpg … and Annotations/NAME/00000.png … below `target`."""
    images, annotations = target / "JPEGImages" / name, target / "Annotations" / name
    for folder in (images, annotations):
        folder.mkdir(parents=True)
    for index, (rgb, labels) in enumerate(frames):
        Image.fromarray(rgb).save(images / f"{index:05d}.jpg", quality=JPEG_QUALITY)
        write_label_map(annotations / f"{index:05d}.png", labels, davis_palette())
