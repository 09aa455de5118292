"""Disturb evaluation and training, or keep inference busy for long, and see whether anything changes.

python -m scripts.soak kill [--kills N] [--seed N] [--work DIR]
python -m scripts.soak long [--frames N]
"""

import argparse
import sys

from scripts.soaks import kill, long
from util.command_line import run_program

SOAKS = {"kill": kill, "long": long}


def main(argv: list[str] | None = None) -> int:
    """Run one soak; returns the exit code: 0; 1 if something changed; 2 after a user's mistake; 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m scripts.soak", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="soak", required=True)
    for name, module in SOAKS.items():
        module.add_arguments(commands.add_parser(name, help=(module.__doc__ or "").partition("\n")[0]))
    arguments = parser.parse_args(argv)
    return run_program(f"soak {arguments.soak}", lambda: SOAKS[arguments.soak].run(arguments), "nothing was concluded")


if __name__ == "__main__":
    sys.exit(main())
