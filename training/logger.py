"""What a run reports: progress bar, log lines, a table and a picture of its curves, and TensorBoard."""

import logging
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torchvision.transforms.v2.functional import resize
from torchvision.utils import make_grid
from tqdm.contrib.logging import logging_redirect_tqdm

from training.config import IntervalConfig, StageConfig
from training.curves import Curves, Point
from training.step import StepFigures, TrainingBatch
from util.command_line import progress_bar
from util.device import peak_device_bytes
from util.machine import peak_process_bytes
from util.painting import overlay_masks

PICTURES = "image, ground truth, prediction"
PICTURE_SIDE = 192
"""Pixels of a picture's shorter side: enough to judge by, and a quarter of the pixels of published crops."""

logger = logging.getLogger(__name__)


class TrainingLogger(AbstractContextManager[Any, None]):
    """Reports what a run does; for process 0.

    Each stage has a TensorBoard folder of its own, `folder`/tensorboard/stage_S. When a stage is resumed, TensorBoard
    discards all later steps in the folder; in a common one it would discard other stages' curves, too. The step of a
    curve is the number of iterations done in the stage. Where TensorBoard's files cannot be written any more, as on a
    full disk, a warning says so once, and the run goes on without them.
    """

    def __init__(self, folder: Path, intervals: IntervalConfig) -> None:
        self._folder, self._intervals = folder, intervals
        self._open = ExitStack()
        self._curves = Curves(folder)
        self._figures: defaultdict[str, list[float]] = defaultdict(list)  # of each iteration since the last log line

    def __exit__(self, *_: Any) -> None:
        self.close()

    def start_stage(self, stage: StageConfig, done: int, device: torch.device) -> None:
        """Start a stage on a device, or resume it after `done` iterations."""
        self.close()
        self._stage, self._device = stage, device
        self._curves.start_stage(stage.name, done)
        self._open.enter_context(logging_redirect_tqdm())  # log lines go above the bar, not through it
        self._bar = self._open.enter_context(
            progress_bar(total=stage.total_iterations, initial=done, desc=f"stage {stage.name}", unit="it")
        )
        folder = self._folder / "tensorboard" / f"stage_{stage.name}"
        self._writer: SummaryWriter | None = None
        with self._without_tensorboard_if_it_fails():
            self._writer = SummaryWriter(str(folder), purge_step=done + 1, flush_secs=10)
        self._open.callback(self._close_tensorboard)

    def log_step(self, done: int, figures: StepFigures, seconds: float, waited: float) -> None:
        """Show the latest iteration, number `done` of the stage, in the progress bar, and record its figures.

        Args:
            seconds: duration of the iteration.
            waited: seconds among them in which it waited for its batch.
        """
        self._done = done
        curves = {"loss/total": figures.loss, "optimisation/gradient norm": figures.gradient_norm}
        curves |= {f"loss/cross entropy, frame {t}": loss for t, loss in enumerate(figures.cross_entropy, start=1)}
        curves |= {f"loss/dice, frame {t}": loss for t, loss in enumerate(figures.dice, start=1)}
        curves |= {"speed/seconds an iteration": seconds, "speed/seconds waiting for data": waited}
        curves |= {"optimisation/skipped iterations": float(figures.skipped)}
        for name, value in curves.items():
            self._figures[name].append(value)
        self._bar.set_postfix_str(
            f"loss {self._mean('loss/total') / len(figures.dice):.3f} a frame, "
            f"{self._mean('speed/seconds an iteration'):.2f} s, waiting {self._share_waiting():.0%}",
            refresh=False,
        )
        self._bar.update()
        self._learning_rate = figures.learning_rate
        if done % self._intervals.log_text_interval == 0 or done == self._stage.total_iterations:
            self._record()

    def log_pictures(self, done: int, batch: TrainingBatch, predictions: UInt8[Tensor, "frames height width"]) -> None:
        """Record a clip with its predicted label maps, if it is time to, after iteration number `done` of the stage."""
        if done % self._intervals.log_image_interval == 0 or done == 1:
            pictures = picture_grid(batch.images[-1].cpu(), batch.labels[-1].cpu(), predictions.cpu())
            with self._without_tensorboard_if_it_fails():
                if self._writer is not None:
                    self._writer.add_image(PICTURES, pictures, done)

    def log_validation(self, done: int, j_and_f: float) -> None:
        """Record the J&F, in percent, that the network has on other videos after `done` iterations."""
        logger.info("%s %d: validation J&F %.1f", self._stage.name, done, j_and_f)
        self._add_scalars({"validation/J&F": j_and_f}, done)

    def close(self) -> None:
        """Record what has not been yet, and end the bar; `start_stage` may follow."""
        if self._figures:
            self._record()
        self._curves.draw()
        self._open.close()

    def _record(self) -> None:
        """Write a log line and a point of each curve, for the iterations since the last ones."""
        skipped = int(sum(self._figures["optimisation/skipped iterations"]))
        figures = {name: self._mean(name) for name in self._figures}
        figures |= {
            "optimisation/skipped iterations": skipped,
            "optimisation/learning rate": self._learning_rate,
            "speed/samples per second": self._stage.batch_size / figures["speed/seconds an iteration"],
            "speed/share waiting for data": self._share_waiting(),
            "memory/peak GiB": (peak_device_bytes(self._device) or peak_process_bytes()) / 2**30,
        }
        self._add_scalars(figures, self._done)
        cross_entropy, dice = (
            fmean(mean for name, mean in figures.items() if name.startswith(f"loss/{part}"))
            for part in ("cross entropy", "dice")
        )
        logger.info(
            "%s %d: loss %.4f a frame (cross entropy %.4f, dice %.4f), gradient %.3g, %.2f s an iteration, %.0f %% of "
            "it waiting for data%s", self._stage.name, self._done, cross_entropy + dice, cross_entropy, dice,
            figures["optimisation/gradient norm"], figures["speed/seconds an iteration"],
            100 * figures["speed/share waiting for data"], f"; {skipped} skipped, not finite" if skipped else "",
        )  # fmt: skip
        self._curves.add(
            Point(
                stage=self._stage.name,
                iteration=self._done,
                loss=cross_entropy + dice,
                cross_entropy=cross_entropy,
                dice=dice,
                gradient_norm=figures["optimisation/gradient norm"],
                learning_rate=self._learning_rate,
                seconds=figures["speed/seconds an iteration"],
            )
        )
        self._figures.clear()

    def _add_scalars(self, figures: dict[str, float], done: int) -> None:
        with self._without_tensorboard_if_it_fails():
            for name, value in figures.items():
                if self._writer is not None and math.isfinite(value):
                    self._writer.add_scalar(name, value, done)

    def _close_tensorboard(self) -> None:
        with self._without_tensorboard_if_it_fails():
            if self._writer is not None:
                self._writer.close()

    @contextmanager
    def _without_tensorboard_if_it_fails(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            logger.warning("TensorBoard's files cannot be written, and end here: %s", error.strerror or error)
            self._writer = None

    def _mean(self, name: str) -> float:
        return finite_mean(self._figures[name])

    def _share_waiting(self) -> float:
        return sum(self._figures["speed/seconds waiting for data"]) / sum(self._figures["speed/seconds an iteration"])


def finite_mean(values: Sequence[float]) -> float:
    """Return the mean of those values that are finite; NaN if none is."""
    finite = [value for value in values if math.isfinite(value)]
    return fmean(finite) if finite else math.nan


def picture_grid(
    images: UInt8[Tensor, "frames 3 height width"],
    labels: UInt8[Tensor, "frames height width"],
    predictions: UInt8[Tensor, "frames-1 height width"],
) -> UInt8[Tensor, "3 grid_height grid_width"]:
    """Show one clip over time: a column for each frame, in it the image, the ground truth and the prediction.

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
    """Paint label maps over their images."""
    frames = zip(images.permute(0, 2, 3, 1).numpy(), labels.numpy(), strict=True)
    return torch.stack([torch.from_numpy(overlay_masks(rgb, mask)).permute(2, 0, 1) for rgb, mask in frames])
