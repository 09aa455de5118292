"""What a run writes down about itself: its settings, the program's version, and the packages'."""

import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from util.files import write_text_atomically

PACKAGES = ("torch", "torchvision", "numpy", "opencv-python", "pillow", "scipy")
REPOSITORY = Path(__file__).resolve().parent.parent


def git_commit() -> str:
    """The commit of the program's repository, with "+changes" where files differ from it; or why there is none."""
    try:
        import git  # fails on import where there is no git program
    except ImportError:
        return "unknown: no git program"
    try:
        repository = git.Repo(REPOSITORY)
        return repository.head.commit.hexsha + ("+changes" if repository.is_dirty() else "")
    except (git.GitError, ValueError):
        return "unknown: not a git repository"


def package_versions() -> dict[str, str]:
    """The versions of Python and of the packages that results depend on."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def record_run(folder: Path, settings: Mapping[str, Any], command: list[str]) -> None:
    """Write `run.json`; a resumed run's replaces that of the run before.

    Raises:
        OSError: it cannot be written.
    """
    content = {"command": command, "commit": git_commit(), "packages": package_versions(), "settings": settings}
    write_text_atomically(folder / "run.json", json.dumps(content, indent=2) + "\n")


def differences(before: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> list[str]:
    """Each setting that differs, by its dotted name, with both values."""
    found: list[str] = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, f"{path}{name}.")
        elif old != new:
            found.append(f"{path}{name}: {old} before, {new} now")
    return found
