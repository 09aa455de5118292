"""Resizing YouTubeVOS's `train` to 480p, as `train_480p`: most originals are larger, and slow to read in training."""

import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import cv2
from PIL import Image

from dataset.frames import FRAME_SUFFIXES, MASK_SUFFIXES, folder_entries, list_images, read_frame, video_folders
from dataset.label_map import read_label_map, write_label_map
from util.errors import UserError
from util.files import atomic_path, remove_leftovers, sole_user, writing

SHORTER_SIDE = 480
SOURCE, TARGET = "train", "train_480p"
JPEG_QUALITY = 95


def train_videos(root: Path) -> list[str]:
    """The videos of YouTubeVOS's training set in `root`, at their original size.

    Raises:
        UserError: there are none.
    """
    folder = root / SOURCE / "JPEGImages"
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist; the root of YouTubeVOS is the folder above {SOURCE}")
    return video_folders(folder)


def require_resized(root: Path) -> None:
    """Check that every video of `root`/train, where that folder is there, is in `root`/train_480p.

    Raises:
        UserError: videos are missing.
    """
    if not (root / SOURCE / "JPEGImages").is_dir():  # they may have been removed since
        return
    made = root / TARGET / "JPEGImages"
    there = {path.name for path in folder_entries(made)} if made.is_dir() else set()
    if lacking := [name for name in train_videos(root) if name not in there]:
        raise UserError(
            f"{root / TARGET} lacks {len(lacking)} of the videos in {root / SOURCE}, the first is {lacking[0]}; "
            f"python -m scripts.prepare_data resize --yv_root {root} makes them"
        )


def resize_videos(root: Path, names: Sequence[str], workers: int) -> Iterator[tuple[str, str | None]]:
    """Make these videos of `root`/train_480p with `workers` threads; those that are there stay as they are.

    Yields a video's name when it is done, and what kept it from being made: one line, or None.

    Raises:
        UserError: nothing can be written, or another process is making them.
    """
    target = root / TARGET
    with writing(target):
        target.mkdir(exist_ok=True)
        # Threads, not processes: decoding, resizing and encoding run outside the interpreter's lock.
        with sole_user(target), ThreadPoolExecutor(workers) as executor:
            for part in ("Annotations", "JPEGImages"):
                remove_leftovers(target / part)
            name_of = {executor.submit(resize_video, root / SOURCE, target, name): name for name in names}
            try:
                for done in as_completed(name_of):
                    error = done.exception()
                    if error is not None and not isinstance(error, UserError):
                        raise error
                    yield name_of[done], str(error) if error else None
            finally:
                executor.shutdown(cancel_futures=True)


def resize_video(source: Path, target: Path, name: str) -> None:
    """Make {target}/Annotations/{name}, then {target}/JPEGImages/{name}; each is complete or absent.

    Raises:
        UserError: a file of the video is missing or damaged; or the folder exists, and another program left it
            incomplete.
        OSError: the folder cannot be written to.
    """
    for part, suffixes, resize in (
        ("Annotations", MASK_SUFFIXES, resize_label_map),
        ("JPEGImages", FRAME_SUFFIXES, resize_frame),
    ):
        files = list_images(source / part / name, suffixes).values()
        if not files:
            raise UserError(f"{source / part / name} is empty")
        folder = target / part / name
        if folder.exists():
            if missing := {path.name for path in files}.difference(path.name for path in folder_entries(folder)):
                raise UserError(f"{folder} lacks {min(missing)}: remove that folder, then run the same command again")
            continue
        with atomic_path(folder) as unfinished:
            unfinished.mkdir(parents=True)
            for path in files:
                resize(path, unfinished / path.name)


def size_at_480p(height: int, width: int) -> tuple[int, int]:
    """(height, width) with a shorter side of 480, the longer one rounded down; smaller images stay as they are."""
    shorter = min(height, width)
    if shorter <= SHORTER_SIDE:
        return height, width
    return height * SHORTER_SIDE // shorter, width * SHORTER_SIDE // shorter


def resize_frame(source: Path, target: Path) -> None:
    """Write an image at 480p: each pixel is the mean of those that it covers. Smaller files are copied.

    Raises:
        UserError: `source` cannot be read.
        OSError: `target` cannot be written.
    """
    rgb = read_frame(source).rgb
    if (size := size_at_480p(*rgb.shape[:2])) == rgb.shape[:2]:
        shutil.copyfile(source, target)
    else:
        rgb = cv2.resize(rgb, size[::-1], interpolation=cv2.INTER_AREA)
        Image.fromarray(rgb).save(target, quality=JPEG_QUALITY)


def resize_label_map(source: Path, target: Path) -> None:
    """Write a label map at 480p with its palette, each label that of the pixel's centre. Smaller files are copied.

    Raises:
        UserError: `source` cannot be read.
        OSError: `target` cannot be written.
    """
    label_map = read_label_map(source)
    if (size := size_at_480p(*label_map.labels.shape)) == label_map.labels.shape:
        shutil.copyfile(source, target)
    else:
        # INTER_NEAREST takes a pixel's corner: half a pixel away from where INTER_AREA has the image.
        labels = cv2.resize(label_map.labels, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        write_label_map(target, labels, label_map.palette)
