"""The network file of a run: which one where none is named, and what it says of itself."""

from pathlib import Path

from dataset.evaluation_sets import EvaluationSet
from evaluation.config import PUBLISHED_SIZE, SMALLEST_SIZE
from model.checkpoint import Checkpoint
from util.errors import UserError
from util.provenance import REPOSITORY

PUBLISHED = Path("saves/XMem.pth")
"""Where the published network is looked for: below the working directory, then below the repository."""
BUNDLED = REPOSITORY / "saves" / "XMem-small.pth"
"""The small network that comes with the repository. Some of DAVIS's validation videos were in its training."""

DAVIS_SETS = frozenset({"D16", "D17"})
SETS_AT_THEIR_OWN_SIZE = frozenset({"LV1", "LV3"})
"""Those that the published program does not resize."""


def default_network_file() -> Path:
    """The network that is used where none is named: the published one if it is there, else the bundled one.

    Raises:
        UserError: there is neither.
    """
    for path in (PUBLISHED, REPOSITORY / PUBLISHED, BUNDLED):
        if path.is_file():
            return path
    raise UserError(
        f"no --model, and neither {PUBLISHED} nor {BUNDLED} is there: "
        "fetch the former by python -m scripts.download_models --models XMem, or name a network file after --model"
    )


def is_bundled(path: Path) -> bool:
    """Whether this is the network that comes with the repository."""
    return path.resolve() == BUNDLED.resolve()


def intended_size(checkpoint: Checkpoint) -> int:
    """The shorter side in pixels that a network is meant for: "size" of its metadata, else the published one.

    Raises:
        UserError: what the metadata say is no size.
    """
    size = checkpoint.metadata.get("size", PUBLISHED_SIZE)
    if not isinstance(size, int) or size < SMALLEST_SIZE:
        raise UserError(f"{checkpoint.path} says that it is meant for the size {size!r}, which is none: give --size")
    return size


def size_without_flag(checkpoint: Checkpoint, dataset: str | None) -> int:
    """The size at which a data set is segmented where `--size` is not given; −1: the frames' own.

    Raises:
        UserError: as `intended_size`.
    """
    size = intended_size(checkpoint)
    return -1 if dataset in SETS_AT_THEIR_OWN_SIZE and size == PUBLISHED_SIZE else size


def videos_seen(checkpoint: Checkpoint, evaluation_set: EvaluationSet) -> list[str]:
    """Names of a DAVIS set's videos that were in the network's training: "videos_seen" of its metadata.

    Of other sets there are none: a video of the same name is not the same video there.
    """
    if evaluation_set.name not in DAVIS_SETS:
        return []
    seen = set(checkpoint.metadata.get("videos_seen", ()))
    return [video.name for video in evaluation_set.videos if video.name in seen]
