"""The layouts of the data sets for training: single images with masks (stage 0), and annotated videos (the others).

Opening a set lists its files and reads a few masks. `registry.py` says where each set lies; `training_clips.py` makes
training samples of them.
"""

import logging
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8

from dataset.frames import (
    FRAME_SUFFIXES,
    MASK_SUFFIXES,
    NO_VIDEOS,
    davis_2016_frames,
    folder_entries,
    is_deep,
    list_images,
    listed_videos,
    natural_key,
    open_image,
    read_frame,
    require_folder,
    size_text,
)
from dataset.given_label_maps import check_objects
from dataset.label_map import VOID, marks_void, objects_of, read_label_map
from dataset.resize import require_resized
from util.errors import UserError, first_few

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg"})

# Folder of each data set, and how often an epoch shows each of its images: the two finely annotated ones are small.
PUBLISHED_SETS = {"fss": 1, "DUTS-TR": 1, "DUTS-TE": 1, "ecssd": 1, "BIG_small": 5, "HRSOD_small": 5}
SETS_WITH_CLASS_FOLDERS = frozenset({"fss"})

LAYOUT = f"the folder above {', '.join(PUBLISHED_SETS)}, or one with X.jpg and X.png side by side"

# Masks that are read when a set is opened, since what is wrong with one is mostly wrong with all.
MASKS_CHECKED = 20

# An epoch shows each of the few videos of DAVIS this often beside those of YouTubeVOS.
DAVIS_REPEATS = 5
YOUTUBE_FRAME_STEP = 5


# --- Images -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ImageWithMask:
    """An image and the mask of its object, X.jpg and X.png in one folder."""

    image: Path
    mask: Path

    def __str__(self) -> str:
        return str(self.image)

    def read(self) -> tuple[UInt8[np.ndarray, "height width 3"], UInt8[np.ndarray, "height width"]]:
        """Read the image as RGB, and the mask as a label map that is 1 where the object is.

        Raises:
            UserError: a file cannot be read, or the sizes differ.
        """
        rgb, mask = read_frame(self.image).rgb, read_mask(self.mask)
        if mask.shape != rgb.shape[:2]:
            raise UserError(f"{self.mask} is {size_text(mask.shape)}, its image {size_text(rgb.shape[:2])}")
        return rgb, mask.astype(np.uint8)


def read_mask(path: Path) -> Bool[np.ndarray, "height width"]:
    """Read the object of a mask file: label 1 and above in a palette image, 128 and above in a grey or RGB one.

    In a grey mask that holds nothing but 0 and 1, the object is 1. What is transparent is background.

    Raises:
        UserError: `path` is missing, damaged or has more than 8 bits of grey.
    """
    with open_image(path) as image:
        if image.mode in ("P", "1"):
            return np.array(image) > 0
        if is_deep(image):
            raise UserError(f"{path} has more than 8 bits per pixel of grey: convert it to 8 bits")
        grey = np.array(image.convert("L"))
        is_opaque = np.array(image.getchannel("A")) >= 128 if "A" in image.getbands() else True
    return (grey >= (128 if grey.max() > 1 else 1)) & is_opaque


def static_images(root: Path) -> list[ImageWithMask]:
    """Return the images of an epoch: of every published data set that lies in `root`, or else of `root` itself.

    Raises:
        UserError: there is no image with a mask; an image lacks its mask, or a mask its image.
    """
    if not root.is_dir():
        raise UserError(f"{root} does not exist; it has to be {LAYOUT}")
    if sets := [name for name in PUBLISHED_SETS if (root / name).is_dir()]:
        return [pair for name in sets for pair in published_images(root, name) * PUBLISHED_SETS[name]]
    if pairs := images_with_masks([root]):
        return pairs
    raise UserError(f"{root} holds no image with a mask; it has to be {LAYOUT}")


def published_images(root: Path, name: str) -> list[ImageWithMask]:
    """Return the images of the published data set in the folder `name` of `root`.

    Raises:
        MissingError: the folder does not exist.
        UserError: there is no image with a mask; an image lacks its mask, or a mask its image.
    """
    folder = require_folder(root / name)
    in_classes = name in SETS_WITH_CLASS_FOLDERS
    if pairs := images_with_masks(
        [path for path in folder_entries(folder) if path.is_dir()] if in_classes else [folder]
    ):
        return pairs
    inside = "CLASS/" if in_classes else ""
    raise UserError(f"{folder} holds no {inside}X.jpg with its mask {inside}X.png beside it")


def images_with_masks(folders: Sequence[Path]) -> list[ImageWithMask]:
    """Pair every X.jpg in these folders with its X.png.

    Raises:
        UserError: a folder cannot be listed; an image lacks its mask, or a mask its image (up to ten are named).
    """
    pairs: list[ImageWithMask] = []
    single: list[Path] = []
    for folder in folders:
        images, masks = list_images(folder, IMAGE_SUFFIXES), list_images(folder, MASK_SUFFIXES)
        pairs += [ImageWithMask(images[stem], masks[stem]) for stem in images if stem in masks]
        single += [(images.get(stem) or masks[stem]) for stem in sorted(images.keys() ^ masks.keys())]
    if single:
        raise UserError(
            "every X.jpg needs its mask X.png beside it, and the reverse; "
            f"{len(single)} files are alone: {first_few(single)}"
        )
    return pairs


# --- Videos -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainingVideo:
    """A video: `frames` are the names of its image files that have a mask, in order; the mask of X.jpg is X.png.

    `positions` are their places in the video, where frames without a mask lie between them.
    """

    images: Path
    masks: Path
    frames: tuple[str, ...]
    positions: tuple[int, ...] | None = None

    @property
    def places(self) -> Sequence[int]:
        """The places of the frames, among all frames of the video if they are known."""
        return range(len(self.frames)) if self.positions is None else self.positions

    def __str__(self) -> str:
        return str(self.images)

    def read(
        self, frames: Iterable[int]
    ) -> tuple[list[UInt8[np.ndarray, "height width 3"]], UInt8[np.ndarray, "frames height width"]]:
        """Read some frames as RGB, all of one size, and their label maps as stored, but for void, which is 0.

        Raises:
            UserError: a file cannot be read, is no label map, or has another size than the others.
        """
        names = [self.frames[index] for index in frames]
        images = [read_frame(self.images / name).rgb for name in names]
        masks = [read_label_map(self.masks / mask_name(name)).labels for name in names]
        for name, image, mask in zip(names, images, masks, strict=True):
            if not image.shape[:2] == mask.shape == masks[0].shape:
                raise UserError(f"{self.images / name}: its mask, or another frame of the video, has another size")
        labels = np.stack(masks)
        is_void = labels == VOID
        if is_void.any() and self.marks_void:
            labels[is_void] = 0
        return images, labels

    @cached_property
    def marks_void(self) -> bool:
        """Whether 255 is void, which the first label map with an object decides, rather than an object.

        Raises:
            UserError: a label map cannot be read.
        """
        objects = (objects_of(read_label_map(self.masks / mask_name(name)).labels) for name in self.frames)
        return marks_void(next((shown for shown in objects if shown), []))


@dataclass(frozen=True)
class VideoFrame:
    """One frame of a video, as a photograph for synthetic clips."""

    video: TrainingVideo
    index: int

    def read(self) -> tuple[UInt8[np.ndarray, "height width 3"], UInt8[np.ndarray, "height width"]]:
        """Read the frame as RGB, and its label map; raises UserError as `TrainingVideo.read`."""
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
    """How often an epoch shows each video."""
    frame_step: int = 1
    """Frames of the video between neighbouring annotated ones; max_jump counts frames of the video."""
    smallest_crop: float = 0.36
    frame_affine: bool = True
    colour_jitter: float = 0.0
    """As in `VideoAugmentation`."""
    paste_share: float = 0.0
    """Share of the clips onto which an object of another clip is pasted, as one more object; half of these are moved
    past an object that is there, and hide it for a while."""
    drop_specks: bool = False
    """Leave out objects that are very small in the first frame (section 4, BL30K)."""


def youtube_vos(root: Path, subset: Path | None = None) -> VideoSet:
    """YouTubeVOS, `train_480p/{JPEGImages,Annotations}/V`: the annotated frames, every fifth of the video.

    Args:
        root: the folder above train_480p.
        subset: a text file that names the videos to use, one a line; without it, all are used.

    Raises:
        UserError: a folder or a video named in `subset` is missing; masks are no label maps; without a subset, videos
            of the original `train` that lies beside are not resized yet.
    """
    if subset is None:
        require_resized(root)
    folder = root / "train_480p"
    names = None if subset is None else listed_videos(subset)
    videos = _videos(folder / "JPEGImages", folder / "Annotations", names, annotated_only=True)
    return VideoSet("YouTubeVOS", videos, frame_step=YOUTUBE_FRAME_STEP)


def davis_2017(root: Path) -> VideoSet:
    """DAVIS 2017, `2017/trainval` in `root`: the 60 videos of its train.txt, without those for validation.

    Raises:
        UserError: a folder, the list or one of its videos is missing; masks are missing or no label maps.
    """
    folder = root / "2017" / "trainval"
    names = listed_videos(folder / "ImageSets" / "2017" / "train.txt")
    videos = _videos(folder / "JPEGImages" / "480p", folder / "Annotations" / "480p", names)
    return VideoSet("DAVIS 2017", videos, DAVIS_REPEATS)


def own_videos(root: Path, subset: Path | None = None) -> VideoSet:
    """Any videos in `{JPEGImages,Annotations}/V`, or, as in DAVIS 2016, in `{JPEGImages,Annotations}/480p/V`.

    Not every frame needs a mask: clips are made of those that have one, and jumps count all frames.

    The videos are those that `subset` names; without it, those of DAVIS 2016's ImageSets/480p/train.txt if it exists,
    else all.

    Args:
        root: the folder above JPEGImages and Annotations.
        subset: a text file with the name of a video in each line.

    Raises:
        UserError: as `davis_2017`.
    """
    resolution = "480p" if (root / "JPEGImages" / "480p").is_dir() else ""
    listed = root / "ImageSets" / "480p" / "train.txt"
    names = None
    if subset is not None:
        names = listed_videos(subset)
    elif resolution and listed.is_file():
        names = list(davis_2016_frames(listed))
    images, masks = (root / folder / resolution for folder in ("JPEGImages", "Annotations"))
    return VideoSet(root.name, _videos(images, masks, names, may_be_sparse=True))


def bl30k(root: Path) -> VideoSet:
    """BL30K, `{JPEGImages,Annotations}/V` in `root`: rendered, so it is cropped more and never sheared.

    Raises:
        UserError: a folder or a mask is missing; masks are no label maps.
    """
    videos = _videos(root / "JPEGImages", root / "Annotations")
    return VideoSet("BL30K", videos, smallest_crop=0.25, frame_affine=False, drop_specks=True)


def _videos(
    images: Path,
    masks: Path,
    names: Sequence[str] | None = None,
    annotated_only: bool = False,
    may_be_sparse: bool = False,
) -> tuple[TrainingVideo, ...]:
    """List videos.

    Args:
        names: the videos to list; None: all that are there.
        annotated_only: frames without a mask do not count as frames.
        may_be_sparse: frames without a mask are no mistake, but they count for the places of the others.
    """
    for folder in (images, masks):
        require_folder(folder)
    present = [name for name in _file_names(images) if (images / name).is_dir()]
    names = present if names is None else list(dict.fromkeys(names))
    if missing := sorted(set(names).difference(present)):
        raise UserError(f"{images} lacks {len(missing)} videos: {first_few(missing)}")
    if not names:
        raise UserError(f"{images} holds no video")
    videos: list[TrainingVideo] = []
    without_mask: list[Path] = []
    for name in names:
        masks_there = set(_file_names(masks / name)) if (masks / name).is_dir() else set()
        frames = [file for file in _file_names(images / name) if os.path.splitext(file)[1].lower() in FRAME_SUFFIXES]
        annotated = [frame for frame in frames if mask_name(frame) in masks_there]
        if len({mask_name(frame) for frame in frames}) < len(frames):
            raise UserError(f"{images / name} holds several images of one name, as X.jpg and X.png: keep one")
        if frames and masks_there and not annotated:
            raise UserError(
                f"{masks / name} holds no {mask_name(frames[0])}, nor the mask X.png of any other frame X: "
                "python -m scripts.convert --to labels makes such masks of other files"
            )
        positions = None
        if not annotated_only and len(annotated) < len(frames):
            without_mask += [images / name / frame for frame in sorted(set(frames).difference(annotated))]
            positions = tuple(index for index, frame in enumerate(frames) if mask_name(frame) in masks_there)
        videos.append(TrainingVideo(images / name, masks / name, tuple(annotated), positions))
    if without_mask and may_be_sparse:
        logger.info("%s: clips leave out %d frames, which have no mask", images, len(without_mask))
    elif without_mask:
        raise UserError(f"{masks} has no mask for {len(without_mask)} frames: {first_few(without_mask)}")
    with_frames = [video for video in videos if video.frames]
    for video in with_frames[:: max(1, len(with_frames) // MASKS_CHECKED)]:
        path = video.masks / mask_name(video.frames[0])
        check_objects(read_label_map(path), path)
    return tuple(videos)


def _file_names(folder: Path) -> list[str]:
    """Names by `natural_key`; equal names are one string, since BL30K has ten million files with 160 names."""
    try:
        names = (sys.intern(name) for name in os.listdir(folder) if not name.startswith(".") and name not in NO_VIDEOS)
        return sorted(names, key=natural_key)
    except OSError as error:
        raise UserError(f"{folder} cannot be listed: {error.strerror}") from error


def long_enough(sets: Sequence[VideoSet], num_frames: int, strict: bool = False) -> list[VideoSet]:
    """Return the sets without videos that have fewer annotated frames than a clip; a warning names these.

    Raises:
        UserError: no video is long enough, or (`strict`) one is not.
    """
    too_short = [video for video_set in sets for video in video_set.videos if len(video.frames) < num_frames]
    left_out = set(too_short)
    sets = [replace(each, videos=tuple(video for video in each.videos if video not in left_out)) for each in sets]
    if too_short:
        complaint = f"{len(too_short)} videos have fewer than {num_frames} annotated frames: {first_few(too_short)}"
        if strict or not any(video_set.videos for video_set in sets):
            raise UserError(complaint)
        logger.warning("skipped: %s", complaint)
    return sets
