"""A training run from beginning to end: what it starts from, its data, its folder, and its stages one after another.

The processes that train together all call `run_training`. Process 0 alone writes, logs and validates.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

import torch

from model.config import NetworkConfig
from training.checkpoints import RunFolder
from training.config import RunConfig
from training.data import open_stage_data
from training.initialisation import initialise, network_for_stage, untrained_network
from training.logger import TrainingLogger
from training.signals import StopRequest
from training.starting_point import find_starting_point
from training.trainer import Trainer, Validator
from util.device import device_name
from util.errors import UserError
from util.files import sole_user, writing
from util.processes import Processes

logger = logging.getLogger(__name__)


class TrainingError(UserError):
    """Training had begun, and cannot continue."""


def run_training(
    config: RunConfig,
    *,
    processes: Processes,
    device: torch.device,
    command: Sequence[str] = (),
    open_validation: Callable[[], Validator] | None = None,
) -> bool:
    """Train all stages that are not finished; return whether all are now: False if SIGTERM or SIGINT asked to stop.

    Args:
        command: the command line, to be recorded.
        open_validation: opens what the network is validated on, in process 0; None: nothing.

    Raises:
        SettingError: a batch does not divide over the processes, or there are no ImageNet weights for the network.
        UserError: something else keeps the run from starting.
        TrainingError: something keeps it from continuing.
    """
    check_batch_sizes(config, processes)
    validation = training_logger = None
    with ExitStack() as stack:
        with processes.failing_together():
            start = find_starting_point(config).for_network(config.network)
            start.check_stages(config.stages)
            network_config = start.network_config or config.network or NetworkConfig()
            config = replace(config, network=network_config)
            first = start.first_stage(config.stages)
            data = {
                index: open_stage_data(stage, config.data, config.seed)
                for index, stage in enumerate(config.stages)
                if index >= first
            }
            settings, trained_on = start.settings(config, data), start.trained_on
            folder = RunFolder(path=config.output / config.exp_id, name=config.exp_id, keep=config.keep_checkpoints)
            if config.resume and not folder.newest_first():
                folder.refuse_networks_of_others(settings, config.stages[-1])
            network = start.network
            if network is None:
                of_stage = replace(network_config, single_object=config.stages[0].single_object)
                network = untrained_network(of_stage, config.seed)
            network = network.to(device)
            if data and processes.rank == 0:
                validation = open_validation() if open_validation else None
                claim(folder, stack)
                folder.check_space(network)
                folder.record_start(settings, command, device_name(device))
                training_logger = stack.enter_context(TrainingLogger(folder.path, config.intervals))
            if start.network is None:
                trained_on = initialise(network, config, data[0])
        checkpoint = start.checkpoint if start.checkpoint and start.checkpoint.stage_index == first else None
        del start  # its checkpoint takes three times the network's memory, and is loaded only once
        check_agreement(processes, settings, first, checkpoint and checkpoint.iteration)
        if not data:
            logger.info("nothing is left to do: all stages are finished")
            return True
        try:
            with StopRequest() as stop:
                for index, stage_data in data.items():
                    network = network_for_stage(network, config.stages[index], config.seed)
                    trained_on = trained_on + stage_data.trained_on
                    trainer = Trainer(
                        config=config, stage_index=index, network=network, data=stage_data, folder=folder,
                        settings=settings, trained_on=trained_on, processes=processes, stop=stop,
                        logger=training_logger, validation=validation, checkpoint=checkpoint,
                    )  # fmt: skip
                    checkpoint = None
                    if not trainer.train():
                        logger.warning("stopped as asked; resume to continue from here")
                        return False
        except UserError as error:
            raise TrainingError(str(error)) from error
    return True


def check_batch_sizes(config: RunConfig, processes: Processes) -> None:
    """Check that every process gets an equal share of each batch.

    Raises:
        SettingError: a batch does not divide.
    """
    for stage in config.stages:
        reason = f"{stage.batch_size} does not divide over {processes.count} processes: choose a multiple of them"
        stage.require(stage.batch_size % processes.count == 0, "batch_size", reason)


def claim(folder: RunFolder, stack: ExitStack) -> None:
    """Make the folder, and lock it for this run.

    Raises:
        UserError: it cannot be made, or another run uses it.
    """
    with writing(folder.path, "choose another output"):
        folder.path.mkdir(parents=True, exist_ok=True)
    stack.enter_context(sole_user(folder.path))


def check_agreement(processes: Processes, *state: object) -> None:
    """Check that all processes, perhaps on several machines, have the same settings, data and checkpoint.

    Raises:
        UserError: they are not.
    """
    if any(other != state for other in processes.gather(state)):
        raise UserError(
            "the processes found different settings, data or checkpoints: start all with the same command, with the "
            "output in a folder that all machines see"
        )
