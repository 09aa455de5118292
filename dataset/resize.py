"""YouTubeVOS for training: `train` at 480p, as `train_480p`. Most originals are larger, and reading them takes long."""

import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import cv2
from PIL import Image

from dataset.frames import FRAME_SUFFIXES, MASK_SUFFIXES, folder_entries, frame_size, list_images, read_frame
from dataset.label_map import read_label_map, write_label_map
from util.errors import UserError
from util.files import sole_user

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
    names = [path.name for path in folder_entries(folder) if path.is_dir()]
    if not names:
        raise UserError(f"{folder} has no folders, one for each video")
    return names


def require_resized(root: Path) -> None:
    """Check that every video of `root`/train, where that folder is there, is in `root`/train_480p.

    Raises:
        UserError: videos are missing.
    """
    if not (root / SOURCE).is_dir():
        return
    made = root / TARGET / "JPEGImages"
    there = {path.name for path in folder_entries(made)} if made.is_dir() else set()
    if lacking := [name for name in train_videos(root) if name not in there]:
        raise UserError(
            f"{root / TARGET} lacks {len(lacking)} of the videos in {root / SOURCE}, the first is {lacking[0]}; "
            f"python -m scripts.prepare_data resize --yv_root {root} makes them"
        )


def resize_videos(root: Path, names: Sequence[str], workers: int) -> Iterator[tuple[str, str | None]]:
    """Make these videos of `root`/train_480p with `workers` processes; those that are there stay as they are.

    Yields a video's name when it is done, and what kept it from being made: one line, or None.

    Raises:
        UserError: nothing can be written, or another process is at it.
    """
    target = root / TARGET
    try:
        target.mkdir(exist_ok=True)
        with (
            sole_user(target),
            ProcessPoolExecutor(
                workers, mp_context=multiprocessing.get_context("spawn"), initializer=_prepare_worker
            ) as executor,
        ):
            name_of = {executor.submit(resize_video, root / SOURCE, target, name): name for name in names}
            try:
                for done in as_completed(name_of):
                    error = done.exception()
                    if error is not None and not isinstance(error, UserError):
                        raise error
                    yield name_of[done], str(error) if error else None
            finally:
                executor.shutdown(cancel_futures=True)
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process was ended from outside: with too little memory, give fewer --workers"
        ) from error
    except OSError as error:
        raise UserError(f"{error.filename or target} cannot be written: {error.strerror or error}") from error


def _prepare_worker() -> None:
    cv2.setNumThreads(1)  # there are as many processes as cores
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal's processes; the first one decides
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Workers whose parent was killed would wait for ever."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def resize_video(source: Path, target: Path, name: str) -> None:
    """Make {target}/Annotations/{name}, then {target}/JPEGImages/{name}; each is whole or absent.

    Raises:
        UserError: a file of the video is missing or damaged; or the folder is there and was left incomplete by
            something else.
        OSError: the folder cannot be written to.
    """
    for part, suffixes, resize in (
        ("Annotations", MASK_SUFFIXES, resize_label_map),
        ("JPEGImages", FRAME_SUFFIXES, resize_frame),
    ):
        files = list_images(source / part / name, suffixes)
        if not files:
            raise UserError(f"{source / part / name} is empty")
        folder = target / part / name
        if folder.exists():
            if missing := {path.name for path in files}.difference(path.name for path in folder_entries(folder)):
                raise UserError(f"{folder} lacks {min(missing)}: remove that folder to make it anew")
            continue
        unfinished = folder.with_name(f".{name}.partial")
        shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed
        try:
            unfinished.mkdir(parents=True)
            for path in files:
                resize(path, unfinished / path.name)
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def size_at_480p(height: int, width: int) -> tuple[int, int]:
    """(height, width) with a shorter side of 480, the longer one rounded down; smaller images stay as they are."""
    shorter = min(height, width)
    if shorter <= SHORTER_SIDE:
        return height, width
    return height * SHORTER_SIDE // shorter, width * SHORTER_SIDE // shorter


def resize_frame(source: Path, target: Path) -> None:
    """Write an image at 480p: each pixel is the mean of those it covers. Smaller files are copied.

    Raises:
        UserError: `source` cannot be read.
        OSError: `target` cannot be written.
    """
    size = frame_size(source)
    if (new_size := size_at_480p(*size)) == size:
        shutil.copyfile(source, target)
        return
    rgb = cv2.resize(read_frame(source).rgb, new_size[::-1], interpolation=cv2.INTER_AREA)
    Image.fromarray(rgb).save(target, quality=JPEG_QUALITY)


def resize_label_map(source: Path, target: Path) -> None:
    """Write a label map at 480p with its palette, each label that of the pixel's centre. Smaller files are copied.

    Raises:
        UserError: `source` cannot be read.
        OSError: `target` cannot be written.
    """
    size = frame_size(source)
    if (new_size := size_at_480p(*size)) == size:
        shutil.copyfile(source, target)
        return
    label_map = read_label_map(source)
    # INTER_NEAREST takes a pixel's corner: half a pixel away from where INTER_AREA has the image.
    labels = cv2.resize(label_map.labels, new_size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    write_label_map(target, labels, label_map.palette)
