"""Score predicted label maps against the ground truth, by the rules of DAVIS 2017 or of another benchmark.

python -m scripts.score --gt DIR --pred DIR [--json FILE] [--csv FILE], with label maps as DIR/SEQUENCE/FRAME.png.
python -m scripts.score --protocol lvos --gt DIR --pred DIR, with DIR as the data set has it; see docs/evaluation.md.
"""

import argparse
import json
import logging
import sys
from pathlib import Path

from scoring.davis import find_sequences, score_sequences
from scoring.plots import draw_scores
from scoring.protocols import PROTOCOLS, lvos_with
from scoring.scores import Scores
from util.command_line import run_program
from util.errors import UserError
from util.figures import require_matplotlib
from util.files import write_text_atomically, writing

INCOMPLETE = 1  # exit code


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of this program's flags."""
    rules = "".join(
        f"  {name:<9}{each.title}\n{'':<11}--gt holds {each.ground_truth}\n" for name, each in PROTOCOLS.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m scripts.score",
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="protocols, as their published figures are computed:\n"
        "  davis    DAVIS 2017, semi-supervised; any folders "
        f"of label maps\n           --gt holds SEQUENCE/FRAME.png\n{rules}",
    )
    add = parser.add_argument
    add("--protocol", default="davis", choices=("davis", *PROTOCOLS), help="whose rules (%(default)s); see below")
    add("--gt", type=Path, required=True, help="folder of the ground truth; see below")
    add("--pred", type=Path, required=True, help="predictions: SEQUENCE/FRAME.png (sav: SEQUENCE/OBJECT/FRAME.png)")
    add("--json", type=Path, metavar="FILE", help="write all figures, in the protocol's unit")
    add("--csv", type=Path, metavar="FILE", help="write one row per object, in percent")
    add("--per_frame", type=Path, metavar="FILE", help="write one row per frame of each object as CSV, in percent")
    add(
        "--plots",
        type=Path,
        metavar="DIR",
        help="draw scores over time, and by the time out of sight (needs matplotlib)",
    )
    add("--sequences", nargs="+", metavar="NAME", help="score these only; default: all of --gt")
    add("--unseen", type=Path, metavar="FILE", help="lvos: a list of the unseen videos, in place of LVOS's")
    add("--all_frames", action="store_true", help="davis: score the first and the last frame as well")
    add("--all_objects", action="store_true", help="davis: score objects that enter later, too")
    add("--binary", action="store_true", help="davis: take all labels but 0 as one object: 255 there, 1 here")
    add("--threads", type=int, help="default: one per core")
    return parser


def check_arguments(arguments: argparse.Namespace) -> None:
    """Check, before scoring, the flags whose mistakes would show only afterwards.

    Raises:
        UserError: a flag has a value that cannot work, or no effect.
    """
    if arguments.threads is not None and arguments.threads < 1:
        raise UserError(f"--threads must be at least 1, not {arguments.threads}")
    for flag in ("json", "csv", "per_frame"):
        path = getattr(arguments, flag)
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            raise UserError(f"--{flag} must name a file in a folder that exists, not {path}")
    for protocol, flags in (("davis", ("all_frames", "all_objects", "binary")), ("lvos", ("unseen",))):
        if arguments.protocol != protocol:
            for flag in flags:
                if getattr(arguments, flag):
                    raise UserError(f"--{flag} goes with --protocol {protocol}, not with {arguments.protocol}")
    if arguments.plots is not None:
        if arguments.plots.exists() and not arguments.plots.is_dir():
            raise UserError(f"--plots must name a folder, not {arguments.plots}")
        require_matplotlib()


def scores_of(arguments: argparse.Namespace) -> Scores:
    """Return the scores that the flags ask for.

    Raises:
        UserError: folders or files that cannot be scored.
    """
    if arguments.protocol != "davis":
        protocol = lvos_with(arguments.unseen) if arguments.unseen else PROTOCOLS[arguments.protocol]
        return protocol.score(arguments.gt, arguments.pred, arguments.sequences, arguments.threads)
    return score_sequences(
        find_sequences(arguments.gt, arguments.pred, arguments.sequences),
        skip_first_and_last=not arguments.all_frames,
        all_objects=arguments.all_objects,
        binary=arguments.binary,
        threads=arguments.threads,
    )


def score(arguments: argparse.Namespace) -> int:
    """Print the scores, and write them to files if wanted; returns the exit code.

    Raises:
        UserError: folders or files that cannot be scored.
    """
    check_arguments(arguments)
    scores = scores_of(arguments)
    for path, text in (
        (arguments.json, lambda: json.dumps(scores.to_json_dict(), indent=2) + "\n"),
        (arguments.csv, scores.to_csv),
        (arguments.per_frame, scores.to_frame_csv),
    ):
        if path is not None:
            content = text()
            with writing(path):
                write_text_atomically(path, content)
    print(scores.table())
    if arguments.plots is not None:
        with writing(arguments.plots):
            draw_scores(scores, arguments.plots)
    for name, reason in scores.left_out.items():
        print(f"left out: {name}: {reason}", file=sys.stderr)
    if without := [name for name in scores.left_out if "/" not in name]:
        print(
            f"{len(scores.sequences)} of {len(scores.sequences) + len(without)} sequences were scored", file=sys.stderr
        )
    return INCOMPLETE if scores.left_out else 0


def main(argv: list[str] | None = None) -> int:
    """Run the program, and return its exit code: 0; 1 if a sequence was left out; 2 after a user's mistake; 130."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    return run_program("score", lambda: score(make_parser().parse_args(argv)), "nothing was written")


if __name__ == "__main__":
    sys.exit(main())
