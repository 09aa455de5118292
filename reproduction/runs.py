"""Carries out runs, each at most once, and keeps a record of each in a file.

Several processes may work on one output folder: a run that another process is carrying out is skipped.
"""

import json
import logging
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property, lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from dataset.evaluation_video import EvaluationSet, EvaluationVideo
from evaluation.config import EvaluationConfig, changed_settings
from evaluation.evaluate import evaluate
from evaluation.networks import videos_seen
from evaluation.output_folder import OutputFolder, parsed
from evaluation.segmenter import MultiViewSegmenter
from model.checkpoint import Checkpoint, read_checkpoint
from model.network import XMem
from reproduction.plan import Budget, Run
from reproduction.profiles import CannotRunError, Profile
from scoring.scores import Figures
from util.device import hardware_name
from util.errors import UserError
from util.files import sha256_of, sole_user, write_text_atomically
from util.machine import peak_process_bytes
from util.provenance import git_commit

GROWTH_BETWEEN = (100, 200)
"""The frames between which the paper measures how fast memory grows."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """How a record was made: the configuration as of `described`, the device, and the program's commit."""

    config: dict[str, Any]
    hardware: str
    commit: str


@dataclass(frozen=True)
class RunRecord(Record):
    """The results of a run.

    Attributes:
        scores: metric → percent; empty where a server scores.
        video_scores: video → metric → percent.
        objects: video → number of scored objects.
        memory: video → `MemoryCounts` at its end.
        server_zip: the file for an evaluation server, below the output folder.
        seconds: the time of the call that finished the run, with reading, writing and scoring.
    """

    folder: str
    scores: dict[str, float]
    video_scores: dict[str, dict[str, float]]
    objects: dict[str, int]
    fps: float | None
    end_to_end_fps: float | None
    frames: int
    failures: dict[str, str]
    memory: dict[str, dict[str, int]]
    server_zip: str | None
    seconds: float


@dataclass(frozen=True)
class Trace(Record):
    """What was measured after each frame, from frame 0 on.

    Attributes:
        seconds: the time that the network took for the frame.
        memory_bytes: the size of the memory stores' rows and of the sensory memory.
        allocated_bytes: the memory that a CUDA device's allocator has given out; empty elsewhere.
        ended_by: why there are fewer frames than there should be; None if there are not.
    """

    seconds: list[float]
    memory_bytes: list[int]
    allocated_bytes: list[int]
    peak_process_bytes: int
    ended_by: str | None

    def growth_per_frame(self) -> float | None:
        """Return the bytes that a frame adds to the memory between frames 100 and 200; None if the video is shorter.

        Allocated memory is not what is measured, since it grows by doubling.
        """
        begin, end = GROWTH_BETWEEN
        if len(self.memory_bytes) <= end:
            return None
        return (self.memory_bytes[end] - self.memory_bytes[begin]) / (end - begin)

    def fps_by_frame(self, window: int) -> tuple[list[int], list[float]]:
        """Return the middles of windows of this many frames, and the frames per second of the median frame in each.

        The first frame, for which memory is not read, and a window that is not full are left out.
        """
        count = max(len(self.seconds) - 1, 0) // window
        windows = np.reshape(self.seconds[1 : 1 + count * window], (count, window))
        middles = [1 + index * window + window // 2 for index in range(count)]
        return middles, (1 / np.median(windows, axis=1)).tolist()


AnyRecord = TypeVar("AnyRecord", bound=Record)


def read_record(kind: type[AnyRecord], path: Path) -> AnyRecord | None:
    """Return the record in a file; None if there is none.

    Raises:
        UserError: it is damaged.
    """
    if not path.is_file():
        return None
    try:
        return kind(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged, or of another version: remove it, and it is made again") from error


def described(config: EvaluationConfig) -> dict[str, Any]:
    """Return a configuration as JSON has it, with names of folders and files, wherever they lie."""
    settings = config.to_json_dict()
    places = {name: Path(settings[name]).name for name in ("root", "weights")}
    return json.loads(json.dumps(settings | places))


checksum = cache(sha256_of)


@lru_cache(maxsize=1)
def open_network(path: Path, device: torch.device) -> tuple[Checkpoint, XMem]:
    """Return the content of a network file and its network; the last one is kept."""
    checkpoint = read_checkpoint(path)
    return checkpoint, XMem.from_checkpoint(checkpoint, device)


@dataclass
class Runner:
    """Carries out runs of one network on the data sets of one profile.

    Attributes:
        model: the network file that is asked for; those that some variants need lie beside it, as XMem-s012.pth beside
            XMem.pth.
        output: the folder of runs and records.
        overwrite: whether runs that were made with other settings are replaced; otherwise they are an error.
        absent: name of a run → why it was not carried out.
    """

    profile: Profile
    model: Path
    device: torch.device
    data_root: Path
    output: Path
    budget: Budget
    overwrite: bool = False
    absent: dict[str, str] = field(default_factory=dict)

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """The present hardware, and the program's commit."""
        return {"hardware": hardware_name(self.device), "commit": git_commit()}

    @property
    def mixed(self) -> bool:
        """Whether mixed precision is usual, as in eval.py."""
        return self.device.type == "cuda"

    @property
    def made_root(self) -> Path:
        """The folder of data sets that are made here."""
        return self.output / "made"

    def network_file(self, suffix: str) -> Path:
        """Return the network file of a suffix.

        Raises:
            CannotRunError: it is not there.
        """
        path = self.model.with_name(f"{self.model.stem}-{suffix}{self.model.suffix}") if suffix else self.model
        if not path.is_file():
            raise CannotRunError(f"weights: {path.name}, looked for beside {self.model.name}")
        return path

    def config(self, run: Run) -> EvaluationConfig:
        """Return everything that decides what a run writes.

        Raises:
            CannotRunError: its weights are not there.
        """
        data_set, variant = run.data_set, run.variant
        weights = self.network_file(variant.network)
        scales = self.profile.scales if variant.several_sizes else (1.0,)
        size, *other_sizes = (round(scale * data_set.size) for scale in scales)
        return EvaluationConfig(
            dataset=data_set.layout,
            root=data_set.root(self.data_root, self.made_root),
            split=data_set.split,
            weights=weights,
            weights_sha256=checksum(weights),
            repeat=data_set.repeat,
            size=size,
            other_sizes=tuple(other_sizes),
            flip_too=variant.flip_too,
            mixed_precision=self.mixed and not run.full_precision,
            inference=run.inference(),
        )

    def record_file(self, run: Run) -> Path:
        """Return the file of a run's record or trace."""
        return self.output / f"{run.name}.json"

    def record(self, run: Run) -> RunRecord | None:
        """Return the record of a run with the present settings if it is finished, even if videos failed.

        Raises:
            CannotRunError: its weights are not there.
            UserError: the record is damaged.
        """
        record, videos = self._present(RunRecord, run), run.data_set.videos
        is_whole = record and (videos is None or set(videos) == record.memory.keys() | record.failures.keys())
        return record if is_whole else None

    def trace(self, run: Run) -> Trace | None:
        """Return the trace of a variant with the present settings if it is finished.

        Raises:
            CannotRunError, UserError: as `record`.
        """
        trace = self._present(Trace, run)
        return trace if trace and (trace.ended_by or len(trace.seconds) == self.profile.traced_frames) else None

    def _present(self, kind: type[AnyRecord], run: Run) -> AnyRecord | None:
        record = read_record(kind, self.record_file(run))
        return record if record and not changed_settings(record.config, described(self.config(run))) else None

    def carry_out(self, runs: Sequence[Run]) -> None:
        """Carry out what is not finished, in this order, as far as budget, data and weights allow.

        Raises:
            UserError: a run with other settings lies in the place of one.
        """
        for number, run in enumerate(runs, start=1):
            lock = self.output / ".locks" / run.name.replace("/", "-")
            lock.mkdir(parents=True, exist_ok=True)
            with ExitStack() as claim:
                try:
                    claim.enter_context(sole_user(lock))
                except UserError:
                    self.absent[run.name] = "not run yet: another process is at it"
                    continue
                try:
                    self._carry_out(run, f"{number} of {len(runs)}")
                except CannotRunError as error:
                    self.absent[run.name] = str(error)

    def _carry_out(self, run: Run, position: str) -> None:
        if self._is_finished(run):
            return
        config, kind = self.config(run), run.data_set.folder
        self.budget.require(kind, 0)  # before videos are made
        evaluation_set = run.data_set.open(self.data_root, self.made_root, config.sizes)
        frames = frames_of(self._pending(run, evaluation_set), config)
        if run.traced:
            frames = min(frames, self.profile.traced_frames)
        needed = self.budget.require(kind, frames)
        time_needed = f", {needed / 60:.1f} min" if needed else ""
        logger.info("%s: %s, %d frames%s", position, run.name, frames, time_needed)
        begun = time.monotonic()
        record = (self._trace if run.traced else self._evaluate)(run, config, evaluation_set)
        self.budget.spent(kind, frames, time.monotonic() - begun)
        self.record_file(run).parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(self.record_file(run), json.dumps(asdict(record)) + "\n")

    def _pending(self, run: Run, evaluation_set: EvaluationSet) -> list[EvaluationVideo]:
        """Return the videos that an interrupted run has not finished."""
        if run.traced or self.overwrite:
            return list(evaluation_set.videos)
        finished = OutputFolder(self.output / run.name, evaluation_set.masks_folder).finished()
        return [video for video in evaluation_set.videos if video.name not in finished]

    def _is_finished(self, run: Run) -> bool:
        if run.traced:
            return self.trace(run) is not None
        record = self.record(run)
        return record is not None and not record.failures  # those that failed are tried again

    def _evaluate(self, run: Run, config: EvaluationConfig, evaluation_set: EvaluationSet) -> RunRecord:
        """Segment and score a set, or resume that."""
        begun = time.monotonic()
        folder = self.output / run.name
        checkpoint, network = open_network(config.weights, self.device)
        seen = videos_seen(checkpoint, evaluation_set)
        overwrite = self.overwrite and has_other_settings(folder, config)
        summary = evaluate(evaluation_set, network, config, folder, videos_seen=seen, overwrite=overwrite)
        assert summary is not None, "this is the only process of this evaluation"
        server_zip = f"{run.name}.zip"
        sequences = summary.scores.sequences if summary.scores else {}
        return RunRecord(
            described(config),
            **self.provenance,
            folder=run.folder,
            scores=known(summary.scores.figures) if summary.scores else {},
            video_scores={name: known(sequence.figures) for name, sequence in sequences.items()},
            objects={name: len(sequence.objects) for name, sequence in sequences.items()},
            fps=summary.fps,
            end_to_end_fps=summary.end_to_end_fps,
            frames=summary.frames,
            failures=summary.failures,
            memory={name: record.memory for name, record in summary.records.items()},
            server_zip=server_zip if (self.output / server_zip).is_file() else None,
            seconds=time.monotonic() - begun,
        )

    def _trace(self, run: Run, config: EvaluationConfig, evaluation_set: EvaluationSet) -> Trace:
        """Measure memory and time of the first video."""
        file = self.record_file(run)
        there = None if self.overwrite else read_record(Trace, file)
        if there and (changes := changed_settings(there.config, described(config))):
            raise UserError(f"{file} was made with other settings: {', '.join(changes)}; remove it, or overwrite it")
        _, network = open_network(config.weights, self.device)
        measured = trace_video(network, config, evaluation_set.videos[0], self.profile.traced_frames)
        return Trace(described(config), **self.provenance, **measured)


def known(figures: Figures) -> dict[str, float]:
    """Return the figures that could be computed."""
    return {name: value for name, value in figures.items() if not math.isnan(value)}


def has_other_settings(folder: Path, config: EvaluationConfig) -> bool:
    """Return whether a run with other settings has begun in this folder."""
    begun = folder / "config.json"
    if not begun.is_file():
        return False
    before = parsed(begun)
    return not isinstance(before, dict) or bool(changed_settings(before, config.to_json_dict()))


def frames_of(videos: Iterable[EvaluationVideo], config: EvaluationConfig) -> int:
    """Return how many frames the network sees, every view counted by its pixels, in frames of the first size."""
    frames = sum(video.frames.frame_count or 0 for video in videos)
    return round(frames * sum((view.size / config.size) ** 2 for view in config.views))


def trace_video(network: XMem, config: EvaluationConfig, video: EvaluationVideo, frames: int) -> Mapping[str, Any]:
    """Return the measured fields of a `Trace`: follow a video for so many frames, without writing anything.

    The device is waited for after each frame.

    Raises:
        CannotRunError: a file cannot be used.
    """
    segmenter = MultiViewSegmenter(network, config)
    seconds, memory, allocated, ended_by = [0.0], [], [], None
    try:
        with closing(segmenter.segment(video)) as segmented:
            for _ in islice(segmented, frames):
                seconds.append(segmenter.timer.seconds())
                memory.append(segmenter.core.memory.nbytes)
                if segmenter.device.type == "cuda":
                    allocated.append(torch.cuda.memory_allocated(segmenter.device))
        if len(memory) < frames:
            ended_by = f"the video ends after {len(memory)} frames"
    except torch.cuda.OutOfMemoryError:
        ended_by = f"out of memory at frame {len(memory)}"
    except UserError as error:
        raise CannotRunError(str(error)) from error
    return {
        "seconds": np.diff(seconds).tolist(),
        "memory_bytes": memory,
        "allocated_bytes": allocated,
        "peak_process_bytes": peak_process_bytes(),
        "ended_by": ended_by,
    }
