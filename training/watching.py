"""A run to be watched: progress bar and TensorBoard."""

import sys
import time
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from model.network import XMem
from training.config import StageConfig
from training.step import StepReport, TrainingBatch


class Watcher:
    """Shows and records what a run does, in process 0."""

    def __init__(self, folder: Path, log_interval: int, gamma: float) -> None:
        self._writer = SummaryWriter(str(folder))
        self._interval, self._gamma = log_interval, gamma
        self._bar: tqdm | None = None

    def on_stage(self, stage: StageConfig, begin: int) -> None:
        self._bar = tqdm(
            total=stage.total_iterations, initial=begin, desc=f"stage {stage.name}", unit="it", dynamic_ncols=True,
            mininterval=0.2 if sys.stderr.isatty() else 30,
        )  # fmt: skip
        self._sums: dict[str, float] = {}
        self._count, self._since = 0, time.monotonic()

    def on_step(
        self, stage: StageConfig, iteration: int, report: StepReport, batch: TrainingBatch, seconds_waited: float
    ) -> None:
        frames = len(report.dice)
        figures = {"loss/total": report.loss, "gradient norm": report.gradient_norm, "seconds waited": seconds_waited}
        figures |= {f"loss/cross entropy {t}": value for t, value in enumerate(report.cross_entropy, start=1)}
        figures |= {f"loss/dice {t}": value for t, value in enumerate(report.dice, start=1)}
        for name, value in figures.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        self._bar.update()
        if (iteration + 1) % self._interval == 0:
            now = time.monotonic()
            for name, value in self._sums.items():
                self._writer.add_scalar(f"{stage.name}/{name}", value / self._count, iteration + 1)
            seconds = (now - self._since) / self._count
            self._writer.add_scalar(f"{stage.name}/iterations per second", 1 / seconds, iteration + 1)
            lr = stage.learning_rate(iteration, self._gamma)
            self._writer.add_scalar(f"{stage.name}/learning rate", lr, iteration + 1)
            mean = {name: value / self._count for name, value in self._sums.items()}
            self._bar.set_postfix_str(f"loss {mean['loss/total'] / frames:.3f} a frame, {seconds:.2f} s")
            self._bar.write(
                f"{stage.name} {iteration + 1}: loss {mean['loss/total'] / frames:.4f} "
                f"dice {sum(report.dice) / frames:.3f} grad {mean['gradient norm']:.2f} "
                f"{seconds:.2f} s/it, waited {mean['seconds waited']:.2f} s", file=sys.stderr,
            )  # fmt: skip
            self._sums, self._count, self._since = {}, 0, now

    def on_network(self, stage: StageConfig, done: int, network: XMem) -> None:
        if done == stage.total_iterations:
            self.close()

    def close(self) -> None:
        self._writer.flush()
        if self._bar is not None:
            self._bar.close()
