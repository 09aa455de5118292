"""A program for tests: train.py, in which one process gets SIGTERM during one iteration.

torchrun --nproc_per_node=2 train_and_stop.py RANK ITERATION (and the flags of train.py)
"""

import os
import signal
import sys

import train
from training.step import Stepper


def main(rank: int, iteration: int, argv: list[str]) -> int:
    step = Stepper.step

    def step_and_signal(self, batch, number):
        if number == iteration and int(os.environ["RANK"]) == rank:
            signal.raise_signal(signal.SIGTERM)
        return step(self, batch, number)

    Stepper.step = step_and_signal
    return train.main(argv)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
