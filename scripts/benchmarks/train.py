"""Training: samples that a core makes in a second; and on synthetic sequences samples per second, waiting, memory.

Each network is trained in a process of its own, so that the peak is its own. Iterations before the timed ones use up
what the data workers have made while the process started.
"""

import argparse
import multiprocessing
import platform
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

import cv2
import torch

from evaluation.networks import BUNDLED
from model.checkpoint import read_checkpoint
from model.config import NetworkConfig
from scripts.benchmarks.read import synchronise
from training.batches import load_batches
from training.config import STAGES, Data, DataConfig, OptimisationConfig, StageConfig
from training.data import open_stage_data
from training.initialisation import untrained_network
from training.step import Stepper
from util.device import choose_device, device_name, peak_device_bytes, reset_peak
from util.errors import SettingError, UserError
from util.machine import available_cores, peak_process_bytes
from util.processes import Processes

NETWORKS = {"base": NetworkConfig, "bundled": lambda: read_checkpoint(BUNDLED).network_config}
SYNTHETIC = replace(STAGES["3"], data="synthetic sequences", finetune=0, start_warm=1, end_warm=2)
STAGE = {
    "cuda": replace(SYNTHETIC, iterations=30),
    "cpu": replace(SYNTHETIC, iterations=6, batch_size=2, num_frames=4, crop=128, max_objects=2),
}
"""By device: clips like those of stage 3, or smaller ones, so that a CPU takes about a minute."""
FIELDS = {
    "batch_size": "batch_size", "frames": "num_frames", "crop": "crop", "objects": "max_objects",
    "iterations": "iterations",
}  # fmt: skip
"""Flags, and the fields of a stage that they set."""
SEED = 1
SAMPLES, MAX_JUMP = 40, 10
"""Samples made without training, and the most frames between neighbours of a clip."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this benchmark."""
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=[*NETWORKS], help="(all)")
    for flag, field in FIELDS.items():
        on = ", ".join(f"{getattr(stage, field)} on {kind}" for kind, stage in STAGE.items())
        parser.add_argument(f"--{flag}", type=int, help=f"({on})")
    parser.add_argument("--videos_root", type=Path, help="measure how fast clips of these videos are made, too")
    parser.add_argument("--static_root", type=Path, help="and clips of these images")
    parser.add_argument("--workers", type=int, help="processes that make batches (16 on cuda, 2 on cpu)")
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:N, mps or cpu (%(default)s)")
    parser.add_argument("--amp", action="store_true", help="mixed precision also elsewhere than on CUDA")
    parser.add_argument("--no_amp", action="store_true", help="full precision also on CUDA")
    parser.add_argument("--compile", action="store_true", help="torch.compile")
    parser.add_argument("--checkpoint_activations", action="store_true", help="less memory, more time")


def run(arguments: argparse.Namespace) -> None:
    """Print a table with a line for each network.

    Raises:
        UserError: the value of a flag is out of its range.
        SettingError: there is no such device here.
    """
    device = choose_device(arguments.device)
    on_gpu = device.type == "cuda"
    stage = STAGE["cuda" if on_gpu else "cpu"]
    workers = min(16 if on_gpu else 2, available_cores()) if arguments.workers is None else arguments.workers
    if workers < 0:
        raise UserError(f"--workers must not be negative, but is {workers}")
    warm_up = 2 * workers + 2  # every worker makes two batches ahead
    given = {field: getattr(arguments, flag) for flag, field in FIELDS.items() if getattr(arguments, flag) is not None}
    try:
        stage = replace(stage, **given)
    except SettingError as error:
        flag = next(flag for flag, field in FIELDS.items() if error.field.endswith(f": {field}"))
        raise UserError(f"--{flag} {error.reason}") from error
    stage = replace(stage, iterations=warm_up + stage.iterations)
    optimisation = OptimisationConfig(
        mixed_precision=arguments.amp or (on_gpu and not arguments.no_amp),
        compile=arguments.compile,
        checkpoint_activations=arguments.checkpoint_activations,
    )
    name = device_name(device) if on_gpu else f"{platform.machine()} CPU"
    settings = [
        f"{stage.batch_size} samples of {stage.num_frames} frames of {stage.crop}², {stage.max_objects} objects",
        f"{workers} data workers",
        "mixed precision" if optimisation.mixed_precision else "float32",
        *(flag for flag in ("compile", "checkpoint_activations") if getattr(arguments, flag)),
    ]
    print(f"{name}, {torch.get_num_threads()} threads, PyTorch {torch.__version__}; {', '.join(settings)}")
    print("| data | samples per second and core |")
    print("|---|---:|")
    kinds: dict[str, Data] = {"videos_root": "synthetic and own videos", "static_root": "static images"}
    with one_thread():
        print(f"| synthetic sequences | {samples_per_core_second(stage, DataConfig()):.2f} |", flush=True)
        for field, kind in kinds.items():
            if (root := getattr(arguments, field)) is not None:
                data = DataConfig(videos_share=1.0, **{field: root})
                print(f"| {root} | {samples_per_core_second(replace(stage, data=kind), data):.2f} |", flush=True)
    print()
    print("| network | samples/s | s an iteration | waiting for data | peak of the process | peak on the device |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in arguments.networks:
        task = NETWORKS[name](), stage, optimisation, arguments.device, workers, warm_up
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            print(f"| {name} | {process.submit(measure, *task).result()}", flush=True)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let this process work with one thread, as those that make batches do."""
    threads, of_opencv = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(of_opencv)


def samples_per_core_second(stage: StageConfig, data: DataConfig) -> float:
    """Return how many samples of a stage a core makes in a second.

    Raises:
        UserError: a folder is missing, or its files are not what they should be.
    """
    source = open_stage_data(stage, data, SEED).main
    source.sample(0, MAX_JUMP)
    begin = time.process_time()
    for number in range(1, SAMPLES + 1):
        source.sample(number, MAX_JUMP)
    return SAMPLES / (time.process_time() - begin)


def measure(
    config: NetworkConfig,
    stage: StageConfig,
    optimisation: OptimisationConfig,
    device_name: str,
    workers: int,
    warm_up: int,
) -> str:
    """Train for a few iterations, of which the first `warm_up` are not timed; return a line of the table."""
    device = choose_device(device_name)
    network = untrained_network(config, SEED).to(device)
    stepper = Stepper(network, stage=stage, optimisation=optimisation, processes=Processes())
    batches = load_batches(
        stage, open_stage_data(stage, DataConfig(), SEED), seed=SEED, share=range(stage.batch_size),
        optimisation=optimisation, workers=workers,
    )  # fmt: skip
    waited: list[float] = []
    seconds: list[float] = []
    skipped = 0
    for iteration in range(stage.total_iterations):
        if iteration == warm_up:
            reset_peak(device)
        begin = time.perf_counter()
        batch, _ = next(batches)
        ready = time.perf_counter()
        report = stepper.step(batch, iteration)
        synchronise(device)
        if iteration >= warm_up:
            waited.append(ready - begin)
            seconds.append(time.perf_counter() - begin)
            skipped += report.figures().skipped
    peak = peak_device_bytes(device)
    on_device = "–" if peak is None else f"{peak / 2**30:.2f} GiB"
    speed = f"{stage.batch_size / median(seconds):.2f} | {median(seconds):.2f} | {sum(waited) / sum(seconds):.0%}"
    note = f" ({skipped} iterations not finite)" if skipped else ""
    return f"{speed} | {peak_process_bytes() / 2**30:.2f} GiB | {on_device} |{note}"
