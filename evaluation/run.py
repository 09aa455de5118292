"""A whole evaluation run: every video of a data set, shared out over processes, and the summary at the end."""

import json
import logging
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from dataset.evaluation_sets import EvaluationSet, EvaluationVideo
from evaluation.config import EvaluationConfig
from evaluation.results import OutputFolder, VideoRecord
from evaluation.segmenter import Segmenter
from evaluation.sharing import Sharing
from model.network import XMem
from scoring.folders import SequenceFolders, score_sequences
from scoring.scores import Scores
from util.errors import UserError
from util.files import write_text_atomically

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """The figures of a run over all its processes, and of earlier ones that it continues."""

    config: dict[str, Any]
    videos: int
    frames: int
    network_seconds: float
    peak_process_bytes: int
    peak_device_bytes: int | None
    failures: dict[str, str]
    scores: Scores | None

    @property
    def fps(self) -> float | None:
        """Total frames over the processes' summed network time."""
        return self.frames / self.network_seconds if self.network_seconds else None

    def to_json_dict(self) -> dict[str, Any]:
        return {
            "FPS": self.fps,
            "videos": self.videos,
            "frames": self.frames,
            "network_seconds": self.network_seconds,
            "peak_process_bytes": self.peak_process_bytes,
            "peak_device_bytes": self.peak_device_bytes,
            "failures": self.failures,
            "scores": self.scores.to_json_dict() if self.scores else None,
            "config": self.config,
        }


def pending_videos(videos: tuple[EvaluationVideo, ...], output: OutputFolder, anew: bool) -> list[str]:
    """Videos that are still to be done, the longest first, so that processes finish at about the same time."""
    finished = {} if anew else output.finished()
    longest_first = sorted(videos, key=lambda video: -(video.frames.frame_count or 0))
    return [video.name for video in longest_first if video.name not in finished]


def segment_videos(
    evaluation_set: EvaluationSet,
    pending: list[str],
    network: XMem,
    config: EvaluationConfig,
    output: OutputFolder,
    sharing: Sharing,
    on_frame: Callable[[str, float], None],
) -> None:
    """Segment this process's share of the pending videos. One that fails is recorded and does not stop the others.

    `on_frame` is called after every frame with the video's name and the network's frames per second in it so far.
    """
    videos = {video.name: video for video in evaluation_set.videos}
    segmenter = Segmenter(network, config)
    device = segmenter.device
    half = torch.bfloat16 if device.type == "cpu" else torch.float16
    for name in sharing.take(pending):
        try:
            with torch.autocast(device.type, dtype=half, enabled=config.mixed_precision):
                record = segment_video(videos[name], segmenter, output, on_frame)
            output.record(record)
        except (UserError, OSError) as error:
            message = (
                str(error) if isinstance(error, UserError) else f"{error.filename or output.path}: {error.strerror}"
            )
            log.error("%s failed: %s", name, message)
            output.record_failure(name, message)


def segment_video(
    video: EvaluationVideo, segmenter: Segmenter, output: OutputFolder, on_frame: Callable[[str, float], None]
) -> VideoRecord:
    """Segment one video into the output folder.

    Raises:
        UserError: a frame or mask that cannot be used.
        OSError: the results cannot be written.
    """
    config, clock = segmenter.config, segmenter.clock
    clock.restart()
    with output.writer(video.name, video.frames.frame_rate, config.save_scores, config.overlay) as writer:
        frames = 0
        for segmented in segmenter.segment(video):
            writer.receive(segmented)
            frames += 1
            on_frame(video.name, frames / max(clock.seconds_so_far, 1e-9))
    return VideoRecord(
        name=video.name,
        frames=frames,
        network_seconds=clock.seconds(),
        objects=len(segmenter.core.objects),
        peak_process_bytes=peak_process_bytes(),
        peak_device_bytes=torch.cuda.max_memory_allocated(segmenter.device) if torch.cuda.is_available() else None,
    )


def summarise(evaluation_set: EvaluationSet, config: EvaluationConfig, output: OutputFolder) -> Summary:
    """Merge the records of all processes, score where there is ground truth, and write summary.json."""
    finished, failures = output.finished(), output.failures()
    records = [finished[video.name] for video in evaluation_set.videos if video.name in finished]
    device_peaks = [record.peak_device_bytes for record in records if record.peak_device_bytes is not None]
    summary = Summary(
        config=config.as_json(),
        videos=len(records),
        frames=sum(record.frames for record in records),
        network_seconds=sum(record.network_seconds for record in records),
        peak_process_bytes=max((record.peak_process_bytes for record in records), default=peak_process_bytes()),
        peak_device_bytes=max(device_peaks, default=None),
        failures={video.name: failures[video.name] for video in evaluation_set.videos if video.name in failures},
        scores=score_if_possible(evaluation_set, output, {record.name for record in records}),
    )
    write_text_atomically(output.path / "summary.json", json.dumps(summary.to_json_dict(), indent=2))
    return summary


def score_if_possible(evaluation_set: EvaluationSet, output: OutputFolder, finished: set[str]) -> Scores | None:
    """J&F of the finished videos, if every one of them has ground truth for every evaluated frame."""
    videos = [video for video in evaluation_set.videos if video.name in finished]
    if not videos or any(video.ground_truth is None for video in videos):
        return None
    sequences = [SequenceFolders(video.name, video.ground_truth, output.label_maps / video.name) for video in videos]
    try:
        return score_sequences(sequences)
    except UserError as error:
        log.warning("not scored: %s", error)
        return None


def peak_process_bytes() -> int:
    """The most memory this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
