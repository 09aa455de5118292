"""An exported network under `InferenceCore`: the three graphs of the network in place of its modules."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dataset.frames import size_text
from export.graphs import NETWORK_GRAPHS, GraphShapes, extent
from export.manifest import NetworkExport
from model.checkpoint import first_line
from model.encoders import ImageFeatures, QueryKey
from model.network import STRIDE, Segmentation, Value, XMem
from util.device import full_precision
from util.errors import UserError, counted

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}
ON_CUDA = ("cuda", "tensorrt")


class Runnable(Protocol):
    """One graph that can be run."""

    def __call__(self, inputs: Mapping[str, Tensor], sizes: Mapping[str, int]) -> dict[str, Tensor]:
        """Return the outputs; `sizes` are the numbers behind the names of dimensions."""
        ...


def import_onnxruntime() -> Any:
    """Return the module onnxruntime.

    Raises:
        UserError: it is not installed.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise UserError(
            "exported networks need ONNX Runtime, which is not installed: pip install -r requirements-export.txt"
        ) from None
    return onnxruntime


class OnnxGraph:
    """A graph run by ONNX Runtime, on tensors where they lie: nothing is copied on the way in or out.

    Raises:
        UserError: the provider is not there, or cannot run the graph.
    """

    def __init__(self, file: Path, shapes: GraphShapes, provider: str, device: torch.device) -> None:
        runtime = import_onnxruntime()
        wanted = PROVIDERS[provider]
        if wanted not in runtime.get_available_providers():
            there = ", ".join(name for name, each in PROVIDERS.items() if each in runtime.get_available_providers())
            raise UserError(f"the installed ONNX Runtime has no provider {provider}, only {there}")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        # Its threads would wait by turning in circles, and take the cores from PyTorch's, which read the memory.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = runtime.InferenceSession(file, options, providers=[wanted])
        except Exception as error:  # ONNX Runtime's errors have no class in common
            raise UserError(f"{file} cannot be run by {provider}: {first_line(error)}") from error
        if self._session.get_providers()[0] != wanted:
            raise UserError(f"the provider {provider} of ONNX Runtime does not start here: its libraries are missing")
        self._file, self._shapes, self._device = file, shapes, device
        # A name that the exporter found to be of no use is no input of the graph.
        self._inputs = {each.name for each in self._session.get_inputs()}
        outputs = [each.name for each in self._session.get_outputs()]
        if not self._inputs <= shapes.inputs.keys() or outputs != list(shapes.outputs):
            raise UserError(f"{file} is another graph than its manifest says: export the network again")

    def __call__(self, inputs: Mapping[str, Tensor], sizes: Mapping[str, int]) -> dict[str, Tensor]:
        binding = self._session.io_binding()
        place = self._device.type, self._device.index or 0
        held = {name: tensor.contiguous() for name, tensor in inputs.items() if name in self._inputs}
        for name, tensor in held.items():
            kind = "int64" if tensor.dtype == torch.int64 else "float32"
            binding.bind_input(name, *place, kind, tuple(tensor.shape), tensor.data_ptr())
        outputs = {
            name: torch.empty([extent(each, sizes) for each in shape], device=self._device)
            for name, shape in self._shapes.outputs.items()
        }
        for name, tensor in outputs.items():
            binding.bind_output(name, *place, "float32", tuple(tensor.shape), tensor.data_ptr())
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()  # ONNX Runtime has a stream of its own
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:
            raise UserError(f"{self._file} cannot be run on these tensors: {first_line(error)}") from error
        return outputs


class ProgramGraph:
    """A graph of torch.export."""

    def __init__(self, file: Path, shapes: GraphShapes, device: torch.device) -> None:
        try:
            program = torch.export.load(file)
        except Exception as error:  # whatever the archive stumbled over
            raise UserError(f"{file} cannot be loaded by this PyTorch: {first_line(error)}") from error
        if device.type != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, device)
        self._module, self._shapes = program.module(), shapes

    def __call__(self, inputs: Mapping[str, Tensor], sizes: Mapping[str, int]) -> dict[str, Tensor]:
        outputs = self._module(**{name: inputs[name].contiguous() for name in self._shapes.inputs})
        return dict(zip(self._shapes.outputs, outputs, strict=True))


class ExportedNetwork(XMem):
    """An exported network; `InferenceCore` and all that stands on it take it for an `XMem`.

    Args:
        export: the export.
        device: where images, memory and results are; with ONNX Runtime a CUDA device, or else the CPU.
        provider: which of ONNX Runtime's providers runs the graphs; None: cuda on a CUDA device, else cpu.

    Raises:
        UserError: ONNX Runtime or the provider is not installed, cannot run the graphs, or does not fit the device.
    """

    def __init__(self, export: NetworkExport, device: torch.device, provider: str | None = None) -> None:
        nn.Module.__init__(self)  # there are no weights in it
        self.is_prepared = True
        self.config = export.network_config
        self._export = export
        # ONNX Runtime has no tensors on other devices than these.
        on_cpu = export.graph_format == "onnx" and device.type != "cuda"
        self._device = device = torch.device("cpu") if on_cpu else device
        self.graphs: dict[str, Runnable] = {}
        """The graphs of the network by name."""
        if export.graph_format == "pt2":
            if provider is not None:
                raise UserError(f"{export.folder} is an export for PyTorch, which has no provider {provider}")
            for name in NETWORK_GRAPHS:
                self.graphs[name] = ProgramGraph(export.file_of(name), export.shapes[name], device)
            return
        provider = provider or ("cuda" if device.type == "cuda" else "cpu")
        if provider not in PROVIDERS:
            raise UserError(f"there is no provider {provider}: choose of {', '.join(PROVIDERS)}")
        if (provider in ON_CUDA) != (device.type == "cuda"):
            raise UserError(f"the provider {provider} does not go together with the device {device}")
        for name in NETWORK_GRAPHS:
            self.graphs[name] = OnnxGraph(export.file_of(name), export.shapes[name], provider, device)

    has_fixed_precision = True

    @property
    def device(self) -> torch.device:
        """Where images, memory and results are."""
        return self._device

    def for_inference(self, mixed_precision: bool = False) -> XMem:
        """Return this network, whose precision is that of the export."""
        return self

    def encode_key(self, image: Float[Tensor, "batch 3 height width"]) -> tuple[QueryKey, ImageFeatures]:
        """Key, shrinkage and selection of a frame, and the features the decoder needs."""
        outputs = self._run("encode_key", {"image": image})
        return (
            QueryKey(*(outputs[name] for name in QueryKey._fields)),
            ImageFeatures(*(outputs[name] for name in ImageFeatures._fields)),
        )

    def encode_value(
        self,
        image: Float[Tensor, "batch 3 height width"],
        f16: Float[Tensor, "batch dim16 height/16 width/16"],
        hidden: Float[Tensor, "batch objects hidden_dim height/16 width/16"] | None,
        masks: Float[Tensor, "batch objects height width"],
        deep_update: bool = True,
    ) -> Value:
        """Return values and sensory memory, as `XMem.encode_value`."""
        inputs = {"image": image, "f16": f16, "masks": masks, **self._sensory(hidden, masks, f16)}
        outputs = self._run("encode_value", inputs, masks.shape[1])
        after = outputs.get("hidden_after") if deep_update and hidden is not None else hidden
        return Value(outputs["value"], after)

    def segment(
        self,
        features: ImageFeatures,
        readout: Float[Tensor, "batch objects value_dim height width"],
        hidden: Float[Tensor, "batch objects hidden_dim height width"] | None,
        update_hidden: bool = True,
        selector: Float[Tensor, "batch objects"] | None = None,
    ) -> Segmentation:
        """Masks of all objects; there are no filler objects, so `selector` is None."""
        assert selector is None, "filler objects are for training"
        objects = readout.shape[1]
        inputs = {**features._asdict(), "readout": readout, **self._sensory(hidden, readout, features.f16)}
        if self._export.objects is not None:
            inputs["selector"] = readout.new_ones(1, objects)
        outputs = self._run("segment", inputs, objects)
        after = outputs.get("hidden_after") if update_hidden and hidden is not None else hidden
        return Segmentation(outputs["prob"], outputs["logits"], after)

    def _sensory(self, hidden: Tensor | None, of_objects: Tensor, f16: Tensor) -> dict[str, Tensor]:
        """The sensory memory as an input: zeros where it is switched off, nothing where the network has none."""
        if not self.config.has_sensory_memory:
            return {}
        if hidden is None:
            hidden = f16.new_zeros(1, of_objects.shape[1], self.config.hidden_dim, *f16.shape[-2:])
        return {"hidden": hidden}

    def _run(self, graph: str, inputs: Mapping[str, Tensor], objects: int = 1) -> dict[str, Tensor]:
        """Run a graph, with as many objects as it is made for.

        Raises:
            UserError: the frame has another size, or there are more objects than the export takes.
        """
        export, shapes = self._export, self._export.shapes[graph]
        some, first = next((shapes.inputs[name], tensor) for name, tensor in inputs.items())
        stride = STRIDE if some[2] == f"height/{STRIDE}" else 1
        height, width = first.shape[-2] * stride, first.shape[-1] * stride
        if export.size not in (None, (height, width)):
            assert export.size is not None
            raise UserError(
                f"{export.folder} is an export for frames of {size_text(export.size)}, not of "
                f"{size_text((height, width))} (as padded to multiples of 16): export the network with "
                f"--size {height} {width}, or for any"
            )
        capacity = objects if export.objects is None else export.objects
        if objects > capacity:
            raise UserError(
                f"{export.folder} is an export for {counted(capacity, 'object')}, and there are {objects}: export the "
                f"network with --objects {objects}, or for any number"
            )
        inputs = {name: self._filled(tensor.float(), shapes.inputs[name], capacity) for name, tensor in inputs.items()}
        with full_precision(first):  # whatever autocast says: the precision is the export's
            outputs = self.graphs[graph](inputs, {"height": height, "width": width, "objects": capacity})
        if capacity == objects:
            return outputs
        return {
            name: tensor[:, : objects + (shapes.outputs[name][1] == "objects+1")]
            if shapes.outputs[name][1] in ("objects", "objects+1")
            else tensor
            for name, tensor in outputs.items()
        }

    def _filled(self, tensor: Tensor, shape: tuple[int | str, ...], objects: int) -> Tensor:
        """Return a tensor with zeros for objects that are not there."""
        if shape[1] != "objects" or tensor.shape[1] == objects:
            return tensor
        missing = tensor.new_zeros(1, objects - tensor.shape[1], *tensor.shape[2:])
        return torch.cat([tensor, missing], dim=1)
