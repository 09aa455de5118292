"""The graphs that an export consists of, as modules with named tensors.

Three are the network: `encode_key`, `encode_value` and `segment`. Two are for those who port the loop: `read_memory`
and `potentiate`, the only steps of the memory that compute.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from model.aggregation import soft_aggregation
from model.config import NetworkConfig
from model.encoders import ImageFeatures
from model.memory_reading import affinity, memory_rows, query_rows, readout, rows_of, similarity
from model.network import XMem

NETWORK_GRAPHS = ("encode_key", "encode_value", "segment")
MEMORY_GRAPHS = ("read_memory", "potentiate")

Shape = tuple[int | str, ...]
"""The extent of each dimension: a number, or "height", "width" (of the image), "objects", "elements", "candidates" or
"prototypes", perhaps divided ("height/16") or increased by one ("objects+1")."""


@dataclass(frozen=True)
class GraphShapes:
    """The shapes of a graph's inputs and outputs, by name and in order. All are float32, `count` alone is int64."""

    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]


def extent(dimension: int | str, sizes: Mapping[str, int]) -> int:
    """Return the number that a dimension is, given those of the names in it."""
    if isinstance(dimension, int):
        return dimension
    name, _, divisor = dimension.removesuffix("+1").partition("/")
    return sizes[name] // int(divisor or 1) + dimension.endswith("+1")


def sizes_of(shapes: GraphShapes, inputs: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the numbers behind the names of dimensions, given a graph's inputs."""
    sizes: dict[str, int] = {}
    for name, shape in shapes.inputs.items():
        for dimension, number in zip(shape, inputs[name].shape, strict=True):
            if isinstance(dimension, str):
                root, _, divisor = dimension.partition("/")
                sizes[root] = number * int(divisor or 1)
    return sizes


def shapes_of(config: NetworkConfig, feature_dims: tuple[int, int, int], fixed_objects: bool) -> dict[str, GraphShapes]:
    """Return the shapes of all graphs of a network.

    Args:
        feature_dims: channels of the image features at strides 4, 8 and 16.
        fixed_objects: the number of objects is fixed, and `segment` is told by `selector` which are there.
    """
    key, value, hidden_dim = config.key_dim, config.value_dim, config.hidden_dim
    dim4, dim8, dim16 = feature_dims

    def at(stride: int) -> tuple[str, str]:
        return (f"height/{stride}", f"width/{stride}") if stride > 1 else ("height", "width")

    image: dict[str, Shape] = {"image": (1, 3, *at(1))}
    f16: dict[str, Shape] = {"f16": (1, dim16, *at(16))}
    features: dict[str, Shape] = {**f16, "f8": (1, dim8, *at(8)), "f4": (1, dim4, *at(4))}
    hidden: Shape = (1, "objects", hidden_dim, *at(16))
    before: dict[str, Shape] = {"hidden": hidden} if config.has_sensory_memory else {}
    after: dict[str, Shape] = {"hidden_after": hidden} if config.has_sensory_memory else {}
    selector: dict[str, Shape] = {"selector": (1, "objects")} if fixed_objects else {}
    channels: Shape = (1, "objects+1", *at(1))
    query: dict[str, Shape] = {"key": (1, key, *at(16)), "selection": (1, key, *at(16))}
    return {
        "encode_key": GraphShapes(
            image,
            {
                "key": query["key"],
                "shrinkage": (1, 1, *at(16)),
                "selection": query["selection"],
                **features,
            },
        ),
        "encode_value": GraphShapes(
            {**image, **f16, "masks": (1, "objects", *at(1)), **before},
            {"value": (1, "objects", value, *at(16)), **after},
        ),
        "segment": GraphShapes(
            {**features, "readout": (1, "objects", value, *at(16)), **before, **selector},
            {"prob": channels, "logits": channels, **after},
        ),
        "read_memory": GraphShapes(
            {
                **query,
                "memory_key": ("elements", key),
                "memory_shrinkage": ("elements", 1),
                "values": ("objects", "elements", value),
                "count": (),
            },
            {"readout": (1, "objects", value, *at(16)), "use": ("elements",)},
        ),
        "potentiate": GraphShapes(
            {
                "prototype_key": ("prototypes", key),
                "prototype_selection": ("prototypes", key),
                "key": ("candidates", key),
                "shrinkage": ("candidates", 1),
                "values": ("objects", "candidates", value),
            },
            {"prototype_values": ("objects", "prototypes", value), "prototype_shrinkage": ("prototypes", 1)},
        ),
    }


class Graph(nn.Module):
    """A part of the network in the precision of its weights, with float32 tensors in and out."""

    def __init__(self) -> None:
        super().__init__()
        self.dtype = torch.float32

    def cast(self, *tensors: Tensor) -> list[Tensor]:
        """Return tensors in the precision of the weights."""
        return [tensor.to(self.dtype) for tensor in tensors]


class EncodeKey(Graph):
    """`XMem.encode_key`."""

    def __init__(self, network: XMem) -> None:
        super().__init__()
        self.encoder, self.projection = network.key_encoder, network.key_proj

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return key, shrinkage, selection, and features of strides 16, 8 and 4."""
        features = self.encoder(*self.cast(image))
        return tuple(each.float() for each in (*self.projection(features.f16), *features))


class EncodeValue(Graph):
    """`XMem.encode_value` with a deep update; to do without, ignore `hidden_after` and keep `hidden`."""

    def __init__(self, network: XMem) -> None:
        super().__init__()
        self.encoder = network.value_encoder

    def forward(self, image: Tensor, f16: Tensor, masks: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return values and, if there is one, the sensory memory after the deep update."""
        objects = masks.shape[1]
        layers = [image.unsqueeze(1).expand(-1, objects, -1, -1, -1), masks.unsqueeze(2)]
        if not self.encoder.single_object:  # as a difference, since a loop over objects would fix their number
            layers.append((masks.sum(dim=1, keepdim=True) - masks).unsqueeze(2))
        (layered, f16) = self.cast(torch.cat(layers, dim=2), f16)
        value = self.encoder.fuser(f16, self.encoder.own_features(layered))
        if hidden is None:
            return (value.float(),)
        assert self.encoder.hidden_reinforce is not None
        return value.float(), self.encoder.hidden_reinforce(value, *self.cast(hidden)).float()


class Segment(Graph):
    """`XMem.segment` with an update of the sensory memory; to do without, ignore `hidden_after` and keep `hidden`."""

    def __init__(self, network: XMem) -> None:
        super().__init__()
        self.decoder = network.decoder

    def forward(
        self,
        f16: Tensor,
        f8: Tensor,
        f4: Tensor,
        readout: Tensor,
        hidden: Tensor | None = None,
        selector: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Return probabilities and logits, background first, and the sensory memory, if there is one.

        `selector` is 1 for objects and 0 for none, in graphs for a fixed number of objects.
        """
        before = None if hidden is None else self.cast(hidden)[0]
        decoded = self.decoder(ImageFeatures(*self.cast(f16, f8, f4)), *self.cast(readout), before)
        prob = torch.sigmoid(decoded.logits.float())
        if selector is not None:
            prob = prob * selector[:, :, None, None]
        aggregated = soft_aggregation(prob)
        return (aggregated.prob, aggregated.logits, *([] if decoded.hidden is None else [decoded.hidden.float()]))


class ReadMemory(nn.Module):
    """Equations 1 and 2 with top-k, for a memory of fixed capacity of which the first `count` elements are in use."""

    def __init__(self, top_k: int) -> None:
        super().__init__()
        self.top_k = top_k

    def forward(
        self,
        key: Tensor,
        selection: Tensor,
        memory_key: Tensor,
        memory_shrinkage: Tensor,
        values: Tensor,
        count: Tensor,
    ) -> tuple[Tensor, ...]:
        """Return what each object reads, and the affinity that each element drew, for its usage."""
        used = torch.arange(memory_key.shape[0], device=key.device) < count
        in_use = used.to(key.dtype)[:, None]
        origin = (memory_key * in_use).sum(dim=0) / count  # keys near 0 are compared with less rounding
        queries = query_rows(rows_of(key)[0] - origin, rows_of(selection)[0])
        similarities = similarity(queries, memory_rows((memory_key - origin) * in_use, memory_shrinkage * in_use))
        similarities = torch.where(used, similarities, -torch.inf)
        largest, elements = similarities.topk(self.top_k, dim=-1)
        weights = torch.zeros_like(similarities).scatter(1, elements, torch.softmax(largest, dim=-1))
        read = torch.matmul(weights, values)
        return read.transpose(1, 2).unflatten(2, key.shape[-2:]).unsqueeze(0), weights.sum(dim=0)


class Potentiate(nn.Module):
    """Memory potentiation (eq. 3): values and shrinkage of prototypes as averages over all candidates."""

    def forward(
        self, prototype_key: Tensor, prototype_selection: Tensor, key: Tensor, shrinkage: Tensor, values: Tensor
    ) -> tuple[Tensor, ...]:
        """Return the prototypes' values of each object, and their shrinkage."""
        origin = key.mean(dim=0)
        rows = similarity(query_rows(prototype_key - origin, prototype_selection), memory_rows(key - origin, shrinkage))
        weights = affinity(rows)
        return readout(weights, values), readout(weights, shrinkage)


def build(network: XMem, top_k: int, half: bool = False) -> dict[str, nn.Module]:
    """Return all graphs of a network as modules, with batch norms folded.

    Args:
        network: the network in float32 on a CPU, which is left as it is.
        half: weights and computation of the network's graphs in float16.
    """
    folded = network.folded()
    graphs: dict[str, Any] = {
        "encode_key": EncodeKey(folded),
        "encode_value": EncodeValue(folded),
        "segment": Segment(folded),
    }
    if half:
        for graph in graphs.values():
            graph.half().dtype = torch.float16
    return {**graphs, "read_memory": ReadMemory(top_k), "potentiate": Potentiate()}


def random_inputs(shapes: GraphShapes, sizes: Mapping[str, int], seed: int = 0) -> dict[str, Tensor]:
    """Return inputs of a graph, in their ranges; a memory is three quarters full."""
    generator = torch.Generator().manual_seed(seed)
    inputs = {}
    for name, shape in shapes.inputs.items():
        dimensions = [extent(each, sizes) for each in shape]
        if name == "count":
            inputs[name] = torch.tensor(3 * sizes["elements"] // 4)
        elif name == "selector":
            inputs[name] = torch.ones(dimensions)
        elif name in ("masks", "selection", "prototype_selection"):
            inputs[name] = torch.rand(dimensions, generator=generator)
        elif "shrinkage" in name:
            inputs[name] = 1 + torch.rand(dimensions, generator=generator)
        else:
            inputs[name] = torch.randn(dimensions, generator=generator)
    return inputs
