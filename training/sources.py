"""Which data each stage trains on, and where they lie."""

import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dataset.static_images import ImageWithMask, StaticImages, static_images
from dataset.synthetic.clips import SyntheticClips
from dataset.training_source import SamplingConfig, TrainingSample, TrainingSource
from dataset.training_videos import (
    TrainingVideos,
    VideoSet,
    bl30k,
    davis_2017,
    mask_name,
    own_videos,
    youtube_vos,
)
from training.config import StageConfig

log = logging.getLogger(__name__)


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
    strict: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.videos_share <= 1:
            raise ValueError(f"--videos_share is a share between 0 and 1, not {self.videos_share}")
        if not 0 < self.videos_smallest_crop <= 1:
            raise ValueError(f"--videos_smallest_crop is a share of the area, not {self.videos_smallest_crop}")


@dataclass(frozen=True, eq=False)
class StageSources:
    """A stage's data; called with whether the run is fine-tuning."""

    main: TrainingSource
    finetuning: TrainingSource

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
            source = StaticImages(static_images(data.static_root), sampling)
            return StageSources(source, source)
        case "BL30K":
            return sources_of_videos([bl30k(data.bl_root)], sampling)
        case "YouTubeVOS and DAVIS":
            sets = [youtube_vos(data.yv_root, data.yv_subset), davis_2017(data.davis_root)]
            return sources_of_videos(sets, sampling)
        case "synthetic sequences":
            source = SyntheticClips(sampling)
            return StageSources(source, source)
        case "synthetic and own videos":
            videos = replace(
                own_videos(data.videos_root, data.videos_subset), smallest_crop=data.videos_smallest_crop
            )
            synthetic = SyntheticClips(sampling, photographs=annotated_frames(videos))
            real = sources_of_videos([videos], sampling)
            mixing_seed = zlib.crc32(f"{seed} {stage.name}".encode())
            return StageSources(
                *(
                    MixedSource(synthetic, source, data.videos_share, mixing_seed)
                    for source in (real.main, real.finetuning)
                )
            )


def sources_of_videos(sets: Sequence[VideoSet], sampling: SamplingConfig) -> StageSources:
    return StageSources(TrainingVideos(sets, sampling), TrainingVideos(sets, sampling, finetune=True))


def annotated_frames(videos: VideoSet) -> list[ImageWithMask]:
    """Every frame of these videos with its mask: material for objects to cut out and for backgrounds."""
    return [
        ImageWithMask(video.images / frame, video.masks / mask_name(frame))
        for video in videos.videos
        for frame in video.frames
    ]
