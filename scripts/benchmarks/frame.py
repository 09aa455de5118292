"""A frame of the per-frame loop, part by part, at the published widths: network as loaded, and prepared for inference.

Long-term memory is filled with made-up elements, working memory by the frames themselves. The limit is the time that
the frame's multiplications would take at the speed of one large matrix product, if none were saved.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from inference.config import InferenceConfig
from inference.inference_core import InferenceCore
from model.cuda_graphs import GraphedNetwork, require_cuda
from model.memory_reading import memory_rows
from model.network import XMem
from scripts.benchmarks.read import synchronise
from util.device import choose_device, half_precision, hardware_name, peak_device_bytes, reset_peak
from util.errors import UserError
from util.figures import require_matplotlib
from util.files import writing
from util.machine import peak_process_bytes

PARTS = {"encode_key": "key", "read": "read", "segment": "decode", "encode_value": "value", "insert": "store"}
"""Method → the part of a frame that it is."""
MATRIX = 2048
MEMORY_EVERY = 5
"""Frames from one memory frame to the next, as published."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this benchmark."""
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 3, 5], help="numbers of objects")
    parser.add_argument("--elements", type=int, nargs="+", default=[0, 9000], help="elements of long-term memory")
    parser.add_argument("--size", type=int, nargs=2, default=[480, 864], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--frames", type=int, default=10, help="timed frames of either network, in turns of five")
    parser.add_argument("--amp", action="store_true", help="mixed precision")
    parser.add_argument("--graphs", action="store_true", help="also as CUDA graphs")
    parser.add_argument("--device", default="cpu", help="auto, cuda, cuda:N, mps or cpu")
    parser.add_argument("--figure", type=Path, help="also draw stacked bars into this file (needs matplotlib)")


class TimedLoop:
    """The per-frame loop over made-up frames, with the seconds that each part of a frame takes."""

    def __init__(self, network: XMem, objects: int, elements: int, size: tuple[int, int], amp: bool) -> None:
        self.device = network.device
        self.amp = amp
        self.core = InferenceCore(copy(network), InferenceConfig())  # whose methods are replaced below
        generator = torch.Generator().manual_seed(0)
        self.frames = [torch.randn(3, *size, generator=generator).to(self.device) for _ in range(5)]
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.count = 0
        labels = torch.zeros(size, dtype=torch.long)
        for label in range(1, objects + 1):  # stripes
            labels[size[0] // 4 : 3 * size[0] // 4, label * size[1] // (objects + 2) :] = label
        with self.precision():
            self.core.step(self.frames[0], labels.to(self.device))
        config = network.config
        key = torch.randn(elements, config.key_dim, generator=generator).to(self.device)
        value = torch.randn(objects, elements, config.value_dim, generator=generator).to(self.device)
        if elements:
            self.core.memory.long_term.append_prototypes(
                dict(zip(self.core.objects, value, strict=True)),
                (0, 0),
                memory_row=memory_rows(key, torch.ones_like(key[:, :1])),
                time=torch.zeros(elements, dtype=torch.long, device=self.device),
            )
        for owner in (self.core.network, self.core.memory):
            for method in PARTS:
                if hasattr(owner, method):
                    setattr(owner, method, self._timed(PARTS[method], getattr(owner, method)))

    def precision(self) -> torch.autocast:
        """Return the context in which frames are computed."""
        return torch.autocast(self.device.type, dtype=half_precision(self.device), enabled=self.amp)

    def _timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            with self._taking(part):
                return function(*arguments)

        return timed

    @contextmanager
    def _taking(self, part: str) -> Iterator[None]:
        synchronise(self.device)
        begun = time.perf_counter()
        yield
        synchronise(self.device)
        self.seconds[part].append(time.perf_counter() - begun)

    def play(self, frames: int) -> None:
        """Segment so many frames."""
        for _ in range(frames):
            self.count += 1
            with self._taking("frame"), self.precision():
                self.core.step(self.frames[self.count % len(self.frames)])

    def milliseconds(self) -> dict[str, float]:
        """Return medians of each part's time in milliseconds, those of memory frames divided by five."""
        shares = {"value": 1 / MEMORY_EVERY, "store": 1 / MEMORY_EVERY}
        return {part: 1e3 * median(taken) * shares.get(part, 1) for part, taken in self.seconds.items()}


@torch.inference_mode()
def run(arguments: argparse.Namespace) -> None:
    """Print a table of medians, and draw them if wanted.

    Raises:
        UserError: a value out of its range.
    """
    if min(*arguments.objects, *arguments.size, arguments.frames) < 1 or min(arguments.elements) < 0:
        raise UserError("--objects, --size and --frames must be at least 1, --elements at least 0")
    if arguments.figure:
        require_matplotlib()
    device = choose_device(arguments.device)
    if arguments.graphs:
        require_cuda(device, "graphs")
    torch.manual_seed(0)
    network = XMem().to(device).eval().requires_grad_(False)
    speed = matrix_speed(device)
    print(f"{hardware_name(device)}, {torch.get_num_threads()} threads; matrix product: {speed / 1e9:.0f} GFLOP/s")
    parts = list(dict.fromkeys(PARTS.values()))
    print(f"| objects | elements | network | {' | '.join(parts)} | frame | FPS | limit | peak so far |")
    print("|---:|---:|---|" + "---:|" * (len(parts) + 4))
    bars: dict[str, dict[str, float]] = {}
    for objects in arguments.objects:
        for elements in arguments.elements:
            networks = {"as loaded": network, "prepared": network.for_inference(arguments.amp)}
            if arguments.graphs:
                networks["graphs"] = GraphedNetwork(network.for_inference(arguments.amp))
            loops = {
                name: TimedLoop(each, objects, elements, tuple(arguments.size), arguments.amp)
                for name, each in networks.items()
            }
            for loop in loops.values():
                loop.play(2)
                loop.seconds.clear()
            operations = floating_point_operations(loops["as loaded"])
            loops["as loaded"].seconds.clear()
            reset_peak(device)
            for _ in range(max(1, arguments.frames // 5)):
                for loop in loops.values():
                    loop.play(5)
            peak = (peak_device_bytes(device) or peak_process_bytes()) / 2**20
            for name, loop in loops.items():
                taken = loop.milliseconds()
                bars[f"{objects} objects, {elements} elements, {name}"] = {part: taken.get(part, 0) for part in parts}
                columns = " | ".join(f"{taken.get(part, 0):.0f}" for part in parts)
                frame = sum(loop.seconds["frame"]) / len(loop.seconds["frame"])
                limit = f"{1e3 * operations / speed:.0f} | {peak:.0f} MiB"
                line = (
                    f"| {objects} | {elements} | {name} | {columns} | {1e3 * frame:.0f} | {1 / frame:.2f} | {limit} |"
                )
                print(line, flush=True)
    if arguments.figure:
        draw(bars, arguments.figure)


def matrix_speed(device: torch.device) -> float:
    """Return the floating-point operations per second of a large matrix product in float32."""
    matrix = torch.randn(MATRIX, MATRIX, device=device)
    best = float("inf")
    for _ in range(5):
        synchronise(device)
        begun = time.perf_counter()
        matrix @ matrix
        synchronise(device)
        best = min(best, time.perf_counter() - begun)
    return 2 * MATRIX**3 / best


def floating_point_operations(loop: TimedLoop) -> float:
    """Return the operations of convolutions and matrix products in a frame, the mean of five."""
    with FlopCounterMode(display=False) as counter:
        loop.play(5)
    return counter.get_total_flops() / 5


def draw(bars: dict[str, dict[str, float]], path: Path) -> None:
    """Draw the parts of a frame as stacked bars."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.5 + 0.4 * len(bars)), layout="constrained")
    axes = figure.add_subplot()
    left = [0.0] * len(bars)
    for part in next(iter(bars.values())):
        widths = [each[part] for each in bars.values()]
        axes.barh(list(bars), widths, left=left, label=part)
        left = [before + width for before, width in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds a frame (parts of memory frames divided by five)")
    axes.legend(ncols=len(PARTS), frameon=False, loc="upper center", bbox_to_anchor=(0.4, -0.15))
    with writing(path):
        figure.savefig(path, dpi=150)
