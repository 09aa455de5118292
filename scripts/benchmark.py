"""Time frames, memory reads and scoring beside plain formulations of the same, training, and the annotation program.

python -m scripts.benchmark {clicks,frame,interactive,person,read,score,toolkits,train}
"""

import argparse
import logging
import sys

from scripts.benchmarks import clicks, frame, interactive, person, read, score, toolkits, train
from util.command_line import run_program

BENCHMARKS = {
    "clicks": clicks,
    "frame": frame,
    "interactive": interactive,
    "person": person,
    "read": read,
    "score": score,
    "toolkits": toolkits,
    "train": train,
}


def main(argv: list[str] | None = None) -> int:
    """Run one benchmark and print its table; returns the exit code."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    parser = argparse.ArgumentParser(prog="python -m scripts.benchmark", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="benchmark", required=True)
    for name, module in BENCHMARKS.items():
        module.add_arguments(commands.add_parser(name, help=(module.__doc__ or "").partition("\n")[0]))
    arguments = parser.parse_args(argv)

    def run() -> int:
        BENCHMARKS[arguments.benchmark].run(arguments)
        return 0

    return run_program(f"benchmark {arguments.benchmark}", run, "nothing was kept")


if __name__ == "__main__":
    sys.exit(main())
