"""Time frames, memory reads and scoring beside plain formulations of the same, training, and the annotation program.

python -m scripts.benchmark {clicks,frame,interactive,person,read,score,toolkits,train}
"""

import logging
import sys

from scripts.benchmarks import clicks, frame, interactive, person, read, score, toolkits, train
from util.command_line import run_one_of

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
    return run_one_of(BENCHMARKS, "benchmark", __doc__.partition("\n")[0], argv, "nothing was kept")


if __name__ == "__main__":
    sys.exit(main())
