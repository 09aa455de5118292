"""The layouts of LVOS, MOSEv2, VOST and SA-V, and their files that say which objects there are and where they start.

`evaluation_sets.py` has those of the older data sets. Names and places on which copies of a data set disagree are all
tried. What scoring has to know besides label maps is read here, too.
"""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dataset.evaluation_sets import folder_of_videos, read_json_videos
from dataset.evaluation_video import EvaluationVideo, list_video, open_videos
from dataset.frames import (
    FrameFolder,
    list_images,
    listed_videos,
    require_folder,
    video_folders,
)
from dataset.label_map import LabelMapSource, ObjectMasks, folder_labels, list_label_maps
from util.errors import UserError

LVOS_STEP = 5
"""LVOS numbers its frames as at 30 frames per second, and has every fifth of them."""


def first_existing(places: Iterable[Path]) -> Path:
    """Return the first of several places that exists, or the first one."""
    places = list(places)
    return next((place for place in places if os.path.exists(place)), places[0])


def whole_number(value: Any) -> int:
    """Return a number that a meta file holds as such or as a text.

    Raises:
        TypeError, ValueError: it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError
    return int(value)


def list_of(value: Any) -> list[Any]:
    """Return a value that is a list.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(value, list):
        raise TypeError
    return value


def require_label(label: int, name: str, path: Path) -> None:
    """Check that the meta file `path` gives an object of the video `name` a label that label maps can have.

    Raises:
        UserError: it does not.
    """
    if not 1 <= label <= 255:
        raise UserError(f"{path}: {name} has an object {label}; labels go from 1 to 255")


# --- LVOS -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LvosObject:
    """An object of LVOS.

    Attributes:
        label: its label.
        start: the number of the first frame with its mask.
        end: one step past the number of its last frame.
        frame_count: how many frames there are from its first to its last.
    """

    label: int
    start: int
    end: int
    frame_count: int

    def frames(self) -> tuple[str, ...]:
        """Return the names of its frames, from the first to the last.

        Raises:
            UserError: they are not as many as the meta file says.
        """
        numbers = range(self.start, self.end, LVOS_STEP)
        if len(numbers) != self.frame_count or not numbers:
            raise UserError(
                f"the meta file has object {self.label} in {self.frame_count} frames from {self.start} to below "
                f"{self.end}, which are {len(numbers)} in steps of {LVOS_STEP}"
            )
        return tuple(f"{number:08d}" for number in numbers)


def lvos_folder(root: Path, split: str) -> Path:
    """Return the folder of a split of LVOS: `root`/valid (or val), or `root`/test."""
    return require_folder(first_existing(root / name for name in (("valid", "val") if split == "val" else (split,))))


def read_lvos_meta(root: Path) -> dict[str, tuple[LvosObject, ...]]:
    """Return the objects of every video of LVOS's validation split, in the order of its meta file.

    Raises:
        MissingError, UserError: the file is missing, or has another form.
    """
    folder = lvos_folder(root, "val")
    path = first_existing(
        place / name for name in ("valid_meta.json", "val_meta.json") for place in (folder, folder.parent)
    )
    form = "a meta file of LVOS (videos.V.objects.ID.frame_range)"

    def objects(video: Any) -> tuple[LvosObject, ...]:
        ranges = ((label, thing["frame_range"]) for label, thing in video["objects"].items())
        return tuple(
            LvosObject(*map(whole_number, (label, each["start"], each["end"], each["frame_nums"])))
            for label, each in ranges
        )

    videos = read_json_videos(path, form, objects)
    for name, things in videos.items():
        for thing in things:
            require_label(thing.label, name, path)
        if len({thing.label for thing in things}) < len(things):
            raise UserError(f"{path} names an object of {name} twice")
    return videos


def lvos(root: Path, split: str, sizes: Sequence[int]) -> tuple[EvaluationVideo, ...]:
    """LVOS: every object starts in the frame that the meta file says (test: in those that have a label map)."""
    folder = lvos_folder(root, split)
    frames_root, masks_root = require_folder(folder / "JPEGImages"), require_folder(folder / "Annotations")
    if split == "test":
        return open_videos(
            video_folders(masks_root),
            lambda name: list_video(name, frames_root / name, masks_root / name, objects_start_later=True),
        )
    objects_of = read_lvos_meta(root)

    def open_video(name: str) -> EvaluationVideo:
        starts: dict[str, set[int]] = {}
        for thing in objects_of[name]:
            starts.setdefault(thing.frames()[0], set()).add(thing.label)
        return _starting(list_video(name, frames_root / name, masks_root / name), masks_root / name, starts)

    return open_videos(objects_of, open_video)


def _starting(video: EvaluationVideo, masks: Path, starts: Mapping[str, Collection[int]]) -> EvaluationVideo:
    """Return a video whose objects start where `starts` says: frame → labels.

    Raises:
        UserError: a frame or its label map is not there.
    """
    assert isinstance(video.frames, FrameFolder)
    sources = {**video.annotations, **video.later_label_maps}
    for frame, labels in starts.items():
        for place, there in ((video.frames.folder, video.frames.paths), (masks, sources)):
            if frame not in there:
                named = ", ".join(map(str, sorted(labels)))
                raise UserError(f"{place} lacks the frame {frame}, in which the meta file has object {named} start")
    in_order = [frame for frame in sources if starts.get(frame)]
    if not in_order:
        raise UserError(f"{video.name}: the meta file names no object of it")
    after = list(sources)[list(sources).index(in_order[0]) :]
    return replace(
        video,
        annotations={frame: sources[frame] for frame in in_order},
        later_label_maps={frame: sources[frame] for frame in after if frame not in starts},
        ground_truth=None,
        starts={frame: frozenset(starts[frame]) for frame in in_order},
        frames_before=0,
    )


# --- MOSEv2 -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mose2Video:
    """What a meta file of MOSEv2 says of a video: the labels of its objects, and the number of its frames."""

    labels: tuple[int, ...]
    length: int


def mose2_folder(root: Path) -> Path:
    """Return the folder above Annotations: `root`/valid, or `root` itself."""
    is_root = os.path.isdir(root / "Annotations") and not os.path.isdir(root / "valid")
    return root if is_root else require_folder(root / "valid")


def read_mose2_meta(root: Path) -> dict[str, Mose2Video] | None:
    """Return the videos of MOSEv2's meta file; None if there is none.

    Raises:
        UserError: it has another form.
    """
    folder = mose2_folder(root)
    path = first_existing(
        place / name
        for place in (folder, folder.parent)
        for name in ("meta_valid.json", "meta.json", "valid_meta.json")
    )
    if not path.exists():
        return None
    videos = read_json_videos(
        path,
        "a meta file of MOSEv2 (videos.V.objects, .length)",
        lambda video: Mose2Video(tuple(map(whole_number, list_of(video["objects"]))), whole_number(video["length"])),
    )
    for name, video in videos.items():
        for label in video.labels:
            require_label(label, name, path)
    return videos


def mose2_truth(root: Path, split: str) -> Path | None:
    """Return the folder with all label maps of MOSEv2, for whoever has them; None where there are only first ones."""
    folder, meta = mose2_folder(root), read_mose2_meta(root)
    if not meta:
        return None
    masks = {name: folder / "Annotations" / name for name in meta}
    whole = (os.path.isdir(masks[name]) and len(list_images(masks[name])) >= meta[name].length > 1 for name in meta)
    return folder if any(whole) else None


def mose2(root: Path, split: str, sizes: Sequence[int]) -> tuple[EvaluationVideo, ...]:
    """MOSEv2: the objects of the first frame; the meta file, where it is there, says which these are."""
    folder, meta = mose2_folder(root), read_mose2_meta(root)
    videos = {video.name: video for video in folder_of_videos(folder, from_first_frame=True)}
    if meta is None:
        return tuple(videos.values())

    def open_video(name: str) -> EvaluationVideo:
        if name not in videos:
            raise UserError(f"{folder / 'JPEGImages' / name} does not exist, but the meta file has the video")
        video = videos[name]
        if video.problem is not None:
            return video
        if video.frames.frame_count != meta[name].length:
            raise UserError(
                f"{folder / 'JPEGImages' / name} holds {video.frames.frame_count} frames, but the meta file says "
                f"{meta[name].length}"
            )
        return _starting(video, folder / "Annotations" / name, {next(iter(video.annotations)): meta[name].labels})

    return open_videos(meta, open_video)


# --- VOST -------------------------------------------------------------------------------------------------------------


def vost_folder(root: Path) -> Path:
    """Return the folder above ImageSets: `root`, or the folder VOST in it, as the archive has it."""
    inner = root / "VOST"
    return inner if os.path.isdir(inner / "ImageSets") else root


def vost_names(root: Path, split: str) -> list[str]:
    """Return the videos of a split of VOST.

    Raises:
        MissingError, UserError: as `listed_videos`.
    """
    return list(dict.fromkeys(listed_videos(vost_folder(root) / "ImageSets" / f"{split}.txt")))


def vost(root: Path, split: str, sizes: Sequence[int], images: str = "JPEGImages") -> tuple[EvaluationVideo, ...]:
    """VOST: the objects of the first frame; 255 is void; frames with a label map are saved.

    Args:
        images: the folder of frames: JPEGImages, at 5 frames per second, or JPEGImages_10fps.
    """
    folder = vost_folder(root)
    frames_root, masks_root = require_folder(folder / images), require_folder(folder / "Annotations")

    def open_video(name: str) -> EvaluationVideo:
        video = list_video(name, frames_root / name, masks_root / name, save_masked_frames=True, from_first_frame=True)
        return replace(video, has_void=True, ground_truth=None)

    return open_videos(vost_names(root, split), open_video)


# --- SA-V -------------------------------------------------------------------------------------------------------------


def sav_folder(root: Path, split: str | None = None) -> Path:
    """Return the folder of a split of SA-V: `root`/sav_val (or sav_test), or `root` itself.

    Args:
        split: "val" or "test"; None: that of `root`, or else val.

    Raises:
        UserError: there is none, or `root` is the other split.
    """
    if not os.path.isdir(root / "Annotations_6fps"):
        return require_folder(root / f"sav_{split or 'val'}")
    if split is not None and not os.path.isfile(root / f"sav_{split}.txt"):
        raise UserError(f"{root} lacks sav_{split}.txt, the list of the split {split}")
    return root


def sav_names(folder: Path, split: str | None = None) -> list[str]:
    """Return the videos of a split of SA-V, from its list, sav_val.txt or sav_test.txt.

    Raises:
        MissingError, UserError: as `listed_videos`.
    """
    names = [f"sav_{split}.txt"] if split else [f"{folder.name}.txt", "sav_val.txt", "sav_test.txt"]
    return list(dict.fromkeys(listed_videos(first_existing(folder / name for name in names))))


def sav_masks(folder: Path) -> dict[str, LabelMapSource]:
    """Return the masks of a video of SA-V by frame, FOLDER/OBJECT/FRAME.png; smaller ones lie on top of larger ones.

    Raises:
        UserError: there are none.
    """
    masks = {
        frame: replace(source, smaller_on_top=True)
        for frame, source in list_label_maps(folder).items()
        if isinstance(source, ObjectMasks)
    }
    if not masks:
        raise UserError(f"{folder} holds no masks as OBJECT/FRAME.png")
    return dict(masks)


def sav(root: Path, split: str, sizes: Sequence[int]) -> tuple[EvaluationVideo, ...]:
    """SA-V: objects start at their first masks that are not empty; annotated frames are saved, an object a folder."""
    folder = sav_folder(root, split)
    frames_root, masks_root = folder / "JPEGImages_24fps", require_folder(folder / "Annotations_6fps")
    require_folder(frames_root)

    def open_video(name: str) -> EvaluationVideo:
        masks = sav_masks(masks_root / name)
        video = list_video(name, frames_root / name, masks_root / name, save_masked_frames=True)
        assert isinstance(video.frames, FrameFolder)
        frames = [frame for frame in video.frames.paths if frame in masks]
        object_folders = {label: name for name, label in folder_labels(masks.values()).items()}
        first = frames[0]
        return replace(
            video,
            annotations={first: masks[first]},
            later_label_maps={frame: masks[frame] for frame in frames[1:]},
            ground_truth=None,
            starts={first: frozenset(object_folders)},
            object_folders=dict(sorted(object_folders.items())),
            empty_before=True,
        )

    return open_videos(sav_names(folder, split), open_video)
