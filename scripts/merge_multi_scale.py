"""Merge runs of eval.py --save_scores, of other sizes or mirrored, into the label maps of their average probabilities.

python -m scripts.merge_multi_scale OUTPUT FOLDER FOLDER …; label maps go to OUTPUT/Annotations/V/FRAME.png.
"""

import argparse
import sys
from pathlib import Path

from evaluation.merging import Merging
from util.command_line import progress_bar, run_program


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of this program's flags."""
    description = __doc__.partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m scripts.merge_multi_scale", description=description)
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="made if it is not there")
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="outputs of eval.py --save_scores")
    parser.add_argument("--overwrite", action="store_true", help="remove what another merge has left in OUTPUT")
    return parser


def merge(arguments: argparse.Namespace) -> int:
    """Merge what is not merged yet; returns the exit code.

    Raises:
        UserError: folders that do not fit together, or cannot be read or written.
    """
    merging = Merging(arguments.folders, arguments.output)
    with merging.started(arguments.overwrite) as pending:
        frames = sum(len(merging.frames[video]) for video in pending)
        with progress_bar(total=frames, unit="frame") as bar:
            for video in pending:
                bar.set_description(video, refresh=False)
                merging.merge(video, bar.update)
    print(f"{len(merging.frames)} videos merged: {arguments.output / 'Annotations'}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the program, and return its exit code: 0; 2 after a user's mistake; 130 after Ctrl-C."""
    arguments = make_parser().parse_args(argv)
    return run_program("merge_multi_scale", lambda: merge(arguments), "the same command, without --overwrite, resumes")


if __name__ == "__main__":
    sys.exit(main())
