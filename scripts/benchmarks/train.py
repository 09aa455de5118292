"""Training on synthetic sequences: samples per second, the share of time waiting for data, and peak memory.

Each network is trained in a process of its own, so that the peak is its own. Iterations before the timed ones use up
what the data workers have made while the process started.
"""

import argparse
import multiprocessing
import platform
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from statistics import median

import torch

from evaluation.networks import BUNDLED
from model.checkpoint import read_checkpoint
from model.config import NetworkConfig
from model.network import STRIDE
from scripts.benchmarks.read import synchronise
from training.batches import load_batches
from training.config import STAGES, OptimisationConfig, StageConfig
from training.initialisation import untrained_network
from training.sources import TrainingData, open_sources
from training.step import Stepper
from util.device import available_cores, choose_device, device_name, peak_device_bytes, peak_process_bytes, reset_peak
from util.errors import UserError
from util.processes import Processes

NETWORKS = {"base": NetworkConfig, "bundled": lambda: read_checkpoint(BUNDLED).network_config}
PUBLISHED = STAGES["3"]
SIZES = {
    "cuda": {
        "batch_size": PUBLISHED.batch_size, "frames": PUBLISHED.num_frames, "crop": PUBLISHED.crop,
        "objects": PUBLISHED.max_objects, "iterations": 30, "workers": 16,
    },
    "cpu": {"batch_size": 2, "frames": 4, "crop": 128, "objects": 2, "iterations": 6, "workers": 2},
}  # fmt: skip
"""Where there is no GPU, such that a run ends in about a minute."""
LEAST = {"batch_size": 1, "frames": 2, "crop": STRIDE, "objects": 1, "iterations": 1, "workers": 0}
SEED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of this benchmark."""
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=[*NETWORKS], help="(all of them)")
    for name in LEAST:
        on = ", ".join(f"{size[name]} on {kind}" for kind, size in SIZES.items())
        parser.add_argument(f"--{name}", type=int, help=f"({on})")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:N, mps or cpu (%(default)s)")
    parser.add_argument("--amp", action="store_true", help="mixed precision also elsewhere than on CUDA")
    parser.add_argument("--no_amp", action="store_true", help="full precision also on CUDA")
    parser.add_argument("--compile", action="store_true", help="torch.compile")
    parser.add_argument("--checkpoint_activations", action="store_true", help="less memory, more time")


@dataclass(frozen=True)
class Task:
    """What one process measures."""

    network: NetworkConfig
    stage: StageConfig
    optimisation: OptimisationConfig
    device: torch.device
    workers: int
    warm_up: int
    """Of the stage's iterations, those that are not timed."""


@dataclass(frozen=True)
class Measurement:
    """What it found."""

    seconds: float
    """Of an iteration, waiting included: the median."""
    share_waiting: float
    """Of the time of all iterations."""
    peak_process_bytes: int
    peak_device_bytes: int | None
    skipped: int
    """Iterations without a step, since something was not finite."""


def run(arguments: argparse.Namespace) -> None:
    """Print a table with a line for each network.

    Raises:
        UserError: there is no such device, or a flag is too small or too odd.
    """
    device = choose_device(arguments.device)
    sizes = dict(SIZES["cuda" if device.type == "cuda" else "cpu"])
    sizes["workers"] = min(sizes["workers"], available_cores())
    sizes |= {name: getattr(arguments, name) for name in LEAST if getattr(arguments, name) is not None}
    for name, least in LEAST.items():
        if sizes[name] < least:
            raise UserError(f"--{name} must be at least {least}, not {sizes[name]}")
    if sizes["crop"] % STRIDE:
        raise UserError(f"--crop must be a multiple of {STRIDE}, not {sizes['crop']}")
    warm_up = 2 * sizes["workers"] + 2  # every worker makes two batches ahead
    stage = replace(
        PUBLISHED, data="synthetic sequences", batch_size=sizes["batch_size"], num_frames=sizes["frames"],
        crop=sizes["crop"], max_objects=sizes["objects"], iterations=warm_up + sizes["iterations"], finetune=0,
        start_warm=1, end_warm=2,
    )  # fmt: skip
    optimisation = OptimisationConfig(
        mixed_precision=arguments.amp or (device.type == "cuda" and not arguments.no_amp),
        compile=arguments.compile,
        checkpoint_activations=arguments.checkpoint_activations,
    )
    name = device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU"
    settings = [
        f"{stage.batch_size} samples of {stage.num_frames} frames of {stage.crop}², {stage.max_objects} objects",
        f"{sizes['workers']} data workers",
        "mixed precision" if optimisation.mixed_precision else "float32",
        *(flag for flag in ("compile", "checkpoint_activations") if getattr(optimisation, flag)),
    ]
    print(f"{name}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}; {', '.join(settings)}")
    print("| network | samples/s | s an iteration | waiting for data | peak of the process | peak on the device |")
    print("|---|---:|---:|---:|---:|---:|")
    for network in arguments.networks:
        task = Task(NETWORKS[network](), stage, optimisation, device, sizes["workers"], warm_up)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            found = process.submit(measure, task).result()
        on_device = "–" if found.peak_device_bytes is None else f"{found.peak_device_bytes / 2**30:.2f} GiB"
        speed = f"{stage.batch_size / found.seconds:.2f} | {found.seconds:.2f} | {found.share_waiting:.0%}"
        note = f" ({found.skipped} iterations not finite)" if found.skipped else ""
        print(f"| {network} | {speed} | {found.peak_process_bytes / 2**30:.2f} GiB | {on_device} |{note}", flush=True)


def measure(task: Task) -> Measurement:
    """Train for a few iterations; in a process of its own."""
    stage, device = task.stage, choose_device(str(task.device))
    stepper = Stepper(untrained_network(task.network, SEED).to(device), stage, task.optimisation, Processes())
    sources = open_sources(stage, TrainingData(), SEED)
    batches = iter(
        load_batches(stage, sources, task.optimisation, SEED, range(stage.batch_size), begin=0, workers=task.workers)
    )
    waited: list[float] = []
    seconds: list[float] = []
    skipped = 0
    for iteration in range(stage.total_iterations):
        if iteration == task.warm_up:
            reset_peak(device)
        begun = time.perf_counter()
        batch, _ = next(batches)
        ready = time.perf_counter()
        report = stepper.step(batch, iteration)
        synchronise(device)
        if iteration >= task.warm_up:
            waited.append(ready - begun)
            seconds.append(time.perf_counter() - begun)
            skipped += report.skipped
    return Measurement(
        median(seconds), sum(waited) / sum(seconds), peak_process_bytes(), peak_device_bytes(device), skipped
    )
