"""SHA-256 sums of files, recorded when a file is first used and compared from then on."""

import json
from collections.abc import Mapping
from pathlib import Path

from util.errors import UserError
from util.files import write_text_atomically


def read_checksums(record: Path) -> dict[str, str]:
    """File name → digest, from a JSON file; empty if there is none.

    Raises:
        UserError: it is damaged.
    """
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{record} is damaged: mend it, or remove it to record the checksums anew") from error
    if not isinstance(content, dict) or not all(isinstance(digest, str) for digest in content.values()):
        raise UserError(f"{record} does not hold a checksum for each file name: mend it, or remove it")
    return content


def write_checksums(record: Path, checksums: Mapping[str, str]) -> None:
    """Write what `read_checksums` reads, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    try:
        write_text_atomically(record, json.dumps(dict(sorted(checksums.items())), indent=2) + "\n")
    except OSError as error:
        raise UserError(f"{record} cannot be written: {error.strerror}") from error
