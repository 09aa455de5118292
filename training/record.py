"""What a run writes down about itself, at every start: its settings, the program's version, and the packages'."""

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from util.errors import UserError
from util.files import write_text_atomically
from util.provenance import git_commit, package_versions

log = logging.getLogger(__name__)


def record_run(folder: Path, settings: Mapping[str, Any], command: Sequence[str], device: str = "not recorded") -> None:
    """Add this start of a run to `run.json`, after those before it.

    Args:
        settings: the full configuration; what JSON has no word for is written as text.
        command: the command line.
        device: what the run's device is called.

    Raises:
        UserError: it cannot be written.
    """
    path = folder / "run.json"
    now = datetime.now().astimezone()
    start = {
        "time": now.isoformat(timespec="seconds"),
        "command": list(command),
        "device": device,
        "commit": git_commit(),
        "packages": package_versions(),
        "settings": settings,
    }
    try:
        content = {"starts": [*_earlier_starts(path, now), start]}
        write_text_atomically(path, json.dumps(content, indent=2, default=str) + "\n")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}") from error


def _earlier_starts(path: Path, now: datetime) -> list[dict[str, Any]]:
    """Those recorded in `path`. A file that is something else is put aside with a warning: a run needs no record.

    Raises:
        OSError: the file cannot be read, or put aside.
    """
    if not path.exists():
        return []
    try:
        starts = json.loads(path.read_text(encoding="utf-8"))["starts"]
        if isinstance(starts, list):
            return starts
    except (ValueError, KeyError, TypeError):
        pass
    aside = path.with_name(f"run.damaged-{now:%Y%m%d-%H%M%S}.json")
    path.rename(aside)
    log.warning("%s is damaged, or no record of a run's starts; it is now %s, and the record begins anew", path, aside)
    return []
