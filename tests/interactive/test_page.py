"""The page in a real browser: what a person sees and does, from opening a video to the export."""

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset.label_map import read_label_map
from scripts.page_driver import Program, Window, browser_path, chromium
from tests.helpers import REPOSITORY
from tests.helpers.annotated_video import COUNT, ground_truth, write_video

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser_path() is None, reason="there is no Chromium (on Debian: apt install chromium)"),
]


@pytest.fixture
def start(tmp_path, network_file) -> Iterator[Callable[..., Program]]:
    """Starts the program on a small video, always with the same workspace."""
    video, programs = write_video(tmp_path / "video"), []

    def started(*flags: str | Path) -> Program:
        defaults = ["--images", video, "--workspace", tmp_path / "workspace", "--model", network_file, "--size", "32"]
        programs.append(Program(*defaults, "--segmenter", "grabcut", "--device", "cpu", *flags))
        return programs[-1]

    yield started
    for program in programs:
        program.process.kill()
        program.process.wait()


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


NAMELESS = """() => [...document.querySelectorAll("button, input, select")].filter(each => !(each.ariaLabel ||
    each.title || each.textContent.trim() || each.labels?.length || each.getAttribute("aria-labelledby")))
    .map(each => each.id)"""
"""What has no name that a screen reader could say."""


def masks(folder: Path) -> dict[int, np.ndarray]:
    return {int(path.stem): read_label_map(path).labels for path in sorted((folder / "workspace/masks").glob("0*.png"))}


def test_from_opening_to_the_export_and_again(browser, start, tmp_path):
    """Open, click, brush, undo, follow, correct, follow again, export, reopen."""
    program = start()
    window = Window(browser, program.address)
    page = window.page
    assert "token" not in page.url
    window.click("#add-object")
    assert page.locator("#object-list li").count() == 2

    page.click('#object-list li[data-label="2"] .number')
    page.click("[data-tool=click]")
    window.draw((48, 35))
    assert window.data("drawn-map") != ""
    page.click('#object-list li[data-label="1"] .number')
    page.click("[data-tool=rectangle]")
    window.draw((4, 8), (16, 20))
    page.click("[data-tool=brush]")
    window.draw((20, 40), (24, 42))
    drawn = window.data("drawn-map")
    window.click("#undo")
    page.wait_for_selector(f'body:not([data-drawn-map="{drawn}"])')
    window.click("#redo")
    page.wait_for_selector(f'body[data-drawn-map="{drawn}"]')
    window.click("#undo")

    window.follow()
    assert page.get_attribute("#undo", "title").startswith("Undo: Follow forward from frame 0")
    window.go_to(6)
    followed = window.data("drawn-map")
    assert followed != ""
    page.click("[data-tool=rectangle]")
    window.draw((30, 3), (60, 18))
    corrected = window.data("drawn-map")
    assert corrected != followed
    window.follow()
    window.go_to(6)
    assert window.data("drawn-map") == corrected

    page.click("#tab-export")
    page.click("[data-export=davis]")
    with page.expect_download() as download:
        page.click("#exports li a[href]")
    assert download.value.suggested_filename == "video_davis.zip"
    page.wait_for_timeout(
        1000
    )  # until the page has told what it shows, which it does when it has been calm for a while
    shutil.unpack_archive(str(download.value.path()), tmp_path / "unpacked", "zip")
    program.stop()

    labels = masks(tmp_path)
    assert list(labels) == list(range(COUNT))
    exported = tmp_path / "unpacked" / "Annotations" / "480p" / "video"
    assert all((read_label_map(exported / f"{number:05d}.png").labels == labels[number]).all() for number in labels)
    rows, columns = np.nonzero(labels[0] == 1)
    box = (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1)
    assert np.allclose(box, (4, 16, 8, 20), atol=1.01), "the rectangle is where it was drawn"
    assert (labels[0][35, 48], labels[6][10, 45]) == (2, 1)

    window.open(start().address)
    page.wait_for_selector('body[data-frame="6"]')
    assert page.get_attribute("#undo", "title").startswith("Undo: Follow forward from frame 6")
    assert page.locator("#object-list li").count() == 2
    assert window.data("drawn-map") == corrected
    assert window.errors == []


def test_keys_wait_until_a_stroke_is_drawn(browser, start):
    window = Window(browser, start().address)
    window.click("#add-object")
    page = window.page
    page.click('#object-list li[data-label="1"] .number')
    page.click("[data-tool=brush]")
    page.mouse.move(*window.at(10, 10))
    page.mouse.down()
    page.mouse.move(*window.at(30, 10), steps=4)
    page.keyboard.press("2")
    page.keyboard.press("Control+z")
    page.mouse.up()
    page.wait_for_selector('body:not([data-drawn-map=""])')
    assert page.get_attribute("#undo", "title").startswith("Undo: Brush, frame 0")
    assert page.locator("#object-list li").count() == 2


def test_without_the_token_there_is_no_page(browser, start):
    program = start()
    page = browser.new_context().new_page()
    answer = page.goto(program.address.partition("?")[0])
    assert answer.status == 403
    assert "the whole address, with ?token=" in page.text_content("body")
    assert page.goto(f"{program.address}x").status == 403


def test_a_second_window_follows_the_first(browser, start):
    program = start()
    first, second = Window(browser, program.address), Window(browser, program.address)
    first.page.click("[data-tool=rectangle]")
    first.draw((4, 8), (16, 20))
    second.page.wait_for_selector(f'body[data-drawn-map="{first.data("drawn-map")}"]')
    first.click("#add-object")
    second.page.wait_for_selector('#object-list li[data-label="2"]')
    second.click("#undo")
    first.page.wait_for_selector('#object-list li[data-label="2"]', state="detached")
    first.follow()
    second.go_to(COUNT - 1)
    assert second.data("drawn-map") != ""


@pytest.mark.long
def test_a_lost_connection_is_said_and_what_happened_meanwhile_is_shown(browser, start, tmp_path):
    program = start()
    port = re.search(r":(\d+)/", program.address).group(1)
    window = Window(browser, program.address)
    window.page.click("[data-tool=rectangle]")
    window.draw((4, 8), (16, 20))
    drawn = window.data("drawn-map")
    program.stop(signal.SIGKILL)
    window.page.wait_for_selector("#connection:visible")
    Image.fromarray(ground_truth(0)).save(tmp_path / "workspace" / "masks" / "00000.png")
    again = start("--port", port)
    assert f":{port}/" in again.address
    window.open(again.address)
    assert window.data("drawn-map") not in ("", drawn)
    assert not window.page.is_visible("#connection")


def test_bad_input_is_said_in_the_page(browser, start, tmp_path):
    (tmp_path / "video" / "00003.png").write_bytes(b"no picture")
    program = start("--model", tmp_path / "none.pth")
    window = Window(browser, program.address)
    assert "none.pth" in window.page.text_content("#network-error")
    assert window.page.is_disabled("#follow-forward")
    window.page.fill("#frame-number", "3")
    window.page.press("#frame-number", "Enter")
    window.page.wait_for_selector("#stage-message:visible")
    said = window.page.text_content("#stage-message")
    assert "Frame 3 cannot be decoded" in said or "00003.png is not an image" in said
    window.go_to(2)
    Image.fromarray(ground_truth(0)[:20]).save(tmp_path / "small.png")
    window.page.set_input_files("#import-file", tmp_path / "small.png")
    window.page.wait_for_selector("#notices .notice[data-level=error]")
    assert "the label map is 64x20, but the frame 64x48" in window.page.text_content("#notices")
    assert window.errors == []


@pytest.mark.long
def test_by_keyboard_alone(browser, start):
    """Every control of the first panel is reached by Tab and has a name; masks are made and followed by keys."""
    window = Window(browser, start().address)
    page = window.page
    reached = set()
    for _ in range(120):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("() => document.activeElement.id || document.activeElement.dataset.tool || ''"))
    assert {
        "undo",
        "mode",
        "help-button",
        "brush",
        "click",
        "frame-number",
        "add-object",
        "confirm",
        "follow-forward",
    } <= (
        reached | {"undo"}  # which is disabled in a new workspace where one object was added by the program
    )
    nameless = page.evaluate(NAMELESS)
    assert nameless == []
    page.locator("body").evaluate("() => document.activeElement.blur()")
    page.keyboard.press("b")
    for key in ("Shift+ArrowRight", "Enter", *["Shift+ArrowRight"] * 3, "Enter"):  # Enter presses, and lets go
        page.keyboard.press(key)
    page.wait_for_selector('body:not([data-drawn-map=""])')
    page.keyboard.press("f")
    page.wait_for_selector('#undo[title^="Undo: Follow forward"]')
    page.wait_for_selector('body[data-following="false"]')
    page.keyboard.press("Home")
    page.wait_for_selector('body[data-frame="0"]')
    page.keyboard.press("ArrowRight")
    page.wait_for_selector('body[data-frame="1"]')
    page.keyboard.press("?")
    assert page.is_visible("#help")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+z")
    page.wait_for_selector('body[data-drawn-map=""]')
    assert window.errors == []


@pytest.mark.long
def test_the_program_ends_in_a_line_and_leaves_the_workspace_to_others(start):
    program = start()
    assert program.stop() == "interactive_demo.py: interrupted; every step is kept\n"
    again = start()
    run = [sys.executable, "interactive_demo.py", "--images", "examples/crossing/JPEGImages/crossing"]
    run += ["--workspace", re.search(r"kept in (.*)", again.process.stdout.readline()).group(1)]
    refused = subprocess.run([*run, "--no_browser"], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2
    assert "in use by another run of this program" in refused.stderr
    assert refused.stderr.count("\n") == 1
