"""Files that are either whole or absent: written under a temporary name beside the target, then renamed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4


@contextmanager
def atomic_path(target: Path | str) -> Iterator[Path]:
    """A temporary path in `target`'s folder that replaces `target` when the block ends without an error.

    After an error the temporary file is gone and an existing `target` is as it was. The temporary name keeps the
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
        with suppress(FileNotFoundError):
            temporary.unlink()


def write_text_atomically(target: Path | str, text: str) -> None:
    """Write `text` as UTF-8 to `target`, whole or not at all."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
