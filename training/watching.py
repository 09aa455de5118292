"""A run to be watched: progress bar, log lines, and TensorBoard with curves and pictures."""

import logging
import math
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torchvision.transforms.v2.functional import resize
from torchvision.utils import draw_segmentation_masks, make_grid
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from model.network import XMem
from training.config import StageConfig
from training.step import StepReport, TrainingBatch
from util.device import peak_process_bytes
from util.errors import UserError

PICTURES = "image, ground truth, prediction"
PICTURE_SIDE = 192
"""Pixels of a picture's shorter side: enough to judge by, and a quarter of the pixels of published crops."""
COLOURS = ("#ff3b30", "#32c8ff", "#ffd60a", "#40e060", "#ff66d8", "#ff9020")

log = logging.getLogger(__name__)


class Watcher(AbstractContextManager):
    """Shows and records what a run does, in process 0.

    TensorBoard's files lie in `folder`/tensorboard/stage_S, one folder for each stage. A resumed stage takes back what
    was recorded after the checkpoint, which TensorBoard does by the step alone: in one folder for all it would take
    back other stages' curves too. The step of a curve is the number of iterations done in the stage.

    Args:
        log_interval: iterations that a log line, and a point of the curves, is the mean of.
        gamma: of the learning rate's decay.
        image_interval: iterations between pictures; the first iteration has one as well.

    Raises:
        UserError: an interval is not positive.
        OSError: in `on_stage`, the folder cannot be written to.
    """

    def __init__(self, folder: Path, log_interval: int, gamma: float, *, image_interval: int = 1000) -> None:
        if min(log_interval, image_interval) < 1:
            raise UserError(
                "--log_text_interval and --log_image_interval must be at least 1, not "
                f"{log_interval} and {image_interval}"
            )
        self._folder = folder
        self._log_interval, self._image_interval = log_interval, image_interval
        self._gamma = gamma
        self._open = ExitStack()
        self._figures: defaultdict[str, list[float]] = defaultdict(list)  # of each iteration since the last log line

    def __exit__(self, *_: Any) -> None:
        self.close()

    def on_stage(self, stage: StageConfig, begin: int) -> None:
        """Begin a stage, or continue it after `begin` iterations."""
        self.close()
        self._open.enter_context(logging_redirect_tqdm())  # log lines go above the bar, not through it
        self._bar = self._open.enter_context(
            tqdm(
                total=stage.total_iterations,
                initial=begin,
                desc=f"stage {stage.name}",
                unit="it",
                mininterval=0.2 if sys.stderr.isatty() else 10,  # a log keeps every state of the bar
                dynamic_ncols=True,
            )
        )
        folder = self._folder / "tensorboard" / f"stage_{stage.name}"
        self._writer = self._open.enter_context(SummaryWriter(str(folder), purge_step=begin + 1, flush_secs=10))
        self._since = time.perf_counter()

    def on_step(
        self, stage: StageConfig, iteration: int, report: StepReport, batch: TrainingBatch, seconds_waited: float
    ) -> None:
        """Show one iteration; record it with those around it."""
        done = iteration + 1
        self._stage, self._done, self._device = stage, done, report.predictions.device
        self._note(report, time.perf_counter() - self._since, seconds_waited)
        self._bar.set_postfix_str(
            f"loss {self._mean('loss/total') / len(report.dice):.3f} a frame, "
            f"{self._mean('speed/seconds an iteration'):.2f} s, waiting {self._share_waiting():.0%}",
            refresh=False,
        )
        self._bar.update()
        if done % self._log_interval == 0 or done == stage.total_iterations:
            self._record()
        if done % self._image_interval == 0 or done == 1:
            pictures = picture_grid(batch.images[-1].cpu(), batch.labels[-1].cpu(), report.predictions.cpu())
            self._writer.add_image(PICTURES, pictures, done)
        self._since = time.perf_counter()

    def on_network(self, stage: StageConfig, done: int, network: XMem) -> None:
        """The next iteration begins: what was saved or validated in between is not part of its time."""
        self._since = time.perf_counter()

    def on_validation(self, stage: StageConfig, done: int, j_and_f: float) -> None:
        """Record the J&F, in percent, that the network has on other videos after `done` iterations of `stage`."""
        log.info("%s %d: validation J&F %.1f", stage.name, done, j_and_f)
        self._add_scalars({"validation/J&F": j_and_f}, done)
        self._since = time.perf_counter()

    def close(self) -> None:
        """Record what has not been yet, and end the bar; `on_stage` may follow."""
        if self._figures:
            self._record()
        self._open.close()

    def _note(self, report: StepReport, seconds: float, seconds_waited: float) -> None:
        figures = {"loss/total": report.loss, "optimisation/gradient norm": report.gradient_norm}
        figures |= {f"loss/cross entropy, frame {t}": loss for t, loss in enumerate(report.cross_entropy, start=1)}
        figures |= {f"loss/dice, frame {t}": loss for t, loss in enumerate(report.dice, start=1)}
        figures |= {"speed/seconds an iteration": seconds, "speed/seconds waiting for data": seconds_waited}
        figures |= {"optimisation/skipped iterations": float(report.skipped)}
        for name, value in figures.items():
            self._figures[name].append(value)

    def _record(self) -> None:
        """Write a log line and a point of each curve, for the iterations since the last ones."""
        stage, done = self._stage, self._done
        skipped = int(sum(self._figures["optimisation/skipped iterations"]))
        figures = {name: self._mean(name) for name in self._figures}
        figures |= {
            "optimisation/skipped iterations": skipped,
            "optimisation/learning rate": stage.learning_rate(done - 1, self._gamma),
            "speed/samples per second": stage.batch_size / figures["speed/seconds an iteration"],
            "speed/share waiting for data": self._share_waiting(),
            "memory/peak GiB": peak_bytes(self._device) / 2**30,
        }
        self._add_scalars(figures, done)
        cross_entropy, dice = (
            fmean(mean for name, mean in figures.items() if name.startswith(f"loss/{part}"))
            for part in ("cross entropy", "dice")
        )
        log.info(
            "%s %d: loss %.4f a frame (cross entropy %.4f, dice %.4f), gradient %.3g, %.2f s an iteration, %.0f %% of "
            "it waiting for data%s", stage.name, done, cross_entropy + dice, cross_entropy, dice,
            figures["optimisation/gradient norm"], figures["speed/seconds an iteration"],
            100 * figures["speed/share waiting for data"], f"; {skipped} skipped, not finite" if skipped else "",
        )  # fmt: skip
        self._figures.clear()

    def _add_scalars(self, figures: dict[str, float], done: int) -> None:
        for name, value in figures.items():
            if math.isfinite(value):
                self._writer.add_scalar(name, value, done)

    def _mean(self, name: str) -> float:
        return finite_mean(self._figures[name])

    def _share_waiting(self) -> float:
        return sum(self._figures["speed/seconds waiting for data"]) / sum(self._figures["speed/seconds an iteration"])


def finite_mean(values: Sequence[float]) -> float:
    """The mean of those values that are finite; NaN if none is."""
    finite = [value for value in values if math.isfinite(value)]
    return fmean(finite) if finite else math.nan


def peak_bytes(device: torch.device) -> int:
    """The most memory that tensors took on a CUDA device; elsewhere, the most this process took."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_process_bytes()


def picture_grid(
    images: UInt8[Tensor, "frames 3 height width"],
    labels: UInt8[Tensor, "frames height width"],
    predictions: UInt8[Tensor, "frames-1 height width"],
) -> UInt8[Tensor, "3 grid_height grid_width"]:
    """One clip over time: a column for each frame, below each other the image, the ground truth and the prediction.

    Args:
        predictions: of frames 1, 2, …; frame 0 shows the mask that it came with.
    """
    predictions = torch.cat([labels[:1], predictions])
    cells = torch.cat([images, paint(images, labels), paint(images, predictions)])
    if min(images.shape[-2:]) > PICTURE_SIDE:
        cells = resize(cells, [PICTURE_SIDE])
    return make_grid(cells, nrow=len(images), pad_value=255)


def paint(
    images: UInt8[Tensor, "frames 3 height width"], labels: UInt8[Tensor, "frames height width"]
) -> UInt8[Tensor, "frames 3 height width"]:
    """Label maps in colours over their dimmed images; an object has the same colour in all frames."""
    objects = torch.arange(1, max(1, int(labels.max())) + 1)
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(objects))]
    return torch.stack(
        [
            draw_segmentation_masks(image // 2, label_map == objects[:, None, None], alpha=0.6, colors=colours)
            for image, label_map in zip(images, labels, strict=True)
        ]
    )
