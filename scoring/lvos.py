"""LVOS's figures: J, F and V of seen and unseen videos, over each object's own frames.

V is the standard deviation of J&F over an object's frames: how steadily it is followed. The toolkit's optional compiled
extension finds other boundaries and thus other figures; this is the toolkit without it.
"""

import logging
import math
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from dataset.frames import list_images, listed_videos
from dataset.label_map import MASK_SUFFIXES
from dataset.recent_sets import LvosObject, lvos_folder, read_lvos_meta
from scoring.planning import (
    SequencePlan,
    chosen_sequences,
    frames_of_objects,
    require_predictions,
    score_frame,
)
from scoring.scores import FrameValues, ObjectScore, Rules, Shown, in_groups
from util.errors import UserError

logger = logging.getLogger(__name__)

_UNSEEN = """
R3UJGYwy K3OUeINk 058oeZ2p xpI7xRWN FiRTBMg2 nfcT3owb JGG6MrhF yfzVCnvU 6mNj04tC yWnanBID v3uNUctx 49TNsJzk gw84JOqH
711gAS21 dtHbJvYy tAyQIobn vJ8W2TO5 FmzvB44A 8lxxCA5h N6CONZUW Oj1z5fO0 gdqCcvs2 LWVlKBlK yxCvN6OJ pMntJwSQ p9RjdKoh
9NA8c5C3 m37l7ti1 nwflTTf1 LY2zehlH beR0WT11 afoR2rH6 xQZlxhxV o36i3YWC cdzAjcuN IlvtT6D6 YfoFnMgm FiQUhyRi 9oLyy7aJ
9RoNInYO wrrX6bxv q2HE4zaM rvwT3piq ZFqAoImI bwcKqVSN QE1wMR58 eEcUJVBZ Qf9YVXOW SRRojucs PQfn7XV2 3bvEjhOT
"""
UNSEEN = frozenset(_UNSEEN.split())
"""The videos with things of categories that training does not show, of both versions (the toolkit's list)."""


def of_object(values: FrameValues, shown: Shown) -> dict[str, float]:
    """J, F, V and J&F of an object in percent."""
    j, f = values["J"], values["F"]
    mean_j, mean_f = 100 * float(j.mean()), 100 * float(f.mean())
    variance = round(float(np.var((j + f) / 2)), 4)  # rounded by the toolkit
    return {"J&F": (mean_j + mean_f) / 2, "J": mean_j, "F": mean_f, "V": 100 * math.sqrt(variance)}


def of_all(objects: Collection[ObjectScore]) -> dict[str, float]:
    """The figures of the data set, as the toolkit calls them; nan without seen or without unseen objects."""
    figures: dict[str, float] = {}
    for name in "JFV":
        seen, unseen = (in_groups(objects, group, name) for group in ("seen", "unseen"))
        figures |= {
            f"{name}-Mean": (seen + unseen) / 2,
            f"{name}-seen-Mean": seen,
            f"{name}-unseen-Mean": unseen,
        }
    return {"J&F-Mean": (figures["J-Mean"] + figures["F-Mean"]) / 2, **figures}


RULES = Rules("lvos", ("J", "F"), ("J&F", "J", "F", "V"), of_object, of_all, unit=1.0)


def plans(
    ground_truth: Path, prediction: Path, names: Collection[str] | None = None, unseen: Path | None = None
) -> Mapping[str, Callable[[], SequencePlan]]:
    """Return, by the videos' names, a function for each that makes its plan.

    Args:
        ground_truth: the folder that holds valid.
        unseen: a text file that names the unseen videos, one a line; None: those of LVOS.

    Raises:
        UserError: a file or folder is missing or damaged, or the ground truth lacks one of `names`.
    """
    objects_of = read_lvos_meta(ground_truth)
    unseen_videos = UNSEEN if unseen is None else frozenset(listed_videos(unseen))
    if unseen is not None and unseen_videos.isdisjoint(objects_of):
        logger.warning("%s names no video of %s", unseen, ground_truth)
    masks = lvos_folder(ground_truth, "val") / "Annotations"
    return {
        name: partial(
            plan, name, objects_of[name], masks / name, prediction / name, "unseen" if name in unseen_videos else "seen"
        )
        for name in chosen_sequences(objects_of, names, ground_truth, prediction)
    }


def plan(name: str, things: Collection[LvosObject], truth: Path, prediction: Path, group: str) -> SequencePlan:
    """Return what is scored of a video: each object from its second to its last frame but one.

    Raises:
        UserError: a label map is missing, or the meta file contradicts itself.
    """
    if not things:
        raise UserError(f"the meta file names no object of {name}")
    frames_of = {thing.label: thing.frames()[1:-1] for thing in things}
    there = list_images(truth, MASK_SUFFIXES)
    if missing := set().union(*frames_of.values()) - there.keys():
        raise UserError(f"{truth} lacks {min(missing)}, a frame that the meta file names")
    frames = frames_of_objects(frames_of, there, prediction)
    require_predictions(frames)
    return SequencePlan(
        name,
        {label: label for label in frames_of},
        frames,
        score_frame,
        groups=dict.fromkeys(frames_of, group),
        later="in the ground truth, but no objects of the meta file",
    )
