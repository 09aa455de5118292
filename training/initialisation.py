"""Where a network's first weights come from: chance, ImageNet, a file, or the stage before.

All of it follows from the seed, so that it is the same in every process. Batch-norm statistics stay what they are here:
training never changes them (section 4).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from http.client import HTTPException
from pickle import UnpicklingError

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import get_model_weights

from dataset.sampling import TrainingSource
from model.checkpoint import Checkpoint, widen_single_object
from model.config import NetworkConfig
from model.network import XMem, normalise_images
from training.batches import load_batches
from training.config import OptimisationConfig, StageConfig
from training.step import TrainingBatch, masks_of
from util.errors import UserError

CALIBRATION_BATCHES = 8
RGB_AND_MASK = 4
"""Input channels of a single-object value encoder; another's last one is for the sum of all other objects' masks."""


def untrained_network(config: NetworkConfig, seed: int) -> XMem:
    """A network with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return XMem(config).eval()


def network_from(checkpoint: Checkpoint) -> XMem:
    """The network in a file, to be trained on.

    Raises:
        CheckpointError: the file misses or adds names.
    """
    network = XMem(checkpoint.network_config).eval()
    checkpoint.check_against(network.state_dict())
    network.load_state_dict(checkpoint.state_dict)
    return network


def without_parts(network: XMem, use_shrinkage: bool, use_selection: bool, use_sensory: bool) -> XMem:
    """The network without the scaling terms (table 5) or the sensory memory (table 4) that are not to be used.

    Its other weights are as they were: what a sensory memory of zeros gives is what is given without one.
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
    """The network that a stage trains: the one given, or for several objects one made of a single-object network.

    The value encoder's input for the other objects' masks starts with orthogonal random weights (section 1), all others
    are as they were. A network from a single-object *file* has that input already, with zeros, and gets the same.
    """
    if stage.single_object:
        return network
    if network.config.single_object:
        config, state = widen_single_object(network.config, network.state_dict())
        widened = XMem(config).eval()
        widened.load_state_dict(state)
        network = widened.to(next(network.parameters()).device)
    others = network.value_encoder.conv1.weight.detach()[:, RGB_AND_MASK:]
    if not others.any():
        others.copy_(orthogonal(others.shape, seeded(seed)))
    return network


def load_imagenet_weights(network: XMem, seed: int) -> None:
    """Start both encoders from torchvision's ImageNet weights; the inputs for masks start orthogonal (section 1).

    Args:
        seed: of those inputs' weights.

    Raises:
        UserError: there are none of this width, or they cannot be had.
    """
    config = network.config
    if config.encoder_width != 64:
        raise UserError(
            f"--encoder_width {config.encoder_width}: ImageNet weights exist for 64 only; add --no_pretrained"
        )
    start_from_imagenet(network.key_encoder, read_imagenet_weights(config.key_encoder), seed, first_stage="res2")
    start_from_imagenet(network.value_encoder, read_imagenet_weights(config.value_encoder), seed)


def read_imagenet_weights(name: str) -> Mapping[str, Tensor]:
    """The state dict of torchvision's network of this name, from torch's cache or downloaded into it.

    Raises:
        UserError: it can be neither read nor downloaded.
    """
    weights = get_model_weights(name)["IMAGENET1K_V1"]
    try:
        return weights.get_state_dict(check_hash=True)
    except (OSError, HTTPException, RuntimeError, EOFError, UnpicklingError) as error:
        raise UserError(
            f"no ImageNet weights of {name}: {' '.join(str(error).split())}; put {weights.url} into "
            f"{torch.hub.get_dir()}/checkpoints, or start with --no_pretrained"
        ) from error


def start_from_imagenet(
    encoder: nn.Module, weights: Mapping[str, Tensor], seed: int, first_stage: str = "layer1"
) -> None:
    """Give an encoder the weights of torchvision's network, but for what comes after stride 16.

    Args:
        encoder: whose input is RGB, or RGB and masks.
        first_stage: what this encoder calls torchvision's layer1.
    """
    state = encoder.state_dict()
    for name, tensor in weights.items():
        if not name.startswith(("layer4.", "fc.")):
            state[name.replace("layer1.", f"{first_stage}.")] = tensor
    rgb = weights["conv1.weight"]
    channels, masks = rgb.shape[0], encoder.conv1.in_channels - rgb.shape[1]
    state["conv1.weight"] = torch.cat([rgb, orthogonal((channels, masks, *rgb.shape[2:]), seeded(seed))], dim=1)
    encoder.load_state_dict(state)  # strict: a name that is not the encoder's is an error


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def orthogonal(shape: Iterable[int], generator: torch.Generator) -> Float[Tensor, "outputs inputs height width"]:
    """Random weights of a convolution, orthogonal as a matrix with a row for each output."""
    weight = torch.empty(*shape)
    return nn.init.orthogonal_(weight, generator=generator) if weight.numel() else weight


def calibrate_on(source_of: Callable[[bool], TrainingSource], network: XMem, stage: StageConfig, seed: int) -> None:
    """Calibrate on a few batches of the stage's data, whole ones in every process, and of every max_jump.

    Args:
        source_of: the stage's data; its argument says whether the run is fine-tuning.

    Raises:
        UserError: a sample cannot be made.
    """
    batches = load_batches(
        replace(stage, iterations=CALIBRATION_BATCHES, finetune=0), source_of, OptimisationConfig(), seed,
        share=range(stage.batch_size), begin=0, workers=0,
    )  # fmt: skip
    calibrate_batch_norm(network, (batch for batch, _ in batches))


@torch.no_grad()
def calibrate_batch_norm(network: XMem, batches: Iterable[TrainingBatch]) -> None:
    """Give an untrained network's batch norm the statistics of these batches, in which every frame has its masks.

    Those that it begins with (mean 0, variance 1) would normalise nothing, frozen as they are.
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
