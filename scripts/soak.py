"""Disturb evaluation and training, or keep inference busy for long, and see whether anything changes.

python -m scripts.soak kill [--kills N] [--seed N] [--work DIR]
python -m scripts.soak long [--frames N]
"""

import sys

from scripts.soaks import kill, long
from util.command_line import run_one_of

SOAKS = {"kill": kill, "long": long}


def main(argv: list[str] | None = None) -> int:
    """Run one soak; returns the exit code: 0; 1 if something changed; 2 after a user's mistake; 130 after Ctrl-C."""
    return run_one_of(SOAKS, "soak", __doc__.partition("\n")[0], argv, "nothing was concluded")


if __name__ == "__main__":
    sys.exit(main())
