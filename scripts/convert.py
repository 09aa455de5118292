"""Convert masks of videos: label maps, one mask file for each object, soft masks, COCO's and YouTubeVIS's JSON.

python -m scripts.convert mine/Annotations masks.json --to coco
python -m scripts.convert instances.json mine/Annotations --to labels

What is read is recognised by its content. See docs/data.md.
"""

import argparse
import logging
import sys
from pathlib import Path

from dataset.mask_formats import JSON_FORMATS, WRITERS, read_masks
from util.command_line import Parser, run_program
from util.errors import UserError, counted
from util.files import atomic_path, writing


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of this program's flags."""
    parser = Parser(prog="python -m scripts.convert", description=__doc__.partition("\n")[0])
    parser.add_argument("input", type=Path, help="a folder of videos' masks, or a JSON file")
    parser.add_argument(
        "output", type=Path, help="what to write: a new folder, or a new JSON file for coco and youtube"
    )
    parser.add_argument("--to", choices=WRITERS, required=True, help="the format to write")
    return parser


def convert(arguments: argparse.Namespace) -> int:
    """Write the masks in another format, whole or not at all; returns the exit code.

    Raises:
        UserError: the input cannot be read, the output exists, or it cannot be written.
    """
    source, target = arguments.input, arguments.output
    if not source.exists():
        raise UserError(f"{source} does not exist")
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise UserError(f"{target} exists: choose another name, or remove it")
    if (arguments.to in JSON_FORMATS) != (target.suffix.lower() == ".json"):
        kind = "a file whose name ends in .json" if arguments.to in JSON_FORMATS else "a folder"
        raise UserError(f"--to {arguments.to} writes {kind}, not {target}")
    videos = read_masks(source)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as unfinished:
            if arguments.to not in JSON_FORMATS:
                unfinished.mkdir()
            notes = WRITERS[arguments.to](unfinished, videos)
    print(*notes, f"{target}: {counted(len(videos), 'video')}", sep="\n")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the program, and return its exit code: 0; 2 after a user's mistake; 130 after Ctrl-C."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    return run_program("convert", lambda: convert(make_parser().parse_args(argv)), "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
