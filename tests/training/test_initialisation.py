"""The first weights: those of torchvision to the bit, orthogonal where the paper has it, the same in every process."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from model.checkpoint import save_network
from model.config import NetworkConfig
from model.network import XMem, normalise_images
from tests.helpers.tiny_network import TINY
from tests.helpers.training_run import assert_orthonormal_columns, made_up_data, made_up_stage
from tests.helpers.training_steps import made_up_batch
from training.config import STAGES
from training.initialisation import (
    calibrate_batch_norm,
    calibrate_on,
    network_for_stage,
    untrained_network,
)
from training.step import TrainingBatch

AS_WIDE_AS_IMAGENET = replace(TINY, encoder_width=64)

SEVERAL_OBJECTS = STAGES["3"]
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_an_untrained_network_follows_from_the_seed_and_disturbs_no_other_random_numbers():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    network = untrained_network(AS_WIDE_AS_IMAGENET, seed=3)
    assert torch.equal(torch.rand(1), expected)
    again, other = untrained_network(AS_WIDE_AS_IMAGENET, seed=3), untrained_network(AS_WIDE_AS_IMAGENET, seed=4)
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in network.state_dict().items())
    assert not torch.equal(other.key_proj.key_proj.weight, network.key_proj.key_proj.weight)
    assert not any(module.training for module in network.modules())
    key = network.key_proj.key_proj
    assert_orthonormal_columns(key.weight.detach().flatten(1).t())
    assert not key.bias.any()


@pytest.fixture(params=["stage before", "file"])
def after_stage_0(request, tmp_path) -> tuple[XMem, XMem]:
    """A single-object network, and the one that is to be trained on: itself, or what was read from its file."""
    network = untrained_network(replace(AS_WIDE_AS_IMAGENET, single_object=True), seed=0)
    if request.param == "stage before":
        return network, network
    save_network(tmp_path / "stage_0.pth", network.config, network.state_dict())
    return network, XMem.from_checkpoint(tmp_path / "stage_0.pth")


def test_the_input_for_other_objects_starts_orthogonal_after_stage_0(after_stage_0):
    single, network = after_stage_0
    before = {name: tensor.clone() for name, tensor in single.state_dict().items()}
    torch.rand(3)
    widened = network_for_stage(network, SEVERAL_OBJECTS, seed=7)
    assert not widened.config.single_object
    after = widened.state_dict()
    weight = after.pop("value_encoder.conv1.weight")
    assert torch.equal(weight[:, :4], before.pop("value_encoder.conv1.weight"))
    assert_orthonormal_columns(weight[:, 4].flatten(1))
    assert after.keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())
    again, other = (network_for_stage(single, SEVERAL_OBJECTS, seed) for seed in (7, 8))
    assert torch.equal(again.value_encoder.conv1.weight, weight)
    assert not torch.equal(other.value_encoder.conv1.weight, weight)


def test_a_network_goes_from_stage_to_stage_as_it_is(after_stage_0):
    _, network = after_stage_0
    weight = network.value_encoder.conv1.weight.clone()
    assert network_for_stage(network, STAGES["0"], seed=7) is network
    assert torch.equal(network.value_encoder.conv1.weight, weight)
    widened = network_for_stage(network, SEVERAL_OBJECTS, seed=7)
    weight = widened.value_encoder.conv1.weight.clone()
    assert network_for_stage(widened, SEVERAL_OBJECTS, seed=8) is widened
    assert torch.equal(widened.value_encoder.conv1.weight, weight)


CALIBRATED = NetworkConfig("resnet18", "resnet18", 16, 8, 16, 4, (16, 8, 8), 8)


def batch_norm_layers(network: XMem) -> dict[str, nn.BatchNorm2d]:
    return {name: module for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}


@torch.no_grad()
def test_calibrated_batch_norm_has_the_statistics_of_the_batches():
    network, batches = untrained_network(CALIBRATED, seed=0), [made_up_batch(0), made_up_batch(1)]
    calibrate_batch_norm(network, batches)
    inputs = [network.key_encoder.conv1(images_of(batch)).transpose(0, 1).flatten(1) for batch in batches]
    first = network.key_encoder.bn1
    mean = torch.stack([x.mean(dim=1) for x in inputs]).mean(dim=0)
    torch.testing.assert_close(first.running_mean, mean, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(first.running_var, torch.stack([x.var(dim=1) for x in inputs]).mean(dim=0))

    outputs: dict[str, Tensor] = {}
    layers = batch_norm_layers(network)
    for name, layer in layers.items():
        layer.register_forward_hook(lambda _, __, output, name=name: outputs.update({name: output.clone()}))
    masks = torch.zeros(16, 2, 64, 64)
    for channel in (0, 1):
        masks[:, channel] = (batches[0].labels.flatten(0, 1) == channel + 1).float()
    network.value_encoder(images_of(batches[0]), network.key_encoder(images_of(batches[0])).f16, masks)
    assert outputs.keys() == layers.keys()
    for name, output in outputs.items():
        assert output.mean().abs() < 0.1, name
        assert output.var() == pytest.approx(1, abs=0.2), name


def images_of(batch: TrainingBatch) -> Tensor:
    return normalise_images(batch.images.flatten(0, 1))


def test_calibration_leaves_all_else_as_it_was_also_after_an_error():
    network = untrained_network(CALIBRATED, seed=0)
    weights = {name: parameter.clone() for name, parameter in network.named_parameters()}

    def fail():
        yield made_up_batch(0)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        calibrate_batch_norm(network, fail())
    assert not any(module.training for module in network.modules())
    assert {layer.momentum for layer in batch_norm_layers(network).values()} == {0.1}
    assert all(torch.equal(weights[name], parameter) for name, parameter in network.named_parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_every_process_calibrates_alike():
    stage = made_up_stage(batch_size=2)
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        network = untrained_network(CALIBRATED, seed=0)
        calibrate_on(made_up_data(), network, stage, seed=1)
        states.append(network.state_dict())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert states[0]["key_encoder.bn1.num_batches_tracked"] == 8
