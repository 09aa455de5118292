"""Which data each stage trains on, and the record of them that a network carries."""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dataset.registry import TRAINING_SETS
from dataset.sampling import SamplingConfig, TrainingSample, TrainingSource
from dataset.synthetic.clips import Photograph, SyntheticClips
from dataset.training_clips import StaticImages, TrainingVideos
from dataset.training_sets import (
    VideoFrame,
    VideoSet,
    long_enough,
    static_images,
)
from training.config import DataConfig, StageConfig
from util.errors import UserError

MAX_NAMED_VIDEOS = 1000
"""Largest number of videos in a set whose names are recorded."""


@dataclass(frozen=True)
class TrainedOn:
    """What a network has been trained on, and what else is said of the weights that training started from; recorded
    with its weights."""

    data_sets: tuple[str, ...] = ()  # in the order in which they were first used
    videos: tuple[str, ...] = ()  # names of the videos of small sets, which an evaluation set may hold as well
    origin: str | None = None  # whose weights they were, and their licence
    size: int | None = None  # shorter side in pixels of the frames that the network is meant for

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any], name: str) -> "TrainedOn":
        """Read it from a network file's metadata; `name` stands for a file that does not record it."""
        unknown = [f"whatever {name} was trained on"]
        return cls(
            tuple(metadata.get("trained_on", unknown)),
            tuple(metadata.get("videos_seen", ())),
            metadata.get("origin"),
            metadata.get("size"),
        )

    def to_metadata(self) -> dict[str, Any]:
        besides = {"origin": self.origin, "size": self.size}
        known = {name: value for name, value in besides.items() if value is not None}
        return {"trained_on": list(self.data_sets), "videos_seen": list(self.videos), **known}

    def __add__(self, later: "TrainedOn") -> "TrainedOn":
        return TrainedOn(
            tuple(dict.fromkeys(self.data_sets + later.data_sets)),
            tuple(dict.fromkeys(self.videos + later.videos)),
            self.origin or later.origin,
            self.size or later.size,
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class StageData:
    """The data of a stage."""

    main: TrainingSource  # of all samples but those of fine-tuning
    finetuning: TrainingSource
    trained_on: TrainedOn
    contents: Mapping[str, str]  # what each data set holds, in short, to be compared when a run is resumed
    samples_in_pass: int | None = None  # samples in a pass through the data (in a mixture, on average); None: endless


@dataclass(frozen=True, eq=False)
class MixedSource:
    """A mixture of two sources, of which the second gives a share of the samples."""

    first: TrainingSource
    second: TrainingSource
    share: float
    seed: int

    def sample(self, number: int, max_jump: int) -> TrainingSample:
        """Return sample `number` of the first or of the second source, at random."""
        chosen = np.random.default_rng([self.seed, number]).random() < self.share
        return (self.second if chosen else self.first).sample(number, max_jump)


def open_stage_data(stage: StageConfig, data: DataConfig, seed: int) -> StageData:
    """Open the data of a stage: list its files, and look at some.

    Raises:
        UserError: a folder is missing or empty, or its files are not what they should be.
    """
    sampling = SamplingConfig(seed, stage.name, stage.num_frames, stage.crop, stage.max_objects, data.strict)
    match stage.data:
        case "static images":
            images = static_images(data.static_root)
            source = StaticImages(images, sampling)
            return StageData(
                main=source,
                finetuning=source,
                trained_on=TrainedOn(("static images",)),
                contents={"static images": digest(pair.image.name for pair in images)},
                samples_in_pass=len(images),
            )
        case "BL30K":
            return video_clips(usable([TRAINING_SETS["BL30K"].open(data.bl_root)], sampling), sampling)
        case "YouTubeVOS and DAVIS":
            sets = [
                TRAINING_SETS["YouTubeVOS"].open(data.yv_root, data.yv_subset),
                TRAINING_SETS["DAVIS"].open(data.davis_root),
            ]
            return video_clips(usable(sets, sampling), sampling)
        case "synthetic sequences":
            return synthetic_clips(data, sampling)
        case "synthetic and own videos":
            videos = TRAINING_SETS["own"].open(data.videos_root, data.videos_subset)
            videos = replace(
                videos,
                name="own videos",
                smallest_crop=data.videos_smallest_crop,
                colour_jitter=data.videos_colour_jitter,
                paste_share=data.videos_paste_share,
            )
            sets = usable([videos], sampling)
            return mixture(
                synthetic_clips(data, sampling, sets), video_clips(sets, sampling), data.videos_share, sampling
            )


def usable(sets: Sequence[VideoSet], sampling: SamplingConfig) -> list[VideoSet]:
    """Leave out videos that are too short, as `long_enough`; the error names the setting."""
    try:
        return long_enough(sets, sampling.num_frames, sampling.strict)
    except UserError as error:
        raise UserError(f"stage {sampling.stage}: {error}; use fewer frames, or leave these videos out") from error


def video_clips(sets: Sequence[VideoSet], sampling: SamplingConfig) -> StageData:
    """Return the data of a stage that trains on clips of real videos."""
    small = [video_set for video_set in sets if len(video_set.videos) <= MAX_NAMED_VIDEOS]
    main = TrainingVideos(sets, sampling)
    return StageData(
        main=main,
        finetuning=TrainingVideos(sets, sampling, finetune=True),
        trained_on=TrainedOn(
            tuple(video_set.name for video_set in sets),
            tuple(video.images.name for video_set in small for video in video_set.videos),
        ),
        contents={
            video_set.name: digest(f"{video.images.name} {len(video.frames)}" for video in video_set.videos)
            for video_set in sets
        },
        samples_in_pass=len(main.entries),
    )


def synthetic_clips(data: DataConfig, sampling: SamplingConfig, sets: Sequence[VideoSet] = ()) -> StageData:
    """Synthetic clips; objects are cut out of the frames of `sets` and of `data.cutout_root`, where there are any."""
    photographs: list[Photograph] = [
        VideoFrame(video, index)
        for video_set in sets
        for video in video_set.videos
        for index in range(len(video.frames))
    ]
    trained_on, contents = TrainedOn(("synthetic sequences",)), {}
    if data.cutout_root is not None:
        images = static_images(data.cutout_root)
        photographs += images
        trained_on += TrainedOn(("own images",))
        contents["own images"] = digest(pair.image.name for pair in images)
    source = SyntheticClips(sampling, photographs)
    return StageData(main=source, finetuning=source, trained_on=trained_on, contents=contents)


def mixture(synthetic: StageData, real: StageData, share: float, sampling: SamplingConfig) -> StageData:
    """Return a mixture of synthetic and real clips, in which `share` of the samples are real."""
    seed = zlib.crc32(f"{sampling.seed} {sampling.stage}".encode())
    return StageData(
        main=MixedSource(synthetic.main, real.main, share, seed),
        finetuning=MixedSource(synthetic.finetuning, real.finetuning, share, seed),
        trained_on=synthetic.trained_on + real.trained_on,
        contents={**synthetic.contents, **real.contents},
        samples_in_pass=round(real.samples_in_pass / share) if share and real.samples_in_pass else None,
    )


def digest(names: Iterable[str]) -> str:
    """Return the number of names, and a checksum over all of them."""
    names = list(names)
    return f"{len(names)}, checksum {zlib.crc32(chr(10).join(names).encode(errors='surrogateescape')):08x}"
