"""Validation of a network in training: J&F on videos with ground truth, as an evaluation would report it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from dataset.evaluation_video import EvaluationVideo
from dataset.registry import open_evaluation_set
from evaluation.config import EvaluationConfig
from evaluation.evaluate import score, segment_into_folder
from evaluation.frame_reader import annotated_frames
from evaluation.output_folder import OutputFolder
from evaluation.segmenter import MultiViewSegmenter
from inference.config import InferenceConfig
from inference.images import PUBLISHED_SIZE
from model.network import XMem
from scoring.davis import ScoredSequence, score_sequences
from scoring.scores import Scores
from util.errors import UserError


class Validation:
    """Videos with ground truth, read and checked once, to be segmented and scored repeatedly.

    Args:
        dataset: a data set with public ground truth, of which the validation split is used: D16, D17, LV1, LV3 or G.
        root: the data set's root.
        videos: the names of the videos to use; None: all of the set.
        size: the shorter side at which frames are segmented; −1: their own.

    Raises:
        UserError: the data set is not there, lacks one of `videos`, or has no ground truth for it; the size is out of
            range; or a frame or label map cannot be used.
    """

    def __init__(
        self,
        dataset: str,
        root: Path,
        videos: Sequence[str] | None = None,
        size: int = PUBLISHED_SIZE,
        inference: InferenceConfig | None = None,
        mixed_precision: bool = False,
    ) -> None:
        try:
            self._config = EvaluationConfig(
                dataset, root, size=size, mixed_precision=mixed_precision, inference=inference or InferenceConfig()
            )
            self._videos = chosen_videos(open_evaluation_set(dataset, "val", root, size).videos, videos)
            for video in self._videos:
                check(video)
        except (UserError, ValueError) as error:
            raise UserError(f"validation: {error}") from error

    @property
    def description(self) -> str:
        """The data set, size and videos: scores are comparable where these are the same."""
        return f"{self._config.dataset} at {self._config.size}: {', '.join(video.name for video in self._videos)}"

    def __call__(self, network: XMem, on_frame: Callable[[], None] = lambda: None) -> float:
        """Return J&F in percent; see `scores`."""
        return self.scores(network, on_frame).figures["J&F"]

    def scores(self, network: XMem, on_frame: Callable[[], None] = lambda: None) -> Scores:
        """Return the scores that an evaluation of `network` on these videos reports. The network is left as it was.

        Args:
            on_frame: called after every frame; what it raises ends the validation.

        Raises:
            UserError: a file has become unusable meanwhile, or the device has too little memory.
        """
        # Label maps go through files, as an evaluation's do: a few megabytes, and there is one way of scoring.
        with TemporaryDirectory(prefix="validation-") as folder:
            output = OutputFolder(Path(folder), masks_folder="")
            segmenter = MultiViewSegmenter(network, self._config)
            for video in self._videos:
                segment_into_folder(video, segmenter, output, lambda network_seconds: on_frame())
            scores = score(self._videos, output)
        for name, reason in scores.left_out.items():
            raise UserError(f"validation: {name}: {reason}")
        return scores


def chosen_videos(videos: Sequence[EvaluationVideo], names: Sequence[str] | None) -> list[EvaluationVideo]:
    """Return those of `videos` that have one of the `names`.

    Raises:
        UserError: there is no video of some name, or no name at all.
    """
    if names is None:
        return list(videos)
    by_name = {video.name: video for video in videos}
    if unknown := [name for name in names if name not in by_name]:
        raise UserError(f"there is no video {', '.join(unknown)}; there is {', '.join(by_name)}")
    if not names:
        raise UserError(f"no video is named; there is {', '.join(by_name)}")
    return [by_name[name] for name in dict.fromkeys(names)]


def check(video: EvaluationVideo) -> None:
    """Read everything that segmenting and scoring will read, since training must not fail over a file after hours.

    Raises:
        UserError: something is wrong with it.
    """
    for _ in annotated_frames(video):
        pass
    if video.ground_truth is None:
        raise UserError(f"{video.name} has no label map for every frame to be scored by")
    truth = video.ground_truth.values()
    score_sequences([ScoredSequence(video.name, dict(zip(truth, truth, strict=True)))])
