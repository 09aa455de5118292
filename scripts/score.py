"""Score predicted label maps against the ground truth: J, F and J&F as the DAVIS 2017 toolkit computes them.

python -m scripts.score --gt DIR --pred DIR [--json FILE] [--csv FILE], with label maps as DIR/SEQUENCE/FRAME.png.
"""

import argparse
import json
import logging
import sys
from pathlib import Path

from scoring.folders import find_sequences, score_sequences
from util.command_line import run_program
from util.errors import UserError
from util.files import write_text_atomically

INCOMPLETE = 1  # exit code


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of this program's flags."""
    parser = argparse.ArgumentParser(prog="python -m scripts.score", description=__doc__.partition("\n")[0])
    parser.add_argument("--gt", type=Path, required=True, help="ground truth: SEQUENCE/FRAME.png in this folder")
    parser.add_argument("--pred", type=Path, required=True, help="predictions, in the same layout")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures, in percent")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write one row per object, in percent")
    parser.add_argument("--sequences", nargs="+", metavar="NAME", help="score these only; default: all of --gt")
    parser.add_argument("--all_frames", action="store_true", help="score the first and the last frame as well")
    parser.add_argument("--all_objects", action="store_true", help="score objects that enter later, too")
    parser.add_argument("--binary", action="store_true", help="take all labels but 0 as one object: 255 there, 1 here")
    parser.add_argument("--threads", type=int, help="default: one per core")
    return parser


def check_arguments(arguments: argparse.Namespace) -> None:
    """Check, before scoring, the flags whose mistakes would show only afterwards.

    Raises:
        UserError: a flag has a value that cannot work.
    """
    if arguments.threads is not None and arguments.threads < 1:
        raise UserError(f"--threads must be at least 1, not {arguments.threads}")
    for flag, path in ("json", arguments.json), ("csv", arguments.csv):
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            raise UserError(f"--{flag} must name a file in a folder that exists, not {path}")


def score(arguments: argparse.Namespace) -> int:
    """Print the scores, and write them to files if wanted; returns the exit code.

    Raises:
        UserError: folders or files that cannot be scored.
    """
    check_arguments(arguments)
    sequences = find_sequences(arguments.gt, arguments.pred, arguments.sequences)
    scores = score_sequences(
        sequences,
        skip_first_and_last=not arguments.all_frames,
        all_objects=arguments.all_objects,
        binary=arguments.binary,
        threads=arguments.threads,
    )
    if arguments.json is not None:
        write_text_atomically(arguments.json, json.dumps(scores.to_json_dict(), indent=2) + "\n")
    if arguments.csv is not None:
        write_text_atomically(arguments.csv, scores.to_csv())
    print(scores.table())
    for name, reason in scores.left_out.items():
        print(f"left out: {name}: {reason}", file=sys.stderr)
    if scores.left_out:
        print(f"{len(scores.sequences)} of {len(sequences)} sequences were scored", file=sys.stderr)
    return INCOMPLETE if scores.left_out else 0


def main(argv: list[str] | None = None) -> int:
    """Run the program, and return its exit code: 0; 1 if a sequence was left out; 2 after a user's mistake; 130."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    return run_program("score", lambda: score(make_parser().parse_args(argv)), "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
