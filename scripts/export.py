"""Export a network for ONNX Runtime and what reads ONNX, or for torch.export.

    python -m scripts.export --model saves/XMem.pth --output exports/XMem
    python eval.py --model exports/XMem --video clip.mp4 --mask first.png

See docs/export.md.
"""

import argparse
import logging
import sys
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch
from jaxtyping import UInt8

from dataset.frames import size_text
from dataset.label_map import objects_of, read_label_map
from dataset.video_file import open_source
from evaluation.networks import default_network_file, intended_size
from export.manifest import FORMATS, read_export
from export.quantising import METHODS, quantise_export, recorded
from export.running import ExportedNetwork
from export.writing import ExportSettings, write_export
from model.checkpoint import Checkpoint, read_checkpoint
from util.command_line import Parser, run_program
from util.errors import SettingError, UserError
from xmem.video import segment_video


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of this program's flags."""
    parser = Parser(prog="python -m scripts.export", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--model", type=Path, help="network file (saves/XMem.pth, or else the bundled saves/XMem-small.pth)")
    add("--output", type=Path, required=True, help="the folder to write, which must not be there yet")
    add("--format", choices=FORMATS, default="onnx", help="onnx, or pt2 for torch.export (%(default)s)")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="for frames of this size alone")
    size.add_argument("--dynamic", action="store_true", help="for frames of any size (without --size anyway)")
    add("--objects", type=int, metavar="K", help="for at most so many objects, in place of any number")
    add("--half", action="store_true", help="compute in float16; tensors in and out stay float32")
    add("--int8", choices=METHODS, help="convolutions in INT8: dynamic, or static with ranges from --calibrate")
    add("--calibrate", type=Path, metavar="VIDEO", help="for --int8 static: a video file or a folder of frames")
    add("--calibrate_mask", type=Path, metavar="MASK", help="for --int8 static: the label map of its first frame")
    add("--calibrate_frames", type=int, metavar="N", help="for --int8 static: its first N (60)")
    add(
        "--top_k",
        type=int,
        default=ExportSettings.top_k,
        help="elements read per query in read_memory, for ports (%(default)s)",
    )
    add("--elements", type=int, metavar="N", help="with --size: the capacity of read_memory, for ports")
    return parser


def check_arguments(arguments: argparse.Namespace) -> None:
    """Check that the flags of INT8 belong together.

    Raises:
        UserError: one is missing, or would have no effect.
    """
    if arguments.int8 and (arguments.format != "onnx" or arguments.half):
        raise UserError("--int8 goes with --format onnx and without --half")
    for name in ("calibrate", "calibrate_mask"):
        given = getattr(arguments, name) is not None
        if given != (arguments.int8 == "static"):
            raise UserError(f"--{name} goes with --int8 static" if given else f"--int8 static needs --{name}")
    if arguments.calibrate_frames is not None:
        if arguments.int8 != "static":
            raise UserError("--calibrate_frames goes with --int8 static")
        if arguments.calibrate_frames < 2:
            raise UserError(f"--calibrate_frames must be at least 2, not {arguments.calibrate_frames}")


def export(arguments: argparse.Namespace) -> int:
    """Write the export, and print how far its graphs are from PyTorch; returns the exit code.

    Raises:
        UserError: it cannot be made.
    """
    check_arguments(arguments)
    size = None if arguments.size is None else (arguments.size[0], arguments.size[1])
    try:
        settings = ExportSettings(
            arguments.format, size, arguments.objects, arguments.half, arguments.top_k, arguments.elements
        )
    except SettingError as error:
        raise UserError(f"--{error}") from None
    checkpoint = read_checkpoint(arguments.model or default_network_file())
    if arguments.int8:
        inputs = "recorded" if arguments.int8 == "static" else "random"
        title, differences = f"float32, on {inputs} inputs", write_int8(arguments, checkpoint, settings)
    else:
        title = "PyTorch in float32, on random inputs"
        differences = write_export(checkpoint, arguments.output, settings)
    print(f"largest differences from {title}")
    for graph, outputs in differences.items():
        print(f"  {graph:<13}", "  ".join(f"{name} {value:.1e}" for name, value in outputs.items()))
    size_on_disk = sum(path.stat().st_size for path in arguments.output.iterdir())
    print(f"{arguments.output}: {size_on_disk / 2**20:.1f} MiB")
    return 0


def write_int8(
    arguments: argparse.Namespace, checkpoint: Checkpoint, settings: ExportSettings
) -> dict[str, dict[str, float]]:
    """Export in float32, record the graphs' calls on the video if ranges are to be fixed, and quantise.

    Raises:
        UserError: it cannot be made.
    """
    if arguments.output.exists():
        raise UserError(f"{arguments.output} is there already: choose another folder, or remove it")
    video = calibration_video(arguments, settings) if arguments.int8 == "static" else None
    with TemporaryDirectory(prefix="export-") as folder:
        write_export(checkpoint, Path(folder) / "float32", settings)
        plain = read_export(Path(folder) / "float32")
        calls = None
        if video is not None:
            frames, mask = video
            network = ExportedNetwork(plain, torch.device("cpu"))
            try:
                with recorded(network) as calls:
                    for _ in segment_video(network, frames, mask, -1 if settings.size else intended_size(plain)):
                        pass
            except ValueError as error:  # frames of several sizes
                raise UserError(f"--calibrate {arguments.calibrate}: {error}") from error
            if not all(calls.values()):
                raise UserError(f"--calibrate {arguments.calibrate} has one frame only: at least two are needed")
        return quantise_export(plain, arguments.output, settings.example_sizes(), calls)


def calibration_video(
    arguments: argparse.Namespace, settings: ExportSettings
) -> tuple[Iterator[UInt8[np.ndarray, "height width 3"]], UInt8[np.ndarray, "height width"]]:
    """Return the frames of --calibrate, and the label map of the first, at the export's size if it has one.

    Raises:
        UserError: they cannot be read, or do not fit the export.
    """
    path: Path = arguments.calibrate
    source = open_source(path)
    labels = read_label_map(arguments.calibrate_mask).labels
    objects = len(objects_of(labels))
    if not objects:
        raise UserError(f"--calibrate_mask {arguments.calibrate_mask} holds no object: all its labels are 0")
    if settings.objects is not None and objects > settings.objects:
        raise UserError(f"--calibrate_mask shows {objects} objects, and the export is to be for {settings.objects}")
    frames = islice((frame.rgb for frame in source), arguments.calibrate_frames or 60)
    if settings.size is None:
        first = next(frames, np.empty((0, 0, 3), np.uint8))
        if first.shape[:2] != labels.shape:
            sizes = f"{size_text(labels.shape)}, the first frame of --calibrate {size_text(first.shape[:2])}"
            raise UserError(f"--calibrate_mask {arguments.calibrate_mask} is {sizes}")
        return chain([first], frames), labels
    height, width = settings.size
    resized = (cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA) for rgb in frames)
    return resized, cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)


def main(argv: list[str] | None = None) -> int:
    """Run the program, and return its exit code: 0; 2 after a user's mistake; 130 after Ctrl-C."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    return run_program("export", lambda: export(make_parser().parse_args(argv)), "nothing was kept")


if __name__ == "__main__":
    sys.exit(main())
