"""A look at a folder of videos before hours are spent on it: what would fail, be left out or be misunderstood."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from dataset.frames import is_turned, list_images, open_image, read_frame, size_text, video_folders
from dataset.given_label_maps import check_objects
from dataset.label_map import (
    COLOUR_MODES,
    VOID,
    LabelMapSource,
    ObjectMasks,
    colour_palette,
    lacking_objects,
    list_label_maps,
    marks_void,
    objects_of,
    read_label_map,
)
from util.errors import UserError, first_few


@dataclass(frozen=True)
class CheckedVideo:
    """What a folder holds of one video, and what is wrong or noticeable about it, one line each."""

    name: str
    frames: int
    label_maps: int
    findings: tuple[str, ...]


def check_folder(root: Path) -> Iterator[CheckedVideo]:
    """Read every frame and label map of the videos in `root`, which may be that of a data set or one video's frames.

    JPEGImages and Annotations are looked for in `root`, in each with a folder for each video, perhaps below 480p.

    Raises:
        UserError: there is nothing of this kind.
    """
    frames_root, masks_root = root / "JPEGImages", root / "Annotations"
    if not frames_root.is_dir():
        if not list_images(root):
            raise UserError(f"{root} holds neither JPEGImages (and Annotations) nor images")
        yield check_video(root.resolve().name, root, None)
        return
    if (frames_root / "480p").is_dir():
        frames_root, masks_root = frames_root / "480p", masks_root / "480p"
    for name in video_folders(*(place for place in (frames_root, masks_root) if place.is_dir())):
        yield check_video(name, frames_root / name, masks_root / name)


def check_video(name: str, frames_folder: Path, masks_folder: Path | None) -> CheckedVideo:
    """Look at one video; `masks_folder` is None where there is to be none."""
    findings: list[str] = []
    frames: Mapping[str, Path] = {}
    masks: Mapping[str, LabelMapSource] = {}
    try:
        frames = list_images(frames_folder)
        masks = {} if masks_folder is None else list_label_maps(masks_folder)
    except UserError as error:
        return CheckedVideo(name, len(frames), 0, (str(error),))
    if not frames:
        findings.append(f"{frames_folder} holds no frames")
    if masks_folder is not None and not masks:
        findings.append(f"{masks_folder} holds no label maps")
    findings += _about_names(frames, masks)
    if not_trained_on := [each for each in masks.values() if not is_png_with_one_channel(each)]:
        findings.append(
            f"training reads PNG files with one channel only, unlike evaluation ({not_trained_on[0]}); python -m "
            "scripts.convert makes them"
        )
    sizes, about_frames = _about_frames(frames)
    findings += about_frames
    findings += _about_label_maps(masks, sizes, list(frames))
    return CheckedVideo(name, len(frames), len(masks), tuple(findings))


def is_png_with_one_channel(source: LabelMapSource) -> bool:
    """Return whether a label map is of the form that training reads; what cannot be read counts as one that is."""
    if isinstance(source, ObjectMasks):
        return False
    try:
        with open_image(source) as image:
            return source.suffix == ".png" and image.mode not in COLOUR_MODES
    except UserError:
        return True


def _about_names(frames: Mapping[str, Path], masks: Mapping[str, LabelMapSource]) -> Iterator[str]:
    names = list(frames)
    if names != sorted(names):
        orders = [", ".join(ordered[:3]) for ordered in (names, sorted(names))]
        yield f"frames are taken in the order {orders[0]}, …; other programs take {orders[1]}, …: pad the numbers"
    if without_frame := [frame for frame in masks if frame not in frames]:
        yield f"label maps without a frame of their name ({len(without_frame)}): {first_few(without_frame, 3)}"


def _about_frames(frames: Mapping[str, Path]) -> tuple[dict[str, tuple[int, int]], list[str]]:
    """Return the size of each frame that can be read, and the findings."""
    sizes: dict[str, tuple[int, int]] = {}
    damaged: list[str] = []
    turned: list[str] = []
    for name, path in frames.items():
        try:
            height, width, _ = read_frame(path).rgb.shape
            with Image.open(path) as image:
                turned += [path.name] * is_turned(image)
            sizes[name] = height, width
        except UserError as error:
            damaged.append(str(error))
    findings = damaged
    if len(set(sizes.values())) > 1:
        first_of: dict[tuple[int, int], str] = {}
        for name, size in sizes.items():
            first_of.setdefault(size, name)
        texts = [f"{size_text(size)} (from {name})" for size, name in first_of.items()]
        findings.append(f"frames differ in size, and frames of one video have one: {first_few(texts, 4)}")
    if turned:
        findings.append(f"frames that are marked as turned and read upright ({len(turned)}): {first_few(turned, 3)}")
    return sizes, findings


def _about_label_maps(
    masks: Mapping[str, LabelMapSource], sizes: Mapping[str, tuple[int, int]], frames: Sequence[str]
) -> Iterator[str]:
    try:
        palette = colour_palette(masks.values())
    except UserError as error:
        yield str(error)
        return
    if lacking := lacking_objects(masks):
        frame, objects = next(iter(lacking.items()))
        yield f"frames without a mask of every object ({len(lacking)}), so it has no score: {frame} lacks {objects[0]}"
    shown: dict[int, list[str]] = {}
    empty: list[str] = []
    first: list[int] = []
    unusable = 0
    for frame, source in masks.items():
        try:
            label_map = read_label_map(source, palette)
            labels = objects_of(label_map.labels)
            if labels:
                check_objects(label_map, source)
        except UserError as error:
            yield str(error)
            unusable += 1
            continue
        size = (label_map.labels.shape[0], label_map.labels.shape[1])
        if sizes.get(frame, size) != size:
            yield f"{source} is {size_text(size)}, but its frame {size_text(sizes[frame])}; they must have one size"
        first = first or labels
        empty += [frame] * (not labels and not first)
        for label in labels:
            shown.setdefault(label, []).append(frame)
    if masks and not first and not unusable:
        yield "no label map holds an object"
    if empty and first:
        yield f"label maps before the first object ({len(empty)}): objects are followed from {shown[first[0]][0]} on"
    if VOID in shown and marks_void(first):
        yield "label 255 beside others means void and is not followed; give it another label if it is an object"
    followed = [frame for frame in frames if frame in masks and frame not in empty]
    after = frames[frames.index(followed[0]) :] if followed else []
    if 1 < len(followed) < len(after):
        yield (
            f"{len(followed)} of {len(after)} frames have a label map: training uses all, evaluation those after the "
            "first only with --use_all_masks, and there is no score"
        )
    once = [label for label, where in shown.items() if len(where) == 1] if len(followed) > 1 else []
    if once:
        texts = [f"{label} (in {shown[label][0]})" for label in sorted(once)]
        yield f"labels that appear in one label map only, perhaps by mistake ({len(once)}): {first_few(texts, 5)}"
