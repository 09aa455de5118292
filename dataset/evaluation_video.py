"""A video to segment: its frames, the label maps that define its objects, and what is written of it.

Listing a video reads no image, but in the layout of folders the label maps up to the first that holds an object. What
is wrong with one video is kept in its `problem`, so that the others of its set can still be evaluated.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from dataset.frames import FRAME_SUFFIXES, MASK_SUFFIXES, FrameFolder, FrameSource, backward_from, list_images
from dataset.label_map import (
    LabelMapSource,
    ObjectMasks,
    colour_palette,
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
        annotations: frame name → label map defining the objects that start there, in the order of the frames; one, the
            first, where all objects start together.
        saved_frames: names of the frames whose masks are written unless all are asked for; None: every frame.
        ground_truth: frame name → the label map that its mask is scored by, for every saved frame from the first
            annotation on, in the order of the frames; None if a saved frame has no label map.
        later_label_maps: frame name → label map, of those that the data set has and that are no annotations.
        starts: frame name → the labels of the objects that start there, where the data set says so. Other labels of the
            frame's label map are ignored. An object that it does not show starts at the first later one that does.
        has_void: 255 is void whatever other labels there are; otherwise `label_map.marks_void` decides.
        object_folders: the folders of objects by their labels, where results lie in a folder for each object.
        empty_before: frames before the first object are written as well, empty.
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
    starts: Mapping[str, frozenset[int]] = field(default_factory=dict)
    has_void: bool = False
    object_folders: Mapping[int, str] = field(default_factory=dict)
    empty_before: bool = False
    frames_before: int = 0
    frames_elsewhere: Mapping[int, FrameSource] = field(default_factory=dict)
    output_size: tuple[int, int] | None = None
    problem: str | None = None

    def is_saved(self, frame: str) -> bool:
        """Return whether the mask of a frame is written even where not all are asked for."""
        return self.saved_frames is None or frame in self.saved_frames

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

    def separated(self) -> "tuple[EvaluationVideo, ...]":
        """Return a video for each object of `object_folders`, named V/OBJECT, with the masks of this object alone."""
        return tuple(self._with_one_object(label, folder) for label, folder in self.object_folders.items()) or (self,)

    def _with_one_object(self, label: int, folder: str) -> "EvaluationVideo":
        sources = {**self.annotations, **self.later_label_maps}.items()
        masks = {frame: source.only({label}) for frame, source in sources if isinstance(source, ObjectMasks)}
        masks = {frame: source for frame, source in masks.items() if source.files}
        first = next(iter(masks))
        return replace(
            self,
            name=f"{self.name}/{folder}",
            annotations={first: masks.pop(first)},
            saved_frames=frozenset({first, *masks}),
            later_label_maps=masks,
            starts={first: frozenset({label})},
            object_folders={},
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
        protocol: the rules by which it is scored, a name in `scoring/protocols.py`.
        truth: the folder with its ground truth, as this protocol expects it; None where there is none, and with
            "davis", which scores by the videos' own `ground_truth`.
    """

    name: str
    videos: tuple[EvaluationVideo, ...]
    server_zip: bool = False
    masks_folder: str = ""
    protocol: str = "davis"
    truth: Path | None = None


def open_videos(names: Iterable[str], open_video: Callable[[str], EvaluationVideo]) -> tuple[EvaluationVideo, ...]:
    """Open the videos `names`; a user error in opening one becomes that video's `problem`."""

    def opened(name: str) -> EvaluationVideo:
        try:
            return open_video(name)
        except UserError as error:
            return EvaluationVideo(name, FrameFolder(Path(name), paths={}), {}, None, problem=str(error))

    return tuple(opened(name) for name in names)


def list_video(
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
