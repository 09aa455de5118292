"""The weights of an iteration: batch norms folded in, cast for mixed precision, handed from frame to frame of a clip.

Batch norms are frozen, so that they are a factor and an offset of the convolution before them: applied to its weights,
they cost nothing for any frame. Autograd would add up the gradients of a weight frame by frame, one operation for each
weight: here those of a frame are added for all weights at once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from model.convolution import batch_norms_by_convolution, fold_batch_norms
from model.network import XMem


@dataclass(frozen=True, eq=False)
class ClipOperations:
    """What a network does with a clip. Iterators have the operation for one frame after another."""

    encode_key: Callable[..., Any]
    encode_value: Iterator[Callable[..., Any]]
    segment: Iterator[Callable[..., Any]]
    read_memory: Callable[..., Any]


class FoldedNetwork:
    """A network with frozen batch norms whose weights are prepared once for all frames of a clip.

    Args:
        network: stays as it is; its parameters get the gradients.
    """

    def __init__(self, network: XMem) -> None:
        self.network, self.config = network, network.config
        with torch.device("meta"):  # it has the names; weights are given to it
            folded = XMem(network.config).eval()
        fold_batch_norms(folded)
        self._folded = _ByName(folded)
        names = ("key_encoder", "key_proj", "value_encoder", "decoder")
        self._parts = {name: _Part(network.get_submodule(name), f"network.{name}") for name in names}

    def operations(self) -> ClipOperations:
        """Prepare the weights for a clip."""
        prepared = {name: part.prepared() for name, part in self._parts.items()}
        return ClipOperations(
            encode_key=partial(self._call, prepared["key_encoder"] | prepared["key_proj"], "encode_key"),
            encode_value=self._frame_by_frame(prepared["value_encoder"], "encode_value"),
            segment=self._frame_by_frame(prepared["decoder"], "segment"),
            read_memory=self.network.read_memory,
        )

    def _call(self, weights: dict[str, Tensor], operation: str, *given: Any, **more: Any) -> Any:
        return functional_call(self._folded, weights, (operation, *given), more)

    def _frame_by_frame(self, weights: dict[str, Tensor], operation: str) -> Iterator[Callable[..., Any]]:
        """Give every frame weights of its own, and pass them on to the next."""
        while True:
            both = _ForkWeights.apply(*weights.values())
            mine, weights = (dict(zip(weights, half, strict=True)) for half in (both[::2], both[1::2]))
            yield partial(self._call, mine, operation)


class _ByName(nn.Module):
    """Calls a network's operations by their names, as `functional_call` needs it."""

    def __init__(self, network: XMem) -> None:
        super().__init__()
        self.network = network

    def forward(self, operation: str, *given: Any, **more: Any) -> Any:
        return getattr(self.network, operation)(*given, **more)


class _ForkWeights(torch.autograd.Function):
    """Returns each weight twice, for one frame and for all later ones; their gradients are added for all at once."""

    @staticmethod
    def forward(ctx: Any, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        return tuple(each.detach() for weight in weights for each in (weight, weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        pairs = list(zip(gradients[::2], gradients[1::2], strict=True))
        both = [(mine, later) for mine, later in pairs if mine is not None and later is not None]
        sums = iter(torch._foreach_add([mine for mine, _ in both], [later for _, later in both]) if both else ())
        return tuple(
            next(sums) if mine is not None and later is not None else mine if later is None else later
            for mine, later in pairs
        )


class _Part:
    """A part of a network whose weights are prepared together.

    Args:
        place: its name in the module that the weights are given to.
    """

    def __init__(self, part: nn.Module, place: str) -> None:
        self.names: list[str] = []
        self.weights: list[nn.Parameter] = []
        self.to_cast: list[bool] = []  # whether autocast would
        self.norms: list[nn.BatchNorm2d] = []
        self.normalised: list[int] = []  # the indices of the weights of convolutions before these norms
        norms = batch_norms_by_convolution(part)
        for name, module in part.named_modules(prefix=place):
            if isinstance(module, nn.BatchNorm2d):
                continue
            if (norm := norms.get(module)) is not None:
                self.norms.append(norm)
                self.normalised.append(len(self.weights))
            for own, weight in module.named_parameters(recurse=False):
                self.names.append(f"{name}.{own}")
                self.weights.append(weight)
                self.to_cast.append(isinstance(module, nn.Conv2d | nn.Linear))
        self.names += [self.names[index].replace(".weight", ".bias") for index in self.normalised]
        self.to_cast += [True] * len(self.norms)

    def statistics(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return the means and the variances that the batch norms have."""
        means, variances = zip(*((norm.running_mean, norm.running_var) for norm in self.norms), strict=True)
        return list(means), list(variances)

    def prepared(self) -> dict[str, Tensor]:
        """Return the weights, folded and cast, by their names."""
        affine = [parameter for norm in self.norms for parameter in (norm.weight, norm.bias)]
        return dict(zip(self.names, _PrepareWeights.apply(self, *self.weights, *affine), strict=True))


class _PrepareWeights(torch.autograd.Function):
    """Folds the batch norms of a part into its convolutions, and casts the weights as autocast would, all at once."""

    @staticmethod
    def forward(ctx: Any, part: _Part, *parameters: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        count = len(part.weights)
        weights, scales, shifts = list(parameters[:count]), list(parameters[count::2]), list(parameters[count + 1 :: 2])
        ctx.part, ctx.count = part, count
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
            chosen = [index for index, is_cast in enumerate(part.to_cast) if is_cast]
            cast = [torch.empty_like(weights[index], dtype=half) for index in chosen]
            torch._foreach_copy_(cast, [weights[index] for index in chosen])
            for index, weight in zip(chosen, cast, strict=True):
                weights[index] = weight
        return tuple(weight.detach() for weight in weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        part, count = ctx.part, ctx.count
        totals = _cast_like(gradients, [*part.weights, *(norm.bias for norm in part.norms)])
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
        return None, *totals[:count], *of_affine


def _cast_like(gradients: tuple[Tensor | None, ...], weights: list[Tensor]) -> list[Tensor | None]:
    """Return copies of the gradients that there are, of the dtype and the layout in memory that the weights have."""
    there = [(weight, each) for weight, each in zip(weights, gradients, strict=True) if each is not None]
    copies = [torch.empty_like(weight) for weight, _ in there]
    torch._foreach_copy_(copies, [each for _, each in there])
    remaining = iter(copies)
    return [None if each is None else next(remaining) for each in gradients]
