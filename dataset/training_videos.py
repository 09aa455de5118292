"""Stages 1 to 3: clips of annotated videos, in the layouts of the data sets that XMem is trained on."""

import logging
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from jaxtyping import UInt8

from dataset.augmentation import VideoAugmentation
from dataset.frames import FRAME_SUFFIXES, listed_videos, read_frame, require_folder
from dataset.label_map import read_label_map
from dataset.training_source import (
    SamplingConfig,
    TrainingSample,
    choose_frames,
    clip_of_objects,
    draw_sample,
    first_few,
    labels_shown,
)
from util.errors import UserError

logger = logging.getLogger(__name__)

# Masks that are read when a set is opened, since what is wrong with one is mostly wrong with all.
MASKS_CHECKED = 20

# An epoch shows each of the few videos of DAVIS this often beside those of YouTubeVOS.
DAVIS_REPEATS = 5
YOUTUBE_FRAME_STEP = 5

# BL30K has objects that are specks; an object's side in pixels of the crop.
SPECK, SMALL, STAYS_SMALL = 10, 30, 20


@dataclass(frozen=True)
class TrainingVideo:
    """A video: `frames` are the names of its image files, in order; the mask of X.jpg is X.png."""

    images: Path
    masks: Path
    frames: tuple[str, ...]

    def __str__(self) -> str:
        return str(self.images)

    def read(
        self, frames: Iterable[int]
    ) -> tuple[UInt8[np.ndarray, "frames height width 3"], UInt8[np.ndarray, "frames height width"]]:
        """These frames as RGB, and their label maps as stored.

        Raises:
            UserError: a file cannot be read, is no label map, or has another size than the others.
        """
        names = [self.frames[index] for index in frames]
        images = [read_frame(self.images / name).rgb for name in names]
        masks = [read_label_map(self.masks / mask_name(name)).labels for name in names]
        for name, image, mask in zip(names, images, masks, strict=True):
            if not image.shape[:2] == mask.shape == masks[0].shape:
                raise UserError(f"{self.images / name}: its mask, or another frame of the video, has another size")
        return np.stack(images), np.stack(masks)


@dataclass(frozen=True)
class VideoFrame:
    """One frame of a video, as a photograph for synthetic clips."""

    video: TrainingVideo
    index: int

    def read(self) -> tuple[UInt8[np.ndarray, "height width 3"], UInt8[np.ndarray, "height width"]]:
        """RGB, and the label map as stored; raises UserError as `TrainingVideo.read`."""
        rgb, labels = self.video.read([self.index])
        return rgb[0], labels[0]


def mask_name(frame: str) -> str:
    """The file name of the mask that belongs to a frame's image file."""
    return f"{os.path.splitext(frame)[0]}.png"


@dataclass(frozen=True)
class VideoSet:
    """Videos that are sampled alike."""

    name: str
    videos: tuple[TrainingVideo, ...]
    repeats: int = 1
    """Times that an epoch shows each video."""
    frame_step: int = 1
    """Frames of the video from one annotated frame to the next: max_jump counts the former."""
    smallest_crop: float = 0.36
    frame_affine: bool = True
    drop_specks: bool = False
    """Leave out objects that are very small in the first frame (section 4, BL30K)."""


# --- Layouts ----------------------------------------------------------------------------------------------------------


def youtube_vos(root: Path, subset: Path | None = None) -> VideoSet:
    """YouTubeVOS, `train_480p/{JPEGImages,Annotations}/V`: those frames that are annotated, every fifth.

    Args:
        root: the folder above train_480p.
        subset: a text file that names the videos to use, one a line; without it, all are used.

    Raises:
        UserError: a folder or a video named in `subset` is missing; masks are no label maps.
    """
    folder = root / "train_480p"
    names = None if subset is None else listed_videos(subset)
    videos = _videos(folder / "JPEGImages", folder / "Annotations", names, annotated_only=True)
    return VideoSet("YouTubeVOS", videos, frame_step=YOUTUBE_FRAME_STEP)


def davis_2017(root: Path, repeats: int = DAVIS_REPEATS) -> VideoSet:
    """DAVIS 2017: the 60 videos of its train.txt, without those for validation.

    Args:
        root: the folder above 2017/trainval.

    Raises:
        UserError: a folder, the list or one of its videos is missing; masks are missing or no label maps.
    """
    folder = require_folder(root / "2017" / "trainval")
    names = listed_videos(folder / "ImageSets" / "2017" / "train.txt")
    videos = _videos(folder / "JPEGImages" / "480p", folder / "Annotations" / "480p", names)
    return VideoSet("DAVIS 2017", videos, repeats)


def own_videos(root: Path | None, subset: Path | None = None) -> VideoSet:
    """Any videos in `{JPEGImages,Annotations}/V`, or, as in DAVIS 2016, in `{JPEGImages,Annotations}/480p/V`.

    The videos are those that `subset` names; without it those of DAVIS 2016's ImageSets/480p/train.txt where that is
    there, else all.

    Args:
        root: the folder above JPEGImages and Annotations.
        subset: a text file with the name of a video in each line.

    Raises:
        UserError: there is no root; otherwise as `davis_2017`.
    """
    if root is None:
        raise UserError("videos_root: this stage trains on your own videos; give the folder above JPEGImages")
    resolution = "480p" if (root / "JPEGImages" / "480p").is_dir() else ""
    listed = root / "ImageSets" / "480p" / "train.txt"
    names = None
    if subset is not None:
        names = listed_videos(subset)
    elif resolution and listed.is_file():
        # Each line names a frame and its mask.
        names = [PurePosixPath(line.split()[0]).parent.name for line in listed_videos(listed)]
    return VideoSet(root.name, _videos(root / "JPEGImages" / resolution, root / "Annotations" / resolution, names))


def bl30k(root: Path) -> VideoSet:
    """BL30K, `{JPEGImages,Annotations}/V` in `root`: rendered, so it is cropped more and never sheared.

    Raises:
        UserError: a folder or a mask is missing; masks are no label maps.
    """
    videos = _videos(root / "JPEGImages", root / "Annotations")
    return VideoSet("BL30K", videos, smallest_crop=0.25, frame_affine=False, drop_specks=True)


def _videos(
    images: Path, masks: Path, names: Sequence[str] | None = None, annotated_only: bool = False
) -> tuple[TrainingVideo, ...]:
    for folder in (images, masks):
        require_folder(folder)
    present = [name for name in _file_names(images) if (images / name).is_dir()]
    names = present if names is None else list(dict.fromkeys(names))
    if missing := sorted(set(names).difference(present)):
        raise UserError(f"{images} lacks {first_few(missing, 'videos')}")
    if not names:
        raise UserError(f"{images} holds no video")
    videos: list[TrainingVideo] = []
    without_mask: list[Path] = []
    for name in names:
        masks_there = set(_file_names(masks / name)) if (masks / name).is_dir() else set()
        frames = [file for file in _file_names(images / name) if os.path.splitext(file)[1].lower() in FRAME_SUFFIXES]
        annotated = [frame for frame in frames if mask_name(frame) in masks_there]
        if not annotated_only:
            without_mask += [images / name / frame for frame in sorted(set(frames).difference(annotated))]
        videos.append(TrainingVideo(images / name, masks / name, tuple(annotated)))
    if without_mask:
        raise UserError(f"{masks} has no mask for {first_few(without_mask, 'frames')}")
    with_frames = [video for video in videos if video.frames]
    for video in with_frames[:: max(1, len(with_frames) // MASKS_CHECKED)]:
        read_label_map(video.masks / mask_name(video.frames[0]))
    return tuple(videos)


def _file_names(folder: Path) -> list[str]:
    """Sorted; one string for all files of a name, since BL30K has ten million files with 160 names."""
    try:
        return sorted(sys.intern(name) for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise UserError(f"{folder} cannot be listed: {error.strerror}") from error


# --- Sampling ---------------------------------------------------------------------------------------------------------


def long_enough(sets: Sequence[VideoSet], num_frames: int, strict: bool = False) -> list[VideoSet]:
    """The same without the videos that have fewer annotated frames than a clip; a warning tells which.

    Raises:
        UserError: no video is long enough, or (`strict`) one is not.
    """
    too_short = [video for video_set in sets for video in video_set.videos if len(video.frames) < num_frames]
    left_out = set(too_short)
    sets = [replace(each, videos=tuple(video for video in each.videos if video not in left_out)) for each in sets]
    if too_short:
        complaint = f"fewer than {num_frames} annotated frames have {first_few(too_short, 'videos')}"
        if strict or not any(video_set.videos for video_set in sets):
            raise UserError(complaint)
        logger.warning("left out: %s", complaint)
    return sets


class TrainingVideos:
    """Clips of annotated videos.

    Args:
        sets: an epoch shows every video of each, as often as the set says; all are `long_enough`.
        finetune: frames are not turned and sheared by themselves.
    """

    def __init__(self, sets: Sequence[VideoSet], config: SamplingConfig, finetune: bool = False):
        self.config = config
        self.entries: list[_Entry] = []
        for video_set in sets:
            augment = VideoAugmentation(
                config.size, video_set.smallest_crop, frame_affine=video_set.frame_affine and not finetune
            )
            for video in video_set.videos:
                self.entries += [_Entry(video, video_set, augment)] * video_set.repeats

    def sample(self, number: int, max_jump: int) -> TrainingSample:
        """Sample `number`, in which neighbouring frames are at most `max_jump` frames of the video apart.

        Raises:
            UserError: as `draw_sample`.
        """
        return draw_sample(self.config, number, self.entries, lambda entry, rng: self._draw(entry, max_jump, rng))

    def _draw(self, entry: "_Entry", max_jump: int, rng: np.random.Generator) -> TrainingSample | None:
        video, video_set = entry.video, entry.video_set
        max_jump = max(1, max_jump // video_set.frame_step)
        rgb, stored = video.read(choose_frames(rng, len(video.frames), self.config.num_frames, max_jump))
        images, masks = entry.augment(torch.from_numpy(rgb).permute(0, 3, 1, 2), torch.from_numpy(stored), rng)
        labels = masks.numpy()
        objects = [label for label in labels_shown(stored[0]) if label in labels[0]]
        if video_set.drop_specks:
            objects = [label for label in objects if not is_speck(labels == label)]
        if not objects:
            return None
        if len(objects) > self.config.max_objects:
            objects = rng.choice(objects, self.config.max_objects, replace=False).tolist()
        return clip_of_objects(images, labels, objects)


@dataclass(frozen=True)
class _Entry:
    video: TrainingVideo
    video_set: VideoSet
    augment: VideoAugmentation

    def __str__(self) -> str:
        return str(self.video)


def is_speck(masks: np.ndarray) -> bool:
    """Whether an object (bool, frames × height × width) is too small in the first frame.

    It is at most 10² pixels; or at most 30², and does not stay under 20² in the next two frames, where it is in truth
    much larger.
    """
    first, *following = masks[:3].sum(axis=(1, 2)).tolist()
    if first <= SPECK**2:
        return True
    return first <= SMALL**2 and max(following, default=0) >= STAYS_SMALL**2
