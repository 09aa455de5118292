"""Which network file and frame size are used where none is given, and what a network file says of its training."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from dataset.evaluation_video import EvaluationSet
from dataset.registry import DATA_SETS
from export.manifest import MANIFEST, NetworkExport, read_export
from export.running import ExportedNetwork
from inference.images import PUBLISHED_SIZE, SMALLEST_SIZE
from model.checkpoint import Checkpoint, read_checkpoint
from model.cuda_graphs import require_cuda
from model.network import XMem
from util.errors import SettingError, UserError, first_few
from util.provenance import REPOSITORY, shipped_file

logger = logging.getLogger(__name__)

NetworkFile = Checkpoint | NetworkExport
"""What a network is built from: the content of a network file, or an export."""

PUBLISHED = Path("saves/XMem.pth")
"""Where the published network is looked for: below the working directory, then below the repository."""
BUNDLED = shipped_file("XMem-small.pth")
"""The small network that comes with the program.

Some of DAVIS's validation videos were in its training."""


def default_network_file() -> Path:
    """Return the network file that is used where none is named: the published one if it is there, else the bundled one.

    Raises:
        UserError: there is neither.
    """
    for path in (PUBLISHED, REPOSITORY / PUBLISHED, BUNDLED):
        if path.is_file():
            logger.info(
                "no network is named: taking the %s one, %s", "bundled" if is_bundled(path) else "published", path
            )
            return path
    raise UserError(
        f"no network is named, and neither {PUBLISHED} nor {BUNDLED} is there: name one, or download the former by "
        "python -m scripts.download_models --models XMem"
    )


def read_network_file(path: Path) -> NetworkFile:
    """Read a network file, or the manifest of an export, which is a folder.

    Raises:
        UserError: it is missing, damaged, or no network.
    """
    if path.name == MANIFEST or path.suffix in (".onnx", ".pt2"):
        raise UserError(f"{path} is a part of an export: give its folder, {path.parent}")
    return read_export(path) if path.is_dir() else read_checkpoint(path)


def build_network(file: NetworkFile, device: torch.device, provider: str | None = None) -> XMem:
    """Return the network, ready for inference.

    Args:
        provider: which of ONNX Runtime's providers runs an export; None: cuda on a CUDA device, else cpu.

    Raises:
        UserError: weights do not fit together, or the provider cannot be used.
    """
    if isinstance(file, NetworkExport):
        return ExportedNetwork(file, device, provider)
    if provider is not None:
        raise UserError(f"{file.path} is no export: a provider goes with the folder that scripts.export writes")
    return XMem.from_checkpoint(file, device)


def require_effect(file: NetworkFile, device: torch.device, *, amp: bool, no_graphs: bool) -> None:
    """Check that mixed precision, and doing without CUDA graphs, have an effect, if the user asks for them.

    Raises:
        SettingError: the network is an export; or the device is no CUDA device, on which alone there are graphs.
    """
    if no_graphs:
        require_cuda(device, "no_graphs")
    if amp and isinstance(file, NetworkExport):
        raise SettingError("amp", f"has no effect on {file.folder}: the precision of an export is fixed (--half)")
    if no_graphs and isinstance(file, NetworkExport):
        raise SettingError("no_graphs", f"has no effect on {file.folder}: an export has graphs of its own")


def is_bundled(path: Path | None) -> bool:
    """Return whether this is the network that comes with the repository."""
    return path is not None and path.resolve() == BUNDLED.resolve()


def intended_size(file: NetworkFile) -> int:
    """Return the shorter side in pixels that a network is meant for: "size" of its metadata, or the published one.

    Raises:
        UserError: what the metadata say is no size.
    """
    size = file.metadata.get("size", PUBLISHED_SIZE)
    if not isinstance(size, int) or size < SMALLEST_SIZE:
        raise UserError(f"{file.path} says that it is meant for the size {size!r}, which is none: give a size")
    return size


def size_without_flag(file: NetworkFile, dataset: str | None) -> int:
    """Return the size at which a data set is segmented where none is given; −1: the frames' own.

    Raises:
        UserError: as `intended_size`.
    """
    size = intended_size(file)
    at_own_size = dataset is not None and dataset in DATA_SETS and DATA_SETS[dataset].at_own_size
    if at_own_size and size == PUBLISHED_SIZE:
        logger.info("no size is given: taking frames of %s at their own, as published", dataset)
        return -1
    if size != PUBLISHED_SIZE:
        logger.info("no size is given: taking %d, which the network is meant for", size)
    return size


def videos_seen(file: NetworkFile, evaluation_set: EvaluationSet) -> list[str]:
    """Return the videos of a DAVIS set that the network was trained on, by "videos_seen" of its metadata.

    Other sets have none: a video of the same name is another video there.
    """
    if not is_davis(evaluation_set):
        return []
    seen = set(file.metadata.get("videos_seen", ()))
    return [video.name for video in evaluation_set.videos if video.name in seen]


def is_davis(evaluation_set: EvaluationSet) -> bool:
    """Return whether a set holds DAVIS videos, on some of which the bundled network was trained."""
    return evaluation_set.name in DATA_SETS and DATA_SETS[evaluation_set.name].is_davis


def warn_of_training_videos(path: Path, evaluation_set: EvaluationSet, seen: Sequence[str]) -> None:
    """Log a warning where scores mislead, since the network was trained on some of the videos."""
    if seen:
        share = f"{len(seen)} of these {len(evaluation_set.videos)} videos ({first_few(seen, 6)})"
        logger.warning("%s has been trained on %s: its scores on them are no measure of anything", path, share)
    if is_bundled(path) and is_davis(evaluation_set):
        logger.warning(
            "the bundled network was trained on a part of DAVIS's validation videos: fine for a demonstration, "
            "never for a published number"
        )
