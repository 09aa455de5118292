"""The benchmarks' ways of scoring, by name."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from scoring import lvos, mose2, sav, vost, youtube_vos
from scoring.planning import SequencePlan, score_plans
from scoring.scores import Rules, Scores


@dataclass(frozen=True)
class Protocol:
    """How one benchmark is scored.

    Attributes:
        title: the benchmark, and what its rules have that one would not expect.
        ground_truth: what the folder of the ground truth holds.
        rules: how it makes figures of measures.
        plans: says, given the folders of ground truth and prediction and the names of sequences (None: all), what is
            scored of each sequence.
    """

    title: str
    ground_truth: str
    rules: Rules
    plans: Callable[[Path, Path, Collection[str] | None], Mapping[str, Callable[[], SequencePlan]]]

    def score(
        self, ground_truth: Path, prediction: Path, names: Collection[str] | None = None, threads: int | None = None
    ) -> Scores:
        """Return the scores of all sequences, or of those with these `names`.

        Raises:
            UserError: a file or folder is missing or damaged, or no sequence can be scored.
        """
        return score_plans(self.rules, self.plans(ground_truth, prediction, names), threads)


def lvos_with(unseen: Path) -> Protocol:
    """Return LVOS's protocol with another list of unseen videos, a text file with one a line."""
    protocol = PROTOCOLS["lvos"]
    return Protocol(protocol.title, protocol.ground_truth, protocol.rules, partial(lvos.plans, unseen=unseen))


PROTOCOLS: Mapping[str, Protocol] = {
    "lvos": Protocol(
        "LVOS: each object from its second to its last frame but one; seen and unseen videos",
        "valid",
        lvos.RULES,
        lvos.plans,
    ),
    "vost": Protocol(
        "VOST: J and J_tr; void counts as background, and labels that the first map skips as objects",
        "Annotations and ImageSets",
        vost.RULES,
        vost.plans,
    ),
    "sav": Protocol(
        "SA-V: a folder for each object; leading frames without anything do not count",
        "Annotations_6fps and the list of videos",
        sav.RULES,
        sav.plans,
    ),
    "mose2": Protocol(
        "MOSEv2: J, Ḟ and F; a video without predictions counts as 0, and without the first frame others count",
        "Annotations, all of them, and meta.json",
        mose2.RULES,
        mose2.plans,
    ),
    "youtube": Protocol(
        "YouTubeVOS: seen and unseen categories",
        "valid/GroundTruth, valid/meta.json and train/meta.json",
        youtube_vos.RULES,
        youtube_vos.plans,
    ),
}
"""All but DAVIS's, which takes any folders of label maps (`davis.py`)."""
