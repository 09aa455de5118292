"""The output folder of an evaluation: complete videos only, a record of each, and no results of other settings.

    OUTPUT/config.json          the settings that made this folder; other ones are refused
    OUTPUT/V/FRAME.png          label maps (OUTPUT/Annotations/V/… for YouTubeVOS and with save_scores)
    OUTPUT/V/OBJECT/FRAME.png   masks of single objects, for data sets that have them so (SA-V)
    OUTPUT/Scores/V/FRAME.npz   save_scores: probabilities as 8-bit maps
    OUTPUT/Overlay/V.mp4        overlay
    OUTPUT/summary.json         figures of the whole run
    OUTPUT/.finished/V.json     a record of each finished video
    OUTPUT.zip                  what an evaluation server takes
    OUTPUT/.zipped              this run has made OUTPUT.zip

A video is written to a hidden folder of its own in OUTPUT, and moved to its place when it is complete.
"""

import json
import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from dataset.evaluation_video import EvaluationVideo
from dataset.label_map import write_label_map
from dataset.soft_masks import write_probabilities
from evaluation.config import changed_settings
from evaluation.overlay_video import Painter, overlay_video
from evaluation.prefetch import BackgroundWriter
from evaluation.segmenter import SegmentedFrame
from util.errors import UserError
from util.files import atomic_path, remove, remove_leftovers, sole_user, write_text_atomically, writing

PARTS = frozenset({"annotations", "scores", "overlay", "config.json", "summary.json"})
"""What is in an output folder beside the videos' own folders, in lower case."""


@dataclass(frozen=True)
class VideoRecord:
    """The figures of a finished video."""

    name: str
    frames: int
    objects: int
    network_seconds: float
    wall_seconds: float
    """The time from opening the first frame to having written the last label map."""
    device: str
    peak_device_bytes: int | None
    peak_process_bytes: int
    memory: dict[str, int]
    """`MemoryCounts` at the end of the video, of the first view."""
    inputs: str = ""
    """A digest of what the results are made of."""
    label_maps: int = 0
    """The number of label maps that were written."""
    scores: int = 0
    """The number of frames of which probabilities were written."""
    overlay: bool = False
    """An overlay was written."""
    names: dict[str, str] = field(default_factory=dict)
    """The objects by their labels, where the given label maps have a colour or a folder's name for them."""
    in_full_precision: bool = False
    """It was done again without mixed precision, in which activations overflowed."""
    grey: bool = False
    """The label maps have no palette, so that small labels look black in a viewer."""


class VideoWriter:
    """Writes the label maps, probabilities and overlay of one video in threads beside the network.

    Args:
        object_folders: the folders of objects by their labels, where each has a mask of its own instead of a label.
    """

    def __init__(
        self,
        masks: Path,
        object_folders: Mapping[int, str],
        scores: Path | None,
        overlay: Painter | None,
        images: BackgroundWriter,
        frames: BackgroundWriter,
    ) -> None:
        self._masks, self._scores, self._overlay = masks, scores, overlay
        self._object_folders = object_folders
        self._images, self._frames = images, frames
        self.label_maps = 0
        """The number of label maps so far."""
        self.scores = 0
        """The number of frames so far of which probabilities are kept."""

    def write(self, segmented: SegmentedFrame) -> None:
        """Write the label map of one frame, and its probabilities if they are wanted."""
        frame = segmented.frame.name
        self.write_labels(frame, segmented.labels, segmented.palette)
        if self._scores:
            self.scores += 1
            path = self._scores / f"{frame}.npz"
            self._images.submit(write_probabilities, path, segmented.prob, segmented.objects)

    def write_overlay(
        self, rgb: UInt8[np.ndarray, "height width 3"], labels: UInt8[Tensor, "out_height out_width"]
    ) -> None:
        """Write the next frame of the overlay, if it is wanted."""
        if self._overlay:
            self._frames.submit(write_overlay, self._overlay, rgb, labels)

    def write_labels(self, frame: str, labels: UInt8[Tensor, "height width"], palette: bytes | None) -> None:
        """Write the label map of one frame, or the mask of each object: 1 where it is."""
        if not self._object_folders:
            self.label_maps += 1
            self._images.submit(write_mask, self._masks / f"{frame}.png", labels, palette)
        for label, folder in self._object_folders.items():
            self.label_maps += 1
            self._images.submit(
                write_mask, self._masks / folder / f"{frame}.png", (labels == label).to(labels.dtype), palette
            )


def write_mask(path: Path, labels: UInt8[Tensor, "height width"], palette: bytes | None) -> None:
    """Write a label map as a PNG."""
    write_label_map(path, labels, palette)


def write_overlay(
    overlay: Painter, rgb: UInt8[np.ndarray, "height width 3"], labels: UInt8[Tensor, "out_height out_width"]
) -> None:
    """Write one frame of the overlay video, at the label map's size."""
    size = tuple(labels.shape)
    if size != rgb.shape[:2]:
        rgb = cv2.resize(rgb, size[::-1], interpolation=cv2.INTER_AREA)
    overlay(rgb, labels.cpu().numpy())


class OutputFolder:
    """The folder that an evaluation writes to.

    Args:
        path: the folder, which is made if it is not there.
        masks_folder: the folder in it that holds the videos' folders of label maps: "" or "Annotations".
        has_zip: whether there will be a zip file for an evaluation server beside it.
    """

    def __init__(self, path: Path, masks_folder: str, has_zip: bool = False) -> None:
        self.path = path
        self.label_maps = path / masks_folder
        self.has_zip = has_zip
        self.zip_file = Path(f"{os.path.abspath(path)}.zip")
        self._zipped = path / ".zipped"

    def check_names(self, videos: Iterable[str]) -> None:
        """Check that no video's folder would replace another part of this one.

        Raises:
            UserError: one would.
        """
        if self.label_maps != self.path:
            return
        for name in videos:
            if name.lower() in PARTS:  # some file systems do not tell upper from lower case
                raise UserError(f"a video cannot be called {name}, as a part of the output folder is: rename it")

    @contextmanager
    def claimed(self, config: Mapping[str, Any], overwrite: bool) -> Iterator[None]:
        """Lock the folder for an evaluation with these settings while the block runs: a new one, or one to resume.

        With `overwrite` all results in it are removed first; other files stay, but for those in videos' folders.

        Raises:
            UserError: it cannot be written to, is in use, or holds other files or results of other settings.
        """
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        recorded = self.path / "config.json"
        with sole_user(self.path):
            with writing(self.path):
                is_finished = (self.path / "summary.json").exists()  # by an earlier version, which left no mark
                if self.has_zip and self.zip_file.exists() and not (self._zipped.exists() or is_finished):
                    self._refuse(self.zip_file)
                if not recorded.exists():
                    self._refuse_files_of_others()
                elif (before := parsed(recorded)) is not None and kind_of_run(before) != kind_of_run(config):
                    raise UserError(f"{recorded} was not made by {kind_of_run(config)}; choose another output folder")
                elif overwrite:
                    self._remove_results()
                else:
                    self._refuse_other_settings(read_json(recorded), config)
                for leftover in self.path.glob(".video-*"):
                    shutil.rmtree(leftover)
                remove_leftovers(self.path / ".finished")
                if self.has_zip:
                    remove_leftovers(self.zip_file.parent, self.zip_file.name)
                write_text_atomically(recorded, json.dumps(config, indent=2) + "\n")
            yield

    def _refuse_files_of_others(self) -> None:
        visible = [path for path in sorted(self.path.iterdir()) if not path.name.startswith(".")]
        if visible:
            self._refuse(visible[0])

    def _refuse(self, path: Path) -> NoReturn:
        raise UserError(f"{path} was not made by a run into {self.path}; choose another output folder")

    def _refuse_other_settings(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        if changes := changed_settings(before, now):
            raise UserError(
                f"{self.path} was made with other settings: {'; '.join(changes)}; "
                "choose another output folder, or overwrite it"
            )

    def _remove_results(self) -> None:
        names = list(self._record_files())
        for folder in (self.path, self.path / "Annotations", self.path / "Scores"):
            for name in names:
                remove(folder / name)
        for name in names:
            remove(self.path / "Overlay" / f"{name}.mp4")
        if self._zipped.exists():
            remove(self.zip_file)
        for path in (self._zipped, self.path / ".finished", self.path / "summary.json"):
            remove(path)

    def _record_files(self) -> dict[str, Path]:
        """The files of records by the names of their videos, which may be in a folder: V, or V/OBJECT."""
        folder = self.path / ".finished"
        # Another process of this run may be writing one, under a temporary name.
        files = [path for path in sorted(folder.rglob("*.json")) if not path.name.endswith(".partial.json")]
        return {path.relative_to(folder).as_posix().removesuffix(".json"): path for path in files}

    def finished(self) -> dict[str, VideoRecord]:
        """Return the records of complete videos, by name, without those of which somebody has removed files.

        Raises:
            UserError: a record is damaged.
        """
        records = {}
        for name, path in self._record_files().items():
            try:
                record = VideoRecord(**read_json(path))
            except TypeError as error:
                raise UserError(f"{path} is damaged; choose another output folder, or overwrite it") from error
            folder, overlay = self.label_maps / name, self.path / "Overlay" / f"{name}.mp4"
            label_maps = list(folder.rglob("*.png")) if folder.is_dir() else []
            scores = list((self.path / "Scores" / name).glob("*.npz")) if record.scores else []
            is_whole = folder.is_dir() and len(label_maps) >= record.label_maps and len(scores) >= record.scores
            if is_whole and (overlay.exists() or not record.overlay):
                records[name] = record
        return records

    @contextmanager
    def writer(
        self,
        name: str,
        frame_rate: Fraction,
        save_scores: bool,
        overlay: bool,
        object_folders: Mapping[int, str] | None = None,
    ) -> Iterator[VideoWriter]:
        """Write a video while the block runs; its results appear when the block ends without an error, or not at all.

        Args:
            object_folders: the folders of objects by their labels, where each has a mask of its own.

        Raises:
            UserError: the folder cannot be written to, or the disk is full.
        """
        folder = self.path / f".video-{name.replace('%', '%25').replace('/', '%2F')}"
        masks, scores, video = folder / "masks", folder / "scores", folder / "overlay.mp4"
        with writing(self.path):
            try:
                for place in (masks, scores, *(masks / each for each in (object_folders or {}).values())):
                    place.mkdir(parents=True)
                with ExitStack() as stack:
                    yield VideoWriter(
                        masks,
                        object_folders or {},
                        scores if save_scores else None,
                        stack.enter_context(overlay_video(video, frame_rate)) if overlay else None,
                        images=stack.enter_context(BackgroundWriter(threads=2)),
                        frames=stack.enter_context(BackgroundWriter(threads=1)),  # one thread keeps frames in order
                    )
                # When the video is done again: being killed from here on must not leave the old record.
                remove(self._record_file(name))
                if overlay:
                    move(video, self.path / "Overlay" / f"{name}.mp4")
                if save_scores:
                    move(scores, self.path / "Scores" / name)
                move(masks, self.label_maps / name)
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def record(self, record: VideoRecord) -> None:
        """Record that a video is complete.

        Raises:
            UserError: it cannot be written.
        """
        with writing(self.path):
            self._record_file(record.name).parent.mkdir(parents=True, exist_ok=True)
            write_text_atomically(self._record_file(record.name), json.dumps(asdict(record)))

    def _record_file(self, name: str) -> Path:
        return self.path / ".finished" / f"{name}.json"

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write summary.json.

        Raises:
            UserError: it cannot be written.
        """
        with writing(self.path):
            write_text_atomically(self.path / "summary.json", json.dumps(summary, indent=2) + "\n")

    def zip_label_maps(self, videos: Iterable[EvaluationVideo], folder_in_zip: str) -> Path:
        """Write the label maps that the data set asks for into one zip file, as {folder_in_zip}/V/FRAME.png.

        Raises:
            UserError: it cannot be written.
        """
        with writing(self.path):
            self._zipped.touch()  # first: what is there without it is refused
        with (
            writing(self.zip_file),
            atomic_path(self.zip_file) as temporary,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive,  # PNGs are compressed already
        ):
            for video in videos:
                for path in sorted((self.label_maps / video.name).glob("*.png")):
                    if video.is_saved(path.stem):  # not those of save_all
                        archive.write(path, Path(folder_in_zip, video.name, path.name))
        return self.zip_file


def move(source: Path, target: Path) -> None:
    """Move a finished folder or file to its place, and remove an earlier result there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    remove(target)
    source.replace(target)


def kind_of_run(config: object) -> str:
    """Return what makes a folder with these settings."""
    keys = config.keys() if isinstance(config, Mapping) else ()
    return "an evaluation" if "weights_sha256" in keys else "a merge" if "run 1" in keys else "this program"


def parsed(path: Path) -> Any:
    """Return what a JSON file holds; None if it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file of an output folder.

    Raises:
        UserError: it is damaged.
    """
    content = parsed(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged; choose another output folder, or overwrite it")
    return content
