"""The interactive program on this machine: opening, scrubbing, and following beside eval.py, in the page.

Needs Chromium and playwright. The page and its browser run on the same machine as the network.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np

from dataset.back_and_forth import turning_order
from interactive.previews import FOLDER as PREVIEWS
from scripts.demo import CLIP, VIDEO
from scripts.page_driver import Window, chromium, running
from util.device import choose_device, hardware_name
from util.machine import peak_process_bytes
from util.provenance import REPOSITORY

if TYPE_CHECKING:
    from playwright.sync_api import FloatRect

SCRUBBED = 40
TIMES = 4
"""How often the example clip is played for following."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this benchmark."""
    parser.add_argument("--frames", type=int, default=3000, help="of the 1080p file that is scrubbed (%(default)s)")
    parser.add_argument("--long_frames", type=int, default=10_000, help="of the 4K file that is opened (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of following, in turns with eval.py (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="leave out the other parts")


def run(arguments: argparse.Namespace) -> None:
    """Print what was measured, in lines."""
    print(hardware_name(choose_device("cpu")))
    with tempfile.TemporaryDirectory() as folder:
        for part in arguments.only:
            PARTS[part](arguments, Path(folder) / part)


def follow(arguments: argparse.Namespace, folder: Path) -> None:
    """Compare the frames per second of following with eval.py's, reading and writing included in both."""
    video, mask = longer_clip(folder / "clip"), CLIP / "Annotations" / VIDEO / "00000.png"
    rates: dict[str, list[float]] = {"eval.py": [], "following, no page open": [], "following, in the page": []}
    for turn in range(arguments.rounds):
        output = folder / f"eval {turn}"
        command = [sys.executable, "eval.py", "--video", str(video), "--mask", str(mask), "--output", str(output)]
        subprocess.run([*command, "--size", "320"], cwd=REPOSITORY, check=True, capture_output=True)
        rates["eval.py"].append(json.loads((output / "summary.json").read_text())["end_to_end_FPS"])
        for name in ("following, no page open", "following, in the page"):
            workspace = folder / f"{name} {turn}"
            flags = ["--images", video, "--workspace", workspace, "--size", "320"]
            with running(*flags) as program, chromium() as browser:
                window = Window(browser, program.address)
                window.page.set_input_files("#import-file", mask)
                window.page.wait_for_selector('body:not([data-drawn-map=""])')
                if name.endswith("no page open"):
                    rates[name].append(_rate_alone(window))
                else:
                    window.follow(seconds=600)
                    rates[name].append(_rate(window.page.evaluate(STATE)))
    for name, values in rates.items():
        ratio = median(values) / median(rates["eval.py"])
        shown = ", ".join(f"{value:.2f}" for value in values)
        print(f"{name}: {shown} frames a second; {ratio:.2f} of eval.py's")


def longer_clip(folder: Path) -> Path:
    """Fill a folder with links to the frames of the example clip, played back and forth, and return it.

    In the first second the page is still busy with having been opened: a quarter of the time that the clip takes.
    """
    frames = sorted((CLIP / "JPEGImages" / VIDEO).iterdir())
    folder.mkdir(parents=True)
    for position, number in enumerate(turning_order(len(frames), TIMES * len(frames))):
        (folder / f"{position:05}{frames[number].suffix}").symlink_to(frames[number].resolve())
    return folder


def _rate_alone(window: Window) -> float:
    """Follow while no page looks on: the window leaves it, and asks now and then whether that has ended."""
    requests, address = window.page.context.request, window.page.url
    window.page.goto("about:blank")
    requests.post(f"{address}api/acts", data={"do": "follow", "frame": 0, "direction": "forward", "until": "end"})
    while True:
        time.sleep(2)
        state = requests.get(f"{address}api/state").json()
        if state["following"] is None:
            return _rate(state)


def _rate(state: Any) -> float:
    """Return the frames per second of the last following, until their masks were on disk."""
    return float(state["followed"]["frames"] / state["followed"]["seconds"])


STATE = "() => fetch('/api/state').then(answer => answer.json())"


def scrub(arguments: argparse.Namespace, folder: Path) -> None:
    """Measure how long the page takes to show a frame with its mask: after opening, and with all previews made."""
    folder.mkdir()
    video = write_video(folder / "1080p.mp4", arguments.frames, 1080, 1920)
    with running("--video", video, "--workspace", folder / "workspace") as program, chromium() as browser:
        window = Window(browser, program.address)
        window.page.click("[data-tool=rectangle]")
        window.draw((800, 400), (1100, 700))
        numbers = np.random.default_rng(0).permutation(arguments.frames)[: 2 * SCRUBBED].tolist()
        early = _scrub_through(window, numbers[:SCRUBBED], arguments.frames)
        previews = folder / "workspace" / PREVIEWS
        begun = time.perf_counter()
        while len(list(previews.glob("*/[0-9]*.jpg"))) < arguments.frames:
            time.sleep(1)
        made = time.perf_counter() - begun
        late = _scrub_through(window, numbers[SCRUBBED:], arguments.frames)
        print(f"scrubbing {arguments.frames} frames of 1080p, milliseconds until a frame is shown, median (largest):")
        for name, seconds in (("right after opening", early), (f"previews made, {made:.0f} s later", late)):
            print(f"  {name}: {1000 * median(seconds):.0f} ({1000 * max(seconds):.0f})")
        print(f"  memory of the program: {peak_process_bytes(program.process.pid) / 2**20:.0f} MiB")


def _scrub_through(window: Window, numbers: Sequence[int], count: int) -> list[float]:
    """Drag along the timeline, and return the seconds until each place is shown."""
    page = window.page
    box = page.locator("#timeline").bounding_box()
    assert box is not None
    seconds = []
    page.mouse.move(*_place(box, 0, count))
    page.mouse.down()
    for number in numbers:
        before = window.data("frame")
        begun = time.perf_counter()
        page.mouse.move(*_place(box, number, count))
        page.wait_for_selector(f'body:not([data-frame="{before}"])')
        seconds.append(time.perf_counter() - begun)
    page.mouse.up()
    return seconds


def _place(box: "FloatRect", number: int, count: int) -> tuple[float, float]:
    """Return where a frame is on the timeline's ruler, as far as it matters which."""
    left = box["x"] + 0.15 * box["width"]
    return left + (0.98 * box["width"] + box["x"] - left) * number / count, box["y"] + 10


def lengths(arguments: argparse.Namespace, folder: Path) -> None:
    """Measure the time until the program answers, and its memory, for a short and a long 4K file."""
    folder.mkdir()
    part = write_video(folder / "part.mp4", arguments.long_frames // 20, 2160, 3840)
    for times in (2, 20):
        video = repeated(part, folder / f"{times}.mp4", times)
        count = times * (arguments.long_frames // 20)
        begun = time.perf_counter()
        with running("--video", video, "--workspace", folder / f"workspace {times}") as program, chromium() as browser:
            started = time.perf_counter() - begun
            begun = time.perf_counter()
            window = Window(browser, program.address)
            shown = time.perf_counter() - begun
            for number in np.linspace(0, count - 1, 12).astype(int).tolist():
                window.go_to(number)
            memory = peak_process_bytes(program.process.pid) / 2**20
        size = video.stat().st_size / 2**20
        print(
            f"4K, {count} frames ({size:.0f} MiB): {started:.1f} s until the program answers (PyTorch is imported in "
            f"this time), {shown:.1f} s more until the page shows a frame; {memory:.0f} MiB after going through it"
        )


def repeated(video: Path, path: Path, times: int) -> Path:
    """Write a video several times in a row, without encoding it again."""
    with av.open(str(path), "w") as target:
        stream = None
        shift = 0
        for _ in range(times):
            with av.open(str(video)) as source:
                stream = stream or target.add_stream_from_template(source.streams.video[0])
                end = shift
                for packet in source.demux(video=0):
                    if packet.pts is None or packet.dts is None:
                        continue
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                    end = max(end, packet.pts + (packet.duration or 0))
                    target.mux(packet)
                shift = end
    return path


def write_video(path: Path, count: int, height: int, width: int) -> Path:
    """Write a video of something that moves over something that moves, with x264's usual keyframes."""
    coarse = np.random.default_rng(0).integers(0, 255, (height // 16, width // 16, 3)).astype(np.uint8)
    scene = cv2.resize(coarse, (width + 400, height + 200), interpolation=cv2.INTER_CUBIC)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "30", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(count):
            x, y = int(200 + 190 * np.sin(number / 40)), int(100 + 90 * np.cos(number / 55))
            picture = scene[y : y + height, x : x + width].copy()
            place = int(width * (0.5 + 0.3 * np.sin(number / 60))), int(height * (0.5 + 0.25 * np.cos(number / 35)))
            cv2.circle(picture, place, height // 8, (230, 60, 40), -1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


PARTS = {"follow": follow, "scrub": scrub, "lengths": lengths}
