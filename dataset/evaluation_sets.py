"""The layouts of the data sets for evaluation: which videos there are, which label maps define their objects, which
frames are saved.

Opening a set lists folders and reads no image (but one mask's header a video, where frames and masks differ in size).
What is wrong with the whole set raises at once; what is wrong with one video is kept in its `problem`, so that the
other videos can still be evaluated. `registry.py` says which set has which layout.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from dataset.frames import (
    FRAME_SUFFIXES,
    MASK_SUFFIXES,
    FrameFolder,
    FrameSource,
    backward_from,
    folder_entries,
    list_images,
    listed_lines,
    listed_videos,
    natural_key,
    plain_name,
    read_text,
    require_folder,
)
from dataset.label_map import (
    LabelMapSource,
    colour_palette,
    label_map_size,
    lacking_objects,
    list_label_maps,
    read_label_map,
)
from util.errors import UserError


@dataclass(frozen=True)
class EvaluationVideo:
    """One video to segment.

    Attributes:
        name: the video's name, its folder in the output.
        frames: all frames of the video, also those before the first annotation.
        annotations: frame name → label map defining the objects that start there, in the order of the frames; exactly
            one, the first, in all sets but YouTubeVOS.
        saved_frames: names of the frames whose masks are written unless all are asked for; None: every frame.
        ground_truth: frame name → the label map that its mask is scored by, for every saved frame from the first
            annotation on, in the order of the frames; None if a saved frame has no label map.
        later_label_maps: frame name → label map, of those that the data set has after its one annotation.
        frames_before: how many frames precede the first annotation; 0 where the data set names the frames to save.
        frames_elsewhere: size → the same frames from another folder, for sizes that `frames` do not serve.
        output_size: (height, width) of the written masks where it is not the frames' own.
        problem: why this video cannot be evaluated, in one line for the user; `frames` are empty then.
    """

    name: str
    frames: FrameSource
    annotations: Mapping[str, LabelMapSource]
    saved_frames: frozenset[str] | None
    ground_truth: Mapping[str, LabelMapSource] | None = None
    later_label_maps: Mapping[str, LabelMapSource] = field(default_factory=dict)
    frames_before: int = 0
    frames_elsewhere: Mapping[int, FrameSource] = field(default_factory=dict)
    output_size: tuple[int, int] | None = None
    problem: str | None = None

    def frames_for(self, size: int) -> FrameSource:
        """Return the frames to segment at a shorter side of `size`, one of the sizes that the set was opened for."""
        return self.frames_elsewhere.get(size, self.frames)

    @property
    def label_maps(self) -> tuple[LabelMapSource, ...]:
        """All label maps of the video from the first annotation on, in the order of the frames."""
        by_frame = {**self.annotations, **self.later_label_maps, **(self.ground_truth or {})}
        return tuple(dict.fromkeys(by_frame.values()))  # a frame that is played again has the same one

    def using_all_masks(self) -> "EvaluationVideo":
        """Return the video with every label map as an annotation: objects enter, and known ones are corrected."""
        return replace(
            self, annotations={**self.annotations, **self.later_label_maps}, later_label_maps={}, ground_truth=None
        )

    def backward(self) -> "EvaluationVideo":
        """Return the frames from the first annotated one back to the beginning as a video, with that annotation."""
        first = next(iter(self.annotations))
        frames = backward_from(self.frames, self.frames_before + 1)
        return replace(self, frames=frames, annotations={first: self.annotations[first]}, frames_before=0)


@dataclass(frozen=True)
class EvaluationSet:
    """The videos of one data set and split.

    Attributes:
        name: of the data set, as the registry has it.
        videos: in the order in which the data set names them.
        server_zip: an evaluation server scores this split, and takes a zip file.
        masks_folder: where V/FRAME.png goes below the output: "" or "Annotations".
    """

    name: str
    videos: tuple[EvaluationVideo, ...]
    server_zip: bool = False
    masks_folder: str = ""


def davis_2016(root: Path, split: str, sizes: Sequence[int]) -> tuple[EvaluationVideo, ...]:
    """DAVIS 2016: the frames that ImageSets/480p/val.txt names, one pair of frame and mask a line."""
    image_set = root / "ImageSets" / "480p" / f"{split}.txt"
    frame_names: dict[str, set[str]] = {}
    for line in listed_lines(image_set):
        pair = [PurePosixPath(field) for field in line.split()]
        if len(pair) != 2 or not pair[0].parent.name or len({(path.parent.name, path.stem) for path in pair}) != 1:
            raise UserError(f"{image_set}: '{line}' is not '/JPEGImages/480p/V/F.jpg /Annotations/480p/V/F.png'")
        frame_names.setdefault(plain_name(pair[0].parent.name, image_set), set()).add(pair[0].stem)
    return _davis_videos(root, sizes, frame_names)


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
        return _open_video(
            name, frames_root / name, masks_root / name, saved_frames=saved_frames[name], objects_start_later=True
        )

    return _videos(saved_frames, open_video)


def folder_of_videos(
    folder: Path, *, save_masked_frames: bool = False, from_first_object: bool = False
) -> tuple[EvaluationVideo, ...]:
    """The videos of {folder}/JPEGImages and {folder}/Annotations; a video that is in only one of them is a problem.

    Args:
        save_masked_frames: only frames that have a mask are saved, rather than every frame.
        from_first_object: label maps before the first one that holds an object count as absent, which has to be read.
    """
    frames_root = require_folder(folder / "JPEGImages")
    masks_root = require_folder(folder / "Annotations")
    names = {path.name for place in (frames_root, masks_root) for path in folder_entries(place) if path.is_dir()}
    if not names:
        raise UserError(f"{frames_root} has no folders, one for each video")

    def open_video(name: str) -> EvaluationVideo:
        return _open_video(
            name,
            frames_root / name,
            masks_root / name,
            save_masked_frames=save_masked_frames,
            from_first_object=from_first_object,
        )

    return _videos(sorted(names, key=natural_key), open_video)


def _davis_videos(
    root: Path, sizes: Sequence[int], frame_names: Mapping[str, set[str] | None]
) -> tuple[EvaluationVideo, ...]:
    """Videos of one DAVIS folder by name, each with the frames it is restricted to (None: all that are there)."""
    images = require_folder(root / "JPEGImages")
    frames_roots = {size: _davis_frames(images, size) for size in sizes}
    masks_root = require_folder(root / "Annotations" / "480p")
    main = frames_roots[sizes[0]]

    def open_video(name: str) -> EvaluationVideo:
        video = _open_video(name, main / name, masks_root / name, only=frame_names[name], from_first_frame=True)
        if all(frames_root.name == "480p" for frames_root in frames_roots.values()):
            return video
        assert isinstance(video.frames, FrameFolder)
        (annotation,) = video.annotations.values()
        elsewhere = {size: _same_frames(video.frames, to / name) for size, to in frames_roots.items() if to != main}
        return replace(video, frames_elsewhere=elsewhere, output_size=label_map_size(annotation))

    return _videos(frame_names, open_video)


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


def _videos(names: Iterable[str], open_video: Callable[[str], EvaluationVideo]) -> tuple[EvaluationVideo, ...]:
    """Open the videos `names`; a user error in opening one becomes that video's `problem`."""

    def opened(name: str) -> EvaluationVideo:
        try:
            return open_video(name)
        except UserError as error:
            return EvaluationVideo(name, FrameFolder(Path(name), paths={}), {}, None, problem=str(error))

    return tuple(opened(name) for name in names)


def _open_video(
    name: str,
    frames_folder: Path,
    masks_folder: Path,
    *,
    only: set[str] | None = None,
    saved_frames: frozenset[str] | None = None,
    save_masked_frames: bool = False,
    objects_start_later: bool = False,
    from_first_frame: bool = False,
    from_first_object: bool = False,
) -> EvaluationVideo:
    """List the frames and masks of one video, and check that they fit together.

    Args:
        only: the names of the frames (and masks) that belong to the video, all of them saved; None: all that are there.
        saved_frames: names of the frames whose masks are written; None: every frame.
        save_masked_frames: masks are written for the frames that have one in the data set.
        objects_start_later: every mask is an annotation, not the first alone.
        from_first_frame: the first frame must have a mask; without it, figures would compare with no published ones.
        from_first_object: label maps before the first one that holds an object count as absent.

    Raises:
        UserError: a folder is missing or empty, a mask or a frame to be saved has no frame, no frame is to be saved,
            or the first has no mask.
    """
    frames, masks = list_images(frames_folder), list_label_maps(masks_folder)
    if only is not None:
        frames = {name: frames[name] for name in frames if name in only}
        masks = {name: masks[name] for name in masks if name in only}
        saved_frames = frozenset(only)
    if not frames:
        raise UserError(f"{frames_folder} holds no frames ({', '.join(sorted(FRAME_SUFFIXES))})")
    if not masks:
        raise UserError(f"{masks_folder} holds no label maps ({', '.join(sorted(MASK_SUFFIXES))})")
    if without_frame := [name for name in masks if name not in frames]:
        raise UserError(f"{masks[without_frame[0]]} has no frame: {without_frame[0]} is not in {frames_folder}")
    if saved_frames is not None and not saved_frames:
        raise UserError(f"{frames_folder}: the data set names no frame of this video to be saved")
    if missing := sorted((saved_frames or set()) - frames.keys()):
        raise UserError(f"{frames_folder} lacks the frame {missing[0]}, which the data set names")

    names = list(frames)
    masks = {name: masks[name] for name in names if name in masks}  # in the order of the frames
    if from_first_object:
        masks = from_first_object_on(masks)
    first = next(iter(masks))
    if from_first_frame and first != names[0]:
        raise UserError(f"{masks_folder / names[0]}.png, the label map of the first frame, does not exist")
    if save_masked_frames:
        saved_frames = frozenset(masks)
    # Frames before the first annotation are skipped. Where every mask is an annotation, none is left to compare with.
    before, after = names[: names.index(first)], names[names.index(first) :]
    scored = [frame for frame in after if saved_frames is None or frame in saved_frames]
    has_ground_truth = not objects_start_later and masks.keys() >= set(scored) and not lacking_objects(masks)
    return EvaluationVideo(
        name=name,
        frames=FrameFolder(frames_folder, frames),
        annotations=masks if objects_start_later else {first: masks[first]},
        saved_frames=saved_frames,
        ground_truth={frame: masks[frame] for frame in scored} if has_ground_truth else None,
        later_label_maps={} if objects_start_later else {frame: masks[frame] for frame in masks if frame != first},
        frames_before=0 if saved_frames is not None else len(before),
    )


def from_first_object_on(masks: Mapping[str, LabelMapSource]) -> dict[str, LabelMapSource]:
    """Return label maps by frame, from the first one that holds an object on.

    Raises:
        UserError: none does, or one before it cannot be read.
    """
    frames = list(masks)
    palette = colour_palette(masks.values())
    for number, source in enumerate(masks.values()):
        if read_label_map(source, palette).labels.any():
            return {frame: masks[frame] for frame in frames[number:]}
    others = f", and so are those of all {len(masks)} label maps of the video" if len(masks) > 1 else ""
    raise UserError(f"{masks[frames[0]]} holds no object: all its labels are 0{others}")


def _read_meta(path: Path) -> dict[str, frozenset[str]]:
    """The names of the saved frames of each video of a YouTubeVOS meta.json, videos sorted."""
    try:
        videos = json.loads(read_text(path))["videos"]
        frames = {
            plain_name(name, path): frozenset(
                plain_name(frame, path) for thing in videos[name]["objects"].values() for frame in thing["frames"]
            )
            for name in sorted(videos)
        }
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a YouTubeVOS meta.json (videos.V.objects.ID.frames): {error!r}") from error
    if not frames:
        raise UserError(f"{path} names no video")
    return frames
