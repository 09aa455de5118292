"""Make the pictures of the page in README.md and docs/interactive.md, in a real browser on the example clip.

python -m scripts.make_interactive_pictures
"""

import argparse
import sys
import tempfile
import time
from io import BytesIO
from pathlib import Path

from PIL import Image

from scripts.demo import CLIP, VIDEO
from scripts.page_driver import Window, chromium, running
from util.command_line import run_program
from util.files import atomic_path
from util.provenance import REPOSITORY

TARGET = REPOSITORY / "docs" / "images"
LARGE_FISH, SMALL_FISH = ((96, 122), (150, 118), (60, 130)), ((330, 120),)
"""Clicks on the fish in the clip's first frame, in pixels."""


def save(window: Window, name: str) -> None:
    """Write what the window shows, once it has been calm for a moment."""
    window.page.mouse.move(1100, 560)  # where no cursor is drawn
    window.page.wait_for_timeout(1200)
    image = Image.open(BytesIO(window.page.screenshot()))
    path = TARGET / f"{name}.webp"
    with atomic_path(path) as temporary:
        image.save(temporary, quality=80, method=6)
    print(f"{path}: {path.stat().st_size / 1024:.0f} KiB")


def annotate(window: Window) -> None:
    """Mark both fish by clicks in the first frame, and name them."""
    page = window.page
    window.click("#add-object")
    page.click("[data-tool=click]")
    for label, places, name in ((1, LARGE_FISH, "Large fish"), (2, SMALL_FISH, "Small fish")):
        page.fill(f'#object-list li[data-label="{label}"] .name', name)
        page.press(f'#object-list li[data-label="{label}"] .name', "Enter")
        page.click(f'#object-list li[data-label="{label}"] .number')
        for place in places:
            window.draw(place)


def make() -> int:
    """Make all pictures; returns the exit code."""
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        flags = ["--images", CLIP / "JPEGImages" / VIDEO, "--workspace", Path(folder) / "crossing"]
        with running(*flags) as program:
            window = Window(browser, program.address, color_scheme="dark")
            page = window.page
            annotate(window)
            save(window, "interactive_clicks")
            window.follow()
            window.go_to(20)
            save(window, "interactive")
            page.click("#tab-memory")
            page.select_option("#mode", index=2)
            save(window, "interactive_memory")
            light = Window(browser, program.address, color_scheme="light")
            light.page.click("#tab-export")
            light.page.click("[data-export=overlay]")
            light.page.wait_for_selector("#exports li a[href]")
            time.sleep(0.5)
            save(light, "interactive_export")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    argparse.ArgumentParser(prog="python -m scripts.make_interactive_pictures").parse_args(argv)
    return run_program("make_interactive_pictures", make, "the pictures are as they were")


if __name__ == "__main__":
    sys.exit(main())
