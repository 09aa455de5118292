"""Follow two fish through the example clip, score it, and leave something to look at: a video, and a contact sheet.

python -m scripts.demo [--model FILE] [--output DIR] [--size PIXELS]
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

import eval as evaluation_program
from dataset.frames import read_frame
from dataset.label_map import read_label_map
from evaluation.output_folder import parsed
from util.files import atomic_path
from util.painting import overlay_masks
from util.provenance import REPOSITORY

CLIP = REPOSITORY / "examples" / "crossing"
VIDEO = "crossing"
MOMENTS = ("00000", "00014", "00021", "00027", "00036", "00053")
"""Frames for the contact sheet: apart, meeting, crossing, one fish all but hidden, parting, apart."""

DEFAULT_OUTPUT = Path("output/demo")
SHEET = "contact_sheet.png"
PAPER = (255, 255, 255)
INK = (40, 40, 40)
GAP, CELL_WIDTH, FONT_SIZE = 4, 216, 15  # pixels


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
    if is_demo(output):
        flags.append("--overwrite")
    return evaluation_program.main(flags)


def is_demo(output: Path) -> bool:
    """Return whether an output folder holds an earlier demo, finished or not."""
    path = output / "config.json"
    config = parsed(path) if path.is_file() else None
    return isinstance(config, dict) and config.get("root") == str(CLIP)


def painted(label_maps: Path, moments: Sequence[str] = MOMENTS) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """The clip at each of the moments, with the masks of a folder painted over it."""
    for name in moments:
        frame = read_frame(CLIP / "JPEGImages" / VIDEO / f"{name}.jpg")
        yield overlay_masks(frame.rgb, read_label_map(label_maps / f"{name}.png").labels)


def write_sheet(output: Path) -> None:
    """Write a picture of the clip into the folder of a demo: what went in, what should come out, and what did."""
    inputs = [read_frame(CLIP / "JPEGImages" / VIDEO / f"{name}.jpg").rgb for name in MOMENTS]
    rows = {
        "input": inputs,
        "ground truth": list(painted(CLIP / "Annotations" / VIDEO)),
        "prediction": list(painted(output / VIDEO)),
    }
    sheet = contact_sheet(rows, [f"frame {int(name)}" for name in MOMENTS])
    with atomic_path(output / SHEET) as temporary:
        Image.fromarray(sheet).save(temporary)


def contact_sheet(
    rows: Mapping[str, Sequence[UInt8[np.ndarray, "height width 3"]]], columns: Sequence[str]
) -> UInt8[np.ndarray, "sheet_height sheet_width 3"]:
    """Return a grid of images on white, each scaled down to CELL_WIDTH, with captions at its left and its top.

    Args:
        rows: the images by the row's caption, all of one size.
        columns: the columns' captions.
    """
    height, width, _ = next(iter(rows.values()))[0].shape
    cell_height = round(CELL_WIDTH * height / width)
    font = ImageFont.load_default(FONT_SIZE)
    margin = GAP + max(round(font.getlength(caption)) for caption in rows) + GAP
    head = GAP + round(1.4 * FONT_SIZE)
    sheet_size = margin + len(columns) * (CELL_WIDTH + GAP), head + len(rows) * (cell_height + GAP)
    sheet = Image.new("RGB", sheet_size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, caption in enumerate(columns):
        centre = margin + column * (CELL_WIDTH + GAP) + CELL_WIDTH / 2
        draw.text((centre, head / 2), caption, INK, font, anchor="mm")
    for row, (caption, images) in enumerate(rows.items()):
        top = head + row * (cell_height + GAP)
        draw.text((margin - GAP, top + cell_height / 2), caption, INK, font, anchor="rm")
        for column, image in enumerate(images):
            cell = cv2.resize(image, (CELL_WIDTH, cell_height), interpolation=cv2.INTER_AREA)
            sheet.paste(Image.fromarray(cell), (margin + column * (CELL_WIDTH + GAP), top))
    return np.array(sheet)


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns its exit code, which is eval.py's. The scores are in what eval.py prints."""
    arguments = make_parser().parse_args(argv)
    if code := segment(arguments.output, arguments.model, arguments.size):
        return code
    write_sheet(arguments.output)
    print(f"Overlay video:  {arguments.output / 'Overlay' / f'{VIDEO}.mp4'}")
    print(f"Contact sheet:  {arguments.output / SHEET}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
