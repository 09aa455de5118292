"""A program for tests: train.py, in which one process gets a signal during one iteration, unless torchrun restarted it.

torchrun --nproc_per_node=2 train_and_stop.py SIGTERM RANK ITERATION (and the flags of train.py)
"""

import os
import signal
import sys

import train
from training.step import Stepper


def main(name: str, rank: int, iteration: int, argv: list[str]) -> int:
    step = Stepper.step
    is_first_start = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"

    def step_and_signal(self, batch, number):
        if number == iteration and int(os.environ["RANK"]) == rank and is_first_start:
            signal.raise_signal(signal.Signals[name])
        return step(self, batch, number)

    Stepper.step = step_and_signal
    return train.main(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
