"""Time the scoring of LVOS and VOST beside these benchmarks' own toolkits, on generated label maps of their sizes.

The toolkits are checkouts of github.com/LingyiHongfd/lvos-evaluation and github.com/TRI-ML/VOST; they run under a
Python of their own, with numpy<2.4, pandas, scipy, scikit-image, opencv-python, pillow and tqdm.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from dataset.label_map import write_label_map
from scoring.protocols import PROTOCOLS, lvos_with
from scripts.benchmarks.score import draw_objects
from util.errors import UserError
from util.machine import available_cores
from util.painting import davis_palette

OBJECTS = 2
SIZES = {"lvos": (720, 1280), "vost": (1080, 1920)}
VIDEOS = {"lvos": 4, "vost": 2}

LVOS_PROGRAM = """
import json, sys, time
from lvos.{module} import LVOSEvaluation
begun = time.perf_counter()
evaluation = LVOSEvaluation(lvos_root=sys.argv[1], task="semi-supervised", gt_set="valid"{processes})
_, seen, unseen = evaluation.evaluate(sys.argv[2])
means = [sum(part[name]["M"]) / len(part[name]["M"]) for part in (seen, unseen) for name in "JF"]
print("RESULT", json.dumps([time.perf_counter() - begun, sum(means) / 4]))
"""
VOST_PROGRAM = """
import json, sys, time
from source.evaluation import Evaluation
begun = time.perf_counter()
result = Evaluation(dataset_root=sys.argv[1], gt_set="val").evaluate(sys.argv[2])
print("RESULT", json.dumps([time.perf_counter() - begun, sum(result["J"]["M"]) / len(result["J"]["M"])]))
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this benchmark."""
    parser.add_argument("--lvos", type=Path, metavar="DIR", help="checkout of lvos-evaluation")
    parser.add_argument("--vost", type=Path, metavar="DIR", help="checkout of VOST")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="the toolkits' Python (%(default)s)")
    parser.add_argument("--frames", type=int, default=80, help="label maps of each video (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, in turn (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=available_cores(), help="default: one per core")


def run(arguments: argparse.Namespace) -> None:
    """Time each toolkit and this scoring in turn, and print the medians and the largest difference of the main figure.

    Raises:
        UserError: no toolkit is given, a flag is too small, or a toolkit fails.
    """
    if arguments.lvos is None and arguments.vost is None:
        raise UserError("give a toolkit's checkout with --lvos or --vost")
    for flag, least in (("frames", 12), ("repeats", 1), ("threads", 1)):
        if getattr(arguments, flag) < least:
            raise UserError(f"--{flag} must be at least {least}, not {getattr(arguments, flag)}")
    for name, time_both in (("lvos", time_lvos), ("vost", time_vost)):
        checkout = getattr(arguments, name)
        if checkout is None:
            continue
        with tempfile.TemporaryDirectory() as folder:
            ours, theirs, difference = time_both(Path(folder), checkout.resolve(), arguments)
        height, width = SIZES[name]
        frames = VIDEOS[name] * arguments.frames
        print(f"{name}: {frames} label maps of {width}×{height}, {OBJECTS} objects, {arguments.threads} threads")
        for title, times in {"this": ours, **theirs}.items():
            ratio = f"{median(times) / median(ours):7.2f}×" if title != "this" else ""
            print(f"  {title:<24}{median(times):8.2f} s {ratio}  ({', '.join(f'{value:.2f}' for value in times)})")
        print(f"  largest difference {difference:.1e}", flush=True)


Timing = tuple[list[float], dict[str, list[float]], float]


def time_lvos(folder: Path, checkout: Path, arguments: argparse.Namespace) -> Timing:
    """Return the seconds of this scoring and of the toolkit with one and several processes, and a difference."""
    names = [f"video{number:03d}" for number in range(VIDEOS["lvos"])]
    frames = [f"{1 + 5 * number:08d}" for number in range(arguments.frames)]
    write_videos(folder, folder / "valid" / "Annotations", names, frames, SIZES["lvos"])
    span = {"start": 1, "end": 1 + 5 * len(frames), "frame_nums": len(frames)}
    objects = {str(label): {"frame_range": span} for label in range(1, OBJECTS + 1)}
    (folder / "valid" / "valid_meta.json").write_text(
        json.dumps({"videos": {name: {"objects": objects} for name in names}}), encoding="utf-8"
    )
    for file, content in (("unseen_videos.txt", names[0]), ("unsupervised_videos.txt", "")):
        (folder / file).write_text(content, encoding="utf-8")
    protocol = lvos_with(folder / "unseen_videos.txt")
    programs = {
        "toolkit, 1 process": LVOS_PROGRAM.format(module="evaluation", processes=""),
        f"toolkit, {arguments.threads} processes": LVOS_PROGRAM.format(
            module="evaluation_mp", processes=f", mp_procs={arguments.threads}"
        ),
    }
    return in_turn(
        lambda: protocol.score(folder, folder / "pred", threads=arguments.threads).figures["J&F-Mean"],
        {
            title: lambda program=program: run_program(  # type: ignore[misc]
                arguments.python, program, [folder / "valid", folder / "pred"], checkout, folder
            )
            for title, program in programs.items()
        },
        arguments.repeats,
    )


def time_vost(folder: Path, checkout: Path, arguments: argparse.Namespace) -> Timing:
    """Return the seconds of this scoring, those of the toolkit, and the largest difference."""
    names = [f"{number}_cut_bread" for number in range(VIDEOS["vost"])]
    frames = [f"frame{6 * number:05d}" for number in range(arguments.frames)]
    write_videos(folder, folder / "Annotations", names, frames, SIZES["vost"])
    (folder / "JPEGImages").mkdir()
    (folder / "ImageSets").mkdir()
    (folder / "ImageSets" / "val.txt").write_text("\n".join(names), encoding="utf-8")
    return in_turn(
        lambda: PROTOCOLS["vost"].score(folder, folder / "pred", threads=arguments.threads).figures["J"],
        {
            "toolkit": lambda: run_program(
                arguments.python, VOST_PROGRAM, [folder, folder / "pred"], checkout / "evaluation", folder
            )
        },
        arguments.repeats,
    )


def in_turn(ours: Callable[[], float], theirs: dict[str, Callable[[], tuple[float, float]]], repeats: int) -> Timing:
    """Return the seconds of each, and the largest difference of their figures as fractions."""
    seconds: list[float] = []
    of_toolkits: dict[str, list[float]] = {title: [] for title in theirs}
    difference = 0.0
    for _ in range(repeats):
        begun = time.perf_counter()
        figure = ours()
        seconds.append(time.perf_counter() - begun)
        for title, run_toolkit in theirs.items():
            taken, value = run_toolkit()
            of_toolkits[title].append(taken)
            difference = max(difference, abs(value - figure / 100))
    return seconds, of_toolkits, difference


def run_program(python: Path, program: str, arguments: list[Path], checkout: Path, folder: Path) -> tuple[float, float]:
    """Return the seconds and the figure that a toolkit's program prints; its imports are not counted.

    Raises:
        UserError: it fails.
    """
    command = [str(python.absolute()), "-c", program, *map(str, arguments)]
    environment = {"PYTHONPATH": str(checkout), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    results = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not results:
        raise UserError(f"{checkout}: the toolkit failed: {done.stderr.strip().splitlines()[-1:]}")
    seconds, figure = json.loads(results[-1].removeprefix("RESULT "))
    return seconds, figure


def write_videos(folder: Path, truth: Path, names: list[str], frames: list[str], size: tuple[int, int]) -> None:
    """Write true and slightly different predicted label maps of objects that move and change shape."""
    rng = np.random.default_rng(0)
    for name in names:
        phases = rng.uniform(0, 2 * math.pi, (OBJECTS, 8))
        for position, frame in enumerate(frames):
            for place, error in ((truth, 0.0), (folder / "pred", 0.02)):
                path = place / name / f"{frame}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                moved = phases + rng.normal(0, error, phases.shape)
                write_label_map(path, draw_objects(moved, position / len(frames), size), davis_palette())
