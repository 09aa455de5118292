"""A folder that one process at a time works on."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from util.errors import UserError


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Make `folder` this process's own while the block runs, among those that ask for it likewise.

    The system lets go of it when the process ends, however that may be. A file system without locks does without.

    Raises:
        UserError: another process has it; it does not exist or may not be read.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"{folder} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise UserError(f"{folder} is in use by another run of this program: wait until it has ended") from error
    except OSError:
        pass
    try:
        yield
    finally:
        os.close(handle)
