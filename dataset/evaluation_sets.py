"""The layouts of the data sets for evaluation: which videos there are, which label maps define their objects, which
frames are saved. Those of LVOS, MOSEv2, VOST and SA-V are in `recent_sets.py`.

Opening a set lists folders and reads no image, but one mask's header a video where frames and masks differ in size, and
in the layout of folders the label maps up to the first that holds an object.
What is wrong with the whole set raises at once; what is wrong with one video is kept in its `problem`. `registry.py`
says which set has which layout.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from dataset.evaluation_video import EvaluationVideo, list_video, open_videos
from dataset.frames import (
    FrameFolder,
    davis_2016_frames,
    list_images,
    listed_videos,
    natural_key,
    plain_name,
    read_text,
    require_folder,
    video_folders,
)
from dataset.label_map import label_map_size
from util.errors import UserError

T = TypeVar("T")

YOUTUBE_VOS_TRUTH = "GroundTruth"
"""The folder for label maps of all frames of YouTubeVOS's valid, which its server keeps to itself."""


def davis_2016(root: Path, split: str, sizes: Sequence[int]) -> tuple[EvaluationVideo, ...]:
    """DAVIS 2016: the frames that ImageSets/480p/val.txt names."""
    return _davis_videos(root, sizes, davis_2016_frames(root / "ImageSets" / "480p" / f"{split}.txt"))


def davis_2017(root: Path, split: str, sizes: Sequence[int]) -> tuple[EvaluationVideo, ...]:
    """DAVIS 2017, validation or test-dev: the videos that its image set names, one a line.

    The folder trainval or test-dev may be missing: an archive that was unpacked by itself has none.
    """
    part, list_name = ("trainval", "val.txt") if split == "val" else ("test-dev", "test-dev.txt")
    is_flat = not os.path.isdir(root / part) and os.path.isdir(root / "JPEGImages")
    folder = root if is_flat else require_folder(root / part)
    image_sets = [place / "ImageSets" / "2017" / list_name for place in (folder, root)]
    image_set = next((path for path in image_sets if os.path.isfile(path)), image_sets[0])
    return _davis_videos(folder, sizes, dict.fromkeys(listed_videos(image_set)))


def youtube_vos(root: Path, split: str, sizes: Sequence[int]) -> tuple[EvaluationVideo, ...]:
    """YouTubeVOS: the videos of meta.json, at full frame rate; the frames that meta.json names are saved."""
    part = {"val": "valid", "test": "test"}[split]
    frames_root = require_folder(root / "all_frames" / f"{part}_all_frames" / "JPEGImages")
    masks_root = require_folder(root / part / "Annotations")
    saved_frames = _read_meta(root / part / "meta.json")

    def open_video(name: str) -> EvaluationVideo:
        return list_video(
            name, frames_root / name, masks_root / name, saved_frames=saved_frames[name], objects_start_later=True
        )

    return open_videos(saved_frames, open_video)


def youtube_vos_truth(root: Path, split: str) -> Path | None:
    """Return `root` if valid/GroundTruth is there, for whoever has it: {root}/valid/GroundTruth/V/FRAME.png."""
    return root if split == "val" and os.path.isdir(root / "valid" / YOUTUBE_VOS_TRUTH) else None


def folder_of_videos(
    folder: Path,
    *,
    save_masked_frames: bool = False,
    from_first_frame: bool = False,
    from_first_object: bool = False,
) -> tuple[EvaluationVideo, ...]:
    """The videos of {folder}/JPEGImages and {folder}/Annotations; a video that is in only one of them is a problem.

    Args:
        save_masked_frames: only frames that have a mask are saved, rather than every frame.
        from_first_frame: the first frame must have a mask.
        from_first_object: label maps before the first one that holds an object count as absent, which has to be read.
    """
    frames_root = require_folder(folder / "JPEGImages")
    masks_root = require_folder(folder / "Annotations")
    names = video_folders(frames_root, masks_root)

    def open_video(name: str) -> EvaluationVideo:
        return list_video(
            name,
            frames_root / name,
            masks_root / name,
            save_masked_frames=save_masked_frames,
            from_first_frame=from_first_frame,
            from_first_object=from_first_object,
        )

    return open_videos(sorted(names, key=natural_key), open_video)


def _davis_videos(
    root: Path, sizes: Sequence[int], frame_names: Mapping[str, set[str] | None]
) -> tuple[EvaluationVideo, ...]:
    """Videos of one DAVIS folder by name, each with the frames it is restricted to (None: all that are there)."""
    images = require_folder(root / "JPEGImages")
    frames_roots = {size: _davis_frames(images, size) for size in sizes}
    masks_root = require_folder(root / "Annotations" / "480p")
    main = frames_roots[sizes[0]]

    def open_video(name: str) -> EvaluationVideo:
        video = list_video(name, main / name, masks_root / name, only=frame_names[name], from_first_frame=True)
        if all(frames_root.name == "480p" for frames_root in frames_roots.values()):
            return video
        assert isinstance(video.frames, FrameFolder)
        (annotation,) = video.annotations.values()
        elsewhere = {size: _same_frames(video.frames, to / name) for size, to in frames_roots.items() if to != main}
        return replace(video, frames_elsewhere=elsewhere, output_size=label_map_size(annotation))

    return open_videos(frame_names, open_video)


def _davis_frames(images: Path, size: int) -> Path:
    """Return the folder of JPEGImages from which frames are read for `size`."""
    resolutions = ["480p"] if size == 480 else ["Full-Resolution", "1080p"]
    if 0 < size < 480:
        resolutions.append("480p")
    folder = next((images / name for name in resolutions if os.path.isdir(images / name)), None)
    if folder is None:
        raise UserError(f"{images} has no folder {' or '.join(resolutions)}, which frames of size {size} are read from")
    return folder


def _same_frames(frames: FrameFolder, folder: Path) -> FrameFolder:
    """Return the frames of the same names from another folder.

    Raises:
        UserError: a frame is not there.
    """
    there = list_images(folder)
    if missing := [name for name in frames.paths if name not in there]:
        raise UserError(f"{folder} lacks the frame {missing[0]}, which {frames.folder} has")
    return FrameFolder(folder, {name: there[name] for name in frames.paths})


def _read_meta(path: Path) -> dict[str, frozenset[str]]:
    """Return the names of the saved frames of each video of a YouTubeVOS meta.json, videos sorted.

    Raises:
        MissingError, UserError: the file is missing, or has another form.
    """

    def frames(video: Any) -> frozenset[str]:
        return frozenset(plain_name(frame, path) for thing in video["objects"].values() for frame in thing["frames"])

    videos = read_json_videos(path, "a YouTubeVOS meta.json (videos.V.objects.ID.frames)", frames)
    return dict(sorted(videos.items()))


def read_json_videos(path: Path, form: str, parse: Callable[[Any], T]) -> dict[str, T]:
    """Return what a meta file, {"videos": {V: …}}, holds of each video, in the file's order.

    Args:
        form: what the file should be, for the message.
        parse: makes the value of a video from what the file has under its name. Errors of content that is not as
            expected (ValueError, KeyError, TypeError, …) are explained.

    Raises:
        MissingError, UserError: the file is missing, has another form, or names no video.
    """
    try:
        content = json.loads(read_text(path))["videos"]
        videos = {plain_name(name, path): parse(video) for name, video in content.items()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is not {form}: {error!r}") from error
    if not videos:
        raise UserError(f"{path} names no video")
    return videos
