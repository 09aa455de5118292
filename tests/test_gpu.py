"""What only an accelerator can show: agreement with the CPU, mixed precision in half, memory that changes devices."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from inference.config import InferenceConfig
from inference.inference_core import InferenceCore
from model.checkpoint import save_network
from model.config import NetworkConfig
from model.cuda_graphs import GraphedNetwork
from model.network import XMem
from tests.helpers.compiled_steps import compiled_steps
from tests.helpers.reference import PARITY, Clip, network_with_reference_weights, read_clip, reference_network
from tests.helpers.tiny_network import TINY, tiny_network
from tests.helpers.training_run import made_up_stage
from tests.helpers.training_steps import made_up_batch
from training.config import OptimisationConfig
from training.step import StepFigures, Stepper, StepperState, TrainingBatch
from util.processes import Processes

pytestmark = pytest.mark.gpu

AVAILABLE = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
CONFIG = InferenceConfig.from_settings(
    mem_every=2, min_mid_term_frames=2, max_mid_term_frames=4, num_prototypes=10, max_long_term_elements=25
)


@pytest.fixture(params=AVAILABLE)
def device(request, monkeypatch) -> str:
    if not AVAILABLE[request.param]:
        pytest.skip(f"there is no {request.param} device")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # convolutions that round to ten bits
    return request.param


@pytest.fixture
def clip() -> Clip:
    """A made-up clip of 14 frames; objects 1 and 2 begin, object 5 enters at frame 7, after a consolidation."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(14, 3, 5, 7, generator=generator)
    images = torch.nn.functional.interpolate(coarse, (45, 61), mode="bilinear", align_corners=False)
    first, later = torch.zeros(2, 45, 61, dtype=torch.uint8)
    first[4:20, 4:30], first[15:40, 25:50], later[20:44, 2:20] = 1, 2, 5
    return Clip(list(images), {0: first, 7: later}, CONFIG, TINY.hidden_dim, {}, [], [])


def follow(core: InferenceCore, clip: Clip, device: str, frames: range | None = None) -> list[Tensor]:
    """Images go to the device; label maps stay on the CPU. Probabilities come back to it."""
    frames = frames or range(len(clip.images))
    return [core.step(clip.images[time].to(device), clip.masks.get(time)).cpu() for time in frames]


def assert_close(results: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    assert len(results) == len(expected)
    for time, (result, reference) in enumerate(zip(results, expected, strict=True)):
        error = (result - reference).abs().max().item()
        assert error <= tolerance, f"frame {time}"


@pytest.mark.parametrize("name", ["clip", "clip_long_term"])
def test_reference_clips(device, name):
    clip = read_clip(PARITY / f"{name}.npz")
    core = InferenceCore(
        network_with_reference_weights(NetworkConfig(hidden_dim=clip.hidden_dim)).to(device), clip.config
    )
    for time, image in enumerate(clip.images):
        prob = core.step(image.to(device), clip.masks.get(time), end=time == len(clip.images) - 1)
        sizes = core.memory.working.size, core.memory.long_term.size
        assert sizes == (clip.work_elements[time], clip.long_elements[time]), f"memory sizes after frame {time}"
        if time in clip.prob:
            assert (prob.cpu() - clip.prob[time]).abs().max().item() <= 1e-3, f"frame {time}"


@pytest.mark.parametrize("mixed_precision", [False, True])
def test_graphs_give_what_their_operations_give(device, clip, mixed_precision):
    if device != "cuda":
        pytest.skip("only CUDA has graphs")
    prepared = tiny_network().to(device).for_inference(mixed_precision)
    graphed = GraphedNetwork(prepared)
    with torch.autocast(device, torch.float16, enabled=mixed_precision):
        expected = follow(InferenceCore(prepared, clip.config), clip, device)
        for _ in range(2):
            found = follow(InferenceCore(graphed, clip.config), clip, device)
            assert_close(found, expected, 1e-2 if mixed_precision else 1e-4)
    assert graphed._records
    assert any(graph is not None for graph in graphed._graphs.values())


@pytest.mark.parametrize("hidden_dim", [0, 8])
@pytest.mark.parametrize("top_k", [None, 5])
def test_agreement_with_the_cpu(device, clip, hidden_dim, top_k):
    network = tiny_network(replace(TINY, hidden_dim=hidden_dim))
    config = replace(CONFIG, working=replace(CONFIG.working, top_k=top_k))
    expected = follow(InferenceCore(network, config), clip, "cpu")
    core = InferenceCore(network.to(device), config)
    assert_close(follow(core, clip, device), expected, 1e-3)
    stores = (core.memory.working, core.memory.long_term)
    assert {store.memory_rows.device.type for store in stores} == {device}
    assert {store.values_of(1).device.type for store in stores} == {device}
    core.delete_objects([1])
    assert core.step(clip.images[0].to(device)).shape == (3, 45, 61)


def test_masks_may_come_from_anywhere(device, clip):
    """Label maps and soft masks, corrections and new objects, from the CPU or the device."""
    network = tiny_network().to(device)
    hard, soft = InferenceCore(network, CONFIG), InferenceCore(network, CONFIG)
    for time in (0, 1, 7, 3, 4):
        image, labels = clip.images[time].to(device), clip.masks.get(time)
        expected = hard.step(image, None if labels is None else labels.to(device))
        assert expected.device.type == device
        objects = None if labels is None else [int(label) for label in labels.unique() if label]
        masks = None if labels is None else torch.stack([labels == label for label in objects]).float()
        torch.testing.assert_close(soft.step(image, masks, objects), expected, rtol=0, atol=1e-5)
    assert hard.objects == soft.objects == [1, 2, 5]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mixed_precision(device, clip, dtype):
    network = tiny_network()
    expected = follow(InferenceCore(network, CONFIG), clip, "cpu")
    core = InferenceCore(network.to(device), CONFIG)
    with torch.autocast(device, dtype=dtype):
        results = follow(core, clip, device)
    assert {prob.dtype for prob in results} == {torch.float32}
    assert core.memory.working.memory_rows.dtype == core.memory.long_term.memory_rows.dtype == torch.float32
    assert core.memory.working.values_of(1).dtype == dtype
    assert_close(results, expected, 0.02 if dtype == torch.float16 else 0.1)


def test_a_network_is_read_onto_the_device(device, tmp_path, clip):
    network = tiny_network()
    save_network(tmp_path / "network.pth", network.config, network.state_dict())
    rebuilt = XMem.from_checkpoint(tmp_path / "network.pth", device=device)
    assert {tensor.device.type for tensor in rebuilt.state_dict().values()} == {device}
    assert_close(follow(InferenceCore(rebuilt), clip, device), follow(InferenceCore(network), clip, "cpu"), 1e-3)


def test_a_network_is_saved_from_the_device(device, tmp_path):
    network = tiny_network()
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    save_network(tmp_path / "network.pth", network.config, network.to(device).state_dict())
    for name, tensor in XMem.from_checkpoint(tmp_path / "network.pth").state_dict().items():
        assert torch.equal(tensor, weights[name]), name


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("onto_cpu", [True, False])
def test_memory_changes_devices(device, tmp_path, clip, onto_cpu, mixed):
    """Saved on one device (in mixed precision or not), loaded on the other (without)."""
    places = (device, "cpu") if onto_cpu else ("cpu", device)
    expected = follow(InferenceCore(tiny_network(), CONFIG), clip, "cpu")
    first = InferenceCore(tiny_network().to(places[0]), CONFIG)
    dtype = torch.bfloat16 if places[0] == "cpu" else torch.float16
    with torch.autocast(places[0], dtype=dtype, enabled=mixed):
        follow(first, clip, places[0], range(9))
    first.save_memory(tmp_path / "memory.pth")
    second = InferenceCore(tiny_network().to(places[1]), CONFIG)
    second.load_memory(tmp_path / "memory.pth")
    assert second.memory.working.memory_rows.device.type == places[1]
    rest = follow(second, clip, places[1], range(9, 14))
    assert_close(rest, expected[9:], 0.1 if mixed else 1e-3)


def test_modules_of_the_published_network(device):
    """One frame through encoders, memory read and decoder, both ways."""
    network = reference_network()
    frames = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    masks = torch.rand(1, 2, 64, 96, generator=torch.Generator().manual_seed(1))

    def run(network: XMem, place: str) -> Tensor:
        image, mask = frames.to(place), masks.to(place)
        (query, features), (memory, memory_features) = network.encode_key(image[1:]), network.encode_key(image[:1])
        encoded = network.encode_value(image[:1], memory_features.f16, torch.zeros(1, 2, 64, 4, 6, device=place), mask)
        read = network.read_memory(query, memory, encoded.value.flatten(3))
        return network.segment(features, read, encoded.hidden).prob.cpu()

    expected = run(network, "cpu")
    torch.testing.assert_close(
        run(network_with_reference_weights(NetworkConfig()).to(device), device), expected, rtol=0, atol=1e-3
    )


NARROW = NetworkConfig("resnet18", "resnet18", 16, 8, 16, 4, (16, 8, 8), 8)


def narrow_stepper(place: str, **optimisation: bool) -> Stepper:
    """The same weights on every device, about to be trained."""
    torch.manual_seed(0)
    network = XMem(NARROW).eval().to(place)
    return Stepper(
        network,
        stage=made_up_stage(max_objects=2),
        optimisation=OptimisationConfig(**optimisation),
        processes=Processes(),
    )


def first_step(stepper: Stepper, batch: TrainingBatch) -> StepFigures:
    """The first step that is taken: before it, the loss scale may be too large a few times."""
    for _ in range(20):
        report = stepper.step(batch, iteration=0).figures()
        if not report.overflowed:
            return report
    pytest.fail("the loss scale never came down")


@pytest.mark.parametrize("mixed_precision", [False, True])
def test_a_training_step_agrees_with_the_cpus(device, mixed_precision, monkeypatch):
    assert_agreement(device, mixed_precision)
    if device == "cuda" and mixed_precision:  # as on a card that has no other half precision
        monkeypatch.setattr("training.step.half_precision", lambda device, training: torch.float16)
        assert assert_agreement(device, mixed_precision).scaler.is_enabled()


def assert_agreement(device: str, mixed_precision: bool) -> Stepper:
    expected = narrow_stepper("cpu").step(made_up_batch(0), 0).figures()
    stepper = narrow_stepper(device, mixed_precision=mixed_precision)
    before = stepper.network.decoder.pred.weight.clone()
    report = first_step(stepper, made_up_batch(0))
    assert not report.skipped
    tolerance = 0.05 if mixed_precision else 1e-3
    assert report.loss == pytest.approx(expected.loss, rel=tolerance)
    assert report.cross_entropy == pytest.approx(expected.cross_entropy, rel=2 * tolerance)
    assert report.dice == pytest.approx(expected.dice, rel=2 * tolerance)
    assert report.gradient_norm == pytest.approx(expected.gradient_norm, rel=4 * tolerance)
    assert not torch.equal(stepper.network.decoder.pred.weight, before)
    assert {parameter.dtype for parameter in stepper.network.parameters()} == {torch.float32}
    return stepper


def test_training_resumes_on_the_device(device, tmp_path: Path, monkeypatch):
    """From a file, as from a checkpoint: loss scale, and the optimiser's memory on the device."""
    monkeypatch.setattr("training.step.half_precision", lambda device, training: torch.float16)
    stepper = narrow_stepper(device, mixed_precision=True)
    for iteration in range(3):
        first_step(stepper, made_up_batch(iteration))
    torch.save(vars(stepper.state()), tmp_path / "state.pth")
    resumed = narrow_stepper(device, mixed_precision=True)
    state = torch.load(tmp_path / "state.pth", map_location="cpu", weights_only=True)
    resumed.load_state(StepperState(**state))
    assert resumed.scaler.state_dict() == stepper.scaler.state_dict()
    moments, expected = (each.optimizer.state_dict()["state"] for each in (resumed, stepper))
    assert moments.keys() == expected.keys()
    for index, moment in moments.items():
        assert moment["exp_avg"].device.type == device
        assert torch.equal(moment["exp_avg"], expected[index]["exp_avg"])
    for iteration in range(3, 5):
        report, other = (each.step(made_up_batch(iteration), iteration).figures() for each in (resumed, stepper))
        assert report.loss == pytest.approx(other.loss, rel=1e-2)


def test_computing_activations_twice_takes_less_memory(device):
    if device != "cuda":
        pytest.skip("peak memory is told of CUDA devices only")
    large = enlarged(made_up_batch(0), 4)  # so that activations take more than convolutions need to work
    reports, peaks = [], []
    for twice in (False, True):
        stepper = narrow_stepper(device, checkpoint_activations=twice)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        reports.append(stepper.step(large, 0).figures())
        peaks.append(torch.cuda.max_memory_allocated() - before)
        del stepper
    assert reports[1].loss == pytest.approx(reports[0].loss, rel=1e-4)
    assert reports[1].gradient_norm == pytest.approx(reports[0].gradient_norm, rel=1e-3)
    assert peaks[1] < 0.75 * peaks[0]


def enlarged(batch: TrainingBatch, factor: int) -> TrainingBatch:
    images, labels = (
        tensor.repeat_interleave(factor, -1).repeat_interleave(factor, -2) for tensor in (batch.images, batch.labels)
    )
    return replace(batch, images=images, labels=labels)


@pytest.mark.slow
def test_a_compiled_network_learns_the_same_on_the_device(device):
    if device != "cuda":
        pytest.skip("compiled for CUDA devices only")
    for step in compiled_steps(device, "inductor", frames=4, hidden_dim=4, checkpoint_activations=True):
        assert step["compiled_loss"] == pytest.approx(step["loss"], rel=1e-3)
        assert step["compiled_gradient_norm"] == pytest.approx(step["gradient_norm"], rel=1e-2)
        assert (step["graphs"], step["graph_breaks"]) == (5, 0)
