"""Writing an export: every graph as a file, compared with PyTorch on random inputs, and the manifest."""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from export.graphs import GraphShapes, build, random_inputs, shapes_of
from export.manifest import MANIFEST, NetworkExport
from export.running import OnnxGraph, ProgramGraph, import_onnxruntime
from model.checkpoint import Checkpoint, first_line
from model.memory_reading import TOP_K
from model.network import IMAGE_MEAN, IMAGE_STD, STRIDE, XMem
from util.errors import SettingError, UserError
from util.files import atomic_path, remove_leftovers, sha256_of, writing

OPSET = 18
EXAMPLE_SIZE, EXAMPLE_OBJECTS = (96, 160), 3
CAPACITY_FRAMES, LONG_TERM_ELEMENTS = 10, 10000
"""The memory that `read_memory` of an export for one size takes, unless told otherwise: the published settings'.

Every frame in which an object was given stays in working memory, and comes on top."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportSettings:
    """How a network is exported.

    Attributes:
        graph_format: "onnx" or "pt2" (torch.export).
        size: the (height, width) of the images that it is to take; None: any multiple of 16.
        objects: the number of objects that it is to take, or fewer; None: any.
        half: float16 inside, float32 outside.
        top_k: elements read per query, fixed in `read_memory`.
        elements: the capacity of `read_memory`, with `size` alone; None: long-term memory and ten frames.

    Raises:
        SettingError: a value out of its range.
    """

    graph_format: str = "onnx"
    size: tuple[int, int] | None = None
    objects: int | None = None
    half: bool = False
    top_k: int = TOP_K
    elements: int | None = None

    def __post_init__(self) -> None:
        if self.size is not None and any(side < STRIDE or side % STRIDE for side in self.size):
            raise SettingError("size", f"must be two multiples of {STRIDE}, not {self.size[0]} {self.size[1]}")
        if self.objects is not None and not 1 <= self.objects <= 255:
            raise SettingError("objects", f"must be 1 to 255, not {self.objects}")
        if self.top_k < 1:
            raise SettingError("top_k", f"must be at least 1, not {self.top_k}")
        if self.elements is not None and self.size is None:
            raise SettingError("elements", "is for exports with --size: without, any number will do")
        if self.elements is not None and self.elements < 2 * self.top_k:
            raise SettingError("elements", f"must be at least twice top_k, {2 * self.top_k}, not {self.elements}")

    def example_sizes(self) -> dict[str, int]:
        """Return the numbers behind the names of dimensions with which graphs are traced and compared."""
        height, width = self.size or EXAMPLE_SIZE
        elements = 4 * (height // STRIDE) * (width // STRIDE)
        if self.size is not None:
            frames = CAPACITY_FRAMES * (height // STRIDE) * (width // STRIDE)
            elements = self.elements or LONG_TERM_ELEMENTS + frames
        return {
            "height": height,
            "width": width,
            "objects": self.objects or EXAMPLE_OBJECTS,
            "elements": max(elements, 2 * self.top_k),
            "candidates": 100,
            "prototypes": 12,
        }


def write_export(checkpoint: Checkpoint, folder: Path, settings: ExportSettings) -> dict[str, dict[str, float]]:
    """Export a network into a folder, which must not be there yet; it appears complete, or not at all.

    Returns:
        Graph → output → the largest difference from PyTorch in float32, on random inputs.

    Raises:
        UserError: what it needs is not installed, the folder is there, or a graph cannot be exported.
    """
    require_exporters(settings.graph_format)
    network = XMem.from_checkpoint(checkpoint, "cpu")
    graphs = build(network, settings.top_k, settings.half)
    plain = build(network, settings.top_k) if settings.half else graphs
    all_shapes = shapes_of(network.config, network.key_encoder.dims, settings.objects is not None)
    sizes = settings.example_sizes()
    differences: dict[str, dict[str, float]] = {}
    with new_folder(folder) as temporary:
        for name, graph in graphs.items():
            shapes, inputs = all_shapes[name], random_inputs(all_shapes[name], sizes)
            file = temporary / f"{name}.{settings.graph_format}"
            write_graph(graph, file, shapes, inputs, settings)
            differences[name] = compare(plain[name], file, shapes, sizes)
            logger.info("%s is written", name)
        files = {path.name: sha256_of(path) for path in sorted(temporary.iterdir())}
        about = {
            "opset": OPSET if settings.graph_format == "onnx" else None,
            "torch": torch.__version__,
            "network_file": {"name": checkpoint.path.name, "sha256": sha256_of(checkpoint.path)},
            "images": {"channels": "RGB", "range": [0, 1], "mean": IMAGE_MEAN, "deviation": IMAGE_STD},
            "stride": STRIDE,
            "top_k": settings.top_k,
            "elements": sizes["elements"] if settings.size else None,
            "largest_differences": differences,
        }
        write_manifest(
            NetworkExport(
                path=temporary / MANIFEST,
                graph_format=settings.graph_format,
                network_config=network.config,
                metadata=checkpoint.metadata,
                precision="float16" if settings.half else "float32",
                size=settings.size,
                objects=settings.objects,
                shapes=all_shapes,
                files=files,
                about=about,
            )
        )
    return differences


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give the block a temporary folder, which becomes `folder` when the block ends well.

    Raises:
        UserError: `folder` is there, or cannot be written.
    """
    if folder.exists():
        raise UserError(f"{folder} is there already: choose another folder, or remove it")
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder.parent, folder.name)
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            yield temporary


def write_manifest(export: NetworkExport) -> None:
    """Write the manifest of an export into its folder."""
    text = json.dumps(export.to_json_dict(), indent=2, default=str)
    export.path.write_text(text + "\n", encoding="utf-8")


def require_exporters(graph_format: str) -> None:
    """Check that what a format needs is installed.

    Raises:
        UserError: it is not.
    """
    if graph_format == "onnx":
        import_onnxruntime()
        try:
            import onnx  # noqa: F401
            import onnxscript  # noqa: F401
        except ModuleNotFoundError as error:
            raise UserError(
                f"exporting to ONNX needs {error.name}, which is not installed: pip install -r requirements-export.txt"
            ) from None


def write_graph(
    graph: nn.Module, file: Path, shapes: GraphShapes, inputs: Mapping[str, Tensor], settings: ExportSettings
) -> None:
    """Trace a graph with these inputs, and write it.

    Raises:
        UserError: it cannot be exported.
    """
    dynamic = dynamic_shapes(shapes, settings)
    try:
        with quiet():
            program = torch.export.export(graph, (), kwargs=dict(inputs), dynamic_shapes=dynamic)
            if settings.graph_format == "pt2":
                torch.export.save(program, file)
                return
            onnx_program = torch.onnx.export(
                program,
                input_names=list(shapes.inputs),
                output_names=list(shapes.outputs),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
            assert onnx_program is not None
            onnx_program.save(file, external_data=True)
    except OSError:
        raise
    except Exception as error:  # tracing and conversion have errors of many kinds
        raise UserError(
            f"{file.stem} cannot be exported to {settings.graph_format} here: {first_line(error)}"
        ) from error


def dynamic_shapes(shapes: GraphShapes, settings: ExportSettings) -> dict[str, dict[int, Any]]:
    """Return, for each input, which of its dimensions may have other extents later."""
    fixed = ({"height", "width", "elements"} if settings.size else set()) | ({"objects"} if settings.objects else set())
    named = {
        "height": STRIDE * torch.export.Dim("height16", max=1024),
        "width": STRIDE * torch.export.Dim("width16", max=1024),
        "objects": torch.export.Dim("objects", max=255),
        "elements": torch.export.Dim("elements", min=settings.top_k, max=2**24),
        "candidates": torch.export.Dim("candidates", max=2**24),
        "prototypes": torch.export.Dim("prototypes", max=2**24),
    }
    roots = {"height": named["height"].root, "width": named["width"].root}  # type: ignore[attr-defined]

    def of(dimension: int | str) -> Any:
        if isinstance(dimension, int):
            return None
        name, _, divisor = dimension.partition("/")
        if name in fixed:
            return None
        if not divisor:
            return named[name]
        factor = STRIDE // int(divisor)
        return roots[name] if factor == 1 else factor * roots[name]

    return {
        name: {place: found for place, dimension in enumerate(shape) if (found := of(dimension)) is not None}
        for name, shape in shapes.inputs.items()
    }


@torch.inference_mode()
def compare(graph: nn.Module, file: Path, shapes: GraphShapes, sizes: Mapping[str, int]) -> dict[str, float]:
    """Return the largest difference of each output of a written graph from PyTorch, on random inputs."""
    device = torch.device("cpu")
    run = ProgramGraph(file, shapes, device) if file.suffix == ".pt2" else OnnxGraph(file, shapes, "cpu", device)
    inputs = random_inputs(shapes, sizes, seed=1)
    expected = graph(**inputs)
    outputs = run(inputs, sizes)
    return {
        name: (outputs[name] - tensor).abs().max().item() for name, tensor in zip(shapes.outputs, expected, strict=True)
    }


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporters' warnings about their own inner workings from users."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
