"""A whole evaluation run: every video of a data set, shared out over processes, and the summary at the end."""

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch

from dataset.evaluation_sets import EvaluationSet, EvaluationVideo
from evaluation.config import EvaluationConfig
from evaluation.device import device_name, peak_device_bytes, restart_peak
from evaluation.progress import Progress
from evaluation.results import OutputFolder, VideoRecord
from evaluation.segmenter import Segmenter
from evaluation.sharing import Sharing
from scoring.folders import SequenceFolders, score_sequences
from scoring.scores import Scores
from util.errors import UserError
from util.process import peak_process_bytes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """The figures of a run over all its processes, and of earlier ones that it goes on with."""

    videos: int
    frames: int
    network_seconds: float
    devices: list[str]
    peak_process_bytes: int
    peak_device_bytes: int | None
    failures: dict[str, str]
    scores: Scores | None
    videos_seen: list[str]
    config: dict[str, Any]

    @property
    def fps(self) -> float | None:
        """Total frames over the processes' summed network time."""
        return self.frames / self.network_seconds if self.network_seconds else None

    def to_json_dict(self) -> dict[str, Any]:
        """The content of summary.json."""
        scores = self.scores.to_json_dict() if self.scores else None
        return {"FPS": self.fps, **vars(self), "scores": scores}


def pending_videos(evaluation_set: EvaluationSet, output: OutputFolder, anew: bool) -> list[str]:
    """Videos that are still to be done, the longest first, so that processes finish at about the same time."""
    finished = {} if anew else output.finished()
    longest_first = sorted(evaluation_set.videos, key=lambda video: -(video.frames.frame_count or 0))
    return [video.name for video in longest_first if video.name not in finished]


def segment_videos(
    evaluation_set: EvaluationSet, pending: list[str], segmenter: Segmenter, output: OutputFolder, sharing: Sharing
) -> None:
    """Segment this process's share of the pending videos. One that fails is reported and does not stop the others.

    Process 0 returns when all processes have done their shares.
    """
    videos = {video.name: video for video in evaluation_set.videos}
    with Progress(evaluation_set.videos, pending, sharing) as progress:
        for name in sharing.take(pending):
            try:
                output.record(segment_video(videos[name], segmenter, output, progress.frame_done))
            except UserError as error:
                sharing.report_failure(name, str(error))
            progress.video_done(name)
        sharing.finish()
        if sharing.rank == 0:
            progress.until_all_finished()


def segment_video(
    video: EvaluationVideo, segmenter: Segmenter, output: OutputFolder, on_frame: Callable[[float], None]
) -> VideoRecord:
    """Segment one video into the output folder.

    Args:
        on_frame: called after every frame with the seconds that the network took for the video so far.

    Raises:
        UserError: a frame or mask that cannot be used, results that cannot be written, or too little device memory.
    """
    config, clock, device = segmenter.config, segmenter.clock, segmenter.device
    restart_peak(device)
    frames = 0
    try:
        with (
            output.writer(video.name, video.frames.frame_rate, config.save_scores, config.overlay) as writer,
            closing(segmenter.segment(video)) as segmented_frames,
        ):
            for segmented in segmented_frames:
                name = segmented.frame.name
                writer.write(segmented, config.save_all or video.saved_frames is None or name in video.saved_frames)
                frames += 1
                on_frame(clock.seconds_so_far)
    except torch.cuda.OutOfMemoryError as error:
        raise UserError(f"out of memory on {device} at frame {frames + 1}; a smaller --size needs less") from error
    return VideoRecord(
        name=video.name,
        frames=frames,
        objects=len(segmenter.core.objects),
        network_seconds=clock.seconds(),
        device=device_name(device),
        peak_device_bytes=peak_device_bytes(device),
        peak_process_bytes=peak_process_bytes(),
    )


def summarise(
    evaluation_set: EvaluationSet,
    config: EvaluationConfig,
    output: OutputFolder,
    failures: dict[str, str],
    videos_seen: list[str],
) -> Summary:
    """Merge the records of all processes and of earlier runs, and score where there is ground truth.

    `videos_seen` are those that were in the network's training.
    """
    finished = output.finished()
    videos = [video for video in evaluation_set.videos if video.name in finished and video.name not in failures]
    records = [finished[video.name] for video in videos]
    return Summary(
        videos=len(records),
        frames=sum(record.frames for record in records),
        network_seconds=sum((record.network_seconds for record in records), start=0.0),
        devices=sorted({record.device for record in records}),
        peak_process_bytes=max((record.peak_process_bytes for record in records), default=peak_process_bytes()),
        peak_device_bytes=max((record.peak_device_bytes or 0 for record in records), default=0) or None,
        failures={video.name: failures[video.name] for video in evaluation_set.videos if video.name in failures},
        scores=score_if_possible(videos, output),
        videos_seen=videos_seen,
        config=config.to_json_dict(),
    )


def score_if_possible(videos: list[EvaluationVideo], output: OutputFolder) -> Scores | None:
    """J&F of `videos`, if every one of them has ground truth for every evaluated frame."""
    if not videos or any(video.ground_truth is None for video in videos):
        return None
    try:
        return score(videos, output)
    except UserError as error:
        log.warning("not scored: %s", error)
        return None


def score(videos: Sequence[EvaluationVideo], output: OutputFolder) -> Scores:
    """J&F of `videos`, each of which has ground truth and label maps in the output folder.

    Raises:
        UserError: as `score_sequences`.
    """
    return score_sequences(
        [
            SequenceFolders(video.name, video.ground_truth, output.label_maps / video.name, video.saved_frames)
            for video in videos
        ]
    )
