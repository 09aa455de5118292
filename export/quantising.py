"""INT8 in place of float32 in the convolutions of an ONNX export, by ONNX Runtime's quantisation.

`dynamic` measures activations as it runs; `static` takes their ranges from calls that were recorded on a video.
"""

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from export.graphs import MEMORY_GRAPHS, NETWORK_GRAPHS, random_inputs, sizes_of
from export.manifest import MANIFEST, NetworkExport
from export.running import ExportedNetwork, OnnxGraph, Runnable
from export.writing import new_folder, quiet, write_manifest
from model.checkpoint import first_line
from util.errors import UserError
from util.files import sha256_of

METHODS = ("dynamic", "static")
MOST_CALLS = 24
"""Recorded calls of a graph: more take memory, and change the ranges little."""

Calls = Mapping[str, Sequence[Mapping[str, np.ndarray]]]
"""Graph → the inputs of some of its calls."""


class RecordingGraph:
    """A graph that keeps the inputs of some of its calls, spread over all of them."""

    def __init__(self, graph: Runnable) -> None:
        self._graph = graph
        self._count, self._every = 0, 1
        self.calls: list[dict[str, np.ndarray]] = []

    def __call__(self, inputs: Mapping[str, Tensor], sizes: Mapping[str, int]) -> dict[str, Tensor]:
        if self._count % self._every == 0:
            self.calls.append({name: tensor.cpu().numpy().copy() for name, tensor in inputs.items()})
            if len(self.calls) > MOST_CALLS:
                self.calls, self._every = self.calls[::2], 2 * self._every
        self._count += 1
        return self._graph(inputs, sizes)


@contextmanager
def recorded(network: ExportedNetwork) -> Iterator[dict[str, list[dict[str, np.ndarray]]]]:
    """Record calls of a network's graphs while the block runs; they are there when it ends."""
    graphs = {name: RecordingGraph(network.graphs[name]) for name in NETWORK_GRAPHS}
    calls: dict[str, list[dict[str, np.ndarray]]] = {}
    plain = dict(network.graphs)
    network.graphs.update(graphs)
    try:
        yield calls
        calls.update({name: graph.calls for name, graph in graphs.items()})
    finally:
        network.graphs.update(plain)


def quantise_export(
    export: NetworkExport,
    folder: Path,
    sizes: Mapping[str, int],
    calls: Calls | None = None,
) -> dict[str, dict[str, float]]:
    """Write an export with INT8 convolutions, which appears complete, or not at all.

    Args:
        export: an ONNX export in float32.
        folder: must not be there yet.
        sizes: dimension → its extent in the random inputs on which graphs are compared; not used with `calls`.
        calls: recorded calls, for ranges that are fixed; None: ranges are measured as it runs.

    Returns:
        Graph → output → the largest difference from the float32 export.

    Raises:
        UserError: it is not such an export, the folder is there, or ONNX Runtime cannot quantise a graph.
    """
    if export.graph_format != "onnx" or export.precision != "float32":
        raise UserError("INT8 is made of an ONNX export in float32, without --half")
    differences: dict[str, dict[str, float]] = {}
    with new_folder(folder) as temporary:
        for name in NETWORK_GRAPHS:
            target = temporary / f"{name}.onnx"
            quantise_graph(export.file_of(name), target, None if calls is None else calls[name])
            inputs = random_inputs(export.shapes[name], sizes, seed=1)
            if calls is not None:  # ranges are of these
                inputs = {each: torch.from_numpy(array) for each, array in calls[name][-1].items()}
            differences[name] = compare(export, name, target, inputs)
        for file in export.files:
            if Path(file).name.partition(".")[0] in MEMORY_GRAPHS:
                shutil.copy(export.folder / file, temporary / file)
        files = {path.name: sha256_of(path) for path in sorted(temporary.iterdir())}
        method = "dynamic" if calls is None else "static"
        about = {**export.about, "quantisation": method, "largest_differences": differences}
        write_manifest(replace(export, path=temporary / MANIFEST, precision="int8", files=files, about=about))
    return differences


def quantise_graph(source: Path, target: Path, calls: Sequence[Mapping[str, np.ndarray]] | None) -> None:
    """Quantise the convolutions of one graph.

    Raises:
        UserError: ONNX Runtime cannot.
    """
    import onnx
    from onnxruntime import quantization

    level = logging.root.level
    logging.root.setLevel(logging.ERROR)  # the quantiser logs through the root logger
    try:
        with quiet(), TemporaryDirectory() as folder:
            whole, prepared = Path(folder) / "whole.onnx", Path(folder) / "prepared.onnx"
            onnx.save(onnx.load(source), whole)  # the quantiser cannot read weights from a file beside the graph
            quantization.quant_pre_process(whole, prepared, skip_symbolic_shape=True)
            if calls is None:
                quantization.quantize_dynamic(prepared, target, op_types_to_quantize=["Conv"])
                return
            quantization.quantize_static(
                prepared,
                target,
                RecordedCalls(calls),
                op_types_to_quantize=["Conv"],
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
    except OSError:
        raise
    except Exception as error:  # the quantiser's errors have no class in common
        raise UserError(f"{source.stem} cannot be quantised by this ONNX Runtime: {first_line(error)}") from error
    finally:
        logging.root.setLevel(level)


class RecordedCalls:
    """Recorded calls as ONNX Runtime's quantisation reads them."""

    def __init__(self, calls: Sequence[Mapping[str, np.ndarray]]) -> None:
        self._calls = iter(calls)

    def get_next(self) -> Mapping[str, np.ndarray] | None:
        """Return the next call, None after the last."""
        return next(self._calls, None)


def compare(export: NetworkExport, name: str, file: Path, inputs: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the largest difference of each output of a graph from the float32 one, on these inputs."""
    device, shapes = torch.device("cpu"), export.shapes[name]
    sizes = sizes_of(shapes, inputs)
    expected, outputs = (OnnxGraph(path, shapes, "cpu", device)(inputs, sizes) for path in (export.file_of(name), file))
    return {each: (outputs[each] - expected[each]).abs().max().item() for each in shapes.outputs}
