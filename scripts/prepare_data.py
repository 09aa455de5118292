"""Check whether data sets are where they are looked for, look at folders, and resize YouTubeVOS to 480p for training.

python -m scripts.prepare_data check [NAME ...] [--d17_path DIR ...]
python -m scripts.prepare_data check FOLDER
python -m scripts.prepare_data resize [--yv_root DIR]

See docs/data.md.
"""

import argparse
import logging
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dataset.evaluation_video import EvaluationSet
from dataset.folder_check import check_folder
from dataset.registry import DATA_SETS, TRAINING_SETS, RegisteredSet
from dataset.resize import TARGET, resize_videos, train_videos
from dataset.training_sets import ImageWithMask, VideoSet
from util.command_line import progress_bar, run_program
from util.errors import UserError
from util.machine import available_cores

INCOMPLETE = 1  # exit code
PROBLEMS_SHOWN = 5


@dataclass(frozen=True)
class Part:
    """A unit of the check: a split of a data set for evaluation, or a set for training."""

    entry: RegisteredSet
    open: Callable[[Path], EvaluationSet | VideoSet | list[ImageWithMask]]
    only_if_named: bool = False


PARTS = {
    data_set.name if split == "val" else f"{data_set.name}-{split}": Part(
        data_set, partial(data_set.open, split=split, sizes=[480]), only_if_named=split != "val"
    )
    for data_set in DATA_SETS.values()
    for split in data_set.splits
} | {name: Part(training_set, training_set.open) for name, training_set in TRAINING_SETS.items()}
"""The units by name: D17 is the validation split of DAVIS 2017, D17-test its test split."""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of this program's flags."""
    parser = argparse.ArgumentParser(prog="python -m scripts.prepare_data", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)

    check = commands.add_parser("check", help="say what is there of each data set, what is missing, where to get it")
    help_names = (
        f"of {', '.join(PARTS)} (those whose flags are given; without any, all that have a default root, but -test)"
    )
    help_folder = "; or a folder of your own videos, in which every file is read"
    check.add_argument("names", nargs="*", metavar="NAME or FOLDER", help=help_names + help_folder)
    roots = {part.entry.root_name: part.entry.default_root for part in PARTS.values()}
    for root_name, default in roots.items():
        held = ", ".join(name for name, part in PARTS.items() if part.entry.root_name == root_name)
        check.add_argument(f"--{root_name}", type=Path, metavar="DIR", help=f"root of {held} ({default or 'none'})")

    resize = commands.add_parser("resize", help=f"make {TARGET} from YouTubeVOS's train; resumes where it stopped")
    resize.add_argument("--yv_root", type=Path, metavar="DIR", default=roots["yv_root"], help="(%(default)s)")
    resize.add_argument("--workers", type=int, default=available_cores(), help="threads (one per core: %(default)s)")
    return parser


def asked_for(arguments: argparse.Namespace) -> dict[str, Path]:
    """The names to check, with their roots.

    Raises:
        UserError: there is none of a given name, or its root is not known.
    """
    if unknown := set(arguments.names).difference(PARTS):
        raise UserError(f"{min(unknown)}: no such folder, and no name of a data set: {', '.join(PARTS)}")
    given = {name: getattr(arguments, part.entry.root_name) for name, part in PARTS.items()}
    names = [name for name in PARTS if name in arguments.names]
    if not names:
        usual = [name for name, part in PARTS.items() if not part.only_if_named]
        names = [name for name in usual if given[name]] or [name for name in usual if PARTS[name].entry.default_root]
    roots: dict[str, Path] = {}
    for name in names:
        entry = PARTS[name].entry
        root = given[name] or entry.default_root
        if root is None:
            raise UserError(f"{name} needs --{entry.root_name}, {entry.root_holds}")
        roots[name] = root
    return roots


def check(arguments: argparse.Namespace) -> int:
    """Print the table; returns the exit code."""
    complete = True
    folders = [Path(name) for name in arguments.names if name not in PARTS and Path(name).is_dir()]
    if folders:
        return check_folders(folders, [name for name in arguments.names if Path(name) not in folders])
    roots = asked_for(arguments)
    print(f"{'data set':<12}{'':<9}{'videos':>8}{'frames':>10}  root")
    for name, root in roots.items():
        videos, frames, problems = contents(PARTS[name], root)
        complete = complete and not problems
        status = "ok" if not problems else "partly" if frames else "missing"
        print(f"{name:<12}{status:<9}{videos or '':>8}{frames or '':>10}  {root}", flush=True)
        lines = first_lines(problems)
        if problems:
            entry = PARTS[name].entry
            source = f"; get it from: {entry.page}" if entry.page else ""
            lines.append(f"--{entry.root_name} names another root{source}")
        for line in lines:
            print(f"    {line}")
    return 0 if complete else INCOMPLETE


def first_lines(problems: Sequence[str]) -> list[str]:
    """Return the first few of several problems, and a line that says how many more there are."""
    more = len(problems) - PROBLEMS_SHOWN
    return [*problems[:PROBLEMS_SHOWN], *([f"and {more} more"] if more > 0 else [])]


def check_folders(folders: Sequence[Path], others: Collection[str]) -> int:
    """Print what there is to know about folders of videos; returns the exit code.

    Raises:
        UserError: a folder holds no videos, or names of data sets are given, too.
    """
    if others:
        raise UserError(
            f"{', '.join(sorted(others))}: no folder; folders and names of data sets are checked separately"
        )
    noticed = 0
    for root in folders:
        for video in check_folder(root):
            status = "ok" if not video.findings else "look"
            print(f"{status:<6}{video.name}: {video.frames} frames, {video.label_maps} label maps", flush=True)
            for line in first_lines(video.findings):
                print(f"    {line}")
            noticed += bool(video.findings)
    return INCOMPLETE if noticed else 0


def contents(part: Part, root: Path) -> tuple[int, int, list[str]]:
    """What lies in `root`: videos (0 for a set of images), frames, and what is missing or does not fit together."""
    try:
        opened = part.open(root)
    except UserError as error:
        return 0, 0, [str(error)]
    match opened:
        case EvaluationSet(videos=videos):
            problems = [f"{video.name}: {video.problem}" for video in videos if video.problem]
            frames = sum(video.frames.frame_count or 0 for video in videos)
        case VideoSet(videos=videos):
            problems = [f"{video.images.name}: none of its frames has a mask" for video in videos if not video.frames]
            frames = sum(len(video.frames) for video in videos)
        case images:
            return 0, len(images), []
    return len(videos) - len(problems), frames, problems


def resize(arguments: argparse.Namespace) -> int:
    """Make the training folder; returns the exit code."""
    if arguments.workers < 1:
        raise UserError(f"--workers must be at least 1, not {arguments.workers}")
    names = train_videos(arguments.yv_root)
    problems: dict[str, str] = {}
    with progress_bar(total=len(names), unit="video") as bar:
        for name, problem in resize_videos(arguments.yv_root, names, arguments.workers):
            if problem:
                problems[name] = problem
            bar.update()
    print(f"{len(names) - len(problems)} of {len(names)} videos are in {arguments.yv_root / TARGET}")
    for name, problem in sorted(problems.items()):
        print(f"failed: {name}: {problem}", file=sys.stderr)
    return INCOMPLETE if problems else 0


def main(argv: list[str] | None = None) -> int:
    """Run the program, and return its exit code: 0; 1 if something is missing or failed; 2 (mistake); 130 (Ctrl-C)."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    arguments = make_parser().parse_args(argv)
    command = {"check": check, "resize": resize}[arguments.command]
    return run_program("prepare_data", lambda: command(arguments), "the same command resumes")


if __name__ == "__main__":
    sys.exit(main())
