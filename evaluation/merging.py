"""Merging the probabilities that several evaluations have saved, of other sizes or mirrored, by averaging them.

One frame of each run is held at a time. Where sizes and flips are known beforehand, one run with several views
(`EvaluationConfig.views`) does the same without files in between, and without their rounding.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from dataset.frames import folder_entries, size_text
from dataset.label_map import LabelMap, read_label_map
from dataset.soft_masks import FrameProbabilities, read_probabilities
from evaluation.output_folder import OutputFolder, VideoRecord
from evaluation.prefetch import prefetch
from util.errors import UserError
from util.files import sha256_of, status_of
from util.machine import peak_process_bytes

FRAMES_AHEAD = 4


class Merging:
    """A merge of the output `folders` of several runs into another one, video by video.

    Attributes:
        frames: the name of every video → those of its frames.

    Raises:
        UserError: a folder is not one of an evaluation with save_scores, or they hold different videos or frames.
    """

    def __init__(self, folders: Sequence[Path], output: Path) -> None:
        if len(folders) < 2:
            raise UserError("merging takes at least two output folders of evaluations with save_scores")
        if output.resolve() in [folder.resolve() for folder in folders]:
            raise UserError(f"{output} is one of the folders to be merged: choose another for the result")
        self.frames = common_frames(folders)
        self._folders = list(folders)
        self._output = OutputFolder(output, masks_folder="Annotations")

    @contextmanager
    def started(self, overwrite: bool = False) -> Iterator[list[str]]:
        """Lock the output folder while the block runs, and give the names of the videos that are not merged yet.

        Args:
            overwrite: remove what another merge (or run) has left there.

        Raises:
            UserError: it cannot be written to, or is not this merge's.
        """
        runs = [f"{folder.resolve()} ({sha256_of(folder / 'config.json')[:12]})" for folder in self._folders]
        with self._output.claimed({f"run {number}": run for number, run in enumerate(runs, start=1)}, overwrite):
            finished = self._output.finished()
            yield [
                video
                for video in self.frames
                if video not in finished or finished[video].inputs != self._inputs_digest(video)
            ]

    def merge(self, video: str, on_frame: Callable[[], object] = lambda: None) -> None:
        """Write the label maps of one video, OUTPUT/Annotations/V/FRAME.png: all of them or none.

        Args:
            on_frame: called after every frame.

        Raises:
            UserError: a file is damaged, runs differ in objects or sizes, or the disk is full.
        """
        begun = time.perf_counter()
        inputs = self._inputs_digest(video)  # before, so that what changes meanwhile is noticed the next time
        objects: set[int] = set()
        reading = (
            (frame, require_same_objects_and_size([RunFrame.read(folder, video, frame) for folder in self._folders]))
            for frame in self.frames[video]
        )
        with (
            self._output.writer(video, Fraction(24), save_scores=False, overlay=False) as writer,
            prefetch(reading, FRAMES_AHEAD) as frames,
        ):
            for (frame, runs), _ in frames:
                writer.write_labels(frame, torch.from_numpy(merged_labels(runs)), runs[0].label_map.palette)
                objects.update(runs[0].probabilities.objects)
                on_frame()
        self._output.record(
            VideoRecord(
                name=video,
                frames=len(self.frames[video]),
                objects=len(objects),
                network_seconds=0.0,
                wall_seconds=time.perf_counter() - begun,
                device="none",  # no network runs here
                peak_device_bytes=None,
                peak_process_bytes=peak_process_bytes(),
                memory={},
                inputs=inputs,
                label_maps=writer.label_maps,
            )
        )

    def _inputs_digest(self, video: str) -> str:
        """Return what changes when a run has segmented a video again: of its files' names, sizes and times."""
        digest = hashlib.sha256()
        for folder in self._folders:
            for part, suffix in (("Scores", "npz"), ("Annotations", "png")):
                for frame in self.frames[video]:
                    path = folder / part / video / f"{frame}.{suffix}"
                    if path.exists():
                        digest.update(status_of(path))
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class RunFrame:
    """What one run made of a frame, and the file that holds its scores."""

    path: Path
    probabilities: FrameProbabilities
    label_map: LabelMap

    @classmethod
    def read(cls, folder: Path, video: str, frame: str) -> "RunFrame":
        """Read a frame's probabilities and label map from a run's output folder.

        Raises:
            UserError: a file is missing, damaged or of another size than the other.
        """
        path = folder / "Scores" / video / f"{frame}.npz"
        probabilities = read_probabilities(path)
        label_map = read_label_map(folder / "Annotations" / video / f"{frame}.png")
        if label_map.labels.shape != probabilities.prob.shape[1:]:
            raise UserError(f"{path} has another size than the frame's label map in {folder / 'Annotations' / video}")
        return cls(path, probabilities, label_map)


def merged_labels(runs: Sequence[RunFrame]) -> UInt8[np.ndarray, "height width"]:
    """Return the label with the largest sum of probabilities, in every pixel.

    Probabilities are stored in steps of 1/255, so sums may be equal. Of labels with equal sums, the one that most
    of the runs' label maps have is taken.
    """
    labels = [0, *runs[0].probabilities.objects]
    total = np.zeros(runs[0].probabilities.prob.shape, np.int32)
    for run in runs:
        places = [0, *(1 + run.probabilities.objects.index(label) for label in labels[1:])]
        for channel, (label, place) in enumerate(zip(labels, places, strict=True)):
            # A vote is less than one step of probability, even if all runs cast it.
            total[channel] += run.probabilities.prob[place] * np.int32(len(runs) + 1) + (run.label_map.labels == label)
    return np.array(labels, np.uint8)[total.argmax(axis=0)]


def require_same_objects_and_size(runs: Sequence[RunFrame]) -> Sequence[RunFrame]:
    """Return `runs` if all have the same objects, in any order, at the same size.

    Raises:
        UserError: they do not.
    """
    first = runs[0]
    for run in runs[1:]:
        if set(run.probabilities.objects) != set(first.probabilities.objects):
            objects = [", ".join(map(str, sorted(each.probabilities.objects))) for each in (run, first)]
            raise UserError(f"{run.path} holds the objects {objects[0]}, but {first.path} {objects[1]}")
        if run.probabilities.prob.shape != first.probabilities.prob.shape:
            sizes = [size_text(each.probabilities.prob.shape[1:]) for each in (run, first)]
            raise UserError(f"{run.path} is {sizes[0]}, but {first.path} {sizes[1]}")
    return runs


def common_frames(folders: Sequence[Path]) -> dict[str, list[str]]:
    """The name of every video → those of its frames, which are the same in all output folders.

    Raises:
        UserError: they are not, or a folder is not one of an evaluation with save_scores.
    """
    first, *others = folders
    frames = frames_with_scores(first)
    for folder in others:
        there = frames_with_scores(folder)
        if different := sorted(frames.keys() ^ there.keys()):
            lacking = folder if different[0] in frames else first
            raise UserError(f"{lacking / 'Scores'} lacks the video {different[0]}: finish its run first")
        for video in frames:
            if different := sorted(set(frames[video]) ^ set(there[video])):
                lacking = folder if different[0] in frames[video] else first
                raise UserError(f"{lacking / 'Scores' / video} lacks the frame {different[0]}, which other runs have")
    return frames


def frames_with_scores(folder: Path) -> dict[str, list[str]]:
    """The name of every video → those of its frames, in order, in one output folder.

    Raises:
        UserError: it is not the folder of an evaluation with save_scores.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} is no output folder of eval.py: it has no config.json")
    if not (folder / "Scores").is_dir():
        raise UserError(f"{folder} has no Scores: evaluate with save_scores")
    return {
        video.name: [path.stem for path in folder_entries(video) if path.suffix == ".npz"]
        for video in folder_entries(folder / "Scores")
        if video.is_dir()
    }
