"""Train a network like the bundled one, from ImageNet's features to a network file: its recipe, in one command.

    python -m scripts.train_small --davis_root ../DAVIS/2016 [--output saves]                     # on a GPU
    torchrun --nproc_per_node=2 -m scripts.train_small --davis_root ../DAVIS/2016                 # on two CPU cores
    torchrun --nproc_per_node=2 -m scripts.train_small --variants scaling-both scaling-neither

The last makes the networks that the paper's ablations need beside the bundled one. The same command resumes an
interrupted run. See docs/bundled_network.md and docs/reproduce.md.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from dataset.registry import DATA_SETS
from dataset.training_sets import own_videos
from evaluation.networks import BUNDLED
from evaluation.validation import Validation
from model.checkpoint import read_checkpoint, save_network
from model.config import NetworkConfig
from training.checkpoints import RunFolder
from training.config import STAGES, DataConfig, IntervalConfig, OptimisationConfig, RunConfig, StageConfig
from training.imagenet import EFFICIENTNET_ORIGIN
from training.run import check_batch_sizes, run_training
from util.command_line import INTERRUPTED, MISTAKE
from util.device import choose_device
from util.errors import SettingError, UserError
from util.files import writing
from util.machine import cores_of_all_machines, keep_freed_memory
from util.processes import Processes

TRAINING_VIDEOS = (
    "bmx-trees", "breakdance", "camel", "dance-twirl", "horsejump-high", "libby", "motocross-jump", "soapbox",
)  # fmt: skip
"""Videos of DAVIS's validation set. Those of CHOSEN_BY, and car-shadow, cows, dog and drift-straight, by which the
result is measured, are not trained on."""
CHOSEN_BY = ("car-roundabout", "goat")
"""Videos by whose J&F the best state of the last phase is chosen, every VALIDATION_INTERVAL iterations."""
VALIDATION_INTERVAL = 200

NETWORK = NetworkConfig(
    key_encoder="efficientnet_lite0", value_encoder="efficientnet_lite0", key_dim=48, value_dim=128, hidden_dim=48,
    decoder_dims=(64, 64, 32), sensory_update_dim=64, use_selection=False,
)  # fmt: skip
"""Without the selection of the query: so few videos teach one that does not carry over (docs/bundled_network.md)."""
ORIGIN = (
    f"both encoders: {EFFICIENTNET_ORIGIN}; changed: batch normalisations and the normalisation of images folded, "
    "features scaled, stages after stride 16 left out, inputs for masks added, trained further"
)
INTENDED_SIZE = 320
"""Shorter side of the frames that the network is meant for, in pixels; recorded in its file."""


def phase(
    name: str,
    stage: StageConfig,
    *,
    network: NetworkConfig | None = None,
    share: float = 0.5,
    smallest_crop: float = 0.1,
    colour_jitter: float = 0.0,
    paste_share: float = 0.0,
    average_decay: float = 0.998,
    seed: int = RunConfig.seed,
) -> RunConfig:
    """Return the settings of one run, but for what depends on the machine.

    Args:
        network: None: that of the phase before.
        share: share of own videos in the samples.
        smallest_crop: least share of an own frame's area that a crop shows.
        colour_jitter: change of their colours beyond that of section 4.
        paste_share: share of their clips onto which an object of another clip is pasted.
        average_decay: of the weights' moving average.
    """
    return RunConfig(
        exp_id=f"small_{name}", stages=(stage,), network=network, seed=seed, resume=True,
        optimisation=OptimisationConfig(max_gradient_norm=1.0, encoder_lr_factor=0.05, average_decay=average_decay),
        data=DataConfig(
            videos_share=share, videos_smallest_crop=smallest_crop, videos_colour_jitter=colour_jitter,
            videos_paste_share=paste_share,
        ),
        intervals=IntervalConfig(
            log_text_interval=50, save_checkpoint_minutes=5.0, validation_interval=VALIDATION_INTERVAL
        ),
    )  # fmt: skip


M = replace(STAGES["m"], num_ref_frames=3, max_objects=2)
START = replace(M, batch_size=4, iterations=700, lr=4e-4, crop=160, num_frames=4)
FIRST = phase("start", START, network=NETWORK, smallest_crop=0.15)
on_long_clips = partial(phase, share=0.45, colour_jitter=0.25, paste_share=0.6, seed=7)
PHASES_ON_GPU = (
    FIRST,
    on_long_clips(
        "large_clips",
        replace(M, batch_size=24, iterations=1350, steps=(1080,), lr=3e-4, crop=256, num_frames=8),
        average_decay=0.997,
    ),
)  # fmt: skip
"""The recipe of the bundled network. On two CPU cores it would take seven hours."""
PHASES = (
    FIRST,
    on_long_clips(
        "long_clips", replace(M, batch_size=4, iterations=2000, steps=(1700,), lr=2e-4, crop=160, num_frames=8)
    ),
)
"""A recipe for a CPU, of an hour on two cores: fewer and smaller clips, and a worse network."""

SHORT = replace(M, batch_size=6, iterations=200, lr=2e-4, steps=(160,), crop=160, num_frames=3, max_objects=1)
CONTINUED = {"no-sensory": phase("no-sensory", SHORT, network=replace(NETWORK, hidden_dim=0), share=0.45)}
"""The network of table 4, by its suffix: the bundled one, trained a little further without its sensory memory."""
FROM_IMAGENET = {
    f"scaling-{name}": replace(
        PHASES[0], exp_id=f"small_scaling-{name}", stages=(replace(START, steps=(560,)),), network=network
    )
    for name, network in (
        ("both", replace(NETWORK, use_selection=True)),
        ("shrinkage", NETWORK),
        ("selection", replace(NETWORK, use_selection=True, use_shrinkage=False)),
        ("neither", replace(NETWORK, use_shrinkage=False)),
    )
}
"""The networks of table 5: the first phase alone, with a lower learning rate at its end, with and without each scaling
term of the similarity."""
VARIANTS = CONTINUED | FROM_IMAGENET


def export(trained: Path, target: Path, origin: str = ORIGIN) -> None:
    """Write a trained network in half precision, with its origin and the size it is meant for."""
    checkpoint = read_checkpoint(trained)
    halved = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in checkpoint.state_dict.items()
    }
    metadata = {**checkpoint.metadata, "size": INTENDED_SIZE, "origin": origin}
    with writing(target, by_torch=True):
        save_network(target, checkpoint.network_config, halved, metadata)


def on_this_machine(
    config: RunConfig, output: Path, davis_root: Path, subset: Path, device: torch.device, seed: int
) -> RunConfig:
    """Return the settings of a phase with those that depend on the machine, and `seed` added to its own."""
    data = replace(config.data, videos_root=davis_root, videos_subset=subset)
    optimisation = replace(config.optimisation, mixed_precision=device.type == "cuda")
    return replace(
        config, output=output, data=data, optimisation=optimisation, seed=config.seed + seed,
        num_workers=cores_of_all_machines(),
    )  # fmt: skip


def train_phases(
    phases: Sequence[RunConfig],
    start: Path | None,
    target: Path,
    *,
    processes: Processes,
    device: torch.device,
    validation: Validation | None = None,
) -> bool:
    """Run the phases, each from the network of the one before, and export the last one's.

    Args:
        validation: chooses the best state of the last phase, in process 0; None there: its last state.

    Returns:
        Whether they are finished; False if a signal asked to stop.

    Raises:
        SettingError, UserError: a phase cannot start, or cannot continue.
    """
    for config in phases:  # now, rather than in hours
        check_batch_sizes(config, processes)
    networks = [start] if start else []
    for config in phases:
        config = replace(config, load_network=networks[-1] if networks else None)
        chosen_by = validation if config.exp_id == phases[-1].exp_id else None
        open_validation = (lambda best_by=chosen_by: best_by) if chosen_by else None
        if not run_training(
            config, processes=processes, device=device, command=sys.argv, open_validation=open_validation
        ):
            return False
        (stage,) = config.stages
        folder = RunFolder(path=config.output / config.exp_id, name=config.exp_id)
        networks.append(folder.best_path if chosen_by else folder.network_path(stage.name, stage.total_iterations))
    if processes.rank == 0:
        export(networks[-1], target, read_checkpoint(start).metadata["origin"] if start else ORIGIN)
        print(f"The network: {target}")
    return True


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 0; 2 if a phase cannot start or continue; 130 if interrupted."""
    parser = argparse.ArgumentParser(prog="python -m scripts.train_small", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--davis_root", type=Path, default=DATA_SETS["D16"].default_root, help="DAVIS 2016 (%(default)s)")
    add("--output", type=Path, default=Path("saves"), help="folder of the runs' folders (%(default)s)")
    add("--network", type=Path, help="file to write at the end (OUTPUT/small.pth)")
    add("--variants", nargs="+", choices=VARIANTS, help="make these instead: OUTPUT/XMem-small-NAME.pth")
    add("--seed", type=int, default=0, help="added to each phase's own, for another network (%(default)s)")
    arguments = parser.parse_args(argv)
    output, subset = arguments.output, arguments.output / "small_videos.txt"
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    logging.basicConfig(level=logging.INFO if local_rank == 0 else logging.ERROR, format="%(levelname)s: %(message)s")
    keep_freed_memory()
    code, message = INTERRUPTED, "interrupted; the same command resumes it"
    try:
        device = choose_device("auto", local_rank)
        processes = Processes.join(device.type)
        validation = None
        with processes.failing_together():
            if processes.rank == 0:
                with writing(output):
                    output.mkdir(parents=True, exist_ok=True)
                    subset.write_text("\n".join(TRAINING_VIDEOS) + "\n", encoding="utf-8")
                own_videos(arguments.davis_root, subset)
                if not arguments.variants:
                    validation = Validation("D16", arguments.davis_root, CHOSEN_BY, INTENDED_SIZE)
        recipes: list[tuple[tuple[RunConfig, ...], Path | None, Path]] = [
            (PHASES_ON_GPU if device.type == "cuda" else PHASES, None, arguments.network or output / "small.pth")
        ]
        if names := arguments.variants:
            recipes = [
                ((VARIANTS[name],), BUNDLED if name in CONTINUED else None, output / f"{BUNDLED.stem}-{name}.pth")
                for name in names
            ]
        for _, _, target in recipes:  # now, rather than in hours
            with writing(target):
                target.parent.mkdir(parents=True, exist_ok=True)
        for phases, start, target in recipes:
            here = [
                on_this_machine(config, output, arguments.davis_root, subset, device, arguments.seed)
                for config in phases
            ]
            if not train_phases(here, start, target, processes=processes, device=device, validation=validation):
                break
        else:
            processes.leave()
            return 0
    except (SettingError, UserError) as error:
        code, message = MISTAKE, str(error)
    except PermissionError as error:  # a folder that may not be entered, where it is asked what lies in it
        code, message = MISTAKE, f"{error.filename}: {error.strerror}"
    except KeyboardInterrupt:
        pass
    if local_rank == 0:
        print(f"train_small: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
