"""A whole evaluation: every video of a data set, shared out over processes, and the summary at the end.

`evaluate` does all of it. eval.py does the same in steps, to say something in between.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from dataset.evaluation_sets import EvaluationSet, EvaluationVideo
from evaluation.config import EvaluationConfig
from evaluation.progress import Progress
from evaluation.results import OutputFolder, VideoRecord
from evaluation.segmenter import Segmenter
from evaluation.sharing import Sharing
from model.network import XMem
from scoring.folders import ScoredSequence, score_sequences
from scoring.scores import Scores
from util.device import device_name, peak_device_bytes, peak_process_bytes, reset_peak
from util.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """The figures of a run over all its processes, and of earlier ones that it goes on with."""

    records: dict[str, VideoRecord]
    """Of the finished videos, by name."""
    failures: dict[str, str]
    scores: Scores | None
    peak_process_bytes: int
    videos_seen: list[str]
    config: dict[str, Any]

    @property
    def videos(self) -> int:
        """Finished ones."""
        return len(self.records)

    @property
    def frames(self) -> int:
        """Segmented ones of the finished videos."""
        return sum(record.frames for record in self.records.values())

    @property
    def network_seconds(self) -> float:
        """Summed over the processes."""
        return sum((record.network_seconds for record in self.records.values()), start=0.0)

    @property
    def wall_seconds(self) -> float:
        """From opening a video to having its last label map on the disk, summed over the videos."""
        return sum((record.wall_seconds for record in self.records.values()), start=0.0)

    @property
    def fps(self) -> float | None:
        """Total frames over total network time: frames per second as the paper counts them."""
        return self.frames / self.network_seconds if self.network_seconds else None

    @property
    def end_to_end_fps(self) -> float | None:
        """Total frames over total time, reading and writing included."""
        return self.frames / self.wall_seconds if self.wall_seconds else None

    @property
    def peak_device_bytes(self) -> int | None:
        """The most that any video took of a CUDA device."""
        return max((record.peak_device_bytes or 0 for record in self.records.values()), default=0) or None

    def to_json_dict(self) -> dict[str, Any]:
        """The content of summary.json."""
        return {
            "FPS": self.fps,
            "end_to_end_FPS": self.end_to_end_fps,
            "videos": self.videos,
            "frames": self.frames,
            "network_seconds": self.network_seconds,
            "wall_seconds": self.wall_seconds,
            "devices": sorted({record.device for record in self.records.values()}),
            "peak_process_bytes": self.peak_process_bytes,
            "peak_device_bytes": self.peak_device_bytes,
            "failures": self.failures,
            "scores": self.scores.to_json_dict() if self.scores else None,
            "videos_seen": self.videos_seen,
            "records": {name: asdict(record) for name, record in self.records.items()},
            "config": self.config,
        }


def evaluate(
    evaluation_set: EvaluationSet,
    network: XMem,
    config: EvaluationConfig,
    output: Path,
    sharing: Sharing | None = None,
    *,
    videos_seen: Sequence[str] = (),
    overwrite: bool = False,
    anew: bool = False,
) -> Summary | None:
    """Segment and score an evaluation set into a folder, or go on with what an interrupted run has left there.

    Args:
        evaluation_set: opened for `config.sizes`, and repeated `config.repeat` times.
        network: on the device that is to be used.
        config: the settings, recorded in the folder.
        output: made if it is not there.
        sharing: the processes of the program, all of which call this with the same arguments; None: there is only one.
        videos_seen: those that were in the network's training, for the summary.
        overwrite: remove what a run with other settings has left in the folder.
        anew: do finished videos again, too.

    Returns:
        The summary, also written to the folder, in process 0; None in the others, which do not wait for it.

    Raises:
        UserError: the folder is not to be used for this, or cannot be written to. What is wrong with one video is in
            the summary's `failures`.
        StartFailedElsewhereError: process 0 has raised a UserError.
    """
    sharing = (sharing or Sharing.alone()).next_run()
    evaluation = Evaluation(evaluation_set, network, config, output, sharing, videos_seen)
    with ExitStack() as stack:
        with sharing.failing_together():
            pending = stack.enter_context(evaluation.started(overwrite, anew))
        evaluation.segment(pending)
        if sharing.rank > 0:
            return None
        summary = evaluation.summarise()
        evaluation.keep(summary)
        return summary


class Evaluation:
    """The steps of `evaluate`, which has the arguments' meaning: `started`, `segment`; in process 0 the others, too."""

    def __init__(
        self,
        evaluation_set: EvaluationSet,
        network: XMem,
        config: EvaluationConfig,
        output: Path,
        sharing: Sharing,
        videos_seen: Sequence[str] = (),
    ) -> None:
        self.evaluation_set = evaluation_set
        self.config = config
        masks_folder = "Annotations" if config.save_scores else evaluation_set.masks_folder
        self.output = OutputFolder(output, masks_folder)
        self.videos_seen = list(videos_seen)
        self._segmenter = Segmenter(network, config)
        self._sharing = sharing

    @contextmanager
    def started(self, overwrite: bool = False, anew: bool = False) -> Iterator[list[str]]:
        """The output folder is this run's while the block runs. Gives the videos that are to be done.

        Raises:
            UserError: the folder is not to be used for this; nothing was written.
        """
        with ExitStack() as held:
            if self._sharing.rank == 0:
                held.enter_context(self.output.claimed(self.config.to_json_dict(), overwrite))
                self._sharing.announce(pending_videos(self.evaluation_set, self.output, anew))
            yield self._sharing.videos()

    def segment(self, pending: Sequence[str]) -> None:
        """Segment this process's share of the pending videos. One that fails is reported and does not stop the others.

        Process 0 returns when all processes have done their shares.
        """
        videos = {video.name: video for video in self.evaluation_set.videos}
        with Progress(self.evaluation_set.videos, pending, self._sharing) as progress:
            for name in self._sharing.take(pending):
                try:
                    record = segment_video(videos[name], self._segmenter, self.output, progress.frame_done)
                    self.output.record(record)
                except UserError as error:
                    self._sharing.report_failure(name, str(error))
                progress.video_done(name)
            self._sharing.finish()
            if self._sharing.rank == 0:
                progress.until_all_finished()

    def summarise(self) -> Summary:
        """Merge the records of all processes and of earlier runs, and score where there is ground truth."""
        finished, failed = self.output.finished(), self._sharing.failures()
        names = [video.name for video in self.evaluation_set.videos]
        videos = [video for video in self.evaluation_set.videos if video.name in finished.keys() - failed.keys()]
        records = {video.name: finished[video.name] for video in videos}
        peaks = [record.peak_process_bytes for record in records.values()]
        return Summary(
            records=records,
            failures={name: failed[name] for name in names if name in failed},
            scores=score_if_possible(videos, self.output),
            peak_process_bytes=max(peaks, default=peak_process_bytes()),
            videos_seen=self.videos_seen,
            config=self.config.to_json_dict(),
        )

    def keep(self, summary: Summary) -> Path | None:
        """Write the summary, and for an evaluation server the zip that it takes, unless a video failed; gives its path.

        Raises:
            UserError: they cannot be written.
        """
        self.output.write_summary(summary.to_json_dict())
        if summary.failures or not self.evaluation_set.server_zip:
            return None
        return self.output.zip_label_maps(self.evaluation_set.videos, self.evaluation_set.masks_folder)


def pending_videos(evaluation_set: EvaluationSet, output: OutputFolder, anew: bool) -> list[str]:
    """Videos that are still to be done, the longest first, so that processes finish at about the same time."""
    finished = {} if anew else output.finished()
    longest_first = sorted(evaluation_set.videos, key=lambda video: -(video.frames.frame_count or 0))
    return [video.name for video in longest_first if video.name not in finished]


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
    reset_peak(device)
    begun = time.perf_counter()
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
        wall_seconds=time.perf_counter() - begun,
        device=device_name(device),
        peak_device_bytes=peak_device_bytes(device),
        peak_process_bytes=peak_process_bytes(),
        memory=segmenter.core.memory.counts._asdict(),
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

    def sequence(name: str, ground_truth: Mapping[str, Path]) -> ScoredSequence:
        folder = output.label_maps / name
        return ScoredSequence(name, {folder / f"{frame}.png": truth for frame, truth in ground_truth.items()})

    return score_sequences([sequence(video.name, video.ground_truth) for video in videos])
