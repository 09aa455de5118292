"""Files of what came out: a dataclass as JSON, whole or absent."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from util.errors import UserError
from util.files import write_text_atomically

Record = TypeVar("Record")


def write_record(record: Any, path: Path, indent: int | None = None) -> None:
    """Raises: OSError: it cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, json.dumps(asdict(record), indent=indent) + "\n")


def read_record(kind: type[Record], path: Path) -> Record | None:
    """What was written there; None if nothing was.

    Raises:
        UserError: it is damaged.
    """
    if not path.is_file():
        return None
    try:
        return kind(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged: remove it, and it is made anew") from error
