"""Running an evaluation: every video of a data set, shared out over processes, and the summary at the end."""

import hashlib
import logging
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from dataset.evaluation_video import EvaluationSet, EvaluationVideo
from dataset.frames import FrameFolder
from dataset.label_map import LabelMapSource, ObjectMasks, colour_palette, files_of
from evaluation.config import EvaluationConfig
from evaluation.frame_reader import NoObjectError
from evaluation.output_folder import OutputFolder, VideoRecord, VideoWriter
from evaluation.segmenter import MultiViewSegmenter
from evaluation.summary import Summary
from evaluation.work_queue import Progress, WorkQueue
from inference.video_segmenter import NotFiniteError
from model.network import XMem
from scoring.davis import ScoredSequence, score_sequences
from scoring.protocols import PROTOCOLS
from scoring.scores import Scores
from util.device import device_name, is_out_of_memory, peak_device_bytes, reset_peak
from util.errors import SettingError, UserError, counted, first_few
from util.files import status_of
from util.machine import peak_process_bytes
from util.painting import davis_palette

BACKWARD = ("G", "video")
"""The sets whose videos may be followed backward, too."""

logger = logging.getLogger(__name__)


def evaluate(
    evaluation_set: EvaluationSet,
    network: XMem,
    config: EvaluationConfig,
    output: Path,
    *,
    queue: WorkQueue | None = None,
    videos_seen: Sequence[str] = (),
    overwrite: bool = False,
    restart: bool = False,
) -> Summary | None:
    """Segment and score an evaluation set into a folder, or resume an interrupted evaluation that is there.

    Args:
        evaluation_set: opened for `config.sizes`, and repeated `config.repeat` times.
        network: the network, on the device that is to be used.
        config: the settings, recorded in the folder.
        output: the folder, which is made if it is not there.
        queue: the processes of the program, all of which call this with the same arguments, once; None: there is
            only one.
        videos_seen: videos that were in the network's training, for the summary.
        overwrite: remove all results that are in the folder, and start over.
        restart: segment finished videos again, too.

    Returns:
        The summary, also written to the folder, in process 0; None in the others, which do not wait for it.

    Raises:
        UserError: the folder cannot be used for this; nothing was segmented. What is wrong with one video is in the
            summary's `failures`.
        StartFailedElsewhereError: process 0 has raised a UserError.
    """
    queue = queue or WorkQueue.alone()
    if config.use_all_masks:
        videos = tuple(video.using_all_masks() for video in evaluation_set.videos)
        evaluation_set = replace(evaluation_set, videos=videos)
    if any(video.object_folders for video in evaluation_set.videos) and config.save_scores:
        raise SettingError(
            "save_scores",
            f"does not go with {evaluation_set.name}: masks of single objects cannot be merged",
        )
    if config.separate_objects:
        videos = tuple(each for video in evaluation_set.videos for each in video.separated())
        evaluation_set = replace(evaluation_set, videos=videos)
    masks_folder = "Annotations" if config.save_scores else evaluation_set.masks_folder
    folder = OutputFolder(output, masks_folder, evaluation_set.server_zip)
    segmenter = MultiViewSegmenter(network, config)
    with ExitStack() as held:
        with queue.failing_together():
            if queue.rank == 0:
                folder.check_names(video.name for video in evaluation_set.videos)
                report_what_is_left_out(evaluation_set, config)
                held.enter_context(folder.claimed(config.to_json_dict(), overwrite))
                queue.announce(pending_videos(evaluation_set, folder, restart))
            pending = queue.videos()
        segment_share(evaluation_set, pending, segmenter, folder, queue)
        if queue.rank:
            return None
        summary = summarise(evaluation_set, folder, queue.failures(), videos_seen, config)
        try:
            folder.write_summary(summary.to_json_dict())
            if evaluation_set.server_zip and not summary.failures:
                zip_file = folder.zip_label_maps(evaluation_set.videos, evaluation_set.masks_folder)
                return replace(summary, zip_file=zip_file)
        except UserError as error:  # the disk is full, say: the figures are there all the same
            return replace(summary, not_written=str(error))
        return summary


def report_what_is_left_out(evaluation_set: EvaluationSet, config: EvaluationConfig) -> None:
    """Name the videos with frames before their first label map, or with label maps that are of no use."""
    later = [video for video in evaluation_set.videos if video.frames_before]
    if later and not config.backward:
        logger.warning(
            "%s before the first label map with an object are skipped%s: %s",
            counted(sum(video.frames_before for video in later), "frame"),
            "; backward segments them, too" if evaluation_set.name in BACKWARD else "",
            first_few([video.name for video in later]),
        )
    if evaluation_set.protocol != "davis":
        if any(video.object_folders for video in evaluation_set.videos):
            logger.info(
                "where given masks of a frame overlap, the smaller one has the pixels, and a later object takes its "
                "pixels from others; separate_objects keeps all"
            )
        return
    if unused := [video for video in evaluation_set.videos if video.later_label_maps and video.ground_truth is None]:
        logger.warning(
            "only the first label map of a video is used, not the later ones (%d), as scoring needs one for every "
            "frame; use_all_masks uses them: %s",
            sum(len(video.later_label_maps) for video in unused),
            first_few([video.name for video in unused]),
        )


def pending_videos(evaluation_set: EvaluationSet, folder: OutputFolder, restart: bool) -> list[str]:
    """Return the videos to be segmented, the longest first, so that processes finish at about the same time."""
    finished = {} if restart else folder.finished()
    longest_first = sorted(evaluation_set.videos, key=lambda video: -(video.frames.frame_count or 0))
    before = [video for video in longest_first if video.name in finished]
    changed = [video.name for video in before if has_changed(video, finished[video.name])]
    if before:
        total = len(longest_first)
        logger.info("%d of %d videos were finished before", len(before) - len(changed), total)
    if changed:
        logger.warning("changed since they were segmented, and segmented again: %s", first_few(changed))
    return [video.name for video in longest_first if video.name not in finished or video.name in changed]


def has_changed(video: EvaluationVideo, record: VideoRecord) -> bool:
    """Return whether a video is another one than that of the record, or cannot be read any more."""
    try:
        return inputs_digest(video) != record.inputs
    except UserError:
        return True


def inputs_digest(video: EvaluationVideo) -> str:
    """Return a digest of what a video's results are made of: its label maps, and its frames' names, sizes and times.

    Raises:
        UserError: a file cannot be read.
    """
    try:
        return _digest(video)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error


def _digest(video: EvaluationVideo) -> str:
    digest = hashlib.sha256()
    digest.update(colour_palette(video.label_maps) or b"")  # other label maps may change which label a colour has
    for frame, source in video.annotations.items():
        for path in files_of(source):
            name = f"{path.parent.name}/{path.name}" if isinstance(source, ObjectMasks) else path.name
            digest.update(f"{frame} {name}\0".encode(errors="surrogateescape") + path.read_bytes())
    if video.saved_frames is not None:
        digest.update(f"{sorted(video.saved_frames)}\0".encode(errors="surrogateescape"))
    if video.starts:
        starts = {frame: sorted(labels) for frame, labels in video.starts.items()}
        digest.update(f"{starts} {sorted(video.object_folders.items())}\0".encode())
    later = video.later_label_maps.values() if video.starts else ()  # an object may start later than it should
    for files in (
        video.frames.files(),
        *(frames.files() for frames in video.frames_elsewhere.values()),
        *(files_of(source) for source in later),
    ):
        for path in files:
            digest.update(status_of(path))
    return digest.hexdigest()


def segment_share(
    evaluation_set: EvaluationSet,
    pending: Sequence[str],
    segmenter: MultiViewSegmenter,
    folder: OutputFolder,
    queue: WorkQueue,
) -> None:
    """Segment this process's share of the pending videos. One that fails is reported and does not stop the others.

    Process 0 returns when all processes have done their shares.
    """
    videos = {video.name: video for video in evaluation_set.videos}
    with Progress(evaluation_set.videos, pending, queue) as progress:
        for name in queue.take(pending):
            try:
                folder.record(segment_safely(videos[name], segmenter, folder, progress.frame_done))
            except UserError as error:
                queue.report_failure(name, str(error))
            progress.video_done(name)
        queue.finish()
        if queue.rank == 0:
            progress.until_all_finished()


def segment_safely(
    video: EvaluationVideo, segmenter: MultiViewSegmenter, folder: OutputFolder, on_frame: Callable[[float], None]
) -> VideoRecord:
    """Segment one video into the output folder; once more in full precision if activations overflow in mixed precision.

    Raises:
        UserError: as `segment_into_folder`.
    """
    try:
        return segment_into_folder(video, segmenter, folder, on_frame)
    except NotFiniteError as error:
        if not segmenter.config.mixed_precision:
            raise
        logger.warning("%s: %s; it is done again in full precision", video.name, error)
    record = segment_into_folder(video, segmenter.in_full_precision(), folder, lambda network_seconds: None)
    return replace(record, in_full_precision=True)


def segment_into_folder(
    video: EvaluationVideo, segmenter: MultiViewSegmenter, folder: OutputFolder, on_frame: Callable[[float], None]
) -> VideoRecord:
    """Segment one video into the output folder.

    Args:
        on_frame: called after every frame with the network's time for the video so far, in seconds.

    Raises:
        UserError: a frame or mask that cannot be used, results that cannot be written, or too little device memory.
    """
    config, timer, device = segmenter.config, segmenter.timer, segmenter.device
    inputs = inputs_digest(video)  # before, so that what changes meanwhile is noticed the next time
    reset_peak(device)
    begin = time.perf_counter()
    frames, seconds_backward = 0, 0.0
    try:
        with folder.writer(
            video.name, video.frames.frame_rate, config.save_scores, config.overlay, video.object_folders
        ) as writer:
            if config.backward and video.frames_before:
                segment_backward(video, segmenter, writer, on_frame)
                frames, seconds_backward = video.frames_before, timer.seconds()
            with closing(segmenter.segment(video)) as segmented_frames:
                for segmented in segmented_frames:
                    frame = segmented.frame
                    if frames == 0 and video.empty_before:
                        empty = torch.zeros_like(segmented.labels)
                        write_empty(video, writer, empty, segmented.palette, config.save_all, before=frame.name)
                    if config.save_all or video.is_saved(frame.name):
                        writer.write(segmented)
                    writer.write_overlay(frame.rgb, segmented.labels)
                    frames += 1
                    on_frame(seconds_backward + timer.seconds_so_far)
    except NoObjectError as error:
        if not video.empty_before:
            raise
        logger.warning("%s; its masks are empty", error)
        writer = write_nothing(video, folder, config.save_all)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(f"out of memory on {device} at frame {frames + 1}; a smaller size needs less") from error
    return VideoRecord(
        name=video.name,
        frames=frames,
        objects=len(segmenter.core.objects),
        network_seconds=seconds_backward + timer.seconds(),
        wall_seconds=time.perf_counter() - begin,
        device=device_name(device),
        peak_device_bytes=peak_device_bytes(device),
        peak_process_bytes=peak_process_bytes(),
        memory=segmenter.core.memory.counts._asdict(),
        inputs=inputs,
        label_maps=writer.label_maps,
        scores=writer.scores,
        overlay=config.overlay and frames > 0,  # a video without objects has none
        # Where results lie in a folder for each object, these say which is which.
        names={} if video.empty_before else {str(label): name for label, name in segmenter.names.items()},
        grey=segmenter.palette is None,
    )


def write_nothing(video: EvaluationVideo, folder: OutputFolder, save_all: bool) -> VideoWriter:
    """Write empty masks for a video without anything to follow, as data sets with masks of single objects want them."""
    frame = next(iter(video.frames))
    empty = torch.zeros(frame.rgb.shape[:2], dtype=torch.uint8)
    with folder.writer(video.name, video.frames.frame_rate, False, False, video.object_folders) as writer:
        write_empty(video, writer, empty, davis_palette(), save_all, before=None)
    return writer


def write_empty(
    video: EvaluationVideo,
    writer: VideoWriter,
    empty: UInt8[Tensor, "height width"],
    palette: bytes | None,
    save_all: bool,
    before: str | None,
) -> None:
    """Write empty label maps for the frames before the frame `before`, or for all frames if it is None.

    Only data sets that lie as folders of frames want them.
    """
    names = video.frames.paths if isinstance(video.frames, FrameFolder) else ()
    for name in takewhile(lambda name: name != before, names):
        if save_all or video.is_saved(name):
            writer.write_labels(name, empty, palette)


def segment_backward(
    video: EvaluationVideo, segmenter: MultiViewSegmenter, writer: VideoWriter, on_frame: Callable[[float], None]
) -> None:
    """Segment the frames before the first annotated one, from this back to the beginning of the video.

    Raises:
        UserError: as `segment_into_folder`.
    """
    label_maps: list[bytes] = []  # compressed, until the overlay, which begins with the first frame, can take them
    with closing(segmenter.segment(video.backward())) as segmented_frames:
        next(segmented_frames)  # the annotated frame: the way forward begins with it, too
        for segmented in segmented_frames:
            writer.write(segmented)
            if segmenter.config.overlay:
                label_maps.append(zlib.compress(segmented.labels.cpu().numpy().tobytes(), level=1))
            on_frame(segmenter.timer.seconds_so_far)
    for frame, compressed in zip(video.frames, reversed(label_maps), strict=False):
        labels = np.frombuffer(bytearray(zlib.decompress(compressed)), np.uint8).reshape(frame.rgb.shape[:2])
        writer.write_overlay(frame.rgb, torch.from_numpy(labels))


def summarise(
    evaluation_set: EvaluationSet,
    folder: OutputFolder,
    failures: Mapping[str, str],
    videos_seen: Sequence[str],
    config: EvaluationConfig,
) -> Summary:
    """Merge the records of all processes and of earlier runs, and score where there is ground truth."""
    finished = folder.finished()
    videos = [video for video in evaluation_set.videos if video.name in finished.keys() - failures.keys()]
    records = {video.name: finished[video.name] for video in videos}
    return Summary(
        records=records,
        failures={video.name: failures[video.name] for video in evaluation_set.videos if video.name in failures},
        scores=score_if_possible(evaluation_set, videos, folder),
        peak_process_bytes=max((each.peak_process_bytes for each in records.values()), default=peak_process_bytes()),
        videos_seen=list(videos_seen),
        config=config.to_json_dict(),
    )


def score_if_possible(
    evaluation_set: EvaluationSet, videos: Sequence[EvaluationVideo], folder: OutputFolder
) -> Scores | None:
    """Return the scores of finished videos that have ground truth; the others are named in warnings."""
    left_out: dict[str, str] = {}
    try:
        if evaluation_set.protocol == "davis":
            with_truth = [video for video in videos if video.ground_truth is not None]
            if not with_truth:
                return None
            reason = "there is no label map for every frame to be scored"
            left_out = {video.name: reason for video in videos if video.ground_truth is None}
            scores = score(with_truth, folder)
        elif evaluation_set.truth is None or not videos:
            return None
        else:
            names = list(dict.fromkeys(video.name.partition("/")[0] for video in videos))
            protocol = PROTOCOLS[evaluation_set.protocol]
            scores = protocol.score(evaluation_set.truth, folder.label_maps, names)
        scores = replace(scores, left_out={**left_out, **scores.left_out})
        left_out = dict(scores.left_out)
    except UserError as error:
        scores, left_out = None, {evaluation_set.name: str(error)}
    for name, reason in left_out.items():
        logger.warning("not scored: %s: %s", name, reason)
    return scores


def score(videos: Sequence[EvaluationVideo], folder: OutputFolder) -> Scores:
    """Return J&F of `videos`, all of which have ground truth, and label maps in the output folder.

    Raises:
        UserError: as `score_sequences`.
    """

    def sequence(name: str, ground_truth: Mapping[str, LabelMapSource]) -> ScoredSequence:
        masks = folder.label_maps / name
        return ScoredSequence(name, {masks / f"{frame}.png": truth for frame, truth in ground_truth.items()})

    return score_sequences([sequence(video.name, video.ground_truth or {}) for video in videos])
