"""The network's parts against the formulas they implement, and networks of other widths from end to end."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from model.aggregation import soft_aggregation
from model.cbam import CBAM
from model.config import NetworkConfig
from model.encoders import ImageFeatures, QueryKey, sum_of_others
from model.fusion import FusionBlock, ResidualBlock, convolve_shared
from model.memory_reading import (
    affinity,
    memory_rows,
    query_rows,
    readout,
    similarity,
    sparse_readout,
    top_k_affinity,
)
from model.network import XMem
from model.sensory import GRU
from tests.helpers.tiny_network import TINY, tiny_network


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


# ---------------------------------------------------------------------------------------------------------------------
# Soft aggregation


@settings(deadline=None)
@given(
    objects=st.integers(1, 5),
    seed=st.integers(0, 10**6),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]),
)
def test_aggregation_is_a_distribution_and_its_logits_are_log_odds(objects, seed, dtype):
    prob = torch.rand(objects, 3, 4, generator=torch.Generator().manual_seed(seed)).to(dtype)
    aggregated = soft_aggregation(prob)
    assert aggregated.prob.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(aggregated.prob.sum(dim=0), torch.ones(3, 4).to(aggregated.prob.dtype))
    odds = torch.cat([(1 - prob.double()).prod(dim=0, keepdim=True), prob.double()]).clamp(1e-7, 1 - 1e-7)
    torch.testing.assert_close(aggregated.logits.double().sigmoid(), odds, rtol=0, atol=1e-6)
    torch.testing.assert_close(aggregated.prob, aggregated.logits.softmax(dim=0))


@settings(deadline=None)
@given(prob=st.floats(0, 1))
def test_aggregation_of_one_object(prob):
    """Log-odds of p and 1 − p are opposite numbers, so the softmax squares the odds."""
    bounded = min(max(prob, 1e-7), 1 - 1e-7)
    background, foreground = soft_aggregation(torch.full((1, 1, 1), prob, dtype=torch.float64)).prob.flatten().tolist()
    assert foreground == pytest.approx(bounded**2 / (bounded**2 + (1 - bounded) ** 2))
    assert background + foreground == pytest.approx(1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("probabilities", "winners"), [((0, 0), [0]), ((1, 0), [1]), ((0, 1), [2]), ((1, 1), [1, 2]), ((1,), [1])]
)
def test_aggregation_of_certainties_is_finite(probabilities, winners, dtype):
    prob = torch.tensor(probabilities, dtype=dtype).view(-1, 1, 1)
    aggregated = soft_aggregation(prob)
    assert aggregated.logits.isfinite().all()
    assert aggregated.prob[winners].sum().item() == pytest.approx(1, abs=1e-6)


def test_certainty_ends_at_a_ten_millionth():
    logits = soft_aggregation(torch.tensor([0.0, 1.0], dtype=torch.float64).view(2, 1, 1)).logits.flatten()
    most = math.log((1 - 1e-7) / 1e-7)
    assert logits.tolist() == pytest.approx([-most, -most, most])


def test_aggregation_is_in_full_precision_under_autocast():
    prob = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(soft_aggregation(prob).prob, soft_aggregation(prob).prob.float())
        inside = soft_aggregation(prob)
    assert torch.equal(inside.prob, soft_aggregation(prob).prob)


# ---------------------------------------------------------------------------------------------------------------------
# The memory read


def unexpanded_similarity(key: Tensor, shrinkage: Tensor, query: Tensor, selection: Tensor) -> Tensor:
    """Eq. 2 over √Cᵏ, term by term; queries × elements."""
    squares = selection[:, None] * (key[None] - query[:, None]) ** 2
    return -squares.sum(dim=-1) / math.sqrt(key.shape[-1]) * shrinkage[:, 0]


def test_similarity_is_the_unexpanded_formula():
    key, query = normal(7, 6), normal(5, 6, seed=1)
    shrinkage, selection = normal(7, 1, seed=2) ** 2 + 1, normal(5, 6, seed=3).sigmoid()
    result = similarity(query_rows(query, selection), memory_rows(key, shrinkage))
    torch.testing.assert_close(result, unexpanded_similarity(key, shrinkage, query, selection), rtol=0, atol=1e-12)


def test_similarity_of_a_batch_is_that_of_its_samples():
    key, shrinkage, query, selection = (
        normal(2, 7, 6),
        normal(2, 7, 1).abs(),
        normal(2, 5, 6),
        normal(2, 5, 6).sigmoid(),
    )
    result = similarity(query_rows(query, selection), memory_rows(key, shrinkage))
    for sample in range(2):
        expected = unexpanded_similarity(key[sample], shrinkage[sample], query[sample], selection[sample])
        torch.testing.assert_close(result[sample], expected, rtol=0, atol=1e-12)


def test_similarity_is_written_where_it_should_go():
    queries = query_rows(normal(5, 6), normal(5, 6, seed=1))
    memory = memory_rows(normal(7, 6), normal(7, 1, seed=1))
    buffer = torch.zeros(5, 10, dtype=torch.float64)
    similarity(queries, memory, out=buffer[:, 2:9])
    torch.testing.assert_close(buffer[:, 2:9], similarity(queries, memory))
    assert not buffer[:, :2].any()
    assert not buffer[:, 9:].any()


def test_similarity_is_in_full_precision_under_autocast():
    key, query, selection = (normal(9, 6, seed=seed, dtype=torch.float32) for seed in range(3))
    expected = similarity(query_rows(query, selection), memory_rows(key, torch.ones(9, 1)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = similarity(query_rows(query, selection), memory_rows(key, torch.ones(9, 1)))
    assert torch.equal(result, expected)


@pytest.mark.parametrize("far", [1e2, 1e6, 3e38])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_vanishes_where_everything_is_far_away(far, dtype):
    similarities = torch.tensor([[-far, -far], [-far, -far * 0.5]], dtype=dtype)
    for weights in (
        affinity(similarities),
        top_k_affinity(similarities, 2).weights,
        top_k_affinity(similarities, 1).weights,
    ):
        assert weights.isfinite().all()
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, dtype=dtype))
    assert affinity(similarities)[0].tolist() == [0.5, 0.5]
    assert affinity(similarities)[1].tolist() == pytest.approx([0, 1])


@pytest.mark.parametrize("top_k", [1, 3, 8])
def test_top_k_keeps_the_largest_similarities(top_k):
    similarities = normal(6, 8)
    sparse = top_k_affinity(similarities, top_k)
    dense = torch.zeros_like(similarities).scatter(1, sparse.elements, sparse.weights)
    threshold = similarities.sort(dim=1, descending=True).values[:, top_k - 1, None]
    expected = similarities.masked_fill(similarities < threshold, -torch.inf).softmax(dim=1)
    torch.testing.assert_close(dense, expected)


def no_such_kernel(*_: object, **__: object) -> None:
    raise NotImplementedError("embedding_bag")


@pytest.mark.parametrize("gathered", [False, True])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.float16, 1e-2), (torch.bfloat16, 5e-2)],
)
def test_sparse_readout_is_the_dense_one(monkeypatch, gathered, dtype, tolerance):
    """With or without a kernel for it. Half-precision values go one way or the other."""
    if gathered:
        monkeypatch.setattr(F, "embedding_bag", no_such_kernel)
    similarities, values = normal(6, 20), normal(20, 5, seed=1)
    sparse = top_k_affinity(similarities, 4)
    dense = torch.zeros_like(similarities).scatter(1, sparse.elements, sparse.weights)
    result = sparse_readout(sparse, values.to(dtype))
    assert result.dtype == dtype
    torch.testing.assert_close(result.double(), readout(dense, values), rtol=0, atol=tolerance)


def test_reading_of_several_frames_is_reading_of_all_their_elements():
    """`read_memory` against equations 1–3, one object and query at a time."""
    network = XMem(TINY)
    query, memory = (
        QueryKey(normal(2, 16, *size, seed=1), normal(2, 1, *size).abs() + 1, normal(2, 16, *size, seed=3).sigmoid())
        for size in ((2, 3), (2, 9))  # three frames of 2×3, side by side
    )
    values = normal(2, 3, 32, 18)
    result = network.read_memory(query, memory, values)
    assert result.shape == (2, 3, 32, 2, 3)
    for sample in range(2):
        key, shrinkage = memory.key[sample].flatten(1).t(), memory.shrinkage[sample].flatten(1).t()
        queries, selection = query.key[sample].flatten(1).t(), query.selection[sample].flatten(1).t()
        weights = unexpanded_similarity(key, shrinkage, queries, selection).softmax(dim=1)
        for index in range(3):
            expected = (values[sample, index] @ weights.t()).view(32, 2, 3)
            torch.testing.assert_close(result[sample, index], expected, rtol=0, atol=1e-10)


# ---------------------------------------------------------------------------------------------------------------------
# Encoders and decoder


@settings(deadline=None)
@given(objects=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_the_sum_of_others_is_the_sum_of_others(objects, seed):
    masks = torch.rand(2, objects, 3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    others = sum_of_others(masks)
    for index in range(objects):
        expected = sum((masks[:, other] for other in range(objects) if other != index), torch.zeros(2, 3, 4).double())
        torch.testing.assert_close(others[:, index], expected)


def test_the_sum_of_others_is_exactly_zero_where_the_others_are():
    masks = torch.tensor([0.1, 0.0, 0.0]).view(1, 3, 1, 1)
    assert torch.equal(sum_of_others(masks).flatten(), torch.tensor([0.0, 0.1, 0.1]))


def test_gradients_flow_through_the_sum_of_others():
    masks = normal(1, 3, 2, 2).requires_grad_()
    (sum_of_others(masks) * torch.tensor([1.0, 10, 100]).view(1, 3, 1, 1)).sum().backward()
    assert masks.grad[0, :, 0, 0].tolist() == [110, 101, 11]


def test_the_value_encoder_sees_image_own_mask_and_all_other_masks():
    encoder, seen = tiny_network().value_encoder, []
    encoder.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    frames, masks = images(2, torch.float32), soft_masks(2, 3, torch.float32)
    encoder(frames, torch.zeros(2, 16 * TINY.encoder_width // 4, 2, 3), masks)
    layers = seen[0].unflatten(0, (2, 3))
    assert torch.equal(layers[:, :, :3], frames.unsqueeze(1).expand(-1, 3, -1, -1, -1))
    assert torch.equal(layers[:, :, 3], masks)
    torch.testing.assert_close(layers[:, :, 4], masks.sum(dim=1, keepdim=True) - masks)


@pytest.mark.parametrize("objects", [1, 2, 5])
@pytest.mark.parametrize("kernel", [1, 3])
def test_shared_convolution_is_the_plain_one(objects, kernel):
    convolution = nn.Conv2d(7, 4, kernel, padding=kernel // 2).double()
    shared, own = normal(2, 5, 4, 6), normal(2, objects, 2, 4, 6, seed=1)
    result = convolve_shared(convolution, shared, own)
    for index in range(objects):
        expected = convolution(torch.cat([shared, own[:, index]], dim=1))
        torch.testing.assert_close(result[:, index], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("objects", [1, 3])
def test_fusion_is_block_attention_block(objects):
    block = FusionBlock(5, 3, 16).double()
    shared, own = normal(2, 5, 4, 6), normal(2, objects, 3, 4, 6, seed=1)
    result = block(shared, own)
    for index in range(objects):
        joined = block.block1(torch.cat([shared, own[:, index]], dim=1))
        expected = block.block2(joined + block.attention(joined))
        torch.testing.assert_close(result[:, index], expected, rtol=0, atol=1e-12)


def test_fusion_that_keeps_the_width_is_refused():
    with pytest.raises(ValueError, match="5 \\+ 3 channels in, 8 out"):
        FusionBlock(5, 3, 8)


@pytest.mark.parametrize("out_dim", [4, 6])
def test_residual_block(out_dim):
    block, x = ResidualBlock(4, out_dim).double(), normal(2, 4, 5, 5)
    skip = x if out_dim == 4 else block.downsample(x)
    torch.testing.assert_close(block(x), skip + block.conv2(block.conv1(x.clamp(min=0)).clamp(min=0)))
    assert (block.downsample is None) == (out_dim == 4)


def test_attention_gates_channels_then_positions():
    attention, x = CBAM(32).double(), normal(2, 32, 5, 6)
    mlp = attention.ChannelGate.mlp
    assert mlp[1].out_features == 2
    gated = x * torch.sigmoid(mlp(x.mean((2, 3))) + mlp(x.amax((2, 3))))[..., None, None]
    pooled = torch.stack([gated.amax(dim=1), gated.mean(dim=1)], dim=1)
    torch.testing.assert_close(attention(x), gated * torch.sigmoid(attention.SpatialGate.spatial.conv(pooled)))


def test_the_gru_has_no_reset_gate():
    gru, observed, hidden = GRU(3, 2).double(), normal(2, 4, 3, 5, 5), normal(2, 4, 2, 5, 5, seed=1)
    result = gru.update(observed, hidden)
    for index in range(4):
        gates = gru.transform(torch.cat([observed[:, index], hidden[:, index]], dim=1))
        forget, update, new = gates[:, :2].sigmoid(), gates[:, 2:4].sigmoid(), gates[:, 4:].tanh()
        expected = forget * hidden[:, index] * (1 - update) + update * new
        torch.testing.assert_close(result[:, index], expected)


def test_initial_weights():
    network = XMem(TINY)
    weight = network.key_proj.key_proj.weight.flatten(1)
    torch.testing.assert_close(weight @ weight.t(), torch.eye(16), rtol=0, atol=1e-4)
    assert not network.key_proj.key_proj.bias.any()
    for transform in (network.decoder.hidden_update.transform, network.value_encoder.hidden_reinforce.transform):
        fan_in, fan_out = (9 * channels for channels in transform.weight.shape[1::-1])
        assert transform.weight.std().item() == pytest.approx(math.sqrt(2 / (fan_in + fan_out)), rel=0.1)


# ---------------------------------------------------------------------------------------------------------------------
# Whole networks


def images(batch: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return normal(batch, 3, 32, 48, dtype=dtype)


def soft_masks(batch: int, objects: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return normal(batch, objects, 32, 48, seed=1, dtype=dtype).sigmoid()


@pytest.fixture(scope="module")
def tiny() -> XMem:
    """In float64, so that rounding is no excuse."""
    return tiny_network().double()


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        replace(TINY, hidden_dim=0),
        replace(TINY, single_object=True),
        replace(TINY, key_encoder="resnet34", value_encoder="resnet34", key_dim=5, decoder_dims=(24, 8, 4)),
        replace(TINY, key_encoder="resnet50", value_encoder="resnet50", sensory_update_dim=3),
    ],
    ids=["tiny", "no_sensory", "single_object", "resnet34", "resnet50"],
)
def test_networks_of_other_widths(config):
    network = tiny_network(config)
    hidden = torch.zeros(2, 3, config.hidden_dim, 2, 3) if config.hidden_dim else None
    frames, masks = images(2, torch.float32), soft_masks(2, 3, torch.float32)
    key, features = network.encode_key(frames)
    assert key.key.shape == key.selection.shape == (2, config.key_dim, 2, 3)
    assert key.shrinkage.shape == (2, 1, 2, 3)
    assert key.shrinkage.min() >= 1
    assert 0 <= key.selection.min() <= key.selection.max() <= 1
    encoded = network.encode_value(frames, features.f16, hidden, masks)
    assert encoded.value.shape == (2, 3, config.value_dim, 2, 3)
    readout = network.read_memory(key, key, encoded.value.flatten(3))
    assert readout.shape == encoded.value.shape
    segmentation = network.segment(features, readout, encoded.hidden)
    assert segmentation.prob.shape == segmentation.logits.shape == (2, 4, 32, 48)
    torch.testing.assert_close(segmentation.prob.sum(dim=1), torch.ones(2, 32, 48))
    if config.hidden_dim:
        assert segmentation.hidden.shape == encoded.hidden.shape == hidden.shape
    else:
        assert segmentation.hidden is encoded.hidden is None


def test_samples_and_objects_of_a_batch_do_not_mix(tiny):
    """What the first of three objects of each of two samples gets is what it gets alone."""
    hidden, masks, frames = normal(2, 3, 8, 2, 3).tanh(), soft_masks(2, 3), images(2)
    masks[:, 1:] = 0  # so that the first object has no others to see
    _, features = tiny.encode_key(frames)
    encoded = tiny.encode_value(frames, features.f16, hidden, masks)
    segmentation = tiny.segment(features, encoded.value, hidden)
    for sample in range(2):
        one, alone = slice(sample, sample + 1), slice(0, 1)
        _, own_features = tiny.encode_key(frames[one])
        own = tiny.encode_value(frames[one], own_features.f16, hidden[one, alone], masks[one, alone])
        torch.testing.assert_close(encoded.value[one, alone], own.value, rtol=0, atol=1e-10)
        torch.testing.assert_close(encoded.hidden[one, alone], own.hidden, rtol=0, atol=1e-10)
        own_hidden = tiny.segment(own_features, own.value, hidden[one, alone]).hidden
        torch.testing.assert_close(segmentation.hidden[one, alone], own_hidden, rtol=0, atol=1e-10)


def test_hidden_states_stay_where_no_update_is_asked_for(tiny):
    hidden, masks, frame = normal(1, 2, 8, 2, 3), soft_masks(1, 2), images()
    _, features = tiny.encode_key(frame)
    shallow = tiny.encode_value(frame, features.f16, hidden, masks, deep_update=False)
    deep = tiny.encode_value(frame, features.f16, hidden, masks, deep_update=True)
    assert shallow.hidden is hidden
    assert torch.equal(shallow.value, deep.value)
    assert not torch.equal(deep.hidden, hidden)
    still = tiny.segment(features, shallow.value, hidden, update_hidden=False)
    moved = tiny.segment(features, shallow.value, hidden, update_hidden=True)
    assert still.hidden is hidden
    assert torch.equal(still.prob, moved.prob)
    assert not torch.equal(moved.hidden, hidden)


def test_filler_objects_are_switched_off_before_aggregation(tiny):
    hidden, masks, frames = torch.zeros(2, 3, 8, 2, 3).double(), soft_masks(2, 3), images(2)
    _, features = tiny.encode_key(frames)
    value = tiny.encode_value(frames, features.f16, hidden, masks).value
    selector = torch.tensor([[1.0, 1, 0], [1, 0, 0]]).double()
    selected = tiny.segment(features, value, hidden, selector=selector)
    assert selected.prob[0, 3].max() < 1e-6
    assert selected.prob[1, 2:].max() < 1e-6
    of_two = tiny.segment(features, value[:, :2], hidden[:, :2])
    torch.testing.assert_close(selected.prob[0, :3], of_two.prob[0], rtol=0, atol=1e-6)
    assert torch.equal(selected.hidden, tiny.segment(features, value, hidden).hidden)


def test_a_single_object_network_is_blind_to_the_others():
    network = tiny_network(replace(TINY, single_object=True)).double()
    masks, frame = soft_masks(1, 2), images()
    _, features = network.encode_key(frame)
    together = network.encode_value(frame, features.f16, None, masks).value
    alone = network.encode_value(frame, features.f16, None, masks[:, :1]).value
    torch.testing.assert_close(together[:, :1], alone, rtol=0, atol=1e-10)


def test_every_parameter_has_a_gradient():
    """Two frames: one is remembered, the other segmented; as in training."""
    network = tiny_network().double().requires_grad_(True)
    frames, masks = images(2), soft_masks(1, 2)
    key, features = network.encode_key(frames)
    memory, query = (QueryKey(*(part[index : index + 1] for part in key)) for index in (0, 1))
    first, second = (ImageFeatures(*(part[index : index + 1] for part in features)) for index in (0, 1))
    hidden = torch.zeros(1, 2, 8, 2, 3, dtype=torch.float64)
    encoded = network.encode_value(frames[:1], first.f16, hidden, masks)
    read = network.read_memory(query, memory, encoded.value.flatten(3))
    segmentation = network.segment(second, read, encoded.hidden)
    (segmentation.logits.square().mean() + segmentation.hidden.square().mean()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if name != "key_proj.key_proj.bias":  # only differences of keys matter
            assert parameter.grad.any(), name


def test_keys_are_in_full_precision_under_autocast():
    network, frame = tiny_network(), images(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        key, features = network.encode_key(frame)
    assert features.f16.dtype == torch.bfloat16
    assert {part.dtype for part in key} == {torch.float32}
    exact, _ = network.encode_key(frame)
    torch.testing.assert_close(key.selection, exact.selection, rtol=0, atol=0.05)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"key_encoder": "resnet9"}, "unknown encoder 'resnet9'"),
        ({"value_encoder": "vgg16"}, "unknown encoder 'vgg16'"),
        ({"key_dim": 0}, "widths must be positive"),
        ({"value_dim": -1}, "widths must be positive"),
        ({"hidden_dim": -1}, "widths must be positive"),
        ({"decoder_dims": (512, 0, 256)}, "widths must be positive"),
        ({"sensory_update_dim": 0}, "widths must be positive"),
    ],
)
def test_impossible_networks_are_refused(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        NetworkConfig(**changes)
