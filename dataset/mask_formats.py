"""Masks of videos in the formats of other programs: each is read into `VideoMasks`, and written from them.

    labels    FOLDER/V/FRAME.png          label maps; read also in colours, and as FOLDER/FRAME.png of one video
    objects   FOLDER/V/OBJECT/FRAME.png   one mask file for each object, in which masks may overlap
    soft      FOLDER/V/FRAME.npz          probabilities, as save_scores writes them
    coco      FILE.json                   COCO's instances: images, and annotations with a track_id
    youtube   FILE.json                   YouTubeVIS's: videos, and annotations with the masks of all frames

A mask in JSON is a run-length encoding as pycocotools has it; polygons are read, too.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool

from dataset.frames import folder_entries, is_plain, list_images, natural_key, plain_name, read_text, size_text
from dataset.label_map import (
    ObjectMasks,
    colour_palette,
    label_map_size,
    labels_of_folders,
    list_label_maps,
    objects_of,
    read_label_map,
    read_object_mask,
    write_label_map,
)
from dataset.soft_masks import read_probabilities, write_probabilities
from util.errors import UserError
from util.files import write_text_atomically
from util.painting import davis_palette

ObjectsOfFrame = Mapping[int, Bool[np.ndarray, "height width"]]
"""Label → where the object is, of the objects that show."""

LARGEST_SIDE = 1 << 16

PARTS = ("Annotations", "Scores")  # what an output folder holds its videos in

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FrameMasks:
    """The masks of one frame of `size` = (height, width)."""

    name: str
    size: tuple[int, int]
    masks: ObjectsOfFrame


@dataclass(frozen=True)
class VideoMasks:
    """The masks of one video.

    Attributes:
        name: the video's name.
        objects: the label of each object, from 1 to 255, and its name: a category, or the name of its folder.
        frames: a function that reads the frames, one after another.
        palette: of label maps, if they have one.
    """

    name: str
    objects: Mapping[int, str]
    frames: Callable[[], Iterator[FrameMasks]]
    palette: bytes | None = None


def read_masks(path: Path) -> list[VideoMasks]:
    """Return the videos whose masks are in a folder or a JSON file; its content says which format it is.

    Raises:
        UserError: a file is missing, damaged or of no known format.
    """
    if path.suffix.lower() == ".json":
        videos = list(_read_json(path))
        if not videos:
            raise UserError(f"{path} names no images")
        if len({video.name for video in videos}) < len(videos):
            raise UserError(f"{path}: two videos have one name")
        return videos
    for part in PARTS:
        if (path / part).is_dir():
            path = path / part
            break
    folders = [folder for folder in folder_entries(path) if folder.is_dir()]
    folders = [path] if list_images(path) else [folder for folder in folders if folder.name != "Overlay"]
    if not folders:
        raise UserError(f"{path} holds no folders of masks, one for each video")
    return [_read_soft(each) if list(each.glob("*.npz")) else _read_label_maps(each) for each in folders]


# --- Label maps, and one mask file for each object --------------------------------------------------------------------


def _read_label_maps(folder: Path) -> VideoMasks:
    sources = list_label_maps(folder)
    if not sources:
        raise UserError(f"{folder} holds no label maps")
    in_colours = colour_palette(sources.values())
    palette: bytes | None = None
    objects: dict[int, str] = {}
    for source in sources.values():
        if isinstance(source, ObjectMasks):
            objects |= {label: path.parent.name for label, path in source.files}
        else:
            label_map = read_label_map(source, in_colours)
            palette = palette or label_map.palette
            objects |= {label: str(label) for label in objects_of(label_map.labels)}

    def frames() -> Iterator[FrameMasks]:
        for name, source in sources.items():
            if isinstance(source, ObjectMasks):
                masks = ((label, read_object_mask(path)) for label, path in source.files)
            else:
                labels = read_label_map(source, in_colours).labels
                masks = ((label, labels == label) for label in objects_of(labels))
            yield FrameMasks(name, label_map_size(source), _joined(masks))

    if any(isinstance(source, ObjectMasks) for source in sources.values()):
        palette = davis_palette()
    return VideoMasks(folder.resolve().name, dict(sorted(objects.items())), frames, palette)


def names_in_labels(video: VideoMasks, folders: Mapping[int, str] | None = None) -> list[str]:
    """Return a line that says what the objects are called now, if not as before."""
    now = folders or {label: str(label) for label in video.objects}
    renamed = [f"{now[label]} is {name}" for label, name in video.objects.items() if name != now[label]]
    return [f"{video.name}: {', '.join(renamed)}"] if renamed else []


def write_labels(folder: Path, videos: Iterable[VideoMasks]) -> list[str]:
    """Write label maps. Where masks overlap, the later object's is kept."""
    notes = []
    for video in videos:
        notes += names_in_labels(video)
        (folder / video.name).mkdir(parents=True)
        overlap = 0
        for frame in video.frames():
            labels = np.zeros(frame.size, np.uint8)
            for label, mask in frame.masks.items():
                labels[mask] = label
            overlap += overlap_of(frame)
            write_label_map(folder / video.name / f"{frame.name}.png", labels, video.palette)
        if overlap:
            notes.append(f"{video.name}: masks overlap in {overlap} pixels, kept for the object with the higher label")
    return notes


def overlap_of(frame: FrameMasks) -> int:
    """Return the number of pixels that are covered by several masks."""
    return int(np.count_nonzero(sum(mask.astype(int) for mask in frame.masks.values()) > 1)) if frame.masks else 0


def write_objects(folder: Path, videos: Iterable[VideoMasks]) -> list[str]:
    """Write one mask file for each object and frame."""
    notes = []
    for video in videos:
        names = _folder_names(video)
        notes += names_in_labels(video, names)
        for name in names.values():
            (folder / video.name / name).mkdir(parents=True)
        for frame in video.frames():
            for label, name in names.items():
                mask = frame.masks.get(label, np.zeros(frame.size, bool))
                write_label_map(folder / video.name / name / f"{frame.name}.png", mask * np.uint8(255))
        if not names:
            notes.append(f"{video.name}: there is no object, so there is no mask file")
    return notes


def _folder_names(video: VideoMasks) -> Mapping[int, str]:
    """Return the folder of each object: its name, if the folders are then read with these labels, or else its label."""
    names = sorted(set(video.objects.values()), key=natural_key)
    read_back = dict(zip(labels_of_folders(names), names, strict=True)) if all(map(is_plain, names)) else {}
    return video.objects if read_back == video.objects else {label: str(label) for label in video.objects}


# --- Soft masks -------------------------------------------------------------------------------------------------------


def _read_soft(folder: Path) -> VideoMasks:
    paths = [path for path in folder_entries(folder) if path.suffix == ".npz"]
    objects = sorted({label for path in paths for label in read_probabilities(path).objects})

    def frames() -> Iterator[FrameMasks]:
        for path in paths:
            probabilities = read_probabilities(path)
            best = probabilities.prob.argmax(axis=0)
            masks = {label: best == channel for channel, label in enumerate(probabilities.objects, start=1)}
            size = (best.shape[0], best.shape[1])
            yield FrameMasks(path.stem, size, {label: masks[label] for label in sorted(masks) if masks[label].any()})

    return VideoMasks(folder.resolve().name, {label: str(label) for label in objects}, frames)


def write_soft(folder: Path, videos: Iterable[VideoMasks]) -> list[str]:
    """Write probabilities of 0 and 1."""
    notes = []
    for video in videos:
        notes += names_in_labels(video)
        (folder / video.name).mkdir(parents=True)
        objects = list(video.objects)
        overlap = 0
        for frame in video.frames():
            overlap += overlap_of(frame)
            masks = [frame.masks.get(label, np.zeros(frame.size, bool)) for label in objects]
            background = ~np.any(masks, axis=0) if masks else np.ones(frame.size, bool)
            prob = torch.from_numpy(np.stack([background, *masks])).float()
            write_probabilities(folder / video.name / f"{frame.name}.npz", prob, objects)
        if overlap:
            notes.append(
                f"{video.name}: masks overlap in {overlap} pixels, read back as the object with the lower label"
            )
    return notes


# --- JSON -------------------------------------------------------------------------------------------------------------


def _pycocotools() -> Any:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise UserError(f"masks in JSON need the package pycocotools: pip install pycocotools ({error})") from None
    return mask


def encoded(mask: Bool[np.ndarray, "height width"]) -> dict[str, Any]:
    """Return the run-length encoding of a mask, as JSON takes it."""
    code = _pycocotools().encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode("ascii")}


def decoded(segmentation: Any, size: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """Return the mask of a run-length encoding, compressed or not, or of polygons, in an image of (height, width).

    Raises:
        ValueError: it is none of these, or of another size.
    """
    coco = _pycocotools()
    if not segmentation:
        raise ValueError("an annotation has no mask (only a box, perhaps)")
    runs = segmentation["counts"] if isinstance(segmentation, dict) else None
    if runs is not None and not isinstance(runs, str) and sum(runs) != size[0] * size[1]:
        raise ValueError(f"runs of {sum(runs)} pixels in an image of {size_text(size)}")
    try:
        if isinstance(runs, str):
            code = {"size": segmentation["size"], "counts": runs.encode("ascii")}
        elif runs is not None:
            code = coco.frPyObjects(segmentation, *size)
        else:
            code = coco.merge(coco.frPyObjects(segmentation, *size))
        if tuple(code["size"]) == size:
            return coco.decode(code).astype(bool)
    except Exception as error:  # pycocotools raises bare exceptions
        raise ValueError(f"a mask that pycocotools refuses: {error}") from error
    raise ValueError(f"a mask of {size_text(tuple(code['size']))} in an image of {size_text(size)}")


def _read_json(path: Path) -> Iterator[VideoMasks]:
    with _explained(path):
        content = json.loads(read_text(path))
        images, annotations = content.get("images"), content["annotations"]
        categories = {each["id"]: str(each["name"]) for each in content.get("categories", ())}
        if images is not None:
            videos = _coco_videos(path, images, annotations, categories)
        else:
            videos = _youtube_videos(path, content["videos"], annotations, categories)
        yield from videos


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what comes of content that is not as expected into a UserError."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is no JSON of COCO or YouTubeVIS with masks: {error!r}") from error


def _coco_videos(
    path: Path, images: Sequence[Any], annotations: Sequence[Any], categories: Mapping[int, str]
) -> Iterator[VideoMasks]:
    by_image: dict[Any, list[Any]] = {image["id"]: [] for image in images}
    for annotation in annotations:
        if annotation["image_id"] not in by_image:
            raise UserError(f"{path}: an annotation is of image {annotation['image_id']}, which is not listed")
        by_image[annotation["image_id"]].append(annotation)
    videos: dict[str, list[Any]] = {}
    for image in images:
        folder = PurePosixPath(image["file_name"]).parent.name
        videos.setdefault(plain_name(folder or path.stem, path), []).append(image)
    for name, frames in videos.items():
        _check_frames(path, name, [image["file_name"] for image in frames])
        shown = [annotation for image in frames for annotation in by_image[image["id"]]]
        tracks = _tracks(path, name, shown)
        labels = _labels(path, name, list(dict.fromkeys(tracks)))
        label_of = {id(annotation): labels[track] for annotation, track in zip(shown, tracks, strict=True)}
        objects = {label_of[id(each)]: categories.get(each["category_id"], "object") for each in shown}

        def read(frames: Sequence[Any] = frames, label_of: Mapping[int, int] = label_of) -> Iterator[FrameMasks]:
            for image in frames:
                with _explained(path):
                    size, shown = _size(image), by_image[image["id"]]
                    masks = _joined((label_of[id(each)], decoded(each["segmentation"], size)) for each in shown)
                yield FrameMasks(PurePosixPath(image["file_name"]).stem, size, masks)

        yield VideoMasks(name, dict(sorted(objects.items())), read, davis_palette())


def _tracks(path: Path, video: str, annotations: Sequence[Any]) -> list[Any]:
    """Return which object each annotation of a video belongs to.

    Raises:
        UserError: the file does not say.
    """
    given = [each.get("track_id", (each.get("attributes") or {}).get("track_id")) for each in annotations]
    if None not in given:
        return given
    if len({each["image_id"] for each in annotations}) == 1:
        return list(range(1, len(annotations) + 1))
    categories = [each["category_id"] for each in annotations]
    if len(set(zip((each["image_id"] for each in annotations), categories, strict=True))) < len(annotations):
        raise UserError(
            f"{path}: an image of {video} has several annotations of one category; a track_id has to say which of them "
            "is which in the other images"
        )
    return categories


def _youtube_videos(
    path: Path, videos: Sequence[Any], annotations: Sequence[Any], categories: Mapping[int, str]
) -> Iterator[VideoMasks]:
    known = {video["id"] for video in videos}
    if strangers := [each["video_id"] for each in annotations if each["video_id"] not in known]:
        raise UserError(f"{path}: an annotation is of video {strangers[0]}, which is not listed")
    for video in videos:
        files = [PurePosixPath(name) for name in video["file_names"]]
        name = plain_name(files[0].parent.name or path.stem, path)
        _check_frames(path, name, video["file_names"])
        size = _size(video)
        tracks = [each for each in annotations if each["video_id"] == video["id"]]
        if wrong := [len(each["segmentations"]) for each in tracks if len(each["segmentations"]) != len(files)]:
            raise UserError(f"{path}: {name} has {len(files)} frames, but an object has masks for {wrong[0]}")
        keys = [each.get("track_id", each["id"]) for each in tracks]
        if all("track_id" not in each for each in tracks):
            keys = list(range(1, len(tracks) + 1))
        labels = _labels(path, name, keys)
        masks_of_label = {labels[key]: each["segmentations"] for key, each in zip(keys, tracks, strict=True)}
        objects = {
            labels[key]: categories.get(each["category_id"], "object") for key, each in zip(keys, tracks, strict=True)
        }

        def read(
            files: Sequence[PurePosixPath] = files,
            size: tuple[int, int] = size,
            masks_of_label: Mapping[int, Sequence[Any]] = masks_of_label,
        ) -> Iterator[FrameMasks]:
            for number, file in enumerate(files):
                with _explained(path):
                    codes = ((label, of_frames[number]) for label, of_frames in masks_of_label.items())
                    masks = _joined((label, decoded(code, size)) for label, code in codes if code is not None)
                yield FrameMasks(file.stem, size, masks)

        yield VideoMasks(name, dict(sorted(objects.items())), read, davis_palette())


def _check_frames(path: Path, video: str, files: Sequence[str]) -> None:
    """Check that frames have plain names that differ.

    Raises:
        UserError: they have not.
    """
    names = [plain_name(PurePosixPath(file).stem, path) for file in files]
    if len(set(names)) < len(names):
        raise UserError(f"{path}: two frames of {video} have one name")


def _size(thing: Any) -> tuple[int, int]:
    """Return the (height, width) that an image or a video states."""
    height, width = thing["height"], thing["width"]
    if not all(isinstance(side, int) and 0 < side <= LARGEST_SIDE for side in (height, width)):
        raise ValueError(f"no size of an image: {height} {width}")
    return height, width


def _joined(masks: Iterable[tuple[int, Bool[np.ndarray, "height width"]]]) -> ObjectsOfFrame:
    """Return masks by label, those of one label together, in the order of the labels."""
    joined: dict[int, Bool[np.ndarray, "height width"]] = {}
    for label, mask in masks:
        joined[label] = joined[label] | mask if label in joined else mask
    return {label: joined[label] for label in sorted(joined) if joined[label].any()}


def _labels(path: Path, video: str, tracks: Sequence[Any]) -> dict[Any, int]:
    """Return the label of each track: its own number where all are from 1 to 255, or else 1, 2, … in their order."""
    if len(tracks) > 255:
        raise UserError(f"{path}: {video} has {len(tracks)} objects; there can be 255")
    numbers = [number for track in tracks if (number := _whole(track)) is not None and 1 <= number <= 255]
    if len(set(numbers)) == len(tracks):
        return dict(zip(tracks, numbers, strict=True))
    pairs = [f"{number} is track {track}" for number, track in enumerate(tracks, start=1)]
    logger.warning("%s: objects of %s get other labels: %s", path, video, ", ".join(pairs))
    return {track: number for number, track in enumerate(tracks, start=1)}


def _whole(track: Any) -> int | None:
    """Return the whole number that a track's id is, also as a float or a text; None: it is none."""
    try:
        return int(track) if int(track) == float(track) and not isinstance(track, bool) else None
    except (TypeError, ValueError, OverflowError):
        return None


def write_coco(path: Path, videos: Iterable[VideoMasks]) -> list[str]:
    """Write COCO's instances; an annotation's track_id is the object's label, and its category the object's name."""
    images: list[Any] = []
    annotations: list[Any] = []
    categories: dict[str, int] = {}
    notes = []
    for number, video in enumerate(videos, start=1):
        never_shown = set(video.objects)
        for frame in video.frames():
            height, width = frame.size
            file_name = f"{video.name}/{frame.name}.png"
            image = {"id": len(images) + 1, "file_name": file_name, "height": height, "width": width}
            images.append({**image, "video_id": number})
            never_shown -= frame.masks.keys()
            for label, mask in frame.masks.items():
                category = categories.setdefault(video.objects[label], len(categories) + 1)
                annotations.append(
                    {"id": len(annotations) + 1, "image_id": image["id"], "track_id": label, "category_id": category}
                    | {"segmentation": encoded(mask), "area": int(mask.sum()), "bbox": box_of(mask), "iscrowd": 0}
                )
        if never_shown:
            notes.append(f"{video.name}: {sorted(never_shown)} do not show in any frame, so they have no annotation")
    _write_json(path, {"images": images}, annotations, categories)
    return notes


def write_youtube(path: Path, videos: Iterable[VideoMasks]) -> list[str]:
    """Write YouTubeVIS's JSON: an annotation has the masks of one object, null where it does not show.

    Raises:
        UserError: frames of one video differ in size.
    """
    listed: list[Any] = []
    annotations: list[Any] = []
    categories: dict[str, int] = {}
    for video in videos:
        names: list[str] = []
        sizes: dict[tuple[int, int], str] = {}
        masks: dict[int, list[Any]] = {label: [] for label in video.objects}
        for frame in video.frames():
            names.append(f"{video.name}/{frame.name}.png")
            sizes.setdefault(frame.size, frame.name)
            for label, of_frames in masks.items():
                of_frames.append(encoded(frame.masks[label]) if label in frame.masks else None)
        if len(sizes) > 1:
            raise UserError(f"{video.name}: frames {' and '.join(sizes.values())} differ in size; this format has one")
        ((height, width),) = sizes
        of_video = {"id": len(listed) + 1, "file_names": names, "height": height, "width": width, "length": len(names)}
        listed.append(of_video)
        for label, name in video.objects.items():
            category = categories.setdefault(name, len(categories) + 1)
            annotations.append(
                {"id": len(annotations) + 1, "video_id": of_video["id"], "track_id": label, "category_id": category}
                | {"segmentations": masks[label], "iscrowd": 0}
            )
    _write_json(path, {"videos": listed}, annotations, categories)
    return []


def box_of(mask: Bool[np.ndarray, "height width"]) -> list[int]:
    """Return the box of a mask that is not empty: x, y, width and height."""
    return list(cv2.boundingRect(mask.astype(np.uint8)))


def _write_json(
    path: Path, shown: Mapping[str, Any], annotations: Sequence[Any], categories: Mapping[str, int]
) -> None:
    listed = [{"id": number, "name": name} for name, number in categories.items()]
    write_text_atomically(path, json.dumps({**shown, "annotations": annotations, "categories": listed}) + "\n")


WRITERS: Mapping[str, Callable[[Path, Iterable[VideoMasks]], list[str]]] = {
    "labels": write_labels,
    "objects": write_objects,
    "soft": write_soft,
    "coco": write_coco,
    "youtube": write_youtube,
}
"""What writes each format into a new folder, or a file; it returns what there is to say about each video, in lines."""

JSON_FORMATS = frozenset({"coco", "youtube"})
