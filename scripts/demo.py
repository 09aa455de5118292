"""Follow two fish through the example clip, score it, and leave something to look at: a video, and a contact sheet.

python -m scripts.demo [--model FILE] [--output DIR] [--size PIXELS]
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

import eval as evaluation_program
from dataset.frames import read_frame
from dataset.label_map import read_label_map
from util.files import atomic_path
from util.painting import overlay_masks

CLIP = Path(__file__).resolve().parent.parent / "examples" / "crossing"
VIDEO = "crossing"
MOMENTS = ("00000", "00014", "00021", "00027", "00036", "00053")
"""Frames for the contact sheet: apart, meeting, crossing, one fish all but hidden, parting, apart."""

DEFAULT_OUTPUT = Path("output/demo")
SHEET = "contact_sheet.png"
PAPER = (255, 255, 255)
INK = (40, 40, 40)
GAP = 4


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


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[UInt8[np.ndarray, "height width 3"]]]],
    column_captions: Sequence[str] = (),
    cell_width: int = 216,
) -> UInt8[np.ndarray, "sheet_height sheet_width 3"]:
    """Return a grid of images on white, captions at its left and its top.

    Args:
        rows: a caption ("input", "ground truth", ...) and the row's images, all of one size; a row may be shorter
            than the others.
        column_captions: what stands above each column, e.g. the frames' names; empty for none.
        cell_width: pixels to which each image is scaled, its aspect kept.

    Raises:
        ValueError: there is no image, or more captions than columns.
    """
    columns = max((len(images) for _, images in rows), default=0)
    if columns == 0:
        raise ValueError("a contact sheet needs at least one image")
    if len(column_captions) > columns:
        raise ValueError(f"{len(column_captions)} captions for {columns} columns")
    height, width, _ = next(images[0] for _, images in rows if images).shape
    cell_height = max(1, round(cell_width * height / width))
    font_size = max(10, cell_width // 14)
    font = ImageFont.load_default(font_size)
    margin = GAP + max(round(font.getlength(caption)) for caption, _ in rows) + GAP
    head = GAP + (round(1.4 * font_size) if column_captions else 0)

    sheet_size = margin + columns * (cell_width + GAP), head + len(rows) * (cell_height + GAP)
    sheet = Image.new("RGB", sheet_size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, caption in enumerate(column_captions):
        centre = margin + column * (cell_width + GAP) + cell_width / 2
        draw.text((centre, head / 2), caption, INK, font, anchor="mm")
    for row, (caption, images) in enumerate(rows):
        top = head + row * (cell_height + GAP)
        draw.text((margin - GAP, top + cell_height / 2), caption, INK, font, anchor="rm")
        for column, image in enumerate(images):
            # INTER_AREA averages when shrinking; when enlarging it would repeat pixels.
            interpolation = cv2.INTER_AREA if cell_width < width else cv2.INTER_CUBIC
            cell = cv2.resize(image, (cell_width, cell_height), interpolation=interpolation)
            sheet.paste(Image.fromarray(cell), (margin + column * (cell_width + GAP), top))
    return np.array(sheet)


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
