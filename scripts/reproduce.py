"""Make the paper's tables and figures: run the variants, score them, and set them beside what was published.

    python -m scripts.reproduce table6 table7
    python -m scripts.reproduce all --budget 60

The same command resumes where it was interrupted; started several times, it shares the runs out. See docs/reproduce.md.
"""

import argparse
import logging
import sys
from pathlib import Path

from dataset.frames import read_text
from evaluation.networks import default_network_file, intended_size
from inference.images import PUBLISHED_SIZE
from model.checkpoint import read_checkpoint
from reproduction.plan import Budget, plan
from reproduction.profiles import Profile, paper_profile, small_profile
from reproduction.report import make_report
from reproduction.runs import Runner
from reproduction.tables import NAMES
from util.command_line import Parser, run_program
from util.device import choose_device
from util.errors import UserError
from util.figures import require_matplotlib

DATA_ROOTS = (Path(".."), Path("../shared"))

logger = logging.getLogger("reproduce")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Return the user's flags.

    Raises:
        UserError: there is no such table, or a flag's value cannot be used.
    """
    parser = Parser(prog="python -m scripts.reproduce", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("tables", nargs="+", metavar="TABLE", help=f"{', '.join(NAMES)}, or all")
    add("--model", type=Path, help="network file (saves/XMem.pth, or else the bundled saves/XMem-small.pth)")
    data_root = next((root for root in DATA_ROOTS if (root / "DAVIS").is_dir()), DATA_ROOTS[0])
    add("--data-root", type=Path, default=data_root, help="where DAVIS, YouTube2018, … lie (%(default)s)")
    add("--output", type=Path, default=Path("../output/reproduce"), help="runs and the report (%(default)s)")
    add("--report", type=Path, help="folder of the report, if it is to lie elsewhere than in --output")
    add("--remarks", type=Path, help="Markdown file with remarks on the results, to be put into the report")
    add("--budget", type=float, metavar="MINUTES", help="the most time to spend, on what matters first")
    add("--profile", choices=("paper", "small"), help="data sets (small with a network for small frames)")
    add("--device", default="auto", help="auto, cuda, cuda:N, mps or cpu (%(default)s)")
    add("--overwrite", action="store_true", help="replace runs that were made with other settings")
    add("--plan", action="store_true", help="list what would be run, in which order, and do nothing else")
    arguments = parser.parse_args(argv)
    for name in arguments.tables:
        if name not in (*NAMES, "all"):
            raise UserError(f"there is no {name}: choose of {', '.join(NAMES)}, or all")
    arguments.tables = [name for name in NAMES if name in arguments.tables or "all" in arguments.tables]
    if arguments.budget is not None and arguments.budget <= 0:
        raise UserError(f"--budget must be more than 0 minutes, not {arguments.budget}")
    if arguments.remarks is not None:
        read_text(arguments.remarks)  # now, rather than after hours
    return arguments


def choose_profile(name: str | None, model: Path) -> Profile:
    """Return the data sets that were asked for, else small ones for a network that is meant for small frames."""
    size = intended_size(read_checkpoint(model))
    name = name or ("small" if size < PUBLISHED_SIZE else "paper")
    return small_profile(size) if name == "small" else paper_profile()


def reproduce(arguments: argparse.Namespace) -> int:
    """Run what is missing and write the report; returns the exit code.

    Raises:
        UserError, SettingError: the runs cannot start, or the report cannot be written.
    """
    require_matplotlib()  # reported now, not after hours
    device, model = choose_device(arguments.device), arguments.model or default_network_file()
    profile = choose_profile(arguments.profile, model)
    data_root, budget = arguments.data_root, Budget(arguments.budget)
    logger.info("network %s, profile %s, data in %s, on %s", model, profile.name, data_root, device)
    runner = Runner(profile, model, device, data_root, arguments.output, budget, arguments.overwrite)
    runs = plan(arguments.tables, profile, runner.mixed)
    if arguments.plan:
        print("\n".join(f"{run.priority}  {run.name}" for run in runs))
        return 0
    try:
        runner.carry_out(runs)
        folder = arguments.report or arguments.output
        print(f"Report: {make_report(arguments.tables, runner, folder, arguments.remarks)}")
    except OSError as error:
        raise UserError(str(error)) from error
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the program, and return its exit code: 0, even if rows are missing; 2 after a user's mistake; 130."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    return run_program("reproduce", lambda: reproduce(parse_arguments(argv)), "the same command resumes")


if __name__ == "__main__":
    sys.exit(main())
