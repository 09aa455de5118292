"""Reading PyTorch files that name their format, without running any code that they may contain."""

import errno
from pathlib import Path
from typing import Any

import torch

from util.errors import UserError


class DamagedFileError(UserError):
    """A file is truncated or otherwise damaged."""


def read_torch_file(path: Path, file_format: str, what: str, map_location: torch.device | str) -> dict[str, Any]:
    """Return the dictionary in a PyTorch file.

    Args:
        file_format: what its entry "format" has to be.
        what: what messages call such a file, with an article.

    Raises:
        DamagedFileError: the file is damaged.
        UserError: it is missing, cannot be read, or is something else.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        content = torch.load(path, map_location=map_location, weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch.load has no exception of its own for damaged files
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # as of a place beyond the end
            raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
        raise DamagedFileError(f"{path} is damaged or not {what}") from error
    if not isinstance(content, dict) or content.get("format") != file_format:
        raise UserError(f"{path} is not {what} of this version of the program")
    return content
