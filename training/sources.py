"""Which data each stage trains on, where they lie, and what of that a network remembers."""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
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
from training.config import StageConfig
from util.errors import UserError

MOST_NAMED = 1000
"""Videos of a set of which all names are kept."""


@dataclass(frozen=True)
class TrainingData:
    """Where the data are; one flag of train.py each."""

    static_root: Path = Path("../static")
    bl_root: Path = Path("../BL30K")
    yv_root: Path = Path("../YouTube")
    davis_root: Path = Path("../DAVIS")
    yv_subset: Path | None = None
    """Names of the videos of YouTubeVOS to use, one a line; None: all."""
    videos_root: Path | None = None
    """Own videos: `{JPEGImages,Annotations}/V`, or the same with a folder 480p between."""
    videos_subset: Path | None = None
    videos_share: float = 0.5
    """Of the samples of a stage that mixes own videos with synthetic sequences."""
    videos_smallest_crop: float = 0.36
    """Least share of an own frame's area that is cropped; small crops show objects large."""
    cutout_root: Path | None = None
    """Images with masks, as in `static_root`, whose objects the synthetic sequences show as well."""
    strict: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.videos_share <= 1:
            raise ValueError(f"--videos_share is a share between 0 and 1, not {self.videos_share}")
        if not 0 < self.videos_smallest_crop <= 1:
            raise ValueError(f"--videos_smallest_crop is a share of the area, not {self.videos_smallest_crop}")


@dataclass(frozen=True)
class Seen:
    """What a network has been trained on, to be told with its weights."""

    trained_on: tuple[str, ...] = ()
    """Data sets, in the order in which they were first seen."""
    videos: tuple[str, ...] = ()
    """Names of the videos of small sets: those that an evaluation set may hold as well."""

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any], name: str) -> "Seen":
        """What a network's metadata say; `name` is what it is called where they say nothing."""
        unknown = [f"whatever {name} was trained on"]
        return cls(tuple(metadata.get("trained_on", unknown)), tuple(metadata.get("videos_seen", ())))

    def to_metadata(self) -> dict[str, list[str]]:
        return {"trained_on": list(self.trained_on), "videos_seen": list(self.videos)}

    def __add__(self, later: "Seen") -> "Seen":
        return Seen(
            tuple(dict.fromkeys(self.trained_on + later.trained_on)), tuple(dict.fromkeys(self.videos + later.videos))
        )


@dataclass(frozen=True, eq=False)
class StageSources:
    """A stage's data; called with whether the run is fine-tuning.

    Attributes:
        contents: what each data set holds, for comparison.
        samples_in_pass: how many show all of it once, if it has an end (of a mixture: on average).
    """

    main: TrainingSource
    finetuning: TrainingSource
    seen: Seen
    contents: Mapping[str, str]
    samples_in_pass: int | None = None

    def __call__(self, finetune: bool) -> TrainingSource:
        return self.finetuning if finetune else self.main


@dataclass(frozen=True, eq=False)
class MixedSource:
    """Two sources, of which the second gives a share of the samples."""

    first: TrainingSource
    second: TrainingSource
    share: float
    seed: int

    def sample(self, number: int, max_jump: int) -> TrainingSample:
        """Sample `number` of the first or of the second source, as chance has it."""
        chosen = np.random.default_rng([self.seed, number]).random() < self.share
        return (self.second if chosen else self.first).sample(number, max_jump)


def open_sources(stage: StageConfig, data: TrainingData, seed: int) -> StageSources:
    """The data of a stage; files are listed and some are looked at.

    Raises:
        UserError: a folder is missing or empty, or its files are not what they should be; names the flag.
    """
    sampling = SamplingConfig(seed, stage.name, stage.num_frames, stage.crop, stage.max_objects, data.strict)
    match stage.data:
        case "static images":
            images = static_images(data.static_root)
            source = StaticImages(images, sampling)
            contents = {"static images": digest(pair.image.name for pair in images)}
            return StageSources(source, source, Seen(("static images",)), contents, len(images))
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
            videos = replace(videos, name="own videos", smallest_crop=data.videos_smallest_crop)
            sets = usable([videos], sampling)
            synthetic, real = synthetic_clips(data, sampling, sets), video_clips(sets, sampling)
            return mixed(synthetic, real, data.videos_share, sampling)


def usable(sets: Sequence[VideoSet], sampling: SamplingConfig) -> list[VideoSet]:
    """As `long_enough`, and its error names the flag."""
    try:
        return long_enough(sets, sampling.num_frames, sampling.strict)
    except UserError as error:
        raise UserError(f"{error}; lower --s{sampling.stage}_num_frames, or leave them out") from error


def video_clips(sets: Sequence[VideoSet], sampling: SamplingConfig) -> StageSources:
    small = [video_set for video_set in sets if len(video_set.videos) <= MOST_NAMED]
    main = TrainingVideos(sets, sampling)
    return StageSources(
        main,
        TrainingVideos(sets, sampling, finetune=True),
        seen=Seen(
            tuple(video_set.name for video_set in sets),
            tuple(video.images.name for video_set in small for video in video_set.videos),
        ),
        contents={
            video_set.name: digest(f"{video.images.name} {len(video.frames)}" for video in video_set.videos)
            for video_set in sets
        },
        samples_in_pass=len(main.entries),
    )


def synthetic_clips(data: TrainingData, sampling: SamplingConfig, sets: Sequence[VideoSet] = ()) -> StageSources:
    """Made up, and of the objects in the frames of these videos and in `data.cutout_root`."""
    photographs: list[Photograph] = [
        VideoFrame(video, index)
        for video_set in sets
        for video in video_set.videos
        for index in range(len(video.frames))
    ]
    seen, contents = Seen(("synthetic sequences",)), {}
    if data.cutout_root is not None:
        images = static_images(data.cutout_root)
        photographs += images
        seen += Seen(("own images",))
        contents["own images"] = digest(pair.image.name for pair in images)
    source = SyntheticClips(sampling, photographs)
    return StageSources(source, source, seen, contents)


def mixed(synthetic: StageSources, real: StageSources, share: float, sampling: SamplingConfig) -> StageSources:
    """A `share` of the samples is real."""
    seed = zlib.crc32(f"{sampling.seed} {sampling.stage}".encode())
    return StageSources(
        MixedSource(synthetic.main, real.main, share, seed),
        MixedSource(synthetic.finetuning, real.finetuning, share, seed),
        seen=synthetic.seen + real.seen,
        contents={**synthetic.contents, **real.contents},
        samples_in_pass=round(real.samples_in_pass / share) if share else None,
    )


def digest(names: Iterable[str]) -> str:
    """How many there are, and a checksum over them all."""
    names = list(names)
    return f"{len(names)}, checksum {zlib.crc32(chr(10).join(names).encode()):08x}"
