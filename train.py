"""Train XMem, stage after stage; see docs/training.md.

torchrun --nproc_per_node=2 train.py --exp_id base --stages 03
python train.py --exp_id mine --stages sm --no_pretrained --videos_root ../videos
"""

import argparse
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dataset.frames import listed_videos
from dataset.registry import DATA_SETS
from evaluation.validation import Validation
from inference.images import PUBLISHED_SIZE
from model.config import ENCODERS, NetworkConfig
from training.config import STAGES, DataConfig, IntervalConfig, OptimisationConfig, RunConfig
from training.run import TrainingError, run_training
from training.starting_point import find_starting_point
from util.command_line import INTERRUPTED, MISTAKE, Parser
from util.device import choose_device, is_out_of_memory, require_a_gpu_each
from util.errors import SettingError, UserError
from util.machine import cores_of_all_machines, keep_freed_memory
from util.processes import Processes

FAILED = 1  # exit code

RUN = ("output", "load_checkpoint", "resume_changed", "load_network", "seed", "num_workers", "keep_checkpoints")
ROOTS = ("static_root", "bl_root", "yv_root", "davis_root")
STAGES_READING = {
    "static_root": "0", "bl_root": "1", "yv_root": "23", "davis_root": "23", "yv_subset": "23", "videos_root": "m",
    "videos_subset": "m", "videos_share": "m", "videos_smallest_crop": "m", "videos_colour_jitter": "m",
    "videos_paste_share": "m", "cutout_root": "sm",
}  # fmt: skip
"""The stages that read a flag of data, for each flag that not all stages read."""
DATA = (*STAGES_READING, "strict")
WIDTHS = ("encoder_width", "key_dim", "value_dim", "hidden_dim", "sensory_update_dim")
NETWORK = ("key_encoder", "value_encoder", *WIDTHS, "decoder_dims", "use_shrinkage", "use_selection")
OPTIMISATION = ("deep_update_prob", "sensory_dropout", "gamma", "weight_decay", "max_gradient_norm",
                "encoder_lr_factor", "average_decay", "samples_at_once", "checkpoint_activations",
                "compile")  # fmt: skip
INTERVALS = ("log_text_interval", "log_image_interval", "save_network_interval", "save_checkpoint_interval",
             "save_checkpoint_minutes", "validation_interval")  # fmt: skip
STAGE = {
    "batch_size": "samples of an iteration, in all", "iterations": "iterations before fine-tuning",
    "finetune": "iterations of fine-tuning, which follow", "steps": "iterations after which the learning rate falls",
    "lr": "learning rate", "num_ref_frames": "most earlier frames that a frame reads",
    "num_frames": "frames of a clip",
    "start_warm": "until here the cross entropy is that of all pixels", "end_warm": "from here of the hardest 15 %%",
    "crop": "height and width of the frames", "max_objects": "most objects of a clip",
}  # fmt: skip


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all flags. A flag of the network that is not given is None."""
    formatter = argparse.ArgumentDefaultsHelpFormatter
    parser = Parser("train.py", "%(prog)s [flags]", "Train XMem, stage after stage.", formatter_class=formatter)
    add = parser.add_argument
    add("--stages", default="03", help=f"of {', '.join(STAGES)}, one after another; 03 is the base model")
    add("--exp_id", help="name of the experiment, and of its folder; else s and the stages")
    add("--output", type=Path, default=RunConfig.output, help="folder of the experiments' folders")
    add("--resume", choices=("auto",), help="continue from the newest whole checkpoint of this experiment, if any")
    add("--resume_changed", action="store_true", help="continue although settings differ from the checkpoint's")
    file = parser.add_mutually_exclusive_group()
    file.add_argument("--load_checkpoint", type=Path, help="checkpoint to resume, unless --resume finds one")
    file.add_argument("--load_network", type=Path, help="network file to start from, unless a run is resumed")
    add("--no_pretrained", action="store_true", help="start from random initialisation, not ImageNet's weights")
    add("--seed", type=int, default=RunConfig.seed, help="decides all random choices")
    add("--num_workers", type=int, default=cores_of_all_machines(), help="processes that make batches, in all")

    for name in ROOTS:
        add(f"--{name}", type=Path, default=getattr(DataConfig, name), help="see docs/data.md")
    add("--yv_subset", type=Path, help="file with the names of the videos of YouTubeVOS to use, one a line")
    add("--videos_root", type=Path, help="stage m: own videos, JPEGImages/V and Annotations/V")
    add("--videos_subset", type=Path, help="file with the names of those to use, one a line")
    shares = {"share": "share of own videos in the samples",
              "smallest_crop": "least share of a frame that a crop shows",
              "colour_jitter": "change of their colours, as a share",
              "paste_share": "share of their clips onto which another's object is pasted"}  # fmt: skip
    for name, meaning in shares.items():
        add(f"--videos_{name}", type=float, default=getattr(DataConfig, f"videos_{name}"), help=meaning)
    add("--cutout_root", type=Path, help="stages s, m: images with masks, as --static_root, to cut objects out of")
    add("--strict", action="store_true", help="stop at a file that cannot be used, rather than skip it")

    for name in ("key_encoder", "value_encoder"):
        add(f"--{name}", choices=ENCODERS, help=f"published: {getattr(NetworkConfig, name)}")
    for name in WIDTHS:
        add(f"--{name}", type=int, help=f"published: {getattr(NetworkConfig, name)}")
    add("--decoder_dims", type=int, nargs=3, help="widths at strides 16, 8 and 4; published: 512 256 256")
    for term in ("shrinkage", "selection"):
        add(f"--no_{term}", dest=f"use_{term}", action="store_false", default=None, help=f"{term} 1, not computed")

    meanings = {"deep_update_prob": "probability of a deep update after a frame",
                "sensory_dropout": "probability that an object's sensory memory is lost before a frame",
                "gamma": "factor of the learning rate at a step",
                "weight_decay": "weight decay of AdamW", "max_gradient_norm": "scale longer gradients down to this",
                "encoder_lr_factor": "factor of the learning rate for both encoders",
                "average_decay": "networks hold the moving average of the weights with this decay"}  # fmt: skip
    for name, meaning in meanings.items():
        add(f"--{name}", type=float, default=getattr(OptimisationConfig, name), help=meaning)
    add("--samples_at_once", type=int, help="samples of a process in one pass; fewer need less memory")
    add("--checkpoint_activations", action="store_true", help="less memory for a third more time")
    add("--compile", action="store_true", help="torch.compile")
    add("--device", default="auto", help="auto, cuda, cuda:N, mps or cpu")
    precision = parser.add_mutually_exclusive_group()
    precision.add_argument("--amp", action="store_true", help="mixed precision also elsewhere than on CUDA")
    precision.add_argument("--no_amp", action="store_true", help="full precision also on CUDA")
    add("--benchmark", action="store_true", help="let cuDNN try which algorithms are fastest")

    for name in INTERVALS:
        value = getattr(IntervalConfig, name)
        add(f"--{name}", type=type(value), default=value, help="minutes" if name.endswith("minutes") else "iterations")
    add("--debug", action="store_true", help="log every iteration")
    add("--keep_checkpoints", type=int, default=RunConfig.keep_checkpoints, help="newest checkpoints kept")
    add("--validation_dataset", choices=("D16", "D17", "G"), help="validate on it, and keep the best network")
    add("--validation_root", type=Path, help="its folder, as for eval.py")
    add("--validation_subset", type=Path, help="file with the names of the videos to use, one a line")
    add("--validation_size", type=int, default=PUBLISHED_SIZE, help="shorter side of the frames")

    for stage in STAGES.values():
        group = parser.add_argument_group(f"stage {stage.name}: {stage.data}")
        for name, meaning in STAGE.items():
            value = getattr(stage, name)
            kind = {"type": int, "nargs": "*"} if name == "steps" else {"type": type(value)}
            group.add_argument(f"--s{stage.name}_{name}", default=value, help=meaning, **kind)
    return parser


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Return the flags. Raises UserError where one is unknown, or they contradict each other."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if unknown := [letter for letter in arguments.stages if letter not in STAGES]:
        raise UserError(f"--stages {arguments.stages}: there is no stage {unknown[0]!r}; there is {', '.join(STAGES)}")
    if arguments.validation_dataset is None:
        for flag in ("validation_root", "validation_subset", "validation_size", "validation_interval"):
            if getattr(arguments, flag) != parser.get_default(flag):
                raise UserError(f"--{flag} goes with --validation_dataset: give that as well")
    if arguments.validation_dataset == "G" and arguments.validation_root is None:
        raise UserError("--validation_dataset G needs --validation_root: the folder of JPEGImages/V and Annotations/V")
    return arguments


def without_effect(arguments: argparse.Namespace) -> list[str]:
    """Return the flags that this run does not read, but for those that give what is the default."""
    default = make_parser().parse_args([])
    changed = [name for name, value in vars(arguments).items() if value != getattr(default, name)]
    readers = {f"s{stage}_{name}": stage for stage in STAGES for name in STAGE} | STAGES_READING
    unread = [name for name in changed if not set(readers.get(name, arguments.stages)) & set(arguments.stages)]
    if not (arguments.resume or arguments.load_checkpoint):
        unread += [name for name in changed if name == "resume_changed"]
    return [f"--{name}" for name in unread]


def configure(arguments: argparse.Namespace, device: torch.device) -> RunConfig:
    """Return the settings of the run. Raises SettingError or UserError where a value or a file cannot be used."""

    def given(names: tuple[str, ...], prefix: str = "") -> dict[str, Any]:
        values = {name: getattr(arguments, prefix + name) for name in names}
        return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}

    mixed_precision = arguments.amp or (device.type == "cuda" and not arguments.no_amp)
    intervals = given(INTERVALS) | ({"log_text_interval": 1, "log_image_interval": 1} if arguments.debug else {})
    config = RunConfig(
        exp_id=arguments.exp_id or f"s{arguments.stages}",
        stages=tuple(replace(STAGES[stage], **given(tuple(STAGE), f"s{stage}_")) for stage in arguments.stages),
        optimisation=OptimisationConfig(mixed_precision=mixed_precision, **given(OPTIMISATION)),
        data=DataConfig(**given(DATA)),
        intervals=IntervalConfig(**intervals),
        resume=arguments.resume == "auto",
        pretrained=not arguments.no_pretrained,
        **given(RUN),
    )
    network = {name: value for name, value in given(NETWORK).items() if value is not None}
    if not network:
        return config
    try:  # what no flag gives is as in the network that there is
        there = find_starting_point(config).network_config or NetworkConfig()
        return replace(config, network=replace(there, **network))
    except ValueError as error:
        raise UserError(str(error)) from error


def open_validation(arguments: argparse.Namespace, config: RunConfig) -> Validation:
    """Open the videos to validate on. Raises UserError if they cannot be used."""
    dataset = arguments.validation_dataset
    root: Path = arguments.validation_root or DATA_SETS[dataset].default_root or Path()
    names = listed_videos(arguments.validation_subset) if arguments.validation_subset else None
    mixed = config.optimisation.mixed_precision
    return Validation(dataset, root, names, arguments.validation_size, mixed_precision=mixed)


def flag_of(field: str) -> str:
    """Return the flag that sets a field by its name in errors: "stage 3: lr" is set by --s3_lr."""
    stage, _, name = field.removeprefix("stage ").rpartition(": ")
    return f"--s{stage}_{name}" if stage else f"--{name}"


def main(argv: list[str] | None = None) -> int:
    """Return the exit code: 0, also after SIGTERM; 2: could not start; 1: could not continue; 130: second Ctrl-C."""
    keep_freed_memory()
    local_rank = int(os.environ.get("LOCAL_RANK", 0))  # an error of all is reported once per machine
    logging.basicConfig(level=logging.ERROR if local_rank else logging.INFO, format="%(levelname)s: %(message)s")
    try:
        arguments = parse_arguments(argv)
        device = choose_device(arguments.device, local_rank)
        require_a_gpu_each(arguments.device, device)
        if unread := without_effect(arguments):
            logging.warning("flags without effect in this run: %s", ", ".join(unread))
        torch.backends.cudnn.benchmark = arguments.benchmark
        processes = Processes.join(device.type)
        with processes.failing_together():
            config = configure(arguments, device)
        validation = (lambda: open_validation(arguments, config)) if arguments.validation_dataset else None
        run_training(config, processes=processes, device=device, command=sys.argv, open_validation=validation)
        processes.leave()
        return 0
    except SettingError as error:
        message, code = f"{flag_of(error.field)} {error.reason}", MISTAKE
    except UserError as error:
        message, code = str(error), FAILED if isinstance(error, TrainingError) else MISTAKE
    except PermissionError as error:  # a folder that may not be entered, where it is asked what lies in it
        message, code = f"{error.filename}: {error.strerror}", MISTAKE
    except KeyboardInterrupt:
        message, code = "interrupted; --resume auto continues from the last checkpoint", INTERRUPTED
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):  # perhaps in this process alone
            raise
        message, code = f"out of memory on {device}: try --samples_at_once 1 --checkpoint_activations", FAILED
        local_rank = 0
    if local_rank == 0:
        print(f"train.py: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
