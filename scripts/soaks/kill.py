"""Kill eval.py and train.py at random moments, resume them, and compare their end with that of undisturbed runs.

Each works on generated videos with a tiny network, gets SIGKILL, and is started again by the same command until it
ends; then over again in a fresh folder, until the kills are used up. A quarter of the kills fall anywhere in the time
that the undisturbed run took, a quarter after the program has begun to write, the others at the very moment at which a
file appears under its temporary or under its final name.

At the end all that follows has to be equal: the bytes of label maps and probabilities, and the overlays' numbers of
frames; in every checkpoint and network all tensors, the optimizer's state, counters and settings, bit for bit; the
figures in records, but for times and peaks of memory. After every kill the same holds for whatever has its final name,
and a video's folder has to be complete.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path, PurePath
from typing import Any

import cv2
import torch
from PIL import Image
from torch import Tensor

from dataset.label_map import write_label_map
from dataset.synthetic.long_video import long_video
from dataset.video_file import VideoFile
from model.checkpoint import save_network
from model.config import NetworkConfig
from training.initialisation import untrained_network
from util.errors import UserError, first_few
from util.provenance import REPOSITORY, differences

VIDEOS, FRAMES, SIZE, OBJECTS = 16, 6, (48, 64), 2
NETWORK = {
    "key_encoder": "resnet18", "encoder_width": 8, "key_dim": 8, "value_dim": 16, "hidden_dim": 8,
    "decoder_dims": (16, 16, 16), "sensory_update_dim": 8,
}  # fmt: skip
STAGE = {"batch_size": 2, "iterations": 6, "crop": 32, "num_frames": 3, "num_ref_frames": 2}
OF_EACH_RUN = {"FPS", "end_to_end_FPS", "network_seconds", "wall_seconds", "peak_process_bytes", "commit"}
"""Entries of records that differ from run to run."""
RECORDS = ".finished/"
"""The only hidden folder that is part of the results."""
BEST = "soak/soak_best.pth"
"""The best network so far, which changes: compared at the end alone."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this soak."""
    parser.add_argument("--kills", type=int, default=100, help="half of them for either program (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (%(default)s)")
    parser.add_argument("--work", type=Path, help="new folder for all files (a temporary one, kept after a difference)")
    parser.add_argument("--forked", action="store_true", help="fork instead of starting programs, to save the imports")


def run(arguments: argparse.Namespace) -> int:
    """Print what was killed, and a line for everything that differs; returns the exit code.

    Raises:
        UserError: the value of a flag cannot be used, or an undisturbed run fails.
    """
    if arguments.kills < 2:
        raise UserError(f"--kills must be at least 2, not {arguments.kills}")
    if arguments.work is not None and arguments.work.exists():
        raise UserError(f"--work {arguments.work} exists: choose a new folder")
    work = (arguments.work or Path(tempfile.mkdtemp(prefix="soak-"))).resolve()
    write_inputs(work / "inputs")
    rng = random.Random(arguments.seed)
    for program in ("eval", "train") if arguments.forked else ():
        import_module(program)
    shares = {"eval": arguments.kills // 2, "train": arguments.kills - arguments.kills // 2}
    have_survived = [Soak(program, work, rng, arguments.forked).survives(kills) for program, kills in shares.items()]
    if not all(have_survived):
        print(f"Everything is in {work}")
        return 1
    if arguments.work is None:
        shutil.rmtree(work)
    return 0


def write_inputs(folder: Path) -> None:
    """Write videos with a label map for every frame, and a network with random weights."""
    for video in range(VIDEOS):
        frames, masks = (folder / kind / f"video{video:02}" for kind in ("JPEGImages", "Annotations"))
        for place in (frames, masks):
            place.mkdir(parents=True)
        for index, (rgb, labels) in enumerate(long_video(video, FRAMES, *SIZE, OBJECTS, patterns=4)):
            Image.fromarray(rgb).save(frames / f"{index:05}.jpg")
            write_label_map(masks / f"{index:05}.png", labels)
    (folder / "one.txt").write_text("video00\n", encoding="utf-8")
    network = untrained_network(NetworkConfig.from_plain(NETWORK), seed=0)
    save_network(folder / "tiny.pth", network.config, network.state_dict())


def flags_of(program: str, inputs: Path, output: Path) -> list[str]:
    """Return the flags of a run that writes files as often as it can."""
    if program == "eval":
        words: list[object] = ["--overlay", "--save_scores", "--dataset", "G", "--size", -1]
        words += ["--generic_path", inputs, "--model", inputs / "tiny.pth", "--output", output]
    else:
        words = ["--no_pretrained", "--resume", "auto", "--stages", "sm", "--exp_id", "soak", "--num_workers", 2]
        words += ["--videos_root", inputs, "--output", output, "--keep_checkpoints", 99]
        words += ["--save_checkpoint_interval", 2, "--save_network_interval", 3, "--validation_interval", 1]
        words += ["--validation_dataset", "G", "--validation_root", inputs, "--validation_size", 32]
        words += ["--validation_subset", inputs / "one.txt"]
        for name, value in NETWORK.items():
            words += [f"--{name}", *(value if isinstance(value, tuple) else (value,))]
        for name, value in STAGE.items():
            words += [f"--ss_{name}", value, f"--sm_{name}", value]
    return ["--device", "cpu", *map(str, words)]


class Process:
    """A program in a process of its own: started by a new interpreter or, if `forked`, from a copy of this process."""

    def __init__(self, program: str, flags: list[str], log: Path, forked: bool) -> None:
        self.code: int | None = None
        """The exit code, negative for a signal, once it has ended."""
        self._pid = os.fork()
        if self._pid:
            return
        code = 70
        try:
            handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for stream in (1, 2):
                os.dup2(handle, stream)
            if not forked:
                command = [sys.executable, str(REPOSITORY / f"{program}.py"), *flags]
                os.execve(sys.executable, command, os.environ | {"OMP_NUM_THREADS": "1"})
            torch.set_num_threads(1)
            cv2.setNumThreads(0)  # threads are not forked
            code = import_module(program).main(flags)
        except BaseException:
            traceback.print_exc()
        os._exit(code)

    def runs_until(self, condition: Callable[[], bool]) -> bool:
        """Wait until the condition holds, or the program ends; return whether it still runs."""
        while self.code is None and not condition():
            time.sleep(0.001)
            ended, status = os.waitpid(self._pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if ended else None
        return self.code is None

    def kill(self) -> bool:
        """Kill the program; return False if it has ended by itself."""
        if self.code is None:
            os.kill(self._pid, signal.SIGKILL)
        self.runs_until(lambda: False)
        return self.code == -signal.SIGKILL


class Soak:
    """A program, what its undisturbed run left, and the runs that are killed."""

    def __init__(self, program: str, work: Path, rng: random.Random, forked: bool) -> None:
        self.program, self.inputs, self.folder = program, work / "inputs", work / program
        self.rng, self.forked = rng, forked
        begin = time.monotonic()
        process = self.start("undisturbed")
        process.runs_until(lambda: bool(names_in(self.folder / "undisturbed")))
        at_work = time.monotonic()
        if process.runs_until(lambda: False) or process.code:
            raise UserError(f"{program}.py failed: {self.last_words('undisturbed')}")
        self.seconds, self.seconds_at_work = time.monotonic() - begin, time.monotonic() - at_work
        self.expected = results(self.folder / "undisturbed")
        print(f"{program}.py undisturbed: {self.seconds:.1f} s, {self.seconds_at_work:.1f} s of it at work", flush=True)

    def start(self, run: str) -> Process:
        """Start the program in the folder of a run, or resume it."""
        (self.folder / run).mkdir(parents=True, exist_ok=True)
        flags = flags_of(self.program, self.inputs, self.folder / run)
        return Process(self.program, flags, self.folder / f"{run}.log", self.forked)

    def last_words(self, run: str) -> str:
        """Return the last line of a run's log."""
        return (self.folder / f"{run}.log").read_text(encoding="utf-8").splitlines()[-1]

    def survives(self, kills: int) -> bool:
        """Kill runs until the kills are used up; return whether all came to the undisturbed run's end."""
        moments: Counter[str] = Counter()
        runs = differing = 0
        while moments.total() < kills:
            problems = self.problems_of(f"run{runs}", kills, moments)
            for problem in problems:
                print(f"{self.program}.py, run{runs}: {problem}", flush=True)
            runs, differing = runs + 1, differing + bool(problems)
        places = ", ".join(f"{count} {moment}" for moment, count in moments.items())
        print(f"{self.program}.py: {moments.total()} kills ({places}), {runs} runs, of which {differing} differ")
        return not differing

    def problems_of(self, run: str, kills: int, moments: Counter[str]) -> list[str]:
        """Kill and resume one run until it ends, or something differs; return what differs."""
        folder = self.folder / run
        while True:
            before = names_in(folder)
            process = self.start(run)
            if moments.total() < kills:
                self.wait_for_a_moment(process, folder)
                if process.kill():
                    new = names_in(folder) - before
                    is_half = any(".partial" in name for name in new)
                    moments["while writing" if is_half else "at work" if new else "before any file"] += 1
                    if problems := problems_in(folder, self.expected, ended=False):
                        return problems
                    continue
            process.runs_until(lambda: False)
            if process.code:
                return [f"exit code {process.code}: {self.last_words(run)}"]
            return problems_in(folder, self.expected)

    def wait_for_a_moment(self, process: Process, folder: Path) -> None:
        """Wait for a random moment, or the program's end."""

        def wait(seconds: float) -> None:
            end = time.monotonic() + seconds
            process.runs_until(lambda: time.monotonic() > end)

        kind = self.rng.choice(("anywhere", "at work", "temporary name", "final name"))
        if kind == "anywhere":
            wait(self.rng.uniform(0, self.seconds))
            return
        before = names_in(folder)
        process.runs_until(lambda: names_in(folder) != before)
        wait(self.rng.uniform(0, self.seconds_at_work))
        if kind != "at work":
            now, is_named = names_in(folder), is_visible if kind == "final name" else lambda name: ".partial" in name
            process.runs_until(lambda: any(is_named(name) for name in names_in(folder) - now))


def problems_in(folder: Path, expected: Mapping[str, dict[str, Any]], ended: bool = True) -> list[str]:
    """Return how a run's files differ from the undisturbed run's: all of them, or those that are there by now."""
    found = results(folder)
    whole = {str(PurePath(name).parent) for name in found if name.endswith((".png", ".npz"))}
    missing = [name for name in expected.keys() - found.keys() if ended or str(PurePath(name).parent) in whole]
    if not ended and "unreadable" not in found.get(BEST, {}):
        found.pop(BEST, None)
    different = differences({name: expected.get(name) or {} for name in found}, found)
    hidden = [name for name in names_in(folder) if not is_visible(name.removeprefix(RECORDS))]
    problems = {"missing": missing, "different": different, "left over": hidden if ended else []}
    return [f"{kind}: {first_few(sorted(what), 3)}" for kind, what in problems.items() if what]


def names_in(folder: Path) -> set[str]:
    """Return the names of all files below a folder, relative to it."""
    return {os.path.relpath(os.path.join(place, name), folder) for place, _, names in os.walk(folder) for name in names}


def is_visible(name: str) -> bool:
    """Return whether neither a file nor a folder that it lies in is hidden."""
    return not any(part.startswith(".") for part in PurePath(name).parts)


def results(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the contents of all files that follow from the settings alone, by their names."""
    names = [name for name in names_in(folder) if is_visible(name.removeprefix(RECORDS))]
    of_each_start = ("soak/run_", "soak/tensorboard/", "soak/curves.")  # they hold times
    paths = {name: folder / name for name in names if not name.startswith(of_each_start)}
    return {name: content(path, path.stat().st_mtime_ns) for name, path in paths.items()}


@cache
def content(path: Path, written_at: int) -> dict[str, Any]:
    """Return what a file holds, with digests for tensors and bytes; read once each time it was written."""
    try:
        match path.suffix:
            case ".pth":
                return plain(torch.load(path, map_location="cpu", weights_only=True))
            case ".mp4":  # encoders with threads do not give the same bytes each time
                return {"frames": sum(1 for _ in VideoFile(path))}
            case ".json":
                return plain(json.loads(path.read_text(encoding="utf-8")))
            case _:
                return {"bytes": hashlib.sha256(path.read_bytes()).hexdigest()}
    except Exception as error:  # whatever a half file leads to
        return {"unreadable": str(error)}


def plain(value: Any) -> Any:
    """Return a value with digests instead of tensors, and without what differs from run to run."""
    match value:
        case Tensor():
            digest = hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
            return f"{value.dtype} {tuple(value.shape)} {digest}"
        case dict():
            return {str(name): plain(each) for name, each in value.items() if name not in OF_EACH_RUN}
        case list() | tuple():
            return [plain(each) for each in value]
    return value
