"""See whether data sets are where they are looked for, and bring YouTubeVOS to 480p for training.

python -m scripts.prepare_data check [NAME ...] [--d17_path DIR ...]
python -m scripts.prepare_data resize [--yv_root DIR]

See docs/data.md.
"""

import argparse
import logging
import sys
from pathlib import Path

from tqdm import tqdm

from dataset.layout_checks import DATA_SETS, DataSet, LayoutReport
from dataset.resize import TARGET, resize_videos, train_videos
from util.device import available_cores
from util.errors import UserError

INCOMPLETE, NOTHING_DONE, INTERRUPTED = 1, 2, 130  # exit codes
PROBLEMS_SHOWN = 5


def make_parser() -> argparse.ArgumentParser:
    """The flags of this program."""
    parser = argparse.ArgumentParser(prog="python -m scripts.prepare_data", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)

    check = commands.add_parser("check", help="say what is there of each data set, what is missing, where to get it")
    names = [data_set.name for data_set in DATA_SETS]
    help_names = f"of {', '.join(names)} (those whose flags are given; without any, all but -test and G)"
    check.add_argument("names", nargs="*", metavar="NAME", help=help_names)
    roots = {data_set.flag: data_set.default_root for data_set in DATA_SETS}
    for flag, default in roots.items():
        held = ", ".join(data_set.name for data_set in DATA_SETS if data_set.flag == flag)
        check.add_argument(f"--{flag}", type=Path, metavar="DIR", help=f"root of {held} ({default or 'none'})")

    resize = commands.add_parser("resize", help=f"make {TARGET} of YouTubeVOS's train; goes on where it stopped")
    resize.add_argument("--yv_root", type=Path, metavar="DIR", default=roots["yv_root"], help="(%(default)s)")
    resize.add_argument("--workers", type=int, default=available_cores(), help="processes (one per core: %(default)s)")
    return parser


def asked_for(arguments: argparse.Namespace) -> list[DataSet]:
    """The data sets to check.

    Raises:
        UserError: there is none of a given name, or its root is not known.
    """
    if unknown := set(arguments.names).difference(data_set.name for data_set in DATA_SETS):
        raise UserError(f"{min(unknown)}: there is {', '.join(data_set.name for data_set in DATA_SETS)}")
    if arguments.names:
        chosen = [data_set for data_set in DATA_SETS if data_set.name in arguments.names]
    else:
        usual = [data_set for data_set in DATA_SETS if not data_set.optional]
        chosen = [data_set for data_set in usual if getattr(arguments, data_set.flag) is not None]
        chosen = chosen or [data_set for data_set in usual if data_set.default_root is not None]
    for data_set in chosen:
        if data_set.default_root is None and getattr(arguments, data_set.flag) is None:
            raise UserError(f"{data_set.name} needs --{data_set.flag}")
    return chosen


def check(arguments: argparse.Namespace) -> int:
    """Print the table; returns the exit code."""
    chosen = asked_for(arguments)
    complete = True
    print(f"{'data set':<12}{'':<9}{'videos':>8}{'frames':>10}  root")
    for data_set in chosen:
        root = getattr(arguments, data_set.flag) or data_set.default_root
        report = data_set.check(root)
        complete = complete and not report.problems
        print("\n".join(lines_of(data_set, root, report)), flush=True)
    return 0 if complete else INCOMPLETE


def lines_of(data_set: DataSet, root: Path, report: LayoutReport) -> list[str]:
    """A data set's row of the table, and below it what is missing and where to get it."""
    status = "ok" if not report.problems else "partly" if report.frames else "missing"
    counts = f"{report.videos or '':>8}{report.frames or '':>10}"
    shown = list(report.problems[:PROBLEMS_SHOWN])
    if more := report.problems[PROBLEMS_SHOWN:]:
        shown.append(f"and {len(more)} more")
    if shown:
        shown.append(f"get it from: {data_set.page}")
    return [f"{data_set.name:<12}{status:<9}{counts}  {root}", *(f"    {line}" for line in shown)]


def resize(arguments: argparse.Namespace) -> int:
    """Make the training folder; returns the exit code."""
    if arguments.workers < 1:
        raise UserError(f"--workers must be at least 1, not {arguments.workers}")
    names = train_videos(arguments.yv_root)
    problems: dict[str, str] = {}
    with tqdm(
        total=len(names), unit="video", dynamic_ncols=True, mininterval=0.2 if sys.stderr.isatty() else 10
    ) as bar:
        for name, problem in resize_videos(arguments.yv_root, names, arguments.workers):
            if problem:
                problems[name] = problem
            bar.update()
    print(f"{len(names) - len(problems)} of {len(names)} videos are in {arguments.yv_root / TARGET}")
    for name, problem in sorted(problems.items()):
        print(f"failed: {name}: {problem}", file=sys.stderr)
    return INCOMPLETE if problems else 0


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0; 1 if something is missing or failed; 2 if nothing could start; 130 if interrupted."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    arguments = make_parser().parse_args(argv)
    try:
        return {"check": check, "resize": resize}[arguments.command](arguments)
    except UserError as error:
        print(error, file=sys.stderr)
        return NOTHING_DONE
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
