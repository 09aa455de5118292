"""One training step against the published program's: masks, logits, losses and gradients of two clips.

And against itself: computing activations twice, or compiling the network, gives the same.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from inference.inference_core import InferenceConfig, InferenceCore
from model.config import NetworkConfig
from model.network import IMAGE_MEAN, IMAGE_STD, XMem, normalise_images
from tests.helpers.compiled_steps import compiled_steps
from tests.helpers.reference import PARITY, network_with_reference_weights
from tests.helpers.tiny_network import tiny_network
from tests.helpers.training_run import made_up_stage
from tests.helpers.training_steps import made_up_batch
from training.clip import Choices, CompiledNetwork, clip_loss, draw_choices, segment_clips
from training.config import STAGES, OptimisationConfig, StageConfig
from training.losses import bootstrapped_cross_entropy, dice_loss
from training.step import ClipObjective, Stepper
from training.weights import FoldedNetwork
from util.errors import SettingError
from util.processes import Processes

STAGE: StageConfig = STAGES["3"]
NOISE = "key_proj.key_proj.bias"
"""Shifts all keys alike, so its gradient is zero."""


@pytest.fixture(scope="module")
def network() -> XMem:
    return network_with_reference_weights(NetworkConfig()).requires_grad_(True)


@pytest.fixture(params=["portable", "shared"])
def step(request: pytest.FixtureRequest) -> tuple[dict[str, np.ndarray], dict]:
    """The arrays and figures of a reference step."""
    folder: Path = PARITY if request.param == "portable" else request.getfixturevalue("shared") / "parity"
    return dict(np.load(folder / "train_step.npz")), json.loads((folder / "train_step.json").read_text())


def run_step(network: XMem, arrays: dict[str, np.ndarray], dtype: torch.dtype):
    """The reference step's batch through the network: segmentations, labels and numbers of objects."""
    images = torch.from_numpy(arrays["rgb"]).permute(0, 1, 4, 2, 3).to(dtype) / 255
    mean, std = (torch.tensor(statistic, dtype=dtype)[:, None, None] for statistic in (IMAGE_MEAN, IMAGE_STD))
    labels, objects = torch.from_numpy(arrays["label"]), torch.from_numpy(arrays["num_objects"])
    channel = torch.arange(1, int(objects.max()) + 1)
    selector = (channel <= objects[:, None]).to(dtype)
    first_masks = (labels[:, :1] == channel[:, None, None]).to(dtype) * selector[:, :, None, None]
    deep_updates = torch.tensor([[True, *arrays["deep_update"].tolist(), False]] * 2)
    references = tuple(torch.tensor([frames] * 2) for frames in ([0], [0, 1], [0, 2]))
    choices = Choices(deep_updates, references)
    return (
        segment_clips(FoldedNetwork(network), (images - mean) / std, first_masks, selector, choices),
        labels,
        objects,
    )


def test_masks_logits_and_losses_are_the_published_ones(network, step):
    arrays, figures = step
    with torch.no_grad():
        segmentations, labels, objects = run_step(network, arrays, torch.float32)
        for t, segmentation in enumerate(segmentations, start=1):
            torch.testing.assert_close(segmentation.prob[:, 1:].numpy(), arrays[f"masks_{t}"], atol=1e-4, rtol=0)
            torch.testing.assert_close(segmentation.logits.numpy(), arrays[f"logits_{t}"], atol=1e-4, rtol=0)
        for iteration, expected in figures["losses"].items():
            fraction = STAGE.hardest_fraction(int(iteration))
            assert fraction == pytest.approx(expected["p"], abs=1e-6)
            loss = clip_loss(segmentations, labels, objects, fraction)
            assert loss.total.item() == pytest.approx(expected["total_loss"], abs=1e-4)
            for t in (1, 2, 3):
                assert loss.cross_entropy[t - 1].item() == pytest.approx(expected[f"ce_loss_{t}"], abs=1e-4)
                assert loss.dice[t - 1].item() == pytest.approx(expected[f"dice_loss_{t}"], abs=1e-4)


def test_gradient_norms_are_the_published_ones(network, step):
    arrays, figures = step
    network = network.double()
    try:
        segmentations, labels, objects = run_step(network, arrays, torch.float64)
        clip_loss(segmentations, labels, objects, hardest_fraction=1.0).total.backward()
        norms = {name: parameter.grad.norm().item() for name, parameter in network.named_parameters()}
    finally:
        network.zero_grad()
        network.float()
    assert norms.pop(NOISE) < 1e-6
    assert norms.keys() == figures["grad_norm"].keys() - {NOISE}
    for name, norm in norms.items():
        assert norm == pytest.approx(figures["grad_norm"][name], rel=1e-3), name


def test_choices_of_a_sample_do_not_depend_on_which_process_holds_it():
    whole = draw_choices(
        1, 7, range(4), frames=8, reference_frames=3, objects=2, deep_update_prob=0.5, sensory_dropout=0.5
    )
    for part in (range(0, 1), range(1, 3), range(3, 4)):
        choices = draw_choices(
            1, 7, part, frames=8, reference_frames=3, objects=2, deep_update_prob=0.5, sensory_dropout=0.5
        )
        assert torch.equal(choices.deep_updates, whole.deep_updates[part.start : part.stop])
        assert choices.forgotten is not None
        assert whole.forgotten is not None
        assert torch.equal(choices.forgotten, whole.forgotten[part.start : part.stop])
        for mine, all_rows in zip(choices.references, whole.references, strict=True):
            assert torch.equal(mine, all_rows[part.start : part.stop])
    other = draw_choices(
        1, 8, range(4), frames=8, reference_frames=3, objects=2, deep_update_prob=0.5, sensory_dropout=0.5
    )
    assert not all(torch.equal(a, b) for a, b in zip(whole.references, other.references, strict=True))


def test_a_dropped_sensory_memory_is_one_that_stays_at_zero():
    """As in inference without it, where all frames are stored and all elements read."""
    frames, objects = 4, 2
    batch, network = made_up_batch(0, frames), tiny_network()
    images = normalise_images(batch.images)
    masks = torch.stack([batch.labels[:, 0] == label for label in (1, 2)], dim=1).float()
    choices = draw_choices(
        0, 0, range(len(batch)), frames=frames, reference_frames=frames, objects=objects, deep_update_prob=0.5,
        sensory_dropout=1.0,
    )  # fmt: skip
    config = InferenceConfig.from_settings(enable_sensory=False, mem_every=1, top_k=None)
    with torch.no_grad():
        trained = segment_clips(FoldedNetwork(network), images, masks, torch.ones(len(batch), objects), choices)
        for sample in range(len(batch)):
            core = InferenceCore(network, config)
            core.step(images[sample, 0], masks[sample], objects=[1, 2])
            for image, segmentation in zip(images[sample, 1:], trained, strict=True):
                torch.testing.assert_close(segmentation.prob[sample], core.step(image), atol=5e-4, rtol=0)


def test_references_are_frame_0_and_distinct_earlier_frames():
    choices = draw_choices(
        0, 0, range(50), frames=8, reference_frames=3, objects=2, deep_update_prob=0.2, sensory_dropout=0.1
    )
    for t, references in enumerate(choices.references, start=1):
        assert references.shape == (50, min(t, 3))
        assert (references[:, 0] == 0).all()
        assert (references.diff(dim=1) > 0).all()
        assert (references < t).all()
    assert choices.deep_updates[:, 0].all()
    assert not choices.deep_updates[:, -1].any()
    assert 0.1 < choices.deep_updates[:, 1:-1].float().mean() < 0.3
    assert choices.forgotten is not None
    assert 0.05 < choices.forgotten.float().mean() < 0.15


def test_filler_channels_do_not_enter_the_cross_entropy():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 5, 6, generator=generator)
    labels = torch.randint(0, 2, (2, 5, 6), generator=generator)
    loss = bootstrapped_cross_entropy(logits, labels, torch.tensor([1, 1]), fraction=1.0)
    logits[:, 2:] = 100
    assert bootstrapped_cross_entropy(logits, labels, torch.tensor([1, 1]), fraction=1.0) == loss
    assert bootstrapped_cross_entropy(logits, labels, torch.tensor([3, 1]), fraction=1.0) != loss


def test_dice_of_a_perfect_mask_is_zero_also_for_a_filler():
    labels = torch.zeros(1, 4, 4, dtype=torch.uint8)
    labels[:, :2] = 1
    masks = torch.stack([(labels == 1).float(), torch.zeros(1, 4, 4)], dim=1)
    assert dice_loss(masks, labels).item() == pytest.approx(0)
    assert dice_loss(torch.zeros(1, 2, 4, 4), labels).item() == pytest.approx((1 - 1 / 9) / 2)


def test_bootstrapping_falls_linearly_and_refuses_an_end_before_its_start():
    assert STAGE.hardest_fraction(0) == STAGE.hardest_fraction(20000) == 1
    assert STAGE.hardest_fraction(45000) == pytest.approx(0.575)
    assert STAGE.hardest_fraction(70000) == STAGE.hardest_fraction(10**6) == pytest.approx(0.15)
    with pytest.raises(SettingError, match="stage 3: end_warm must not be before start_warm"):
        replace(STAGE, start_warm=10, end_warm=9)


def narrow_network(hidden_dim: int = 4) -> XMem:
    torch.manual_seed(0)
    return XMem(NetworkConfig("resnet18", "resnet18", 16, 8, 16, hidden_dim, (16, 8, 8), 8)).eval()


def loss_and_gradients(hidden_dim: int, checkpoint_activations: bool) -> tuple[Tensor, dict[str, Tensor | None], int]:
    """Of a made-up batch; and how many bytes the backward pass needed of the forward pass, weights left out."""
    network, batch = narrow_network(hidden_dim), made_up_batch(0)
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    objective = ClipObjective(network, 2, checkpoint_activations, compiled=False)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss, _, _ = objective(batch, made_up_stage(max_objects=2), 0)
    loss.backward()
    return loss, {name: parameter.grad for name, parameter in network.named_parameters()}, sum(kept.values())


@pytest.mark.parametrize("hidden_dim", [0, 4])
def test_computing_activations_twice_gives_the_same_to_the_bit_and_keeps_little(hidden_dim):
    expected_loss, expected, all_bytes = loss_and_gradients(hidden_dim, checkpoint_activations=False)
    loss, gradients, bytes_kept = loss_and_gradients(hidden_dim, checkpoint_activations=True)
    assert torch.equal(loss, expected_loss)
    assert gradients.keys() == expected.keys()
    assert sum(gradient is not None and bool(gradient.any()) for gradient in gradients.values()) > 100
    for name, gradient in gradients.items():
        assert torch.equal(gradient, expected[name]) if gradient is not None else expected[name] is None, name
    assert 0 < bytes_kept < all_bytes / 6


@pytest.mark.parametrize("encoder", ["resnet18", "efficientnet_lite0"])
def test_weights_that_are_folded_get_the_gradients_of_plain_autograd(encoder, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda operation, **_: operation)
    torch.manual_seed(0)
    config = NetworkConfig(encoder, encoder, 16 if encoder == "resnet18" else 64, 8, 16, 4, (16, 8, 8), 8)
    network, batch = XMem(config).eval(), made_up_batch(0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                torch.nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                torch.nn.init.normal_(tensor, std=0.1)

    def gradients(kind: type[FoldedNetwork | CompiledNetwork], half: bool) -> dict[str, Tensor]:
        objective = ClipObjective(network, 2, checkpoint_activations=False, compiled=False)
        objective.on_clips = kind(network)
        network.zero_grad()
        with torch.autocast("cpu", enabled=half):
            objective(batch, made_up_stage(max_objects=2), 0)[0].backward()
        named = network.named_parameters()
        return {name: each.grad.double() for name, each in named if each.grad is not None and name != NOISE}

    def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
        return float(sum((one[name] - gradient).norm() / gradient.norm() for name, gradient in other.items()))

    halved = [gradients(kind, half=True) for kind in (FoldedNetwork, CompiledNetwork)]
    network.double()
    folded, plain = (gradients(kind, half=False) for kind in (FoldedNetwork, CompiledNetwork))
    assert folded.keys() == plain.keys() == halved[0].keys() == halved[1].keys()
    assert len(plain) > 100
    assert distance(folded, plain) < 1e-9 * len(plain)
    # In half precision, which rounds elsewhere, they are as near to those of double precision.
    assert distance(halved[0], plain) < 1.3 * distance(halved[1], plain)


def test_gradients_lie_in_memory_as_their_weights_do():
    """Else DistributedDataParallel warns."""
    network = narrow_network()
    stage = made_up_stage(max_objects=2)
    Stepper(network, stage=stage, optimisation=OptimisationConfig(), processes=Processes()).step(made_up_batch(0), 0)
    gradients = {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert "key_encoder.layer3.0.downsample.0.weight" in gradients  # 1×1
    for name, gradient in gradients.items():
        assert gradient.stride() == network.get_parameter(name).stride(), name


@pytest.mark.slow
def test_a_compiled_network_learns_the_same_and_is_compiled_once():
    """Without generated C++, which takes minutes: tests/test_gpu.py has the real thing."""
    steps = compiled_steps("cpu", "aot_eager", frames=4, hidden_dim=4, checkpoint_activations=True)
    assert len({step["loss"] for step in steps}) == 4
    for step in steps:
        assert step["compiled_loss"] == pytest.approx(step["loss"], rel=1e-5)
        assert step["compiled_gradient_norm"] == pytest.approx(step["gradient_norm"], rel=1e-4)
        assert step["graph_breaks"] == 0
        assert (
            step["graphs"] == 5
        )  # encode_key; encode_value of frame 0, of others; segment of the last frame, of others
