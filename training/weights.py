"""The weights of an iteration: batch norms folded in, cast for mixed precision, handed out to each frame.

Batch norms are frozen, so that they are a factor and an offset of the convolution before them: applied to its weights,
they cost nothing for any frame. Autograd would add up the gradients of a weight frame by frame, one operation for each
weight: those that are handed out are added for all weights at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from model.network import XMem


@dataclass(frozen=True, eq=False)
class ClipOperations:
    """What a network does with a clip of frames 0, 1, …"""

    encode_key: Callable[..., Any]
    encode_value: Sequence[Callable[..., Any]]  # of frames 0, 1, …, all but the last
    segment: Sequence[Callable[..., Any]]  # of frames 1, 2, …
    read_memory: Callable[..., Any]


class HandedOutNetwork:
    """A network whose operations use weights that are prepared once for all frames of a clip.

    Args:
        network: has frozen batch norms; it stays as it is, and its parameters get the gradients.
    """

    def __init__(self, network: XMem) -> None:
        self.network, self.config = network, network.config
        self._operations = _Operations(network.folded())  # has the names; its own weights are never used
        self._once = [_Part(network.get_submodule(name), name) for name in ("key_encoder", "key_proj")]
        self._each_frame = [_Part(network.get_submodule(name), name) for name in ("value_encoder", "decoder")]

    def operations(self, frames: int) -> ClipOperations:
        """Hand the weights out for a clip of so many frames."""
        keys = [part.hand_out(1)[0] for part in self._once]
        values, decoders = (part.hand_out(frames - 1) for part in self._each_frame)
        return ClipOperations(
            encode_key=self._with({**keys[0], **keys[1]}, "encode_key"),
            encode_value=[self._with(weights, "encode_value") for weights in values],
            segment=[self._with(weights, "segment") for weights in decoders],
            read_memory=self.network.read_memory,
        )

    def _with(self, weights: dict[str, Tensor], operation: str) -> Callable[..., Any]:
        def run(*arguments: Any, **more: Any) -> Any:
            return functional_call(self._operations, weights, (operation, *arguments), more)

        return run


class _Operations(nn.Module):
    """Calls a network's operations by their names, as `functional_call` wants it."""

    def __init__(self, network: XMem) -> None:
        super().__init__()
        self.network = network

    def forward(self, operation: str, *arguments: Any, **more: Any) -> Any:
        return getattr(self.network, operation)(*arguments, **more)


class _Part:
    """A part of a network whose weights are handed out together.

    Args:
        place: its name in the network.
    """

    def __init__(self, part: nn.Module, place: str) -> None:
        self.names: list[str] = []
        self.weights: list[nn.Parameter] = []
        self.are_cast: list[bool] = []  # by autocast
        self.norms: list[nn.BatchNorm2d] = []
        self.normalised: list[int] = []  # which weights belong to convolutions before these norms
        norm_of = {}
        for module in part.modules():
            for before, after in pairwise(module.children()):
                if isinstance(before, nn.Conv2d) and isinstance(after, nn.BatchNorm2d):
                    norm_of[before] = after
        for name, module in part.named_modules(prefix=f"network.{place}"):
            if isinstance(module, nn.BatchNorm2d):
                continue
            if module in norm_of:
                self.norms.append(norm_of[module])
                self.normalised.append(len(self.weights))
            for own, weight in module.named_parameters(recurse=False):
                self.names.append(f"{name}.{own}")
                self.weights.append(weight)
                self.are_cast.append(isinstance(module, nn.Conv2d | nn.Linear))
        self.bias_names = [self.names[index].replace(".weight", ".bias") for index in self.normalised]

    def statistics(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return the means and the variances that the batch norms have."""
        means, variances = zip(*((norm.running_mean, norm.running_var) for norm in self.norms), strict=True)
        return list(means), list(variances)

    def hand_out(self, times: int) -> list[dict[str, Tensor]]:
        """Return the weights so many times, by their names."""
        affine = [parameter for norm in self.norms for parameter in (norm.weight, norm.bias)]
        handed_out = _HandOut.apply(self, times, *self.weights, *affine)
        names = [*self.names, *self.bias_names]
        return [
            dict(zip(names, handed_out[begin : begin + len(names)], strict=True))
            for begin in range(0, len(handed_out), len(names))
        ]


class _HandOut(torch.autograd.Function):
    """Prepares the weights of a part and returns them several times; adds their gradients up."""

    @staticmethod
    def forward(ctx: Any, part: _Part, times: int, *parameters: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        count = len(part.weights)
        weights, scales, shifts = list(parameters[:count]), list(parameters[count::2]), list(parameters[count + 1 :: 2])
        ctx.part, ctx.count = part, count
        are_cast = [*part.are_cast, *[True] * len(part.norms)]
        if part.norms:
            means, variances = part.statistics()
            deviations = torch._foreach_add(variances, part.norms[0].eps)
            torch._foreach_sqrt_(deviations)
            factors = torch._foreach_div(scales, deviations)
            before = [weights[index] for index in part.normalised]
            after = torch._foreach_mul(before, [factor[:, None, None, None] for factor in factors])
            for index, weight in zip(part.normalised, after, strict=True):
                weights[index] = weight
            weights += torch._foreach_sub(shifts, torch._foreach_mul(means, factors))
            ctx.save_for_backward(*before, *deviations, *factors)
        device = weights[0].device.type
        if torch.is_autocast_enabled(device):
            half = torch.get_autocast_dtype(device)
            chosen = [index for index, is_cast in enumerate(are_cast) if is_cast]
            cast = [torch.empty_like(weights[index], dtype=half) for index in chosen]
            torch._foreach_copy_(cast, [weights[index] for index in chosen])
            for index, weight in zip(chosen, cast, strict=True):
                weights[index] = weight
        return tuple(weight.detach() for _ in range(times) for weight in weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        part, count = ctx.part, ctx.count
        totals = _added_up(gradients, [*part.weights, *(norm.bias for norm in part.norms)])
        of_affine: list[Tensor | None] = [None] * (2 * len(part.norms))
        if part.norms:
            number, saved = len(part.norms), list(ctx.saved_tensors)
            before, deviations, factors = (saved[begin : begin + number] for begin in range(0, 3 * number, number))
            of_weights = [total for index in part.normalised if (total := totals[index]) is not None]
            of_biases = [total for total in totals[count:] if total is not None]
            assert len(of_weights) == len(of_biases) == number, "every frame uses every normalised convolution"
            of_scales = [product.sum(dim=(1, 2, 3)) for product in torch._foreach_mul(of_weights, before)]
            torch._foreach_sub_(of_scales, torch._foreach_mul(of_biases, part.statistics()[0]))
            torch._foreach_div_(of_scales, deviations)
            torch._foreach_mul_(of_weights, [factor[:, None, None, None] for factor in factors])
            of_affine[::2], of_affine[1::2] = of_scales, of_biases
        return None, None, *totals[:count], *of_affine


def _added_up(gradients: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor | None]:
    """Add up the gradients of some tensors, which come frame by frame; None where no frame has one.

    Args:
        like: the tensors, which have the dtype and the layout that the sums are to have.
    """
    totals: list[Tensor | None] = [None] * len(like)
    for begin in range(0, len(gradients), len(like)):
        found = [(index, each) for index, each in enumerate(gradients[begin : begin + len(like)]) if each is not None]
        later = [(total, each) for index, each in found if (total := totals[index]) is not None]
        if later:
            torch._foreach_add_([total for total, _ in later], [each for _, each in later])
        first = [(index, each) for index, each in found if totals[index] is None]
        if first:
            sums = [torch.empty_like(like[index]) for index, _ in first]
            torch._foreach_copy_(sums, [each for _, each in first])
            for (index, _), total in zip(first, sums, strict=True):
                totals[index] = total
    return totals
