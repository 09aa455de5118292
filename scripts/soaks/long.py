"""Play a long generated video through the per-frame loop, and see whether memory and time a frame stay as they are.

The settings are the published ones but for the number of long-term elements, which is lower, so that consolidation and
eviction have settled before the warm-up ends. Figures are medians over windows of frames. The last window has to be
within 5 % of the first one after the warm-up, in the memory of the process and in time. Since other programs slow the
machine down, that is processor time, and what counts is its ratio to a yardstick measured after every frame: encoding
the first frame once more, which does not depend on the memory.
"""

import argparse
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from dataset.synthetic.long_video import long_video
from evaluation.networks import BUNDLED
from inference.images import normalise_image
from inference.inference_core import InferenceConfig, InferenceCore
from model.network import STRIDE, XMem
from util.device import hardware_name
from util.errors import UserError

TOLERANCE = 0.05
OBJECTS = 2


@dataclass(frozen=True)
class Figures:
    """What is measured of one frame, or the medians over a window of frames."""

    resident: float
    """Memory of the process, in bytes."""
    wall: float
    """Seconds for the frame."""
    processor: float
    """Seconds of processor time for the frame."""
    yardstick: float
    """Seconds of processor time for encoding the first frame once more."""
    working: float
    """Elements in working memory."""
    long_term: float
    """Elements in long-term memory."""
    evicted: float
    """Elements evicted so far."""

    def row(self) -> str:
        memory = f"{self.resident / 2**20:.1f} MiB | {self.working:.0f} | {self.long_term:.0f} | {self.evicted:.0f}"
        times = f"{1e3 * self.wall:.2f} ms | {1e3 * self.processor:.2f} ms | {self.ratio:.3f}"
        return f"{memory} | {times} |"

    @property
    def ratio(self) -> float:
        """The frame's processor time over the yardstick's."""
        return self.processor / self.yardstick


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this soak."""
    parser.add_argument("--frames", type=int, default=10000, help="length of the video (%(default)s)")
    parser.add_argument("--warm_up", type=int, default=1000, help="frames before the first window (%(default)s)")
    parser.add_argument("--window", type=int, default=500, help="frames of a window (%(default)s)")
    parser.add_argument("--size", type=int, nargs=2, default=(96, 160), metavar=("H", "W"), help="of frames (96 160)")
    parser.add_argument("--max_long_term_elements", type=int, default=2000, help="(%(default)s; published: 10000)")
    parser.add_argument("--model", type=Path, default=BUNDLED, help="network file (the bundled one)")


@torch.inference_mode()
def run(arguments: argparse.Namespace) -> int:
    """Print a line for each window, and return the exit code: 1 if the last one differs from the first.

    Raises:
        UserError: the value of a flag, or the network file, cannot be used.
        SettingError: too few long-term elements.
    """
    if arguments.warm_up < 0 or arguments.window < 1 or arguments.frames < arguments.warm_up + 2 * arguments.window:
        raise UserError("--frames must be at least --warm_up and two times --window, which is at least 1")
    height, width = arguments.size
    if not 16 <= height <= width or height % STRIDE or width % STRIDE:
        raise UserError(
            f"--size must be a height and a width, at least as large, in multiples of 16, not {height} {width}"
        )
    config = InferenceConfig.from_settings(max_long_term_elements=arguments.max_long_term_elements)
    network = XMem.from_checkpoint(arguments.model)
    core = InferenceCore(network, config)
    torch.set_num_threads(1)  # several wait for each other, which counts as processor time
    print(f"{hardware_name(torch.device('cpu'))}, one thread, {height}×{width}, {OBJECTS} objects")
    print("| frames | process | working | long-term | evicted | time a frame | processor time | over the yardstick's |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    windows: list[Figures] = []
    frames: list[Figures] = []
    first: Tensor | None = None
    for index, (rgb, labels) in enumerate(long_video(0, arguments.frames, height, width, OBJECTS)):
        image = normalise_image(torch.from_numpy(rgb.copy()))
        first = image if first is None else first
        wall, processor = time.perf_counter(), time.process_time()
        core.step(image, labels if index == 0 else None)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        yardstick = time.process_time()
        network.encode_key(first.unsqueeze(0))
        yardstick = time.process_time() - yardstick
        counts = core.memory.counts
        elements = counts.working_elements, counts.long_term_elements, counts.evicted
        frames.append(Figures(resident_bytes(), wall, processor, yardstick, *elements))
        if len(frames) == (arguments.window if windows or index >= arguments.warm_up else arguments.warm_up):
            name = "warm-up" if index < arguments.warm_up else f"from {index + 1 - len(frames)}"
            window = medians(frames)
            print(f"| {name} | {window.row()}", flush=True)
            if index >= arguments.warm_up:
                windows.append(window)
            frames.clear()
    problems = drift(windows[0], windows[-1])
    print(*problems or ["Memory and time a frame are as they were."], sep="\n")
    return 1 if problems else 0


def resident_bytes() -> int:
    """Return the memory that this process has now, in bytes."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize()


def medians(frames: list[Figures]) -> Figures:
    """Return the median of each figure."""
    return Figures(*(median(values) for values in zip(*(vars(frame).values() for frame in frames), strict=True)))


def drift(first: Figures, last: Figures) -> list[str]:
    """Return a line for each figure that has changed by more than the tolerance."""
    pairs = {
        "memory of the process": (first.resident, last.resident),
        "elements": (first.working + first.long_term, last.working + last.long_term),
        "time a frame": (first.ratio, last.ratio),
    }
    changes = {name: after / before - 1 for name, (before, after) in pairs.items()}
    return [f"{name} changed by {change:+.1%}" for name, change in changes.items() if abs(change) > TOLERANCE]
