"""The network prepared for inference computes what the network does, and leaves it as it is."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from model import convolution, efficientnet_lite
from model.config import EFFICIENTNET
from model.convolution import WinogradConv2d, fold_batch_norms
from model.efficientnet_lite import InvertedBottleneck
from model.network import XMem
from tests.helpers.tiny_network import TINY, tiny_network


def outputs(network: XMem, objects: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(1, 3, 48, 64, generator=generator)
    masks = torch.rand(1, objects, 48, 64, generator=generator)
    hidden = torch.randn(1, objects, network.config.hidden_dim, 3, 4, generator=generator)
    with torch.inference_mode():
        query, features = network.encode_key(image)
        value = network.encode_value(image, features.f16, hidden, masks)
        segmentation = network.segment(features, value.value, value.hidden)
    return [*query, *features, value.value, segmentation.prob, segmentation.hidden]


EFFICIENT = replace(TINY, key_encoder=EFFICIENTNET, value_encoder=EFFICIENTNET, encoder_width=64)


@pytest.mark.parametrize("config", [TINY, EFFICIENT], ids=lambda config: config.key_encoder)
@pytest.mark.parametrize("objects", [1, 3])
@pytest.mark.parametrize("at_once", [None, 1, 2])
def test_all_outputs_are_the_same_but_for_rounding(objects, at_once, config):
    network = tiny_network(config)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    prepared = network.for_inference()
    prepared.decoder.objects_at_once = prepared.value_encoder.objects_at_once = at_once
    for found, expected in zip(outputs(prepared, objects), outputs(network, objects), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert prepared.for_inference() is prepared


def test_a_trained_network_stays_trainable():
    network = tiny_network().train().requires_grad_(True)
    prepared = network.for_inference()
    assert not any(parameter.requires_grad for parameter in prepared.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert network.training
    assert not prepared.training


def test_weights_are_cast_once_for_mixed_precision():
    network = tiny_network()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = outputs(network.for_inference(mixed_precision=True), 2)
    expected = outputs(network, 2)
    assert {p.dtype for p in network.for_inference(mixed_precision=True).parameters()} == {torch.bfloat16}
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0.1, atol=0.05 * other.abs().max().item(), check_dtype=False)


@settings(deadline=None, max_examples=30)
@given(
    kernel=st.sampled_from([3, 5]),
    halves=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    rows_at_once=st.integers(1, 25),
)
def test_strips_of_a_block_are_the_block_but_for_rounding(kernel, halves, rows_at_once):
    block = InvertedBottleneck(4, 6, expansion=3, kernel=kernel, stride=2).requires_grad_(False)
    x = torch.randn(2, 4, 2 * halves[0], 2 * halves[1])
    expected = block(x)
    block.in_strips = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(efficientnet_lite, "STRIP", rows_at_once * 2 * x.shape[3] * 12 * 4)
        torch.testing.assert_close(block(x), expected)


def test_batch_norms_are_folded():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 4, 1)).eval()
    nn.init.normal_(plain[1].running_mean)
    nn.init.uniform_(plain[1].running_var, 0.5, 2)
    x = torch.randn(2, 3, 9, 8)
    expected = plain(x)
    fold_batch_norms(plain)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in plain.modules())
    torch.testing.assert_close(plain(x), expected)


winograd_is_there = pytest.mark.skipif(
    not convolution.nnpack_available(), reason="this PyTorch has no NNPACK for this processor"
)


def with_winograd(usual: nn.Conv2d) -> nn.Module:
    whole = nn.Sequential(usual)
    convolution.use_winograd(whole)
    assert isinstance(whole[0], WinogradConv2d)
    return whole[0]


def test_pytorch_still_has_what_winograd_convolutions_use():
    """A private function of PyTorch: where it disappears, convolutions are the usual ones, and this test says so."""
    assert hasattr(torch, "_nnpack_spatial_convolution")


@winograd_is_there
@settings(deadline=None, max_examples=30)
@given(
    batch=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    bias=st.booleans(),
    channels_last=st.booleans(),
)
def test_winograd_convolutions_are_the_usual_ones_but_for_rounding(batch, channels, size, bias, channels_last):
    usual = nn.Conv2d(*channels, kernel_size=3, padding=1, bias=bias).requires_grad_(False)
    x = torch.randn(batch, channels[0], *size)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "FEWEST_PIXELS", 0)
        patch.setattr(convolution, "FEWEST_CHANNELS", 1)
        assert convolution.is_worthwhile(x, usual.weight)
        torch.testing.assert_close(with_winograd(usual)(x), usual(x), rtol=1e-4, atol=1e-4)


@winograd_is_there
def test_what_winograd_cannot_do_is_computed_as_ever():
    usual = nn.Conv2d(128, 128, kernel_size=3, padding=1)
    fast = with_winograd(usual)
    x = torch.randn(1, 128, 40, 40)
    wanted = x.clone().requires_grad_()
    assert torch.equal(fast(wanted), usual(wanted)), "gradients are wanted"
    with torch.no_grad():
        assert not torch.equal(fast(x), usual(x))
        assert torch.equal(fast(x[..., :8, :8]), usual(x[..., :8, :8])), "too small an image"
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(fast(x), usual(x)), "mixed precision"
    assert torch.equal(fast.double()(x.double()), usual.double()(x.double()))
    for other in (
        nn.Conv2d(4, 4, 1),
        nn.Conv2d(4, 4, 3, padding=1, stride=2),
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(4, 4, 3, padding=1, groups=2),
    ):
        assert not WinogradConv2d.replaces(other)
