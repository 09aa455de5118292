"""Make the picture at the top of README.md: frames of the example clip with the demo's masks painted over them.

make demo
python -m scripts.make_readme_picture [--label_maps DIR]
"""

import argparse
import sys
from pathlib import Path

from PIL import Image

from scripts.demo import DEFAULT_OUTPUT, VIDEO, painted
from util.command_line import MISTAKE
from util.errors import UserError
from util.files import atomic_path
from util.provenance import REPOSITORY

TARGET = REPOSITORY / "docs" / "images" / "crossing.webp"
MOMENTS = ("00000", "00020", "00027", "00053")
GAP = 8


def make_picture(label_maps: Path) -> Image.Image:
    """Put the moments side by side, with transparent gaps.

    Raises:
        UserError: the folder lacks the label map of a moment.
    """
    strip = [Image.fromarray(image) for image in painted(label_maps, MOMENTS)]
    width, height = strip[0].size
    picture = Image.new("RGBA", (len(strip) * (width + GAP) - GAP, height), (0, 0, 0, 0))
    for column, image in enumerate(strip):
        picture.paste(image, (column * (width + GAP), 0))
    return picture


def main(argv: list[str] | None = None) -> int:
    """Write the picture; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.make_readme_picture")
    default = DEFAULT_OUTPUT / VIDEO
    parser.add_argument("--label_maps", type=Path, default=default, help="label maps of the clip; default: %(default)s")
    arguments = parser.parse_args(argv)
    try:
        picture = make_picture(arguments.label_maps)
    except UserError as error:
        print(f"{error}; make demo leaves label maps in {default}", file=sys.stderr)
        return MISTAKE
    with atomic_path(TARGET) as temporary:
        picture.save(temporary, quality=80, method=6)
    print(f"{TARGET}: {TARGET.stat().st_size / 1024:.0f} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
