"""Contact sheets: frames over time side by side, what belongs together in one row, as one image."""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

BACKGROUND = (255, 255, 255)
INK = (40, 40, 40)
GAP = 4


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[UInt8[np.ndarray, "height width 3"]]]],
    column_captions: Sequence[str] = (),
    cell_width: int = 216,
) -> UInt8[np.ndarray, "sheet_height sheet_width 3"]:
    """A grid of images on white, captions at its left and its top.

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
    sheet = Image.new("RGB", sheet_size, BACKGROUND)
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
