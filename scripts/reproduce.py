"""Make the paper's tables and figures: run the variants, score them, and set them beside what was published.

    python -m scripts.reproduce table6 table7
    python -m scripts.reproduce all --budget 60
    torchrun --nproc_per_node=4 -m scripts.reproduce table2 --data-root /data --model saves/XMem.pth

The same command goes on where it was interrupted. See docs/reproduce.md.
"""

import argparse
import logging
import sys
from pathlib import Path

from evaluation.config import PUBLISHED_SIZE
from evaluation.networks import default_network_file, intended_size
from evaluation.work_queue import StartFailedElsewhereError, WorkQueue
from model.checkpoint import read_checkpoint
from reproduction.assembly import make_report
from reproduction.figures import require_matplotlib
from reproduction.planning import NAMES, Budget, tasks_of
from reproduction.profiles import Profile, paper_profile, small_profile
from reproduction.runner import Networks, Runner
from util.command_line import Parser
from util.device import choose_device
from util.errors import UserError

DATA_ROOTS = (Path(".."), Path("../shared"))
FAILED, INTERRUPTED = 2, 130  # exit codes

log = logging.getLogger("reproduce")


def make_parser() -> argparse.ArgumentParser:
    """The flags of this program."""
    parser = Parser(prog="python -m scripts.reproduce", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("tables", nargs="+", metavar="TABLE", help=f"{', '.join(NAMES)}, or all")
    add("--model", type=Path, help="network file (saves/XMem.pth, or else the bundled saves/XMem-small.pth)")
    add("--data-root", type=Path, help="where DAVIS, YouTube2018, … lie (.., or ../shared if DAVIS is there)")
    add("--output", type=Path, default=Path("../output/reproduce"), help="runs and the report (%(default)s)")
    add("--report", type=Path, help="folder of the report, if it is to lie elsewhere than in --output")
    add("--remarks", type=Path, help="Markdown file with remarks on the results, to be put into the report")
    add("--budget", type=float, metavar="MINUTES", help="the most time to spend, on what matters first")
    add("--profile", choices=("paper", "small"), help="data sets (small with a network for small frames)")
    add("--device", default="auto", help="auto, cuda, cuda:N, mps or cpu (%(default)s)")
    add("--overwrite", action="store_true", help="replace runs that were made with other settings")
    add("--plan", action="store_true", help="say what would be run, in which order, and nothing else")
    return parser


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """What the user asks for.

    Raises:
        UserError: there is no such table, or a flag's value cannot be used.
    """
    arguments = make_parser().parse_args(argv)
    for name in arguments.tables:
        if name not in (*NAMES, "all"):
            raise UserError(f"there is no {name}: choose of {', '.join(NAMES)}, or all")
    wanted = NAMES if "all" in arguments.tables else arguments.tables
    arguments.tables = [name for name in NAMES if name in wanted]
    if arguments.budget is not None and arguments.budget <= 0:
        raise UserError(f"--budget must be more than 0 minutes, not {arguments.budget}")
    if arguments.remarks is not None and not arguments.remarks.is_file():
        raise UserError(f"--remarks {arguments.remarks}: no such file")
    return arguments


def choose_profile(name: str | None, model: Path) -> Profile:
    """The data sets that were asked for, else small ones for a network that is meant for small frames."""
    size = intended_size(read_checkpoint(model))
    if name is None:
        name = "small" if size < PUBLISHED_SIZE else "paper"
    return small_profile(size) if name == "small" else paper_profile()


def make_runner(arguments: argparse.Namespace, sharing: WorkQueue) -> Runner:
    """Everything that the runs need.

    Raises:
        UserError: something is not there; nothing was written.
    """
    require_matplotlib()  # told now, not after hours
    device = choose_device(arguments.device, sharing.local_rank)
    model = arguments.model or default_network_file()
    profile = choose_profile(arguments.profile, model)
    data_root = arguments.data_root or next((root for root in DATA_ROOTS if (root / "DAVIS").is_dir()), DATA_ROOTS[0])
    if sharing.rank == 0:
        log.info("network %s, profile %s, data in %s, on %s", model, profile.name, data_root, device)
    return Runner(
        profile,
        Networks(model, device),
        data_root,
        arguments.output,
        sharing,
        Budget(arguments.budget),
        arguments.overwrite,
    )


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0, also where rows are missing; 2 after a user's mistake; 130 if interrupted."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    sharing = WorkQueue.from_environment()
    try:
        arguments = parse_arguments(argv)
        runner = make_runner(arguments, sharing)
        tasks = tasks_of(arguments.tables, runner.profile, runner.mixed)
        if arguments.plan:
            print("\n".join(f"{task.priority}  {task.name}" for task in tasks))
            return 0
        runner.do(tasks)
        if sharing.rank == 0:
            remarks = arguments.remarks.read_text(encoding="utf-8") if arguments.remarks else ""
            print(f"Report: {make_report(arguments.tables, runner, arguments.report or arguments.output, remarks)}")
        return 0
    except (UserError, OSError) as error:
        if sharing.rank == 0:
            print(f"reproduce: {error}", file=sys.stderr)
        return FAILED
    except StartFailedElsewhereError:
        return FAILED
    except KeyboardInterrupt:
        print("reproduce: interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
