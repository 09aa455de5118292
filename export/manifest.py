"""The manifest of an export: what its graphs take and give, and which files they are."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from export.graphs import GraphShapes, shapes_of
from model.config import NetworkConfig
from model.encoders import KeyEncoder
from util.errors import UserError
from util.files import sha256_of

FORMAT = "xmem-export-1"
MANIFEST = "manifest.json"
FORMATS = ("onnx", "pt2")
PRECISIONS = ("float32", "float16", "int8")
OF_EXPORT = ("format", "graph_format", "precision", "size", "objects", "network", "metadata", "graphs", "files")
"""The entries of a manifest that are fields of `NetworkExport`."""


@dataclass(frozen=True)
class NetworkExport:
    """An export that lies in a folder.

    Attributes:
        path: its manifest.
        graph_format: "onnx" or "pt2".
        network_config: the network.
        metadata: what the network file said of its training, size and videos.
        precision: float32, float16 or int8.
        size: the (height, width) of the images that it takes; None: any multiple of 16.
        objects: the number of objects that it takes; None: any.
        shapes: the graphs' inputs and outputs.
        files: file → its SHA-256.
        about: what else there is to say: opset, statistics of images, the network's file, ….
    """

    path: Path
    graph_format: str
    network_config: NetworkConfig
    metadata: Mapping[str, Any]
    precision: str
    size: tuple[int, int] | None
    objects: int | None
    shapes: Mapping[str, GraphShapes]
    files: Mapping[str, str]
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The folder of the export."""
        return self.path.parent

    def file_of(self, graph: str) -> Path:
        """Return the file of a graph."""
        return self.folder / f"{graph}.{self.graph_format}"

    def to_json_dict(self) -> dict[str, Any]:
        """Return the content of the manifest."""
        return {
            "format": FORMAT,
            "graph_format": self.graph_format,
            "precision": self.precision,
            "size": self.size,
            "objects": self.objects,
            **self.about,
            "network": asdict(self.network_config),
            "metadata": dict(self.metadata),
            "graphs": {
                name: {"file": self.file_of(name).name, **asdict(shapes)} for name, shapes in self.shapes.items()
            },
            "files": dict(self.files),
        }


def read_export(folder: Path) -> NetworkExport:
    """Read the manifest of an export, and check that its files are those that were written.

    Raises:
        UserError: there is no export, or it is damaged, in part missing, or of another version.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{folder} is a folder without {MANIFEST}; python -m scripts.export makes exports") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: export the network again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise UserError(f"{path} has the format {found!r}; this program reads {FORMAT!r}")
    try:
        export = NetworkExport(
            path=path,
            graph_format=content["graph_format"],
            network_config=NetworkConfig.from_plain(content["network"]),
            metadata=dict(content["metadata"]),
            precision=content["precision"],
            size=None if content["size"] is None else tuple(content["size"]),
            objects=content["objects"],
            shapes={name: _shapes(graph) for name, graph in content["graphs"].items()},
            files=dict(content["files"]),
            about={name: value for name, value in content.items() if name not in OF_EXPORT},
        )
        fault = fault_of(export)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({type(error).__name__}): export the network again") from error
    if fault:
        raise UserError(f"{path} is damaged, {fault}: export the network again")
    for name, digest in export.files.items():
        if not (folder / name).is_file():
            raise UserError(f"{folder} lacks {name}, which its {MANIFEST} names: export the network again")
        if sha256_of(folder / name) != digest:
            raise UserError(f"{folder / name} is not the file that {MANIFEST} describes: export the network again")
    return export


def fault_of(export: NetworkExport) -> str | None:
    """Return what is invalid in a manifest, as the end of a message; None if it is valid."""
    size, objects = export.size, export.objects
    if export.graph_format not in FORMATS or export.precision not in PRECISIONS:
        return "its format or precision is unknown"
    if size is not None and not (len(size) == 2 and all(type(side) is int and side > 0 for side in size)):
        return "its size is not two positive whole numbers"
    if objects is not None and not (type(objects) is int and 1 <= objects <= 255):
        return "its number of objects is not a whole number from 1 to 255"
    with torch.device("meta"):
        feature_dims = KeyEncoder(export.network_config).dims
    if export.shapes != shapes_of(export.network_config, feature_dims, objects is not None):
        return "its graphs are not those of its network"
    there = {path.name for path in export.folder.iterdir() if not path.name.startswith(".")} - {MANIFEST}
    if strange := there - export.files.keys():
        return f"it does not know of {min(strange)}"
    if not {export.file_of(name).name for name in export.shapes} <= export.files.keys():
        return "it lacks a graph"
    return "it names a file elsewhere" if any(Path(name).name != name for name in export.files) else None


def _shapes(graph: Mapping[str, Any]) -> GraphShapes:
    return GraphShapes(*({name: tuple(shape) for name, shape in graph[part].items()} for part in ("inputs", "outputs")))
