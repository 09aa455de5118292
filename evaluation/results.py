"""The output folder of a run: whole videos only, a record of each, and nothing of another run's.

    OUTPUT/config.json          the settings that made this folder; another run's are refused
    OUTPUT/V/FRAME.png          label maps (OUTPUT/Annotations/V/… for YouTubeVOS and with --save_scores)
    OUTPUT/Scores/V/FRAME.npz   --save_scores: probabilities as 8-bit maps
    OUTPUT/Overlay/V.mp4        --overlay
    OUTPUT/summary.json         figures of the whole run
    OUTPUT/.finished/V.json     one record for each finished video; .failed/V.json for one that failed

A video is written to a folder of its own beside the results and moved there when it is complete.
"""

import json
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from dataset.label_map import write_label_map
from evaluation.ahead import WriteBehind
from evaluation.overlay import OverlayVideo
from evaluation.segmenter import SegmentedFrame
from util.errors import UserError
from util.files import atomic_path, write_text_atomically


@dataclass(frozen=True)
class VideoRecord:
    """What is known of a finished video."""

    name: str
    frames: int
    network_seconds: float
    objects: int
    peak_process_bytes: int
    peak_device_bytes: int | None


class VideoWriter:
    """Receives one video's frames and writes what is wanted of them, beside the network."""

    def __init__(self, masks: Path, scores: Path | None, overlay: OverlayVideo | None) -> None:
        self._masks, self._scores, self._overlay = masks, scores, overlay

    def __enter__(self) -> "VideoWriter":
        with ExitStack() as stack:
            if self._overlay:
                stack.enter_context(self._overlay)
            self._images = stack.enter_context(WriteBehind(threads=2))
            self._film = stack.enter_context(WriteBehind(threads=1))  # one thread keeps frames in order
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self._stack.__exit__(*error)

    def receive(self, segmented: SegmentedFrame) -> None:
        if segmented.wanted:
            self._images.submit(self._write_mask, segmented)
            if self._scores:
                self._images.submit(self._write_scores, segmented)
        if self._overlay:
            self._film.submit(self._write_overlay, segmented)

    def _write_mask(self, segmented: SegmentedFrame) -> None:
        path = self._masks / f"{segmented.frame.name}.png"
        write_label_map(path, segmented.labels.cpu().numpy(), segmented.palette)

    def _write_scores(self, segmented: SegmentedFrame) -> None:
        with atomic_path(self._scores / f"{segmented.frame.name}.npz") as temporary:
            np.savez_compressed(temporary, prob=eight_bit(segmented.prob), objects=np.array(segmented.objects))

    def _write_overlay(self, segmented: SegmentedFrame) -> None:
        labels = segmented.labels.cpu().numpy()
        self._overlay.write(cv2.resize(segmented.frame.rgb, labels.shape[::-1], interpolation=cv2.INTER_AREA), labels)


def eight_bit(prob: Float[Tensor, "channels height width"]) -> UInt8[np.ndarray, "channels height width"]:
    """Probabilities as multiples of 1/255."""
    return prob.mul(255).round().byte().cpu().numpy()


class OutputFolder:
    """The folder a run writes to, made if it is not there."""

    def __init__(self, path: Path, masks_folder: str) -> None:
        self.path = path
        self.masks_folder = masks_folder

    @property
    def label_maps(self) -> Path:
        """Where a folder of label maps lies for each video."""
        return self.path / self.masks_folder

    def claim(self, config: Mapping[str, Any], overwrite: bool) -> None:
        """Make the folder this configuration's.

        Raises:
            UserError: it cannot be written to, holds another run's results, or files of somebody else's.
        """
        recorded = self.path / "config.json"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if overwrite:
                for name in (".finished", ".failed"):
                    shutil.rmtree(self.path / name, ignore_errors=True)
            elif recorded.exists():
                refuse_other_settings(self.path, json.loads(recorded.read_text(encoding="utf-8")), config)
            elif any(self.path.iterdir()):
                raise UserError(
                    f"{self.path} holds files that no run of eval.py made; "
                    "choose another --output, or --overwrite to write beside and over them"
                )
            for leftover in self.path.glob(".video-*"):
                shutil.rmtree(leftover)
            write_text_atomically(recorded, json.dumps(config, indent=2))
        except OSError as error:
            raise UserError(f"{self.path} cannot be written to: {error.strerror or error}") from error
        except json.JSONDecodeError as error:
            raise UserError(f"{recorded} is damaged; choose another --output, or --overwrite") from error

    def finished(self) -> dict[str, VideoRecord]:
        """Records of the videos that are complete."""
        return {
            path.stem: VideoRecord(**json.loads(path.read_text(encoding="utf-8")))
            for path in sorted((self.path / ".finished").glob("*.json"))
        }

    def failures(self) -> dict[str, str]:
        """Why videos failed, by name."""
        return {
            path.stem: json.loads(path.read_text(encoding="utf-8"))
            for path in sorted((self.path / ".failed").glob("*.json"))
        }

    @contextmanager
    def writer(self, name: str, frame_rate: Fraction, save_scores: bool, overlay: bool) -> Iterator[VideoWriter]:
        """Write a video; its results appear when the block ends, or not at all."""
        folder = self.path / f".video-{name}"
        shutil.rmtree(folder, ignore_errors=True)
        masks, scores, film = folder / "masks", folder / "scores", folder / "overlay.mp4"
        try:
            masks.mkdir(parents=True)
            scores.mkdir()
            with VideoWriter(
                masks, scores if save_scores else None, OverlayVideo(film, frame_rate) if overlay else None
            ) as writer:
                yield writer
            if overlay:
                replace(film, self.path / "Overlay" / f"{name}.mp4")
            if save_scores:
                replace(scores, self.path / "Scores" / name)
            replace(masks, self.label_maps / name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def record(self, record: VideoRecord) -> None:
        """Remember that a video is complete."""
        (self.path / ".failed" / f"{record.name}.json").unlink(missing_ok=True)
        self._write_record(".finished", record.name, asdict(record))

    def record_failure(self, name: str, message: str) -> None:
        """Remember why a video failed; a later run tries it again."""
        self._write_record(".failed", name, message)

    def _write_record(self, folder: str, name: str, content: Any) -> None:
        (self.path / folder).mkdir(exist_ok=True)
        write_text_atomically(self.path / folder / f"{name}.json", json.dumps(content))

    def zip_label_maps(self, names: list[str]) -> Path:
        """The label maps in one file, laid out as the evaluation servers want them."""
        target = self.path.with_name(f"{self.path.name}.zip")
        with atomic_path(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for name in names:  # PNGs are compressed already
                for path in sorted((self.label_maps / name).glob("*.png")):
                    archive.write(path, path.relative_to(self.path))
        return target


def replace(source: Path, target: Path) -> None:
    """Move a finished folder or file to its place; an earlier result there goes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        shutil.rmtree(target)
    source.replace(target)


def refuse_other_settings(path: Path, recorded: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Raise UserError if results made with `recorded` settings would be mixed with others."""

    def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
        inner = settings.get("inference", {})
        return {**{name: value for name, value in settings.items() if name != "inference"}, **inner}

    before, now = flat(recorded), flat(json.loads(json.dumps(config)))
    changed = [
        f"{name} {before.get(name)} (now {now.get(name)})"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    if changed:
        raise UserError(
            f"{path} was made with other settings: {', '.join(changed)}; choose another --output, or --overwrite"
        )
