"""The first weights of a network: random, ImageNet's, those of a file, or those of the stage before.

All follow from the seed, so that they are the same in every process. Batch-norm statistics are set here alone: training
never changes them (section 4).
"""

import logging
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import nn

from model.checkpoint import widen_single_object
from model.config import EFFICIENTNET, NetworkConfig
from model.network import XMem, normalise_images
from training.batches import load_batches
from training.config import OptimisationConfig, RunConfig, StageConfig
from training.data import StageData, TrainedOn
from training.imagenet import EFFICIENTNET_ORIGIN, load_imagenet_weights, orthogonal
from training.step import TrainingBatch, masks_of

logger = logging.getLogger(__name__)

CALIBRATION_BATCHES = 8
RGB_AND_MASK = 4
"""Input channels of a single-object value encoder; others have one more, for the sum of all other objects' masks."""


def untrained_network(config: NetworkConfig, seed: int) -> XMem:
    """Return a network with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return XMem(config).eval()


def without_parts(network: XMem, use_shrinkage: bool, use_selection: bool, use_sensory: bool) -> XMem:
    """Return the network without the scaling terms (table 5) or the sensory memory (table 4) that are not to be used.

    All other weights are as they were. Without its sensory memory it computes what it computed with one of zeros.
    """
    config = replace(
        network.config,
        use_shrinkage=network.config.use_shrinkage and use_shrinkage,
        use_selection=network.config.use_selection and use_selection,
        hidden_dim=network.config.hidden_dim if use_sensory else 0,
    )
    if config == network.config:
        return network
    simpler = XMem(config).eval()
    weights = network.state_dict()
    # The sensory memory comes last of a convolution's inputs.
    simpler.load_state_dict(
        {
            name: weights[name][:, : there.shape[1]] if there.ndim > 1 else weights[name]
            for name, there in simpler.state_dict().items()
        }
    )
    return simpler


def network_for_stage(network: XMem, stage: StageConfig, seed: int) -> XMem:
    """Return the network that a stage trains: the one given, or one for several objects made of it.

    The value encoder's input for the other objects' masks starts with orthogonal random weights (section 1), all others
    are as they were. A network that was read from a single-object file has this input; its zeros are replaced.
    """
    if stage.single_object:
        return network
    if network.config.single_object:
        config, state = widen_single_object(network.config, network.state_dict())
        widened = XMem(config).eval()
        widened.load_state_dict(state)
        network = widened.to(network.device)
    others = network.value_encoder.first_convolution.weight.detach()[:, RGB_AND_MASK:]
    if not others.any():
        others.copy_(orthogonal(others.shape, seed))
    return network


def initialise(network: XMem, config: RunConfig, data: StageData) -> TrainedOn:
    """Give an untrained network its first weights; return what these were trained on.

    Either ImageNet's, or random ones with batch-norm statistics of the first stage's data.

    Raises:
        SettingError: there are no ImageNet weights of this width.
        UserError: they cannot be read or downloaded, or a sample cannot be made.
    """
    if config.pretrained:
        load_imagenet_weights(network, config.seed)
        uses_efficientnet = EFFICIENTNET in (network.config.key_encoder, network.config.value_encoder)
        return TrainedOn(("ImageNet",), origin=f"{EFFICIENTNET_ORIGIN}; trained further" if uses_efficientnet else None)
    if not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        return TrainedOn()
    logger.info("computing batch-norm statistics of the untrained encoders; on a CPU this takes a while")
    calibrate_on(data, network, config.stages[0], config.seed)
    return TrainedOn()


def calibrate_on(data: StageData, network: XMem, stage: StageConfig, seed: int) -> None:
    """Set batch-norm statistics by a few batches of the stage's data: the same whole ones in every process.

    They are from all of the stage's schedule of max_jump.

    Raises:
        UserError: a sample cannot be made.
    """
    stage = replace(stage, iterations=CALIBRATION_BATCHES, finetune=0)
    batches = load_batches(
        stage, data, seed=seed, share=range(stage.batch_size), optimisation=OptimisationConfig(), workers=0
    )
    calibrate_batch_norm(network, (batch for batch, _ in batches))


@torch.no_grad()
def calibrate_batch_norm(network: XMem, batches: Iterable[TrainingBatch]) -> None:
    """Set an untrained network's batch-norm statistics to those of these batches, in which every frame has its masks.

    The initial ones (mean 0, variance 1), which stay frozen, would normalise nothing.
    """
    parameter = next(network.parameters())
    layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [(layer.momentum, layer.training) for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the plain mean over batches
        layer.train()
    try:
        for batch in batches:
            here = batch.to(parameter.device)
            images = normalise_images(here.images.flatten(0, 1), parameter.dtype)
            masks = masks_of(here.labels.flatten(0, 1), int(batch.objects.max()), images.dtype)
            network.value_encoder(images, network.key_encoder(images).f16, masks)
    finally:
        for layer, (momentum, training) in zip(layers, before, strict=True):
            layer.momentum = momentum
            layer.train(training)
