"""The network's operations as CUDA graphs: recorded once for a size and a number of objects, then launched as one.

With one object a GPU computes faster than Python tells it what to compute. A recorded graph of a hundred operations
is one launch. It reads and writes the same memory each time, so inputs are copied into that, and results out of it.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from model.encoders import ImageFeatures, QueryKey
from model.network import Segmentation, Value, XMem
from util.errors import SettingError

MOST_GRAPHS = 24
"""Recorded graphs that are kept, each with its own memory; the one that was not used for longest makes room."""

Operation = Callable[..., Sequence[Tensor | None]]

logger = logging.getLogger(__name__)


def require_cuda(device: torch.device, setting: str) -> None:
    """Check that graphs can be recorded on a device.

    Args:
        setting: which asks for graphs, or for none.

    Raises:
        SettingError: it is no CUDA device.
    """
    if device.type != "cuda":
        raise SettingError(setting, f"has no effect on the device {device.type}: it is for CUDA devices")


def graphed(network: XMem) -> XMem:
    """Return the network with its operations as CUDA graphs if it is on a CUDA device, and else itself.

    An export has graphs of its own, and stays what it is.
    """
    if network.device.type != "cuda" or network.has_fixed_precision or isinstance(network, GraphedNetwork):
        return network
    return GraphedNetwork(network)


class GraphedNetwork(XMem):
    """A network prepared for inference on a CUDA device whose operations on one frame are CUDA graphs.

    What comes for the first time in some size and with some number of objects is computed as ever. The second time it
    is recorded. Where recording fails, a warning says so, and everything goes on without graphs.
    """

    def __init__(self, network: XMem) -> None:
        nn.Module.__init__(self)  # its weights are those of the network
        self.network, self.config = network, network.config
        self.is_prepared = True
        self._graphs: OrderedDict[Hashable, Graph | None] = OrderedDict()
        self._records = True

    def encode_key(self, image: Float[Tensor, "batch 3 height width"]) -> tuple[QueryKey, ImageFeatures]:
        """Compute `XMem.encode_key`."""

        def operation(image: Tensor) -> Sequence[Tensor]:
            query, features = self.network.encode_key(image)
            return (*query, *features)

        outputs = self._run(("encode_key",), operation, image)
        return QueryKey._make(outputs[:3]), ImageFeatures._make(outputs[3:])

    def encode_value(
        self,
        image: Float[Tensor, "batch 3 height width"],
        f16: Float[Tensor, "batch dim16 height/16 width/16"],
        hidden: Float[Tensor, "batch objects hidden_dim height/16 width/16"] | None,
        masks: Float[Tensor, "batch objects height width"],
        deep_update: bool = True,
    ) -> Value:
        """Compute `XMem.encode_value`."""

        def operation(image: Tensor, f16: Tensor, hidden: Tensor | None, masks: Tensor) -> Value:
            return self.network.encode_value(image, f16, hidden, masks, deep_update)

        return Value._make(self._run(("encode_value", deep_update), operation, image, f16, hidden, masks))

    def segment(
        self,
        features: ImageFeatures,
        readout: Float[Tensor, "batch objects value_dim height width"],
        hidden: Float[Tensor, "batch objects hidden_dim height width"] | None,
        update_hidden: bool = True,
        selector: Float[Tensor, "batch objects"] | None = None,
    ) -> Segmentation:
        """Compute `XMem.segment`."""

        def operation(
            f16: Tensor, f8: Tensor, f4: Tensor, readout: Tensor, hidden: Tensor | None, selector: Tensor | None
        ) -> Segmentation:
            return self.network.segment(ImageFeatures(f16, f8, f4), readout, hidden, update_hidden, selector)

        outputs = self._run(("segment", update_hidden), operation, *features, readout, hidden, selector)
        return Segmentation._make(outputs)

    def _run(self, name: tuple[Hashable, ...], operation: Operation, *inputs: Tensor | None) -> Sequence[Tensor | None]:
        """Return what the operation makes of these inputs, as tensors of their own."""
        if not self._records:
            return operation(*inputs)
        precision = torch.is_autocast_enabled("cuda") and torch.get_autocast_dtype("cuda")
        key = (*name, precision, *(None if each is None else (each.shape, each.dtype) for each in inputs))
        if key not in self._graphs:
            self._graphs[key] = None
            if len(self._graphs) > MOST_GRAPHS:
                self._graphs.popitem(last=False)
            return operation(*inputs)
        self._graphs.move_to_end(key)
        graph = self._graphs[key]
        if graph is None:
            try:
                graph = self._graphs[key] = Graph(operation, inputs)
            except RuntimeError as error:  # too little memory, too
                logger.warning(
                    "CUDA graphs are not used, since one cannot be recorded: %s", str(error).partition("\n")[0]
                )
                self._records = False
                self._graphs.clear()
                return operation(*inputs)
        return graph(inputs)


class Graph:
    """A recorded operation, with the memory of its inputs and outputs.

    Args:
        operation: has run on such inputs before, so that libraries have made their choices.

    Raises:
        RuntimeError: it cannot be recorded.
    """

    @torch.inference_mode()
    def __init__(self, operation: Operation, inputs: Sequence[Tensor | None]) -> None:
        self._inputs = [None if each is None else each.clone() for each in inputs]
        self._graph = torch.cuda.CUDAGraph()
        # Casts that autocast keeps for later would lie in this graph's memory.
        precision = torch.get_autocast_dtype("cuda")
        without_cache = torch.autocast("cuda", precision, torch.is_autocast_enabled("cuda"), cache_enabled=False)
        # Other threads, which read frames and write results, may go on using the device meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"), without_cache:
            self._outputs = operation(*self._inputs)

    @torch.inference_mode()
    def _replay(self, inputs: Sequence[Tensor | None]) -> None:
        both = zip(self._inputs, inputs, strict=True)
        pairs = [(mine, given) for mine, given in both if mine is not None and given is not None]
        torch._foreach_copy_([mine for mine, _ in pairs], [given for _, given in pairs])
        self._graph.replay()

    def __call__(self, inputs: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        """Return the outputs for inputs of the same shapes and types."""
        self._replay(inputs)
        return [None if each is None else each.clone() for each in self._outputs]
