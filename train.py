"""Train XMem, stage after stage.

    torchrun --nproc_per_node=2 train.py --exp_id base --stages 03
    python train.py --exp_id mine --stages sm --no_pretrained --videos_root ../videos
    python train.py --exp_id mine --resume auto (and the flags of the run)

See docs/training.md.
"""

import argparse
import logging
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from dataset.frames import listed_videos
from evaluation.validation import Validation
from model.config import ENCODERS, NetworkConfig
from model.network import XMem
from training.beginning import Beginning
from training.checkpoints import VALIDATED_ON, RunFolder, read_training_checkpoint
from training.config import STAGES, OptimisationConfig, StageConfig
from training.initialisation import (
    calibrate_on,
    load_imagenet_weights,
    network_for_stage,
    untrained_network,
    without_parts,
)
from training.record import record_run
from training.run_config import RunConfig, plain
from training.sources import Seen, StageSources, TrainingData, open_sources
from training.trainer import Saving, StopRequest, Trainer
from training.watching import Watcher
from util.command_line import Parser
from util.device import available_cores, choose_device, device_name
from util.errors import UserError
from util.files import sha256_of, sole_user
from util.processes import Processes
from util.provenance import differences, git_commit

NOTHING_STARTED, FAILED, INTERRUPTED = 2, 1, 130  # exit codes
PUBLISHED_WORKERS = 16
STARTED_FROM, NOTHING, UNKNOWN = "load_network", "none", "not recorded"  # in settings
LESS_MEMORY = "--samples_at_once 1 and --checkpoint_activations need less, for the same result"
VALIDATION_ROOTS = {"D16": Path("../DAVIS/2016"), "D17": Path("../DAVIS/2017"), "G": None}

STAGE_FLAGS = [field.name for field in fields(StageConfig) if field.name not in ("name", "data")]
NETWORK_FLAGS = [field.name for field in fields(NetworkConfig) if field.name != "single_object"]

log = logging.getLogger("train")


def make_parser() -> argparse.ArgumentParser:
    """The flags of this program. Where it matters whether one was given, the default is None."""
    parser = Parser(prog="train.py", usage="%(prog)s [flags]", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--stages", default="03", help=f"of {', '.join(STAGES)}, one after another (%(default)s: the base model)")
    add("--exp_id", help="name of the experiment, and of its folder (s and the stages)")
    add("--output", type=Path, default=Path("saves"), help="folder of the experiments' folders (%(default)s)")
    add("--resume", choices=("auto",), help="continue from the newest whole checkpoint of this experiment, if any")
    add("--load_checkpoint", type=Path, help="else, continue from this checkpoint")
    add("--resume_changed", action="store_true", help="continue although settings differ from the checkpoint's")
    add("--load_network", type=Path, help="else, start from this network file")
    add("--no_pretrained", action="store_true", help="start from chance rather than ImageNet's weights")
    add("--seed", type=int, default=14159265, help="of all random choices (%(default)s)")

    data = TrainingData()
    for name in ("static_root", "bl_root", "yv_root", "davis_root"):
        add(f"--{name}", type=Path, default=getattr(data, name), help="(%(default)s)")
    add("--yv_subset", type=Path, help="file naming the videos of YouTubeVOS to use, one a line")
    add("--videos_root", type=Path, help="stage m: own videos, JPEGImages/V and Annotations/V")
    add("--videos_subset", type=Path, help="file naming those to use, one a line")
    add("--videos_share", type=float, default=data.videos_share, help="of stage m's samples (%(default)s)")
    add("--videos_smallest_crop", type=float, default=data.videos_smallest_crop, help="share of the area (%(default)s)")
    add("--cutout_root", type=Path, help="stages s, m: images with masks, as --static_root, to cut objects out of")
    add("--strict", action="store_true", help="stop at a file that cannot be used, rather than pass over it")
    add("--num_workers", type=int, help=f"processes that make batches, in all ({PUBLISHED_WORKERS}, or the cores)")

    published = NetworkConfig()
    for name in ("key_encoder", "value_encoder"):
        add(f"--{name}", choices=ENCODERS, help=f"({getattr(published, name)})")
    for name in ("encoder_width", "key_dim", "value_dim", "hidden_dim", "sensory_update_dim"):
        add(f"--{name}", type=int, help=f"({getattr(published, name)})")
    add("--decoder_dims", type=int, nargs=3, help="widths at strides 16, 8 and 4 (512 256 256)")
    for term in ("shrinkage", "selection"):
        add(f"--no_{term}", dest=f"use_{term}", action="store_false", default=None, help=f"{term} 1, not computed")

    optimisation = OptimisationConfig()
    for name in ("deep_update_prob", "gamma", "weight_decay"):
        add(f"--{name}", type=float, default=getattr(optimisation, name), help="(%(default)s)")
    add("--max_gradient_norm", type=float, help="scale longer gradients down to this")
    add("--device", default="auto", help="auto, cuda, cuda:N, mps or cpu (%(default)s)")
    add("--amp", action="store_true", help="mixed precision also elsewhere than on CUDA, where it is on")
    add("--no_amp", action="store_true", help="full precision also on CUDA")
    add("--samples_at_once", type=int, help="of a process's share of the batch; fewer need less memory (all)")
    add("--checkpoint_activations", action="store_true", help="less memory for a third more time")
    add("--compile", action="store_true", help="torch.compile")
    add("--benchmark", action="store_true", help="let cuDNN try which algorithms are fastest")

    saving = Saving()
    add("--debug", action="store_true", help="log every iteration")
    add("--log_text_interval", type=int, default=100, help="iterations (%(default)s)")
    add("--log_image_interval", type=int, default=1000, help="iterations (%(default)s)")
    add("--save_network_interval", type=int, default=saving.network_iterations, help="iterations (%(default)s)")
    add("--save_checkpoint_interval", type=int, default=saving.checkpoint_iterations, help="iterations (%(default)s)")
    add("--save_checkpoint_minutes", type=float, default=saving.checkpoint_minutes, help="as well (%(default)s)")
    add("--keep_checkpoints", type=int, default=3, help="the newest so many (%(default)s)")

    add("--validation_dataset", choices=VALIDATION_ROOTS, help="validate on it, and keep the best network (none)")
    add("--validation_root", type=Path, help="where it lies (as for eval.py)")
    add("--validation_subset", type=Path, help="file naming the videos to use, one a line")
    add("--validation_size", type=int, default=480, help="shorter side of the frames (%(default)s)")
    add("--validation_interval", type=int, default=saving.validation_iterations, help="iterations (%(default)s)")

    for stage in STAGES.values():
        group = parser.add_argument_group(f"stage {stage.name}: {stage.data}")
        for name in STAGE_FLAGS:
            value = getattr(stage, name)
            if name == "steps":  # where the learning rate falls
                default = " ".join(map(str, value)) or "none"
                group.add_argument(f"--s{stage.name}_steps", type=int, nargs="*", default=value, help=f"({default})")
            else:
                group.add_argument(f"--s{stage.name}_{name}", type=type(value), default=value, help="(%(default)s)")
    return parser


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """What the user asks for.

    Raises:
        UserError: an unknown flag or stage, or flags that contradict each other.
    """
    arguments = make_parser().parse_args(argv)
    if unknown := [letter for letter in arguments.stages if letter not in STAGES]:
        raise UserError(f"--stages {arguments.stages}: there is no stage {unknown[0]!r}; there is {', '.join(STAGES)}")
    if arguments.amp and arguments.no_amp:
        raise UserError("--amp and --no_amp contradict each other: give one of them")
    if arguments.load_checkpoint and arguments.load_network:
        raise UserError("--load_checkpoint and --load_network contradict each other: give one of them")
    if arguments.validation_dataset is None and (arguments.validation_root or arguments.validation_subset):
        raise UserError("--validation_root and --validation_subset go with --validation_dataset: give that as well")
    if arguments.num_workers is not None and arguments.num_workers < 0:
        raise UserError(f"--num_workers must not be negative, but is {arguments.num_workers}")
    arguments.exp_id = arguments.exp_id or f"s{arguments.stages}"
    return arguments


def configure(arguments: argparse.Namespace, beginning: Beginning, device: torch.device) -> RunConfig:
    """The run's settings.

    Raises:
        ValueError: a value out of its range; the message names the flag.
        UserError: flags ask for another network than the one that there is.
    """
    given = dict(vars(arguments))
    stages = []
    for name in arguments.stages:
        values = {field: given[f"s{name}_{field}"] for field in STAGE_FLAGS}
        stages.append(replace(STAGES[name], **values | {"steps": tuple(values["steps"])}))
    given["mixed_precision"] = arguments.amp or (device.type == "cuda" and not arguments.no_amp)
    return RunConfig(
        tuple(stages),
        network_config(arguments, beginning),
        OptimisationConfig(**{field.name: given[field.name] for field in fields(OptimisationConfig)}),
        TrainingData(**{field.name: given[field.name] for field in fields(TrainingData)}),
        Saving(
            arguments.save_checkpoint_interval,
            arguments.save_checkpoint_minutes,
            arguments.save_network_interval,
            arguments.validation_interval,
        ),
        arguments.seed,
    )


def network_config(arguments: argparse.Namespace, beginning: Beginning) -> NetworkConfig:
    """What the flags say of the network, or the network that there is.

    Raises:
        ValueError, UserError: as `configure`.
    """
    given = {name: getattr(arguments, name) for name in NETWORK_FLAGS if getattr(arguments, name) is not None}
    if "decoder_dims" in given:
        given["decoder_dims"] = tuple(given["decoder_dims"])
    if beginning.network is None:
        return NetworkConfig(**given)
    there = replace(beginning.network.config, single_object=False)
    if others := {name: getattr(there, name) for name in given if given[name] != getattr(there, name)}:
        raise UserError(
            f"{beginning.origin} is of another network than the flags ask for, of "
            f"{', '.join(f'--{name} {value}' for name, value in others.items())}: say so, or leave these flags out"
        )
    return there


def find_beginning(arguments: argparse.Namespace, folder: RunFolder) -> Beginning:
    """What there is to go on from: this experiment's newest checkpoint, or the file that flags name.

    Raises:
        UserError: it cannot be read; or the folder holds another run's files, and is not to be resumed.
    """
    if arguments.resume == "auto" and (checkpoint := folder.newest_whole()) is not None:
        return Beginning.at_checkpoint(checkpoint)
    folder.refuse_earlier_run()
    if arguments.load_checkpoint is not None:
        return Beginning.at_checkpoint(read_training_checkpoint(arguments.load_checkpoint))
    if arguments.load_network is not None:
        beginning = Beginning.with_weights(arguments.load_network)
        used = arguments.use_shrinkage is not False, arguments.use_selection is not False, arguments.hidden_dim != 0
        return replace(beginning, network=without_parts(beginning.network, *used))
    return Beginning()


def started_from(load_network: Path | None, recorded: Mapping[str, Any], told_to: bool) -> str:
    """The network file a run began with, by its digest; where it continues another, what that has `recorded`.

    Raises:
        UserError: that one began with another file, and the user did not say that it may; or there is no such file.
    """
    if not recorded:
        return digest_of(load_network) if load_network else NOTHING
    before = recorded.get(STARTED_FROM, UNKNOWN)
    if load_network is not None and load_network.exists() and before != UNKNOWN:
        check_settings({STARTED_FROM: before}, {STARTED_FROM: digest_of(load_network)}, told_to)
    return before


def digest_of(network_file: Path) -> str:
    return f"SHA-256 {sha256_of(network_file)[:16]}"


def check_settings(before: Mapping[str, Any], now: Mapping[str, Any], told_to: bool) -> None:
    """Compare a run with the one that it continues, in what both have recorded.

    Raises:
        UserError: they differ, and the user did not say that they may; names the differences.
    """
    if "network" in before:  # settings that are newer than the checkpoint had their defaults
        before = {**before, "network": plain(asdict(NetworkConfig())) | before["network"]}
    both = before.keys() & now.keys()
    changed = "; ".join(differences({name: before[name] for name in both}, {name: now[name] for name in both}))
    if changed and not told_to:
        raise UserError(
            f"the checkpoint is of other settings ({changed}): change them back, add --resume_changed, or begin anew "
            "with another --exp_id"
        )
    if changed:
        log.warning("continuing with other settings: %s", changed)


def check_batches(config: RunConfig, processes: int) -> None:
    """See that every process gets its share of each batch.

    Raises:
        UserError: a batch does not divide.
    """
    for stage in config.stages:
        if stage.batch_size % processes:
            flag = f"--s{stage.name}_batch_size {stage.batch_size}"
            raise UserError(f"{flag} does not divide over {processes} processes: choose a multiple of them")


class Run(NamedTuple):
    """All that a run needs, checked."""

    config: RunConfig
    folder: RunFolder
    settings: dict[str, Any]
    sources: dict[int, StageSources]
    """Of the stages that are not finished, by their index."""
    network: XMem
    resume: dict[str, Any] | None
    seen: Seen
    watcher: Watcher | None
    validation: Validation | None


def prepare(arguments: argparse.Namespace, processes: Processes, device: torch.device, held: ExitStack) -> Run | None:
    """Open everything; process 0 then makes the folder the run's for as long as it is `held`. None: all is done.

    Raises:
        UserError: whatever keeps the run from starting.
    """
    try:
        folder = RunFolder(arguments.output / arguments.exp_id, arguments.exp_id, arguments.keep_checkpoints)
        beginning = find_beginning(arguments, folder)
        config = configure(arguments, beginning, device)
    except ValueError as error:
        raise UserError(str(error)) from None
    check_batches(config, processes.count)
    settings, recorded = config.settings(), beginning.checkpoint.get("settings", {})
    settings[STARTED_FROM] = started_from(arguments.load_network, recorded, arguments.resume_changed)
    check_settings(recorded, settings, arguments.resume_changed)
    first = beginning.first_stage(config.stages)
    if first == len(config.stages):
        log.info("nothing is left to do: all stages of --stages %s are finished", arguments.stages)
        return None

    sources = {
        index: open_sources(stage, config.data, config.seed)
        for index, stage in enumerate(config.stages)
        if index >= first
    }
    contents = {f"{index} ({config.stages[index].name})": dict(stage.contents) for index, stage in sources.items()}
    check_settings(recorded_data := recorded.get("data", {}), contents, arguments.resume_changed)
    settings["data"] = recorded_data | contents

    network, seen = beginning.network, beginning.seen
    if network is None:
        single_object = config.stages[0].single_object
        network = untrained_network(replace(config.network, single_object=single_object), config.seed)
    network = network.to(device)
    watcher = validation = None
    if processes.rank == 0:
        validation = open_validation(arguments, config.optimisation.mixed_precision)
        watcher = claim(folder, arguments, held)
        folder.check_space(network)
        record_run(folder.path, settings, sys.argv, device_name(device))
    if beginning.network is None:
        seen = initialise(network, config, sources[0], arguments.no_pretrained)
    resume = beginning.checkpoint if beginning.checkpoint.get("stage_index") == first else None
    return Run(config, folder, settings, sources, network, resume, seen, watcher, validation)


def open_validation(arguments: argparse.Namespace, mixed_precision: bool) -> Validation | None:
    """The videos to validate on, if that is asked for.

    Raises:
        UserError: they cannot be used, or flags are missing.
    """
    if arguments.validation_dataset is None:
        return None
    root = arguments.validation_root or VALIDATION_ROOTS[arguments.validation_dataset]
    if root is None:
        raise UserError("--validation_dataset G needs --validation_root, a folder with JPEGImages/V and Annotations/V")
    names = listed_videos(arguments.validation_subset) if arguments.validation_subset else None
    size = arguments.validation_size
    return Validation(arguments.validation_dataset, root, names, size, mixed_precision=mixed_precision)


def claim(folder: RunFolder, arguments: argparse.Namespace, held: ExitStack) -> Watcher:
    """Make the folder this run's own, and watch it from there.

    Raises:
        UserError: it cannot be made, or another run has it.
    """
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder.path} cannot be made: {error.strerror}; choose another --output") from error
    held.enter_context(sole_user(folder.path))
    text, images = (1, 1) if arguments.debug else (arguments.log_text_interval, arguments.log_image_interval)
    return held.enter_context(Watcher(folder.path, text, arguments.gamma, image_interval=images))


def initialise(network: XMem, config: RunConfig, sources: StageSources, from_chance: bool) -> Seen:
    """Give an untrained network ImageNet's weights, or calibrate it on the first stage's data; returns what it saw.

    Raises:
        UserError: there are no ImageNet weights of this width, or they cannot be had.
    """
    if from_chance:
        log.info("computing batch-norm statistics of the untrained encoders; on a CPU this takes a while")
        calibrate_on(sources, network, config.stages[0], config.seed)
        return Seen()
    load_imagenet_weights(network, config.seed)
    return Seen(("ImageNet",))


def check_agreement(run: Run | None, processes: Processes) -> None:
    """See that all processes, which may be of several machines, are about to do the same.

    Raises:
        UserError: they are not.
    """
    state = run and (run.settings, list(run.sources), run.resume and run.resume["iteration"])
    if any(other != state for other in processes.gather(state)):
        raise UserError(
            "the processes found different flags, data or checkpoints: start all with the same command, with --output "
            "in a folder that all machines see"
        )


def train(run: Run, processes: Processes, workers: int | None) -> None:
    """Go through the stages that are left, each with the weights of the one before.

    Raises:
        UserError: the run cannot go on.
    """
    workers = min(PUBLISHED_WORKERS, available_cores()) if workers is None else workers
    origin = {"settings": run.settings, "commit": git_commit()}
    if run.validation is not None:
        origin[VALIDATED_ON] = run.validation.description
    network, seen, resume = run.network, run.seen, run.resume
    with StopRequest() as stop:
        for index, sources in run.sources.items():
            stage = run.config.stages[index]
            network = network_for_stage(network, stage, run.config.seed)
            seen = seen + sources.seen
            trainer = Trainer(
                run.config.optimisation,
                processes,
                replace(run.folder, metadata=origin | seen.to_metadata()),
                run.config.saving,
                run.config.seed,
                workers and max(1, workers // processes.count),
                run.watcher,
                stop,
                run.settings,
                run.validation,
            )
            if not trainer.train(network, stage, index, sources, resume, sources.samples_in_pass):
                log.warning("stopped when asked to; --resume auto goes on from here")
                return
            resume = None


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0, also when asked to stop; 2: it could not start; 1: it could not go on; 130."""
    local_rank = int(os.environ.get("LOCAL_RANK", 0))  # what all processes run into is told once on each machine
    level = logging.INFO if local_rank == 0 else logging.ERROR
    logging.basicConfig(level=level, format="%(levelname)s: %(message)s")
    exit_code = NOTHING_STARTED
    try:
        arguments = parse_arguments(argv)
        device = choose_device(arguments.device, local_rank)
        torch.backends.cudnn.benchmark = arguments.benchmark
        processes = Processes.join(device.type)
        with ExitStack() as held:
            with processes.failing_together(device):
                run = prepare(arguments, processes, device, held)
            check_agreement(run, processes)
            exit_code = FAILED
            if run is not None:
                train(run, processes, arguments.num_workers)
        processes.leave()
        return 0
    except UserError as error:
        if local_rank == 0:
            print(f"train.py: {error}", file=sys.stderr)
        return exit_code
    except torch.OutOfMemoryError:  # perhaps in this process alone
        print(f"train.py: out of memory on {device}: {LESS_MEMORY}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        if local_rank == 0:
            print("train.py: interrupted; --resume auto goes on from the last checkpoint", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
