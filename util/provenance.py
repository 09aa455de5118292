"""What a result was made with: settings, the program's commit, the versions of packages."""

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
"""The folder that holds the program."""

PACKAGES = ("torch", "torchvision", "numpy", "opencv-python", "pillow", "scipy")
"""Packages that results depend on."""


def shipped_file(name: str) -> Path:
    """Return the path of a network file that comes with the program: in `saves/`, or installed in `xmem/saves/`."""
    paths = (REPOSITORY / folder / name for folder in ("saves", "xmem/saves"))
    return next((path for path in paths if path.is_file()), REPOSITORY / "saves" / name)


def git_commit(folder: Path = REPOSITORY) -> str:
    """Return the commit of a repository, with "+changes" if its files differ from it; or "unknown" and the reason."""
    try:
        import git  # fails on import where there is no git program
    except ModuleNotFoundError:
        return "unknown: GitPython is not installed"
    except ImportError:
        return "unknown: there is no git program"
    try:
        repository = git.Repo(folder)
        return repository.head.commit.hexsha + ("+changes" if repository.is_dirty() else "")
    except git.InvalidGitRepositoryError:
        return "unknown: the program does not lie in a git repository"
    except (git.GitError, ValueError, OSError) as error:  # no commit yet, a repository of another user's, …
        return f"unknown: {' '.join(str(error).split())}"


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def differences(before: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> list[str]:
    """Return one text for each setting that differs: its dotted name and both values."""
    found: list[str] = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, f"{path}{name}.")
        elif old != new:
            found.append(f"{path}{name}: {old} before, {new} now")
    return found
