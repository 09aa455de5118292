"""Follow two fish through the example clip, score it, and leave something to look at: a video, and a contact sheet.

python -m scripts.demo [--model FILE] [--output DIR] [--size PIXELS]
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

import eval as evaluation_program
from dataset.frames import read_frame
from dataset.label_map import read_label_map
from evaluation.contact_sheet import contact_sheet
from util.files import atomic_path
from util.painting import overlay_masks

CLIP = Path(__file__).resolve().parent.parent / "examples" / "crossing"
VIDEO = "crossing"
MOMENTS = ("00000", "00014", "00021", "00027", "00036", "00053")
"""Frames for the contact sheet: apart, meeting, crossing, one fish all but hidden, parting, apart."""

DEFAULT_OUTPUT = Path("output/demo")
SHEET = "contact_sheet.png"


@dataclass(frozen=True)
class Demonstration:
    """What a run of eval.py over the example clip left in its output folder."""

    output: Path

    @property
    def label_maps(self) -> Path:
        return self.output / VIDEO

    @property
    def overlay(self) -> Path:
        return self.output / "Overlay" / f"{VIDEO}.mp4"

    @property
    def sheet(self) -> Path:
        return self.output / SHEET


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of this program's flags."""
    parser = argparse.ArgumentParser(prog="python -m scripts.demo", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--model", type=Path, help="network file; default: saves/XMem.pth, or else the bundled saves/XMem-small.pth")
    add("--output", type=Path, default=DEFAULT_OUTPUT, help="default: %(default)s; an earlier demo there is replaced")
    add("--size", type=int, default=320, help="shorter side at which frames are segmented; default: %(default)s")
    return parser


def segment(output: Path, model: Path | None, size: int) -> int:
    """Run eval.py over the clip; returns its exit code. What lies in `output` is replaced only if a demo made it."""
    flags = ["--dataset", "G", "--generic_path", str(CLIP), "--overlay", "--size", str(size), "--output", str(output)]
    if model is not None:
        flags += ["--model", str(model)]
    if output == DEFAULT_OUTPUT or (output / SHEET).is_file():
        flags.append("--overwrite")
    return evaluation_program.main(flags)


def painted(label_maps: Path, moments: Sequence[str] = MOMENTS) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """The clip at each of the moments, with the masks of a folder painted over it."""
    for name in moments:
        frame = read_frame(CLIP / "JPEGImages" / VIDEO / f"{name}.jpg")
        yield overlay_masks(frame.rgb, read_label_map(label_maps / f"{name}.png").labels)


def write_sheet(demonstration: Demonstration) -> None:
    """Write a picture of the clip: what went in, what should come out, and what did."""
    inputs = [read_frame(CLIP / "JPEGImages" / VIDEO / f"{name}.jpg").rgb for name in MOMENTS]
    sheet = contact_sheet(
        [
            ("input", inputs),
            ("ground truth", list(painted(CLIP / "Annotations" / VIDEO))),
            ("prediction", list(painted(demonstration.label_maps))),
        ],
        [f"frame {int(name)}" for name in MOMENTS],
    )
    with atomic_path(demonstration.sheet) as temporary:
        Image.fromarray(sheet).save(temporary)


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns its exit code, which is eval.py's. The scores are in what eval.py prints."""
    arguments = make_parser().parse_args(argv)
    if code := segment(arguments.output, arguments.model, arguments.size):
        return code
    demonstration = Demonstration(arguments.output)
    write_sheet(demonstration)
    print(f"Overlay video:  {demonstration.overlay}")
    print(f"Contact sheet:  {demonstration.sheet}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
