"""One iteration: the whole batch's loss and gradients, and the step they lead to.

The batch is shared out over processes, and each process's share over several passes if it does not fit; what is
learned does not depend on either.
"""

import math
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from model.network import IMAGE_MEAN, IMAGE_STD, XMem
from training.clip import Choices, clip_loss, segment_clips
from training.config import OptimisationConfig, StageConfig
from training.processes import Processes


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """This process's samples of one iteration."""

    images: UInt8[Tensor, "batch frames 3 height width"]
    labels: UInt8[Tensor, "batch frames height width"]
    """0 is the background, 1, 2, … are the objects of frame 0."""
    objects: Integer[Tensor, " batch"]
    choices: Choices

    def __len__(self) -> int:
        return len(self.objects)

    def part(self, begin: int, end: int) -> "TrainingBatch":
        choices = Choices(
            self.choices.deep_updates[begin:end], tuple(frames[begin:end] for frames in self.choices.references)
        )
        return TrainingBatch(self.images[begin:end], self.labels[begin:end], self.objects[begin:end], choices)

    def to(self, device: torch.device) -> "TrainingBatch":
        return TrainingBatch(
            self.images.to(device, non_blocking=True),
            self.labels.to(device, non_blocking=True),
            self.objects.to(device, non_blocking=True),
            self.choices.to(device),
        )


@dataclass(frozen=True)
class StepReport:
    """What one iteration came to, over all processes."""

    loss: float
    cross_entropy: list[float]
    """Per frame, from frame 1 on."""
    dice: list[float]
    gradient_norm: float
    skipped: bool
    """Something was not finite, so no step was taken."""
    overflowed: bool
    """It was skipped because the loss scale was too large for half precision, which mends itself."""


class ClipObjective(nn.Module):
    """Batch in, losses out: the module that DistributedDataParallel wraps. `max_objects` fixes the channels."""

    def __init__(self, network: XMem, max_objects: int) -> None:
        super().__init__()
        self.network = network
        self.max_objects = max_objects

    def forward(
        self, batch: TrainingBatch, stage: StageConfig, iteration: int
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " parts"]]:
        """The loss to follow, and all its parts for the record: cross entropy per frame, then dice per frame."""
        images = batch.images.to(next(self.network.parameters()).dtype) / 255
        mean, std = (images.new_tensor(statistic)[:, None, None] for statistic in (IMAGE_MEAN, IMAGE_STD))
        channel = torch.arange(1, self.max_objects + 1, device=images.device)
        selector = (channel <= batch.objects[:, None]).to(images.dtype)
        first_masks = (batch.labels[:, :1] == channel[:, None, None]).to(images.dtype)
        segmentations = segment_clips(self.network, (images - mean) / std, first_masks, selector, batch.choices)
        loss = clip_loss(segmentations, batch.labels, batch.objects, stage.bootstrapping, iteration)
        return loss.total, torch.stack(loss.cross_entropy + loss.dice).detach()


class Stepper:
    """Network, optimiser and loss scaler of one stage, and how one batch changes them."""

    def __init__(
        self,
        network: XMem,
        stage: StageConfig,
        config: OptimisationConfig,
        processes: Processes,
        max_objects: int,
    ) -> None:
        self.network, self.stage, self.config, self.processes = network, stage, config, processes
        self.device = next(network.parameters()).device
        # It shifts all keys alike, and only their differences matter: its gradient is rounding noise, which Adam would
        # scale up to full-sized steps, different ones for every number of processes.
        network.key_proj.key_proj.bias.requires_grad_(False)
        objective = ClipObjective(network, max_objects)
        self.objective = objective
        if processes.count > 1:
            self.objective = DistributedDataParallel(
                objective, device_ids=[self.device.index] if self.device.type == "cuda" else None
            )
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=stage.lr, weight_decay=config.weight_decay)
        self.half = torch.float16
        if self.device.type == "cpu" or (self.device.type == "cuda" and torch.cuda.is_bf16_supported()):
            self.half = torch.bfloat16
        needs_scaling = config.mixed_precision and self.half == torch.float16
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=needs_scaling)

    def step(self, batch: TrainingBatch, iteration: int) -> StepReport:
        """Take one optimisation step with this process's share of the batch; every process reports the same."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.stage.learning_rate(iteration, self.config.gamma)
        self.optimizer.zero_grad(set_to_none=True)
        parts = self._accumulate_gradients(batch.to(self.device), iteration)
        parts = self.processes.mean(parts)
        self.scaler.unscale_(self.optimizer)
        norms = torch._foreach_norm([parameter.grad for parameter in self.parameters if parameter.grad is not None])
        gradient_norm = torch.stack(norms).norm().item()
        figures = parts.tolist()
        frames = len(figures) // 2
        loss = sum(figures)
        finite_loss, finite_gradient = math.isfinite(loss), math.isfinite(gradient_norm)
        if self.scaler.is_enabled():
            self.scaler.step(self.optimizer)  # skips by itself, by the same gradients in every process
            self.scaler.update()
        elif finite_loss and finite_gradient:
            self.optimizer.step()
        return StepReport(
            loss=loss,
            cross_entropy=figures[:frames],
            dice=figures[frames:],
            gradient_norm=gradient_norm,
            skipped=not (finite_loss and finite_gradient),
            overflowed=self.scaler.is_enabled() and finite_loss and not finite_gradient,
        )

    def _accumulate_gradients(self, batch: TrainingBatch, iteration: int) -> Float[Tensor, " parts"]:
        """Add up the gradients of this process's samples; they are averaged over processes in the last pass."""
        at_once = self.config.samples_at_once or len(batch)
        total = 0
        for begin in range(0, len(batch), at_once):
            part = batch.part(begin, begin + at_once)
            is_last = begin + at_once >= len(batch)
            wait = self.objective.no_sync() if self.processes.count > 1 and not is_last else nullcontext()
            with wait:
                with torch.autocast(self.device.type, dtype=self.half, enabled=self.config.mixed_precision):
                    loss, parts = self.objective(part, self.stage, iteration)
                share = len(part) / len(batch)
                self.scaler.scale(loss * share).backward()
            total = total + parts * share
        return total
