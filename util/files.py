"""Files that are whole or absent, folders that one process at a time works in, and checksums."""

import fcntl
import glob
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from util.errors import UserError


@contextmanager
def atomic_path(target: Path | str) -> Iterator[Path]:
    """A temporary path of a file or folder, in `target`'s folder, that replaces `target` when the block ends well.

    After an error what the block has made is gone and an existing `target` is as it was. The temporary name keeps the
    target's suffix, since image and video writers choose their format by it.

    Raises:
        OSError: the folder cannot be written to, or the disk is full.
    """
    target = Path(target)
    temporary = target.with_name(f".{target.stem}.{uuid4().hex[:8]}.partial{target.suffix}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        remove(temporary)


def remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_leftovers(folder: Path, target: str | None = None) -> None:
    """Remove what killed processes have left under the temporary names of `atomic_path`: nobody may write there.

    Args:
        target: the name of the file or folder that they were to be; None: any.
    """
    stem, suffix = ("*", "*") if target is None else (glob.escape(Path(target).stem), glob.escape(Path(target).suffix))
    for path in folder.glob(f".{stem}.{'[0-9a-f]' * 8}.partial{suffix}"):
        remove(path)


def write_text_atomically(target: Path | str, text: str) -> None:
    """Write `text` as UTF-8 to `target`, whole or not at all."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")  # names of files may be any bytes


@contextmanager
def writing(path: Path | str, remedy: str | None = None, by_torch: bool = False) -> Iterator[None]:
    """Turn whatever keeps the block from writing `path` into a UserError, which ends with the remedy.

    Args:
        by_torch: the block does nothing but write by `torch.save`, which turns a full disk into a RuntimeError.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not by_torch:
            raise
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UserError(f"{path} cannot be written: {reason}" + (f"; {remedy}" if remedy else "")) from error


_locked: set[int] = set()
"""Handles of the folders that `sole_user` has locked."""


def _leave_locks_to_parent() -> None:
    """In a process that was forked: close the handles, since a lock lasts until the last one is closed."""
    while _locked:
        os.close(_locked.pop())


os.register_at_fork(after_in_child=_leave_locks_to_parent)


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Lock `folder` while the block runs, so that a second run of the program in it is refused.

    The system removes the lock when the process ends, also when it is killed and processes that it has forked outlive
    it. What a killed one has left half written in `folder` is removed. File systems without locks are not locked.

    Raises:
        UserError: another process has locked it; it does not exist or may not be read.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"{folder} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove_leftovers(folder)
    except BlockingIOError as error:
        os.close(handle)
        raise UserError(f"{folder} is in use by another run of this program: wait until it has ended") from error
    except OSError:
        pass
    _locked.add(handle)
    try:
        yield
    finally:
        if handle in _locked:  # or this is a process that was forked meanwhile
            _locked.remove(handle)
            os.close(handle)


def status_of(path: Path) -> bytes:
    """Return a file's name, size and time of change, by which another file in its place is noticed without reading it.

    Raises:
        OSError: it is not there.
    """
    status = path.stat()
    return f"{path.name} {status.st_size} {status.st_mtime_ns}\0".encode(errors="surrogateescape")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
