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
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NoReturn

import torch

from evaluation.device import choose_device
from model.checkpoint import read_checkpoint
from model.config import ENCODERS, NetworkConfig
from training.checkpoints import RunFolder, read_training_checkpoint
from training.config import STAGES, OptimisationConfig, StageConfig
from training.initialisation import (
    calibrate_on,
    load_imagenet_weights,
    network_for_stage,
    network_from,
    untrained_network,
)
from training.processes import Processes
from training.record import differences, record_run
from training.sources import TrainingData, open_sources
from training.trainer import Saving, StopRequest, Trainer
from training.watching import Watcher
from util.errors import UserError
from util.process import available_cores

NOTHING_STARTED, FAILED = 2, 1  # exit codes
PUBLISHED_WORKERS = 16

log = logging.getLogger("train")


class Parser(argparse.ArgumentParser):
    """Bad flags are told in one line, as all mistakes of the user's are."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help lists the flags")


def make_parser() -> argparse.ArgumentParser:
    """The flags of this program. Where it matters whether one was given, the default is None."""
    parser = Parser(prog="train.py", usage="%(prog)s [flags]", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--stages", default="03", help=f"of {', '.join(STAGES)}, one after another (%(default)s: the base model)")
    add("--exp_id", help="name of the experiment, and of its folder (s and the stages)")
    add("--output", type=Path, default=Path("saves"), help="folder of the experiments' folders (%(default)s)")
    add("--resume", choices=("auto",), help="continue from the newest whole checkpoint of this experiment, if any")
    add("--load_checkpoint", type=Path, help="continue from this checkpoint")
    add("--resume_changed", action="store_true", help="continue although settings differ from the checkpoint's")
    add("--load_network", type=Path, help="start from this network file")
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
    add("--strict", action="store_true", help="stop at a file that cannot be used, rather than pass over it")
    add("--num_workers", type=int, help=f"processes that make batches, in all ({PUBLISHED_WORKERS}, or the cores)")

    published = NetworkConfig()
    for name in ("key_encoder", "value_encoder"):
        add(f"--{name}", choices=ENCODERS, help=f"({getattr(published, name)})")
    for name in ("encoder_width", "key_dim", "value_dim", "hidden_dim", "sensory_update_dim"):
        add(f"--{name}", type=int, help=f"({getattr(published, name)})")
    add("--decoder_dims", type=int, nargs=3, help="widths at strides 16, 8 and 4 (512 256 256)")

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
    for stage in STAGES.values():
        group = parser.add_argument_group(f"stage {stage.name}: {stage.data}")
        for name in STAGE_FLAGS:
            value = getattr(stage, name)
            kind, count = (float, None) if name == "lr" else (int, "*" if name == "steps" else None)
            group.add_argument(f"--s{stage.name}_{name}", type=kind, nargs=count, default=value, help="(%(default)s)")
    return parser


STAGE_FLAGS = [field.name for field in fields(StageConfig) if field.name not in ("name", "data")]


@dataclass(frozen=True)
class Run:
    """All that a run does, checked."""

    stages: list[StageConfig]
    network: NetworkConfig
    optimisation: OptimisationConfig
    data: TrainingData
    saving: Saving
    seed: int

    def settings(self) -> dict[str, Any]:
        """What decides the weights that come out. What only decides how fast, or where files lie, is not in it."""
        optimisation = asdict(self.optimisation)
        for name in ("samples_at_once", "checkpoint_activations", "compile"):
            del optimisation[name]
        return {
            "stages": {f"{index} ({stage.name})": plain(asdict(stage)) for index, stage in enumerate(self.stages)},
            "network": plain(asdict(self.network)),
            "optimisation": optimisation,
            "seed": self.seed,
            "videos_share": self.data.videos_share,
            "videos_smallest_crop": self.data.videos_smallest_crop,
        }


def plain(content: dict[str, Any]) -> dict[str, Any]:
    """With lists for tuples, as JSON has it."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in content.items()}


def configure(arguments: argparse.Namespace, network: NetworkConfig, device: torch.device) -> Run:
    """The run's settings.

    Raises:
        UserError: a value out of its range, or an unknown stage.
    """
    unknown = [letter for letter in arguments.stages if letter not in STAGES]
    if unknown or not arguments.stages:
        raise UserError(f"--stages {arguments.stages}: there is no stage {unknown}; choose of {', '.join(STAGES)}")
    given = vars(arguments)
    try:
        stages = [
            StageConfig(
                name=name,
                data=STAGES[name].data,
                **{field: given[f"s{name}_{field}"] for field in STAGE_FLAGS if field != "steps"},
                steps=tuple(given[f"s{name}_steps"]),
            )
            for name in arguments.stages
        ]
        mixed = arguments.amp or (device.type == "cuda" and not arguments.no_amp)
        names = [field.name for field in fields(OptimisationConfig) if field.name != "mixed_precision"]
        return Run(
            stages,
            network,
            OptimisationConfig(mixed_precision=mixed, **{name: given[name] for name in names}),
            TrainingData(**{field.name: given[field.name] for field in fields(TrainingData)}),
            Saving(
                arguments.save_checkpoint_interval, arguments.save_checkpoint_minutes, arguments.save_network_interval
            ),
            arguments.seed,
        )
    except ValueError as error:
        raise UserError(str(error)) from None


def network_config(arguments: argparse.Namespace, base: NetworkConfig) -> NetworkConfig:
    """`base` with what flags say of the network.

    Raises:
        UserError: a value out of its range.
    """
    given = {name: getattr(arguments, name) for name in NETWORK_FLAGS if getattr(arguments, name) is not None}
    if "decoder_dims" in given:
        given["decoder_dims"] = tuple(given["decoder_dims"])
    try:
        return replace(base, **given)
    except ValueError as error:
        raise UserError(str(error)) from None


NETWORK_FLAGS = [field.name for field in fields(NetworkConfig) if field.name != "single_object"]


def find_checkpoint(arguments: argparse.Namespace, folder: RunFolder) -> dict[str, Any] | None:
    """The checkpoint to continue from, if one is asked for.

    Raises:
        UserError: it cannot be read; or the experiment has checkpoints and is not to be resumed.
    """
    if arguments.load_checkpoint is not None:
        return read_training_checkpoint(arguments.load_checkpoint)
    if arguments.resume == "auto":
        return folder.newest_whole()
    if folder.newest_first():
        raise UserError(
            f"{folder.path} holds checkpoints of an earlier run: continue it with --resume auto, or give this one "
            "another --exp_id"
        )
    return None


def check_settings(before: dict[str, Any], now: dict[str, Any], told_to: bool) -> None:
    """Compare a run with that of the checkpoint it continues.

    Raises:
        UserError: they differ, and the user did not say that they may; names the differences.
    """
    changed = "; ".join(differences(before, now))
    if changed and not told_to:
        raise UserError(f"the checkpoint is of other settings ({changed}): change them back, or add --resume_changed")
    if changed:
        log.warning("continuing with other settings: %s", changed)


def train(arguments: argparse.Namespace, processes: Processes, device: torch.device) -> None:
    """Run all stages, or what is left of them.

    Raises:
        UserError: whatever keeps the run from starting or going on.
    """
    folder = RunFolder(arguments.output / arguments.exp_id, arguments.exp_id, arguments.keep_checkpoints)
    checkpoint = find_checkpoint(arguments, folder)
    loaded = read_checkpoint(arguments.load_network) if arguments.load_network and checkpoint is None else None
    if checkpoint is not None:
        base = NetworkConfig(**from_plain(checkpoint["settings"]["network"]))
    else:
        base = loaded.network_config if loaded else NetworkConfig()
    run = configure(arguments, network_config(arguments, base), device)
    if loaded and run.network != base:
        changed = "; ".join(differences(asdict(base), asdict(run.network)))
        raise UserError(f"--load_network {arguments.load_network} is another network: {changed}")
    if checkpoint is not None:
        check_settings(checkpoint["settings"], run.settings(), arguments.resume_changed)
    for stage in run.stages:
        if stage.batch_size % processes.count:
            raise UserError(
                f"--s{stage.name}_batch_size {stage.batch_size} does not divide over {processes.count} processes"
            )
    first = checkpoint["stage_index"] if checkpoint else 0
    sources = {
        index: open_sources(stage, run.data, run.seed) for index, stage in enumerate(run.stages) if index >= first
    }

    stage = run.stages[first]
    config = replace(run.network, single_object=stage.single_object)
    network = network_from(loaded) if loaded else untrained_network(config, run.seed)
    network = network.to(device)
    if checkpoint is None and loaded is None:
        if arguments.no_pretrained:
            calibrate_on(sources[0], network, stage, run.seed)
        else:
            load_imagenet_weights(network)

    if processes.rank == 0:
        folder.path.mkdir(parents=True, exist_ok=True)
        record_run(folder.path, run.settings(), sys.argv)
    watcher = (
        Watcher(folder.path, 1 if arguments.debug else arguments.log_text_interval, run.optimisation.gamma)
        if processes.rank == 0
        else None
    )
    workers = arguments.num_workers if arguments.num_workers is not None else min(PUBLISHED_WORKERS, available_cores())
    with StopRequest() as stop:
        trainer = Trainer(
            run.optimisation, processes, folder, run.saving, run.seed, workers // processes.count, watcher, stop,
            run.settings(),
        )  # fmt: skip
        for index in range(first, len(run.stages)):
            stage = run.stages[index]
            network = network_for_stage(network, stage, run.seed)
            resume = checkpoint if checkpoint and checkpoint["stage_index"] == index else None
            if not trainer.train(network, stage, index, sources[index], resume):
                log.warning("stopped; --resume auto goes on from here")
                return


def from_plain(content: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0, also when asked to stop; 2 if nothing could start; 1 if it could not go on."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    try:
        arguments = make_parser().parse_args(argv)
        arguments.exp_id = arguments.exp_id or f"s{arguments.stages}"
        device = choose_device(arguments.device, int(os.environ.get("LOCAL_RANK", 0)))
        torch.backends.cudnn.benchmark = arguments.benchmark
        processes = Processes.join(device.type)
        train(arguments, processes, device)
        processes.leave()
    except UserError as error:
        if int(os.environ.get("LOCAL_RANK", 0)) == 0:
            print(f"train.py: {error}", file=sys.stderr)
        return NOTHING_STARTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
