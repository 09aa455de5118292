"""One iteration: loss and gradients of the whole batch, and the step of the optimiser.

The batch is divided over processes, and each process's share over several passes if it does not fit into memory; what
is learned does not depend on either.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from model.network import XMem, normalise_images
from training.clip import Choices, CompiledNetwork, clip_loss, segment_clips
from training.config import OptimisationConfig, StageConfig
from training.weights import FoldedNetwork
from util.device import half_precision, send
from util.processes import Processes


@dataclass(frozen=True, eq=False)
class TrainingBatch:
    """This process's samples of one iteration."""

    images: UInt8[Tensor, "batch frames 3 height width"]  # RGB, not yet normalised
    labels: UInt8[Tensor, "batch frames height width"]  # 0 is the background, 1, 2, … are the objects of frame 0
    objects: Integer[Tensor, " batch"]  # how many each sample has
    choices: Choices

    def __len__(self) -> int:
        return len(self.objects)

    def part(self, begin: int, end: int) -> "TrainingBatch":
        return self._each(lambda tensor: tensor[begin:end])

    def pin_memory(self) -> "TrainingBatch":
        """Return the batch in page-locked memory; a data loader calls this in a thread of its own."""
        return self._each(Tensor.pin_memory)

    def to(self, device: torch.device) -> "TrainingBatch":
        return self._each(lambda tensor: send(tensor, device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "TrainingBatch":
        """Return the batch with all its tensors changed; each has a row per sample."""
        drawn = self.choices
        forgotten = None if drawn.forgotten is None else change(drawn.forgotten)
        choices = Choices(change(drawn.deep_updates), tuple(map(change, drawn.references)), forgotten)
        return TrainingBatch(change(self.images), change(self.labels), change(self.objects), choices)


@dataclass(frozen=True, kw_only=True)
class StepFigures:
    """Figures of one iteration, over all processes."""

    loss: float
    cross_entropy: list[float]  # per frame, from frame 1 on
    dice: list[float]
    gradient_norm: float
    learning_rate: float
    skipped: bool  # something was not finite, so no step was taken
    overflowed: bool  # it was skipped because the loss scale, which will be lowered, was too large for half precision


@dataclass(frozen=True, eq=False)
class StepReport:
    """Results of an iteration, still on the device: reading them waits until it has computed them."""

    parts: Float[Tensor, " parts"]  # cross entropy per frame, from frame 1 on, then dice per frame
    gradient_norm: Float[Tensor, ""]
    learning_rate: float
    uses_scaler: bool
    predictions: UInt8[Tensor, "frames height width"]  # label maps of the last sample's frames 1, 2, …

    def figures(self) -> StepFigures:
        """Wait for the iteration, and return its figures."""
        return read_figures([self])[0]


def read_figures(reports: Sequence[StepReport]) -> list[StepFigures]:
    """Wait for iterations, and return their figures, from one message of the device."""
    rows = torch.stack([torch.cat([each.parts, each.gradient_norm[None].to(each.parts.dtype)]) for each in reports])
    figures = []
    for report, (*parts, gradient_norm) in zip(reports, rows.tolist(), strict=True):
        frames, loss = len(parts) // 2, sum(parts)
        finite_loss, finite_gradient = math.isfinite(loss), math.isfinite(gradient_norm)
        figures.append(
            StepFigures(
                loss=loss,
                cross_entropy=parts[:frames],
                dice=parts[frames:],
                gradient_norm=gradient_norm,
                learning_rate=report.learning_rate,
                skipped=not (finite_loss and finite_gradient),
                overflowed=report.uses_scaler and finite_loss and not finite_gradient,
            )
        )
    return figures


def masks_of(
    labels: UInt8[Tensor, "batch height width"], max_objects: int, dtype: torch.dtype
) -> Float[Tensor, "batch max_objects height width"]:
    """Return a mask for each of the objects 1, 2, ..., `max_objects` of some label maps."""
    channel = torch.arange(1, max_objects + 1, device=labels.device)
    return (labels.unsqueeze(1) == channel[:, None, None]).to(dtype)


class ClipObjective(nn.Module):
    """The losses of a batch, as a module for DistributedDataParallel to wrap. `max_objects` fixes the channels."""

    def __init__(self, network: XMem, max_objects: int, checkpoint_activations: bool, compiled: bool) -> None:
        super().__init__()
        self.network = network
        self.on_clips = CompiledNetwork(network) if compiled else FoldedNetwork(network)
        self.max_objects = max_objects
        self.checkpoint_activations = checkpoint_activations

    def forward(
        self, batch: TrainingBatch, stage: StageConfig, iteration: int
    ) -> tuple[Float[Tensor, ""], Float[Tensor, " parts"], UInt8[Tensor, "frames height width"]]:
        """Return the loss; its parts, detached (cross entropy per frame, then dice per frame); and the last sample's
        predicted label maps.
        """
        images = normalise_images(batch.images, next(self.network.parameters()).dtype)
        channel = torch.arange(1, self.max_objects + 1, device=images.device)
        selector = (channel <= batch.objects[:, None]).to(images.dtype)
        first_masks = masks_of(batch.labels[:, 0], self.max_objects, images.dtype)
        segmentations = segment_clips(
            self.on_clips, images, first_masks, selector, batch.choices, self.checkpoint_activations
        )
        loss = clip_loss(segmentations, batch.labels, batch.objects, stage.hardest_fraction(iteration))
        predictions = torch.stack([segmentation.prob[-1].detach().argmax(dim=0) for segmentation in segmentations])
        return loss.total, torch.stack(loss.cross_entropy + loss.dice).detach(), predictions.to(torch.uint8)


@dataclass(frozen=True, eq=False, kw_only=True)
class StepperState:
    """All that the next step depends on, as a checkpoint holds it."""

    network: dict[str, Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    average: list[Tensor]
    """The moving average of each trained parameter; empty if none is wanted."""
    random_state: UInt8[Tensor, " bytes"]


def encoder_parameters(network: XMem) -> list[nn.Parameter]:
    """Return the parameters of both encoders up to stride 16: those that may start from ImageNet."""
    later = ("fuser.", "hidden_reinforce.")
    of_values = [each for name, each in network.value_encoder.named_parameters() if not name.startswith(later)]
    return [*network.key_encoder.parameters(), *of_values]


_HAS_NEW_NAME = "forward_sync_buffers" in signature(DistributedDataParallel).parameters  # in PyTorch 2.13
BUFFERS_STAY: dict[str, Any] = {"forward_sync_buffers" if _HAS_NEW_NAME else "broadcast_buffers": False}
"""Keeps DistributedDataParallel from sending buffers before every step: they are frozen."""

FUSED = ("cuda", "cpu")
"""Types of device with a fused AdamW. Its step does nothing where the device finds that gradients are not finite, so
that the host does not have to wait for the answer."""


class Stepper:
    """Takes the steps of one stage: holds the network, its optimiser and the loss scaler."""

    def __init__(
        self,
        network: XMem,
        *,
        stage: StageConfig,
        optimisation: OptimisationConfig,
        processes: Processes,
    ) -> None:
        self.network, self.stage, self.optimisation, self.processes = network, stage, optimisation, processes
        self.device = next(network.parameters()).device
        # A tenth faster on CPUs, and what half precision wants on CUDA. Besides, gradients of 1×1 convolutions come in
        # this layout whatever the weights have, and DistributedDataParallel warns where the two differ.
        network.to(memory_format=torch.channels_last)
        # It shifts all keys alike, and only their differences matter: its gradient is rounding noise, which Adam would
        # scale up to full-sized steps, different ones for every number of processes.
        network.key_proj.key_proj.get_parameter("bias").requires_grad_(False)
        if network.decoder.hidden_update is not None:
            # No frame follows the last, so in a clip of two nothing uses it; DistributedDataParallel would wait for its
            # gradient.
            network.decoder.hidden_update.requires_grad_(stage.num_frames > 2)
        self.objective: nn.Module = ClipObjective(
            network, stage.max_objects, optimisation.checkpoint_activations, optimisation.compile
        )
        if processes.count > 1:
            self.objective = DistributedDataParallel(
                self.objective,
                device_ids=[self.device.index] if self.device.type == "cuda" else None,
                gradient_as_bucket_view=True,
                **BUFFERS_STAY,
            )
        self.parameters: list[Tensor] = [parameter for parameter in network.parameters() if parameter.requires_grad]
        of_encoders = {id(parameter) for parameter in encoder_parameters(network)}
        self.factors = (1.0, optimisation.encoder_lr_factor)  # of the learning rate, by parameter group
        groups = [
            {"params": [each for each in self.parameters if (id(each) in of_encoders) == is_encoder]}
            for is_encoder in (False, True)
        ]
        self.is_fused = self.device.type in FUSED  # a half to a quarter of the time
        self.optimizer = torch.optim.AdamW(
            groups, lr=stage.lr, weight_decay=optimisation.weight_decay, fused=self.is_fused
        )
        self.average: list[Tensor] | None = None
        if optimisation.average_decay is not None:
            self.average = [parameter.detach().clone() for parameter in self.parameters]
        self.half = half_precision(self.device, training=True)
        needs_scaling = optimisation.mixed_precision and self.half == torch.float16
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=needs_scaling)

    def result(self) -> XMem:
        """Return the network with what has been learned: the moving average of its weights, where there is one."""
        if self.average is None:
            return self.network
        self.optimizer.zero_grad(set_to_none=True)  # or they would be copied, too
        network = deepcopy(self.network)
        self._give_average([parameter for parameter in network.parameters() if parameter.requires_grad])
        return network

    def finish(self) -> None:
        """Give the network the moving average of its weights, where there is one."""
        self._give_average(self.parameters)

    @torch.no_grad()
    def _give_average(self, parameters: list[Tensor]) -> None:
        if self.average is not None:
            torch._foreach_copy_(parameters, self.average)

    @torch.no_grad()
    def _update_average(self, iteration: int) -> None:
        if self.average is not None:
            assert self.optimisation.average_decay is not None
            # Less of the first weights at the beginning, when they have little to say.
            decay = min(self.optimisation.average_decay, (1 + iteration) / (10 + iteration))
            torch._foreach_lerp_(self.average, self.parameters, 1 - decay)

    def state(self) -> StepperState:
        return StepperState(
            network=self.network.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scaler=self.scaler.state_dict(),
            average=self.average or [],
            random_state=torch.get_rng_state(),
        )

    def load_state(self, state: StepperState) -> None:
        """Continue where `state` was taken."""
        self.network.load_state_dict(state.network)
        self.optimizer.load_state_dict(state.optimizer)
        for group in self.optimizer.param_groups:  # as they are here, not where the state was taken
            group["weight_decay"], group["fused"] = self.optimisation.weight_decay, self.is_fused
        if state.scaler:  # empty if it comes from a device with bf16
            self.scaler.load_state_dict(state.scaler)
        if self.average is not None:  # where the checkpoint has none, it begins here
            torch._foreach_copy_(self.average, state.average or self.parameters)
        torch.set_rng_state(state.random_state)

    def step(self, batch: TrainingBatch, iteration: int) -> StepReport:
        """Take one optimisation step with this process's share of the batch; every process reports the same figures.

        No step is taken if the loss or its gradient is not finite. On CUDA nothing waits for the device.
        """
        learning_rate = self.stage.learning_rate(iteration, self.optimisation.gamma)
        for group, factor in zip(self.optimizer.param_groups, self.factors, strict=True):
            group["lr"] = learning_rate * factor
        self.optimizer.zero_grad(set_to_none=True)
        parts, predictions = self._accumulate_gradients(batch.to(self.device), iteration)
        parts = self.processes.mean(parts)
        self.scaler.unscale_(self.optimizer)
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        gradient_norm = torch.stack(torch._foreach_norm(gradients)).norm()
        if (longest := self.optimisation.max_gradient_norm) is not None:
            torch._foreach_mul_(gradients, (longest / gradient_norm).clamp(max=1.0))
        self._step_if_finite(parts.sum() + gradient_norm)
        self._update_average(iteration)
        return StepReport(parts, gradient_norm, learning_rate, self.scaler.is_enabled(), predictions)

    def _step_if_finite(self, value: Float[Tensor, ""]) -> None:
        """Take the optimiser's step if `value` is finite, where it is fused without waiting for it."""
        if self.scaler.is_enabled():
            self.scaler.step(self.optimizer)  # skips by itself, by the same gradients in every process
            self.scaler.update()
        elif self.is_fused:
            found_inf = (~value.isfinite()).float()
            for name, tensor in {"grad_scale": None, "found_inf": found_inf}.items():  # as a GradScaler gives them
                setattr(self.optimizer, name, tensor)
            self.optimizer.step()
        elif math.isfinite(value.item()):
            self.optimizer.step()

    def _accumulate_gradients(
        self, batch: TrainingBatch, iteration: int
    ) -> tuple[Float[Tensor, " parts"], UInt8[Tensor, "frames height width"]]:
        """Add up the gradients of this process's samples; they are averaged over processes in the last pass."""
        at_once = self.optimisation.samples_at_once or len(batch)
        total: Any = 0
        for begin in range(0, len(batch), at_once):
            part = batch.part(begin, begin + at_once)
            is_last = begin + at_once >= len(batch)
            no_sync: Any = self.objective.no_sync if self.processes.count > 1 and not is_last else nullcontext
            with no_sync():
                with torch.autocast(self.device.type, dtype=self.half, enabled=self.optimisation.mixed_precision):
                    loss, parts, predictions = self.objective(part, self.stage, iteration)
                share = len(part) / len(batch)
                self.scaler.scale(loss * share).backward()
            total = total + parts * share
        return total, predictions
