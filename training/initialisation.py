"""Where a network's first weights come from: ImageNet, chance, a file, or the stage before.

Batch-norm statistics are what they are here from then on (section 4: frozen throughout).
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
import torchvision
from torch import Tensor, nn

from model.checkpoint import Checkpoint
from model.config import NetworkConfig
from model.network import XMem
from training.batches import load_batches
from training.config import OptimisationConfig, StageConfig
from training.sources import StageSources
from training.step import TrainingBatch, masks_of, normalise
from util.errors import UserError

CALIBRATION_BATCHES = 8
MASK_INPUT = "value_encoder.conv1.weight"


def untrained_network(config: NetworkConfig, seed: int) -> XMem:
    """A network with random weights, the same in every process."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return XMem(config).eval()


def load_imagenet_weights(network: XMem) -> None:
    """Start both encoders from torchvision's ImageNet weights; mask channels start orthogonal.

    Raises:
        UserError: there are none of this width, or they cannot be downloaded.
    """
    config = network.config
    if config.encoder_width != 64:
        raise UserError(
            f"--encoder_width {config.encoder_width}: ImageNet weights exist for 64 only; add --no_pretrained"
        )
    for prefix, name in (("key_encoder", config.key_encoder), ("value_encoder", config.value_encoder)):
        try:
            weights = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].get_state_dict(progress=True)
        except OSError as error:
            raise UserError(
                f"the ImageNet weights of {name} cannot be downloaded ({error}); put them into torch's cache, "
                "or start with --no_pretrained"
            ) from error
        encoder = getattr(network, prefix)
        encoder.load_state_dict(imagenet_start(weights, encoder.state_dict()))


def imagenet_start(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An encoder's state dict in which everything that torchvision's network has as well is taken from there."""
    start = dict(own)
    for name, tensor in weights.items():
        ours = name.replace("layer1.", "res2.") if any(key.startswith("res2.") for key in own) else name
        if ours == "conv1.weight" and own[ours].shape[1] > tensor.shape[1]:
            tensor = with_orthogonal_inputs(tensor, own[ours].shape[1] - tensor.shape[1])
        if ours in own:
            start[ours] = tensor
    return start


def with_orthogonal_inputs(weight: Tensor, count: int) -> Tensor:
    """A convolution's weight with `count` more input channels, orthogonal ones at random."""
    more = torch.empty(weight.shape[0], count, *weight.shape[2:])
    return torch.cat([weight, nn.init.orthogonal_(more)], dim=1)


def network_for_stage(network: XMem, stage: StageConfig, seed: int) -> XMem:
    """The network that a stage trains: after single-object stages it gets an input for the other objects' masks.

    That input starts with orthogonal random weights (section 1), all others as they are.
    """
    if stage.single_object or not network.config.single_object:
        return network
    widened = untrained_network(replace(network.config, single_object=False), seed)
    state = network.state_dict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state[MASK_INPUT] = with_orthogonal_inputs(state[MASK_INPUT].cpu(), 1)
    widened.load_state_dict(state)
    return widened.to(next(network.parameters()).device)


def network_from(checkpoint: Checkpoint) -> XMem:
    """The network in a file, as it is there, to be trained on."""
    network = XMem(checkpoint.network_config).eval()
    checkpoint.check_against(network.state_dict())
    network.load_state_dict(checkpoint.state_dict)
    return network


def calibrate_on(sources: StageSources, network: XMem, stage: StageConfig, seed: int) -> None:
    """Calibrate on the stage's first batches, whole ones in every process."""
    batches = load_batches(
        replace(stage, iterations=CALIBRATION_BATCHES, finetune=0), sources, OptimisationConfig(), seed,
        share=range(stage.batch_size), begin=0, workers=0,
    )  # fmt: skip
    calibrate_batch_norm(network, (batch for batch, _ in batches))


@torch.no_grad()
def calibrate_batch_norm(network: XMem, batches: Iterable[TrainingBatch]) -> None:
    """Give an untrained network's encoders the batch-norm statistics of these batches, in which all frames have masks.

    Frozen statistics of untrained layers (mean 0, variance 1) would normalise nothing.
    """
    parameter = next(network.parameters())
    layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # all batches count alike
        layer.train()
    try:
        for batch in batches:
            on_device = batch.to(parameter.device)
            images = normalise(on_device.images.flatten(0, 1), parameter.dtype)
            masks = masks_of(on_device.labels.flatten(0, 1), int(batch.objects.max()), images.dtype)
            _, features = network.encode_key(images)
            network.value_encoder(images, features.f16, masks)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
            layer.eval()
