"""Train the bundled network again, from nothing to a network file: its recipe, in one command.

    python -m scripts.train_small --davis_root ../DAVIS/2016 [--output saves] [--processes 2]
    python -m scripts.train_small --variants scaling-both scaling-neither

The second makes networks that the paper's ablations want, of the bundled one. A run that was interrupted goes on with
the same command. See docs/bundled_network.md and docs/reproduce.md.
"""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dataset.training_sets import own_videos
from evaluation.networks import BUNDLED
from model.checkpoint import read_checkpoint, save_network
from util.errors import UserError
from util.provenance import REPOSITORY

NOT_DONE, INTERRUPTED = 1, 130  # exit codes

TRAINING_VIDEOS = (
    "bmx-trees", "breakdance", "camel", "dance-twirl", "horsejump-high", "libby", "motocross-jump", "soapbox",
)  # fmt: skip
"""Of DAVIS's validation set. car-roundabout and goat are held out to choose by, and car-shadow, cows, dog and
drift-straight to measure with: none of these six is trained on."""

NETWORK = (
    "--key_encoder resnet18 --encoder_width 32 --key_dim 32 --value_dim 128 --hidden_dim 32 --decoder_dims 64 64 32 "
    "--sensory_update_dim 64"
)

INTENDED_SIZE = 320
"""Shorter side of the frames that it is meant for; recorded in the file."""


@dataclass(frozen=True)
class Phase:
    """One run of train.py, with one stage; each begins with the network of the one before, or the mean of several."""

    name: str
    stage: str
    iterations: int
    batch_size: int
    flags: str
    begins_with: int = 1
    """The networks of so many phases before are averaged, weight by weight."""

    def arguments(self) -> list[str]:
        """Of train.py, without what depends on the machine."""
        of_stage = {"iterations": self.iterations, "batch_size": self.batch_size}
        return [
            *("--stages", self.stage, "--exp_id", self.name, "--no_pretrained", "--max_gradient_norm", "1"),
            *(word for name, value in of_stage.items() for word in (f"--s{self.stage}_{name}", str(value))),
            *self.flags.split(),
        ]

    def network(self, output: Path) -> Path:
        """The network file that it ends with."""
        return output / self.name / f"{self.name}_{self.stage}_{self.iterations:08}.pth"


VIDEOS = "--videos_share 0.6"
TWO_OBJECTS = "--videos_smallest_crop 0.1 --sm_crop 192 --sm_num_frames 5 --sm_num_ref_frames 3 --sm_max_objects 2"
PHASES = (
    Phase(
        "small_synthetic", "s", 1000, 16,
        f"{NETWORK} --ss_crop 128 --ss_num_frames 3 --ss_max_objects 1 --ss_lr 5e-4 --ss_steps 900",
    ),
    Phase(
        "small_mixed", "m", 1000, 16,
        f"{VIDEOS} --videos_smallest_crop 0.15 --sm_crop 160 --sm_num_frames 4 --sm_max_objects 1 "
        "--sm_lr 5e-4 --sm_steps 900",
    ),
    Phase(
        "small_longer", "m", 450, 8,
        f"{VIDEOS} {TWO_OBJECTS} --sm_lr 2e-4 --sm_steps 350",
    ),
    Phase(
        "small_final", "m", 1100, 8,
        f"--videos_share 0.45 {TWO_OBJECTS} --sm_lr 3e-4 --sm_steps 800 1020",
    ),
    Phase(
        "small_hidden", "m", 1000, 8,
        f"--videos_share 0.35 {TWO_OBJECTS} --sm_lr 3e-4 --sm_steps 650 900 --sm_start_warm 1 --sm_end_warm 600",
    ),
    Phase(
        "small_next", "m", 2300, 8,
        f"--videos_share 0.5 {TWO_OBJECTS} --sm_lr 3e-4 --sm_steps 1750 2150 --sm_start_warm 1 --sm_end_warm 4000 "
        "--seed 7",
        begins_with=2,
    ),
)  # fmt: skip

VARIANTS = {
    "no-sensory": "--hidden_dim 0",
    "scaling-both": "",
    "scaling-shrinkage": "--no_selection",
    "scaling-selection": "--no_shrinkage",
    "scaling-neither": "--no_shrinkage --no_selection",
}
"""Networks of tables 4 and 5, by their suffixes: the bundled one, trained a little further without some part of it. The
second is what the last three are compared with."""
SHORT = (
    "--videos_share 0.45 --videos_smallest_crop 0.1 --sm_crop 160 --sm_num_frames 3 "
    "--sm_max_objects 1 --sm_lr 2e-4 --sm_steps 160"
)


def variant_phase(suffix: str) -> Phase:
    """The short run that makes the network of this suffix."""
    return Phase(f"small_{suffix}", "m", 200, 6, f"{SHORT} {VARIANTS[suffix]}")


def make_parser() -> argparse.ArgumentParser:
    """The flags of this program."""
    parser = argparse.ArgumentParser(prog="python -m scripts.train_small", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--davis_root", type=Path, default=Path("../DAVIS/2016"), help="DAVIS 2016 (%(default)s)")
    add("--output", type=Path, default=Path("saves"), help="folder of the runs' folders (%(default)s)")
    add("--network", type=Path, help="file to write at the end (OUTPUT/small.pth)")
    add("--variants", nargs="+", choices=VARIANTS, help="make these of the bundled network: OUTPUT/XMem-small-NAME.pth")
    add("--processes", type=int, default=2, help="that train together (%(default)s)")
    return parser


def check(phases: Sequence[Phase], arguments: argparse.Namespace, subset: Path) -> None:
    """See now that the last of the phases can begin, which is hours away.

    Raises:
        UserError: a video is missing, or a batch does not divide over the processes.
    """
    try:
        own_videos(arguments.davis_root, subset)
    except UserError as error:
        raise UserError(f"--davis_root: {error}") from error
    for phase in phases:
        if arguments.processes < 1 or phase.batch_size % arguments.processes:
            raise UserError(
                f"--processes {arguments.processes}: the batch of {phase.batch_size} of {phase.name} does not divide"
            )


def train(phase: Phase, before: Path | None, subset: Path, arguments: argparse.Namespace) -> int:
    """Run a phase, or what is left of it; returns the exit code.

    Raises:
        KeyboardInterrupt: it was to stop, by SIGINT or SIGTERM, and has.
    """
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={arguments.processes}"),
        *(str(REPOSITORY / "train.py"), *phase.arguments(), "--resume", "auto", "--output", str(arguments.output)),
        *("--num_workers", "2", "--log_text_interval", "50", "--save_checkpoint_minutes", "5"),
    ]
    if phase.stage == "m":
        command += ["--videos_root", str(arguments.davis_root), "--videos_subset", str(subset)]
    if before is not None:
        command += ["--load_network", str(before)]
    return run(command, os.environ | {"OMP_NUM_THREADS": "1"})


def run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a program to its end, also where that is sooner because of a signal to this one; returns its exit code.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came; the program was told, and has ended.
    """
    signals: list[int] = []
    # In a session of its own it gets what the terminal sends from here alone, once, and has time to end well.
    with subprocess.Popen(command, env=environment, start_new_session=True) as program:

        def pass_on(number: int, _: object) -> None:
            if not signals:
                program.send_signal(signal.SIGTERM)
            signals.append(number)

        handlers = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            code = program.wait()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    if signals:
        raise KeyboardInterrupt
    return code


def blended(networks: Sequence[Path], target: Path) -> Path:
    """The file of the mean of these networks' weights: `target`, or the network itself if it is one."""
    if len(networks) == 1:
        return networks[0]
    if not target.is_file() or any(path.stat().st_mtime > target.stat().st_mtime for path in networks):
        first, *others = (read_checkpoint(path) for path in networks)
        mean = {
            name: torch.stack([tensor.double(), *(each.state_dict[name].double() for each in others)]).mean(dim=0)
            for name, tensor in first.state_dict.items()
        }
        weights = {name: tensor.to(first.state_dict[name].dtype) for name, tensor in mean.items()}
        save_network(target, first.network_config, weights, others[-1].metadata)
    return target


def export(trained: Path, target: Path) -> None:
    """Write a trained network in half precision, with what it has seen."""
    checkpoint = read_checkpoint(trained)
    halved = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in checkpoint.state_dict.items()
    }
    metadata = {**checkpoint.metadata, "size": INTENDED_SIZE}
    save_network(target, checkpoint.network_config, halved, metadata)


def train_all(phases: Sequence[Phase], before: Path | None, target: Path, arguments: argparse.Namespace) -> None:
    """Run the phases, each with the network of the one before, and export the last one's.

    Raises:
        UserError: one cannot begin, or did not come to its end.
        KeyboardInterrupt: as `run`.
    """
    subset = arguments.output / "small_videos.txt"
    subset.write_text("\n".join(TRAINING_VIDEOS) + "\n", encoding="utf-8")
    check(phases, arguments, subset)
    networks = [] if before is None else [before]
    for phase in phases:
        mean = arguments.output / f"{phase.name}_begin.pth"
        begin = blended(networks[-phase.begins_with :], mean) if networks else None
        code = train(phase, begin, subset, arguments)
        networks.append(phase.network(arguments.output))
        if code or not networks[-1].is_file():
            raise UserError(f"{phase.name} did not come to its end, and train.py has said why")
    export(networks[-1], target)
    print(f"The network: {target}")


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0; 1 if a phase did not come to its end; 130 if interrupted."""
    arguments = make_parser().parse_args(argv)
    output = arguments.output
    try:
        output.mkdir(parents=True, exist_ok=True)
        if arguments.variants is None:
            train_all(PHASES, None, arguments.network or output / "small.pth", arguments)
        for suffix in arguments.variants or ():
            train_all([variant_phase(suffix)], BUNDLED, output / f"{BUNDLED.stem}-{suffix}.pth", arguments)
        return 0
    except UserError as error:
        print(f"train_small: {error}", file=sys.stderr)
        return NOT_DONE
    except KeyboardInterrupt:
        print("train_small: interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
