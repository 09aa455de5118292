"""Training clips of single images (stage 0) and of annotated videos (the other stages)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool

from dataset.augmentation import Clip, ImageAugmentation, VideoAugmentation, moved_past, pasted_onto
from dataset.label_map import VOID, objects_of
from dataset.sampling import (
    SamplingConfig,
    TrainingSample,
    choose_frames,
    clip_of_objects,
    draw_sample,
)
from dataset.training_sets import ImageWithMask, TrainingVideo, VideoSet

# BL30K has objects that are specks; an object's side in pixels of the crop.
SPECK, SMALL, STAYS_SMALL = 10, 30, 20

PASSING_SHARE = 0.5
"""Share of pasted objects that pass one of the clip's own and hide it for a while."""


class StaticImages:
    """Clips whose frames are different views of one image.

    Args:
        images: an epoch shows each of them once; an image may be listed several times.
    """

    def __init__(self, images: Sequence[ImageWithMask], config: SamplingConfig):
        self.images = images
        self.config = config
        self.augment = ImageAugmentation(config.size)

    def sample(self, number: int, max_jump: int = 1) -> TrainingSample:
        """Return sample `number`; there is no time in an image, so `max_jump` changes nothing.

        Raises:
            UserError: as `draw_sample`.
        """
        return draw_sample(self.config, number, self.images, self._draw)

    def _draw(self, pair: ImageWithMask, rng: np.random.Generator) -> TrainingSample | None:
        rgb, label_map = pair.read()
        images, labels = self.augment(rgb, label_map, self.config.num_frames, rng)
        return TrainingSample(images, labels, objects=1) if torch.any(labels[0]) else None


class TrainingVideos:
    """Clips of annotated videos.

    Args:
        sets: an epoch shows every video as often as its set says; all videos are `long_enough`.
        finetune: frames are not rotated and sheared differently.
    """

    def __init__(self, sets: Sequence[VideoSet], config: SamplingConfig, finetune: bool = False):
        self.config = config
        self.entries: list[_Entry] = []
        for video_set in sets:
            augment = VideoAugmentation(
                config.size,
                video_set.smallest_crop,
                frame_affine=video_set.frame_affine and not finetune,
                colour_jitter=video_set.colour_jitter,
            )
            for video in video_set.videos:
                self.entries += [_Entry(video, video_set, augment)] * video_set.repeats

    def sample(self, number: int, max_jump: int) -> TrainingSample:
        """Return sample `number`, in which neighbouring frames are at most `max_jump` frames of the video apart.

        Raises:
            UserError: as `draw_sample`.
        """
        return draw_sample(self.config, number, self.entries, lambda entry, rng: self._draw(entry, max_jump, rng))

    def _draw(self, entry: "_Entry", max_jump: int, rng: np.random.Generator) -> TrainingSample | None:
        video_set = entry.video_set
        (images, masks), shown = self._clip(entry, max_jump, rng)
        if shown and video_set.paste_share and rng.random() < video_set.paste_share:
            alike = [other for other in self.entries if other.video_set is video_set]
            upper, candidates = self._clip(alike[int(rng.integers(len(alike)))], max_jump, rng)
            candidates = [label for label in candidates if (upper[1] == label).any()]  # not cropped away
            if candidates:
                new_label = next(label for label in range(1, VOID) if label not in shown)
                label = candidates[int(rng.integers(len(candidates)))]
                if rng.random() < PASSING_SHARE:
                    hidden = shown[int(rng.integers(len(shown)))]
                    upper = moved_past(upper, label, (images, masks), hidden, rng)
                images, masks = pasted_onto((images, masks), upper, label, new_label)
                shown.append(new_label)
        labels = masks.numpy()
        objects = [label for label in shown if label in labels[0]]
        if video_set.drop_specks:
            objects = [label for label in objects if not is_speck(labels == label)]
        if not objects:
            return None
        if len(objects) > self.config.max_objects:
            objects = rng.choice(objects, self.config.max_objects, replace=False).tolist()
        return clip_of_objects(images, labels, objects)

    def _clip(self, entry: "_Entry", max_jump: int, rng: np.random.Generator) -> tuple[Clip, list[int]]:
        """Draw frames of a video, and return them augmented, with the objects that the frames as stored show."""
        max_jump = max(1, max_jump // entry.video_set.frame_step)
        rgb, stored = entry.video.read(choose_frames(rng, entry.video.places, self.config.num_frames, max_jump))
        return entry.augment(rgb, stored, rng), objects_of(stored.reshape(-1, stored.shape[-1]))


@dataclass(frozen=True)
class _Entry:
    video: TrainingVideo
    video_set: VideoSet
    augment: VideoAugmentation

    def __str__(self) -> str:
        return str(self.video)


def is_speck(masks: Bool[np.ndarray, "frames height width"]) -> bool:
    """Whether an object is too small in the first frame (section 4, BL30K).

    It has at most 10² pixels; or at most 30², but 20² or more in one of the next two frames, so that the first frame
    may show only a small part of it.
    """
    first, *following = masks[:3].sum(axis=(1, 2)).tolist()
    if first <= SPECK**2:
        return True
    return first <= SMALL**2 and max(following, default=0) >= STAYS_SMALL**2
