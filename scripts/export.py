"""Export a network for ONNX Runtime and what reads ONNX, or for torch.export.

    python -m scripts.export --model saves/XMem.pth --output exports/XMem
    python eval.py --model exports/XMem --video clip.mp4 --mask first.png

See docs/export.md.
"""

import argparse
import logging
import sys
from pathlib import Path

from evaluation.networks import default_network_file
from export.manifest import FORMATS
from export.writing import ExportSettings, write_export
from model.checkpoint import read_checkpoint
from util.command_line import Parser, run_program
from util.errors import SettingError, UserError


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
    add("--top_k", type=int, default=30, help="elements read per query in read_memory (%(default)s)")
    return parser


def export(arguments: argparse.Namespace) -> int:
    """Write the export, and print how far its graphs are from PyTorch; returns the exit code.

    Raises:
        UserError: it cannot be made.
    """
    size = None if arguments.size is None else (arguments.size[0], arguments.size[1])
    try:
        settings = ExportSettings(arguments.format, size, arguments.objects, arguments.half, arguments.top_k)
    except SettingError as error:
        raise UserError(f"--{error}") from None
    checkpoint = read_checkpoint(arguments.model or default_network_file())
    differences = write_export(checkpoint, arguments.output, settings)
    print("largest differences from PyTorch in float32, on random inputs")
    for graph, outputs in differences.items():
        print(f"  {graph:<13}", "  ".join(f"{name} {value:.1e}" for name, value in outputs.items()))
    size_on_disk = sum(path.stat().st_size for path in arguments.output.iterdir())
    print(f"{arguments.output}: {size_on_disk / 2**20:.1f} MiB")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the program, and return its exit code: 0; 2 after a user's mistake; 130 after Ctrl-C."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    return run_program("export", lambda: export(make_parser().parse_args(argv)), "nothing was kept")


if __name__ == "__main__":
    sys.exit(main())
