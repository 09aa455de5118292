"""Download the published networks into saves/.

python -m scripts.download_models [--models XMem ...] [--output DIR] [--url BASE]

No checksums are published: that of each file is recorded in checksums.json when the file is first seen, and compared
from then on. Files that are there already are compared and left as they are.
"""

import argparse
import json
import shutil
import socket
import sys
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from model.network import XMem
from util.command_line import MISTAKE, run_program
from util.errors import UserError
from util.files import sha256_of, sole_user, write_text_atomically

MODELS = ("XMem", "XMem-s012", "XMem-s2", "XMem-no-sensory")
RELEASE = "https://github.com/hkchengrex/XMem/releases"

SOME_FAILED = 1  # exit code
SECONDS_WITHOUT_AN_ANSWER = 30
TEMPORARY = ".download-"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of this program's flags."""
    parser = argparse.ArgumentParser(prog="python -m scripts.download_models", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--models", nargs="+", choices=MODELS, default=MODELS, metavar="NAME", help=f"of {', '.join(MODELS)} (all)")
    add("--output", type=Path, default=Path("saves"), metavar="DIR", help="(%(default)s)")
    add("--url", default=f"{RELEASE}/download/v1.0", metavar="BASE", help="folder of the files (%(default)s)")
    return parser


def check_network(file: Path, name: str, record: Path) -> None:
    """Compare `file` with the checksum recorded for `name`; without one, open it as a network and record its checksum.

    Raises:
        UserError: the checksum differs, the file is no network, or `record` cannot be read or written.
    """
    try:
        recorded: dict[str, str] = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
        expected = recorded.get(name)
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{record} is damaged: correct it, or remove it to record the checksums again") from error
    digest = sha256_of(file)
    if expected is None:
        XMem.from_checkpoint(file)
        try:
            write_text_atomically(record, json.dumps(recorded | {name: digest}, indent=2, sort_keys=True) + "\n")
        except OSError as error:
            raise UserError(f"{record} cannot be written: {error.strerror}") from error
    elif digest != expected:
        raise UserError(
            f"its SHA-256 is {digest}, but that of the file first used here was {expected}; if the change is intended, "
            f"remove the line of {name} from {record}"
        )


def obtain(name: str, folder: Path, base_url: str) -> str:
    """Make sure that the file `name` is in `folder`, whole, and return a line that says how.

    Raises:
        UserError: it is there and not what it should be, or cannot be downloaded.
    """
    target, record = folder / name, folder / "checksums.json"
    if target.exists():
        try:
            check_network(target, name, record)
        except UserError as error:
            raise UserError(f"{target} is left as it is: {error}; to download it again, move it away") from error
        return f"{target}: there already"
    url = f"{base_url.rstrip('/')}/{name}"
    try:
        with TemporaryDirectory(prefix=TEMPORARY, dir=folder) as temporary:
            received = Path(temporary) / name
            torch.hub.download_url_to_file(url, str(received))
            check_network(received, name, record)
            received.rename(target)
    except (OSError, ValueError, HTTPException, UserError) as error:
        by_hand = f"download it from {RELEASE}/tag/v1.0 by hand, and put it into {folder}"
        raise UserError(f"{url}: {' '.join(str(error).split())}; try again, or {by_hand}") from error
    return f"{target}: downloaded"


def obtain_all(arguments: argparse.Namespace) -> int:
    """Obtain all files that are asked for, and report those that cannot be had; returns the exit code.

    Raises:
        UserError: the folder cannot be written to, or is in use.
    """
    names = [f"{name}.pth" for name in dict.fromkeys(arguments.models)]
    failed = 0
    try:
        arguments.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {arguments.output} cannot be created: {error.strerror}") from error
    with sole_user(arguments.output):
        for left_by_a_killed_run in arguments.output.glob(f"{TEMPORARY}*"):
            shutil.rmtree(left_by_a_killed_run)
        for name in names:
            try:
                print(obtain(name, arguments.output, arguments.url), flush=True)
            except UserError as error:
                print(error, file=sys.stderr)
                failed += 1
    return 0 if not failed else MISTAKE if failed == len(names) else SOME_FAILED


def main(argv: list[str] | None = None) -> int:
    """Run the program, and return its exit code: 0; 1 if some files failed; 2 if all did; 130 after Ctrl-C."""
    arguments = make_parser().parse_args(argv)
    after_interrupt = "the same command downloads what is missing"
    return run_program("download_models", lambda: obtain_all(arguments), after_interrupt)


if __name__ == "__main__":
    socket.setdefaulttimeout(SECONDS_WITHOUT_AN_ANSWER)
    sys.exit(main())
