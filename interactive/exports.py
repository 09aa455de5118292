"""What leaves the workspace: label maps in the layouts of data sets, videos, cut-out foreground, soft masks, JSON.

Exports lie in the workspace's folder exports/, whole or absent; an earlier one is never replaced.
"""

import json
import logging
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from threading import Event, Lock, RLock, Thread
from typing import Literal, get_args

import av
import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from dataset.label_map import objects_of
from dataset.mask_formats import FrameMasks, VideoMasks, write_coco, write_labels, write_objects
from dataset.soft_masks import write_probabilities
from evaluation.overlay_video import overlay_video
from inference.images import resize_channels
from interactive.session import Change, Notice, Session
from interactive.workspace import EXPORTS
from util.errors import UserError, counted
from util.files import atomic_path, remove, write_text_atomically, writing
from util.painting import davis_palette, display_palette

Kind = Literal["davis", "youtube", "overlay", "alpha_png", "alpha_video", "binary", "soft", "coco", "memory"]
SUFFIXES: Mapping[str, str] = {"overlay": ".mp4", "alpha_video": ".mov", "coco": ".json", "memory": ".pth"}
"""Suffixes of the kinds of export that are one file; the others are folders."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Export:
    """An export: finished, on its way, or failed."""

    name: str
    kind: str
    progress: float = 1.0
    size: int = 0
    error: str | None = None
    notes: tuple[str, ...] = ()


class StoppedError(Exception):
    """The program is about to end."""


class Exports:
    """The exports of a session's workspace; each is written by a thread of its own."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._folder = session.workspace.folder / EXPORTS
        self._lock, self._packing = RLock(), Lock()
        self._stopping = Event()
        self._threads: list[Thread] = []
        self._exports = {
            path.name: Export(path.name, _kind_of(path.name), 1.0, _size_of(path)) for path in self._paths()
        }

    def _paths(self) -> list[Path]:
        return [
            path for path in sorted(self._folder.iterdir()) if not path.name.startswith(".") and path.suffix != ".zip"
        ]

    def listed(self) -> list[Export]:
        """Return the exports, the oldest first."""
        with self._lock:
            return list(self._exports.values())

    def close(self) -> None:
        """Stop what is on its way."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def start(self, kind: Kind, objects: Sequence[int] | None = None, first: int = 0, last: int | None = None) -> str:
        """Begin an export, and return its name.

        Args:
            kind: what is written.
            objects: their labels; None: all.
            first: the first frame.
            last: the last frame; None: the video's.

        Raises:
            UserError: there is nothing to export.
        """
        session = self._session
        last = session.video.count - 1 if last is None else last
        if not 0 <= first <= last < session.video.count:
            raise UserError(f"frames {first} to {last}: the video has frames 0 to {session.video.count - 1}")
        labels = list(session.document.objects if objects is None else objects)
        for label in labels:
            session.document.require_object(label)
        if not labels and kind != "memory":
            raise UserError("there is no object to export yet")
        stem, suffix = f"{_file_name(session.video.name)}_{kind}", SUFFIXES.get(kind, "")
        with self._lock:
            taken = {*self._exports, *(path.name.removesuffix(".zip") for path in self._folder.iterdir())}
            names = (f"{stem}{f'_{number}' if number > 1 else ''}{suffix}" for number in range(1, 10**6))
            name = next(name for name in names if name not in taken)
            self._exports[name] = Export(name, kind, progress=0.0)
            job = _Job(session, labels, range(first, last + 1), lambda share: self._progress(name, share))
            thread = Thread(target=self._run, args=(name, kind, job), name=f"export {name}", daemon=True)
            self._threads.append(thread)
            thread.start()  # before anyone can wait for it
        self._tell()
        return name

    def wait(self) -> None:
        """Wait for all exports that are on their way."""
        for thread in tuple(self._threads):
            thread.join()

    def remove(self, name: str) -> None:
        """Remove a finished or failed export from the disk.

        Raises:
            UserError: there is none, or it is on its way.
        """
        with self._lock:
            export = self._find(name)
            if export.progress < 1 and export.error is None:
                raise UserError(f"{name} is on its way: wait until it has ended")
            del self._exports[name]
        with self._packing:  # nor is it packed again meanwhile
            remove(self._folder / f"{name}.zip")  # first: without its folder it would be taken for a later export's
            remove(self._folder / name)
        self._tell()

    def file(self, name: str) -> Path:
        """Return a finished export as one file: a folder is packed when it is asked for first.

        Raises:
            UserError: there is none, or it is not finished.
        """
        with self._lock:
            export = self._find(name)
        if export.progress < 1 or export.error is not None:
            raise UserError(f"{name} is not finished")
        path, packed = self._folder / name, self._folder / f"{name}.zip"
        if not path.is_dir():
            return path
        with self._packing:
            if not packed.is_file():
                with writing(packed), atomic_path(packed) as temporary:
                    shutil.make_archive(str(temporary.with_suffix("")), "zip", path)
        return packed

    def _find(self, name: str) -> Export:
        if name not in self._exports:
            raise UserError(f"there is no export {name}")
        return self._exports[name]

    def _run(self, name: str, kind: Kind, job: "_Job") -> None:
        path = self._folder / name
        try:
            with atomic_path(path) as temporary:
                WRITERS[kind](job, temporary)
            finished = Export(name, kind, 1.0, _size_of(path), notes=tuple(job.notes))
        except StoppedError:
            return
        except (UserError, OSError) as error:
            finished = Export(name, kind, error=str(error))
        except Exception as error:
            logger.exception("the export %s has failed", name)
            finished = Export(name, kind, error=f"{error}; the log has more")
        with self._lock:
            self._exports[name] = finished
        self._tell(Notice("error", f"{name}: {finished.error}") if finished.error else None)

    def _progress(self, name: str, share: float) -> None:
        if self._stopping.is_set():
            raise StoppedError
        with self._lock:
            before = self._exports[name]
            self._exports[name] = replace(before, progress=min(share, 0.999))
        if int(100 * share) > int(100 * before.progress):
            self._tell()

    def _tell(self, notice: Notice | None = None) -> None:
        self._session.tell(Change(parts=frozenset({"exports"}), notice=notice))


class _Job:
    """The frames that an export reads, one after another."""

    def __init__(
        self, session: Session, labels: Sequence[int], numbers: range, progress: Callable[[float], None]
    ) -> None:
        self.session, self.labels, self.numbers, self._progress = session, labels, numbers, progress
        self.name = _file_name(session.video.name)
        self.objects = {label: session.document.objects[label] for label in labels}
        self.notes: list[str] = []

    @cached_property
    def masked(self) -> list[int]:
        """The frames that have masks; how many have none is noted."""
        masked = [number for number in self.numbers if self.session.document.frame(number) is not None]
        if not masked:
            raise UserError("none of these frames has masks yet")
        if without := len(self.numbers) - len(masked):
            self.notes.append(f"{counted(without, 'frame')} without masks left out")
        return masked

    def counted(self, numbers: Sequence[int]) -> Iterator[int]:
        """Yield numbers, and report how far they are."""
        for index, number in enumerate(numbers):
            self._progress(index / len(numbers))
            yield number

    def selected(self, number: int) -> UInt8[np.ndarray, "height width"]:
        """Return a frame's label map with the chosen objects alone."""
        labels = self.session.labels(number)
        return np.where(np.isin(labels, self.labels), labels, np.uint8(0))

    def frames(self) -> Iterator[tuple[int, UInt8[np.ndarray, "height width 3"]]]:
        """Yield all frames that can be decoded, and note those that cannot."""
        lost = []
        for number in self.counted(self.numbers):
            try:
                yield number, self.session.read_frame(number)
            except UserError:
                lost.append(number)
        if len(lost) == len(self.numbers):
            raise UserError("none of these frames can be decoded")
        if lost:
            self.notes.append(f"{counted(len(lost), 'frame')} that cannot be decoded left out, the first {lost[0]}")

    def masks(self) -> VideoMasks:
        """Return the masks as writers of other formats take them."""
        masked = self.masked

        def frames() -> Iterator[FrameMasks]:
            for number in self.counted(masked):
                labels = self.selected(number)
                masks = {label: labels == label for label in objects_of(labels)}
                yield FrameMasks(self.session.video.name_of(number), self.session.video.size, masks)

        names = {label: each.name for label, each in self.objects.items()}
        return VideoMasks(self.name, names, frames, davis_palette())

    def soft(self, number: int) -> tuple[Float[Tensor, "channels height width"], bool]:
        """Return the probabilities of the background and the chosen objects, and whether they are the network's."""
        labels = self.session.labels(number)
        entry = self.session.document.frame(number)
        stored = self.session.workspace.soft(entry.map) if entry else None
        masks = torch.stack([torch.from_numpy(labels == label).float() for label in self.labels])
        if stored is not None:
            prob = resize_channels(torch.from_numpy(stored.prob.copy()).float() / 255, self.session.video.size)
            # Others (locked ones) were not followed here, and have their pixels for themselves.
            free = torch.from_numpy(np.isin(labels, [0, *stored.objects]))
            for channel, label in enumerate(self.labels):
                if label in stored.objects:
                    masks[channel] = prob[1 + stored.objects.index(label)] * free
        return torch.cat([(1 - masks.sum(dim=0, keepdim=True)).clamp(0, 1), masks]), stored is not None

    def alpha(self, number: int) -> UInt8[np.ndarray, "height width"]:
        """Return the opacity of the chosen objects together."""
        if self.session.document.frame(number) is None:
            return np.zeros(self.session.video.size, np.uint8)
        prob, _ = self.soft(number)
        return prob[1:].sum(dim=0).clamp(0, 1).mul(255).round().byte().numpy()


def _write_davis(job: _Job, folder: Path) -> None:
    job.notes += write_labels(folder / "Annotations" / "480p", [job.masks()])
    (folder / "ImageSets" / "2017").mkdir(parents=True)
    write_text_atomically(folder / "ImageSets" / "2017" / "val.txt", f"{job.name}\n")


def _write_youtube(job: _Job, folder: Path) -> None:
    masks, shown = job.masks(), dict[int, list[str]]()

    def frames() -> Iterator[FrameMasks]:
        for frame in masks.frames():
            for label in frame.masks:
                shown.setdefault(label, []).append(frame.name)
            yield frame

    job.notes += write_labels(folder / "Annotations", [replace(masks, frames=frames)])
    objects = {str(label): {"category": masks.objects[label], "frames": shown[label]} for label in sorted(shown)}
    meta = json.dumps({"videos": {job.name: {"objects": objects}}}, indent=1)
    write_text_atomically(folder / "meta.json", f"{meta}\n")


def _write_soft(job: _Job, folder: Path) -> None:
    (folder / job.name).mkdir(parents=True)
    hard = 0
    for number in job.counted(job.masked):
        prob, is_soft = job.soft(number)
        hard += not is_soft
        write_probabilities(folder / job.name / f"{job.session.video.name_of(number)}.npz", prob, list(job.labels))
    if hard:
        job.notes.append(f"{counted(hard, 'frame')} made by hand, whose masks are 0 or 1")


def _write_overlay(job: _Job, path: Path) -> None:
    palette = bytearray(display_palette())
    for label, each in job.objects.items():
        palette[3 * label : 3 * label + 3] = bytes.fromhex(each.colour[1:])
    with overlay_video(path, job.session.video.rate, bytes(palette)) as write:
        for number, rgb in job.frames():
            write(rgb, job.selected(number))


def _write_alpha_png(job: _Job, folder: Path) -> None:
    folder.mkdir()
    for number, rgb in job.frames():
        path = folder / f"{job.session.video.name_of(number)}.png"
        bgra = np.dstack([rgb[..., ::-1], job.alpha(number)])
        if not cv2.imwrite(str(path), bgra, [cv2.IMWRITE_PNG_COMPRESSION, 1]):
            raise OSError(f"{path.name} cannot be written: is the disk full?")


def _write_alpha_video(job: _Job, path: Path) -> None:
    """Write ProRes 4444, the format with an alpha channel that video editors read."""
    height, width = job.session.video.size
    with av.open(str(path), "w", format="mov") as container:
        stream = container.add_stream("prores_ks", rate=Fraction(job.session.video.rate).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuva444p10le"
        stream.options = {"profile": "4444", "vendor": "apl0"}
        for number, rgb in job.frames():
            rgba = np.dstack([rgb, job.alpha(number)])
            even = np.pad(rgba, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgba")))
        container.mux(stream.encode())


def _write_memory(job: _Job, path: Path) -> None:
    objects = job.session.save_memory(path)
    names = (job.session.document.objects[label].name for label in objects if label in job.session.document.objects)
    job.notes.append(f"InferenceCore.load_memory goes on with it; its objects: {', '.join(names)}")


WRITERS: Mapping[Kind, Callable[[_Job, Path], None]] = {
    "davis": _write_davis,
    "youtube": _write_youtube,
    "overlay": _write_overlay,
    "alpha_png": _write_alpha_png,
    "alpha_video": _write_alpha_video,
    "binary": lambda job, folder: job.notes.extend(write_objects(folder, [job.masks()])),
    "soft": _write_soft,
    "coco": lambda job, path: job.notes.extend(write_coco(path, [job.masks()])),
    "memory": _write_memory,
}


def _file_name(name: str) -> str:
    """Return a video's name as a part of those of files: not hidden, nor longer than file systems take."""
    return name.lstrip(".").encode(errors="surrogateescape")[:120].decode(errors="ignore") or "video"


def _kind_of(name: str) -> str:
    found = re.search(rf"_({'|'.join(get_args(Kind))})(_\d+)?(\.\w+)?$", name)
    return found[1] if found else ""


def _size_of(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
