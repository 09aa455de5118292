"""Fetch the published networks into saves/.

python -m scripts.download_models [--models XMem ...] [--output DIR] [--url BASE]

The same command goes on with a download that was interrupted. What is there already is compared with the checksum that
was recorded when it was first used.
"""

import argparse
import logging
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from model.network import XMem
from util.checksums import read_checksums, write_checksums
from util.download import UnreachableError, download
from util.errors import UserError
from util.files import sha256_of, sole_user

MODELS = ("XMem", "XMem-s012", "XMem-s2", "XMem-no-sensory")
BASE_URL = "https://github.com/hkchengrex/XMem/releases/download/v1.0"
RELEASE_PAGE = "https://github.com/hkchengrex/XMem/releases/tag/v1.0"

SOME_FAILED, NOTHING_HAD, INTERRUPTED = 1, 2, 130  # exit codes


def make_parser() -> argparse.ArgumentParser:
    """The flags of this program."""
    parser = argparse.ArgumentParser(prog="python -m scripts.download_models", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--models", nargs="+", choices=MODELS, default=MODELS, metavar="NAME", help=f"of {', '.join(MODELS)} (all)")
    add("--output", type=Path, default=Path("saves"), metavar="DIR", help="(%(default)s)")
    add("--url", default=BASE_URL, metavar="BASE", help="address above the files; file:// works too (%(default)s)")
    add("--attempts", type=int, default=5, help="that bring nothing, until it is given up (%(default)s)")
    return parser


class ModelFolder:
    """A folder of network files, and the checksums of those that were used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record = path / "checksums.json"

    def examine(self, file: Path, name: str) -> str:
        """The digest of `file`, which is or is to become `name`.

        Raises:
            UserError: it is not what was recorded as `name`, or is no network.
        """
        digest, recorded = sha256_of(file), read_checksums(self.record).get(name)
        if recorded is None:
            XMem.from_checkpoint(file)
        elif digest != recorded:
            raise UserError(
                f"{file} is not the {name} that was first used here: its SHA-256 is {digest}, and {self.record} has "
                f"{recorded}; remove that line if the change is meant, else move the file away and get it again"
            )
        return digest

    def remember(self, name: str, digest: str) -> None:
        """Record the checksum of a file that was examined."""
        checksums = read_checksums(self.record)
        if checksums.get(name) != digest:
            write_checksums(self.record, checksums | {name: digest})


class Bar(AbstractContextManager):
    """Shows how much of a file is there, from the first byte on."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._bar: tqdm | None = None

    def show(self, received: int, total: int | None) -> None:
        """Called with bytes, as `download` does."""
        if self._bar is None:
            self._bar = tqdm(
                desc=self._name,
                initial=received,
                unit="B",
                unit_scale=True,
                unit_divisor=1024,
                mininterval=0.2 if sys.stderr.isatty() else 10,  # a log keeps every state of the bar
                dynamic_ncols=True,
            )
        self._bar.total = total
        self._bar.update(received - self._bar.n)

    def __exit__(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.close()


def obtain(name: str, folder: ModelFolder, base_url: str, attempts: int) -> str:
    """Have the file `name` in `folder`, fetched if it is not; returns what was done, for people.

    Raises:
        UserError: it cannot be had, or is not what it should be.
    """
    target = folder.path / name
    if target.exists():
        folder.remember(name, folder.examine(target, name))
        return f"{target}: there already"
    digest = ""

    def check(received: Path) -> None:
        nonlocal digest
        digest = folder.examine(received, name)

    with Bar(name) as bar:
        download(f"{base_url.rstrip('/')}/{name}", target, check=check, on_progress=bar.show, attempts=attempts)
    folder.remember(name, digest)
    return f"{target}: downloaded, SHA-256 {digest}"


def obtain_all(names: list[str], folder: ModelFolder, base_url: str, attempts: int) -> int:
    """Have all these files; what fails is told on stderr. Returns the exit code."""
    had, failed = 0, 0
    for index, name in enumerate(names):
        try:
            print(obtain(name, folder, base_url, attempts), flush=True)
            had += 1
        except UnreachableError as error:  # the others come from the same place
            print(
                f"{error}; without a connection, get {', '.join(names[index:])} from {RELEASE_PAGE} by hand, "
                f"and put what you get into {folder.path}/",
                file=sys.stderr,
            )
            return SOME_FAILED if had else NOTHING_HAD
        except UserError as error:
            print(error, file=sys.stderr)
            failed += 1
    return 0 if not failed else SOME_FAILED if had else NOTHING_HAD


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0; 1 if a file could not be had; 2 if none could; 130 if interrupted."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    arguments = make_parser().parse_args(argv)
    try:
        if arguments.attempts < 1:
            raise UserError(f"--attempts must be at least 1, not {arguments.attempts}")
        try:
            arguments.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--output {arguments.output} cannot be made: {error.strerror}") from error
        with sole_user(arguments.output):
            names = [f"{name}.pth" for name in dict.fromkeys(arguments.models)]
            return obtain_all(names, ModelFolder(arguments.output), arguments.url, arguments.attempts)
    except UserError as error:
        print(error, file=sys.stderr)
        return NOTHING_HAD
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
