"""The page of interactive_demo.py driven by a program, in a real browser: for pictures, figures and tests."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from util.errors import UserError
from util.provenance import REPOSITORY

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]
MARGIN = 12
"""Distance of the frame from the canvas's border, in pixels of the window."""


class Program:
    """interactive_demo.py in a process of its own.

    Raises:
        UserError: it cannot start; what it said is in the message.
    """

    def __init__(self, *flags: object) -> None:
        command = [sys.executable, str(REPOSITORY / "interactive_demo.py"), *map(str, flags), "--no_browser"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("The page: "):
            raise UserError(f"the page cannot be started: {self.process.communicate()[1].strip()}")
        self.address = line.split()[-1]

    def stop(self, number: int = signal.SIGINT) -> str:
        """End the program by a signal, and return what it has written to stderr."""
        self.process.send_signal(number)
        return str(self.process.communicate(timeout=60)[1])


@contextmanager
def running(*flags: object) -> Iterator[Program]:
    """The program while the block runs."""
    program = Program(*flags)
    try:
        yield program
    finally:
        if program.process.poll() is None:
            program.stop()


def browser_path() -> str | None:
    """Return the path of a Chromium, if there is one."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def chromium() -> Iterator["Browser"]:
    """A browser without a window on the screen.

    Raises:
        UserError: there is no Chromium.
    """
    from playwright.sync_api import sync_playwright

    path = browser_path()
    if path is None:
        raise UserError("there is no Chromium (on Debian: apt install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


class Window:
    """A window on the page, and what there is to know of it.

    Args:
        browser: the browser.
        address: what the program has printed.
        size: (width, height) of the window.
        options: of the browser's context, such as color_scheme.
    """

    def __init__(self, browser: "Browser", address: str, size: tuple[int, int] = (1280, 720), **options: Any) -> None:
        self.page = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options).new_page()
        self.page.set_default_timeout(30_000)
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.open(address)

    def open(self, address: str) -> None:
        """Go to the page, and wait until it shows a frame."""
        self.page.goto(address)
        self.page.wait_for_selector('body[data-ready="true"]')
        video = self.page.evaluate("() => fetch('/api/state').then(answer => answer.json()).then(state => state.video)")
        self.frame_size = int(video["width"]), int(video["height"])

    def data(self, name: str) -> str:
        """Return what the page tells of itself."""
        return str(self.page.get_attribute("body", f"data-{name}") or "")

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return where a pixel of the frame is in the window, while the whole frame is fitted into the canvas."""
        box = self.page.locator("#canvas").bounding_box()
        assert box is not None
        width, height = self.frame_size
        scale = min((box["width"] - 2 * MARGIN) / width, (box["height"] - 2 * MARGIN) / height)
        left, top = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        return left + (x - width / 2) * scale, top + (y - height / 2) * scale

    def draw(self, *points: tuple[float, float], button: str = "left") -> None:
        """Draw or click with the pointer, in pixels of the frame, and wait until the result is shown."""
        before = self.data("drawn-map")
        self.page.mouse.move(*self.at(*points[0]))
        self.page.mouse.down(button=button)  # type: ignore[arg-type]
        for point in points[1:]:
            self.page.mouse.move(*self.at(*point), steps=4)
        self.page.mouse.up(button=button)  # type: ignore[arg-type]
        self.page.wait_for_selector(f'body:not([data-drawn-map="{before}"])')

    def go_to(self, frame: int) -> None:
        """Show a frame."""
        self.page.fill("#frame-number", str(frame))
        self.page.press("#frame-number", "Enter")
        self.page.wait_for_selector(f'body[data-frame="{frame}"]')

    def click(self, selector: str) -> None:
        """Press a button, and wait until what it does is done."""
        before = self.data("version")
        self.page.click(selector)
        self.page.wait_for_selector(f'body:not([data-version="{before}"])')

    def follow(self, selector: str = "#follow-forward", seconds: float = 60) -> None:
        """Follow, and wait for the end."""
        self.click(selector)
        self.page.wait_for_selector('body[data-following="false"]', timeout=1000 * seconds)
