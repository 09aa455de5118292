"""Soft masks of a frame in a file: the probabilities that save_scores writes, for merging several runs."""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from util.errors import UserError
from util.files import atomic_path


def write_probabilities(path: Path, prob: Float[Tensor, "channels height width"], objects: list[int]) -> None:
    """Write the probabilities of background and objects in steps of 1/255, with the labels of channels 1, 2, …."""
    arrays = {"prob": prob.mul(255).round().byte().cpu().numpy(), "objects": np.array(objects, np.uint8)}
    # What np.savez_compressed writes, at twice its speed: its level of compression gains little.
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for name, array in arrays.items():
            with file.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array)


@dataclass(frozen=True, eq=False)
class FrameProbabilities:
    """Probabilities of background and objects in steps of 1/255, and the labels of channels 1, 2, …."""

    prob: UInt8[np.ndarray, "channels height width"]
    objects: list[int]


def read_probabilities(path: Path) -> FrameProbabilities:
    """Read what `write_probabilities` has written.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        with np.load(path) as arrays:
            prob, objects = arrays["prob"], arrays["objects"].tolist()
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except (OSError, ValueError, TypeError, LookupError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} cannot be read, it may be damaged: {error}") from error
    if prob.dtype != np.uint8 or prob.ndim != 3 or len(prob) != 1 + len(objects):
        raise UserError(f"{path} does not hold the probabilities that save_scores writes")
    return FrameProbabilities(prob, objects)
