"""Performance claims, each as a ratio measured in one run: python -m scripts.benchmark {read,score}."""

import argparse
import logging
import sys

from scripts.benchmarks import read, score
from util.errors import UserError

BENCHMARKS = {"read": read, "score": score}


def main(argv: list[str] | None = None) -> int:
    """Run one benchmark and print its table; returns the exit code."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    parser = argparse.ArgumentParser(prog="python -m scripts.benchmark", description=__doc__)
    commands = parser.add_subparsers(dest="benchmark", required=True)
    for name, module in BENCHMARKS.items():
        module.add_arguments(commands.add_parser(name, help=module.__doc__.partition("\n")[0]))
    arguments = parser.parse_args(argv)
    try:
        BENCHMARKS[arguments.benchmark].run(arguments)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
