"""The per-frame loop on a small network: what may be given, what comes out, and what is remembered meanwhile.

That it computes the published program's numbers is in test_reference_clips.py. Here one run is compared with another,
mostly bit for bit.
"""

import copy
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inference import inference_core
from inference.config import InferenceConfig
from inference.images import Padding
from inference.inference_core import InferenceCore, read_masks
from model.aggregation import soft_aggregation
from model.checkpoint import save_network
from model.memory_reading import similarity
from model.network import XMem
from tests.helpers.tiny_network import TINY, tiny_network
from util.errors import UserError

HEIGHT, WIDTH = 32, 48
FRAME_SIZE = HEIGHT * WIDTH // 16**2
"""Memory elements per frame."""


@pytest.fixture(scope="module")
def network() -> XMem:
    return tiny_network()


def clip(frames: int, height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> Tensor:
    """Smooth random images, which change from frame to frame."""
    coarse = torch.randn(frames, 3, height // 8 + 1, width // 8 + 1, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)


def label_map(*labels: int, height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    """Overlapping rectangles, one for each label."""
    result = torch.zeros(height, width, dtype=torch.uint8)
    for index, label in enumerate(labels):
        top, left = 2 + 6 * index, 4 + 11 * index
        result[top : top + 12, left : left + 16] = label
    return result


def one_hot(labels: Tensor, *objects: int) -> Tensor:
    return torch.stack([labels == label for label in objects]).float()


def configuration(**changes: int | bool | None) -> InferenceConfig:
    """Small enough for a clip of 20 frames to consolidate and evict several times."""
    settings: dict[str, int | bool | None] = {"mem_every": 2}
    if changes.get("enable_long_term", True):
        settings |= {
            "min_mid_term_frames": 2,
            "max_mid_term_frames": 4,
            "num_prototypes": 10,
            "max_long_term_elements": 25,
        }
    return InferenceConfig.from_settings(**settings | changes)


def follow(core: InferenceCore, images: Sequence[Tensor], labels: Tensor | None = None) -> list[Tensor]:
    """Probabilities of all frames; the first may have a label map."""
    return [core.step(image, labels if index == 0 else None) for index, image in enumerate(images)]


def assert_same(one: Sequence[Tensor], other: Sequence[Tensor]) -> None:
    """Bit for bit."""
    assert len(one) == len(other)
    for index, (a, b) in enumerate(zip(one, other, strict=True)):
        assert torch.equal(a, b), f"frame {index}: {(a - b).abs().max()}"


def sizes(core: InferenceCore) -> tuple[int, int]:
    """Elements in working and long-term memory."""
    return core.memory.working.size, core.memory.long_term.size


def twin(core: InferenceCore) -> InferenceCore:
    """A copy that remembers the same, for comparing two ways to go on."""
    network, core.network = core.network, None
    other = copy.deepcopy(core)
    core.network = other.network = network
    return other


# ---------------------------------------------------------------------------------------------------------------------
# Settings and padding


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"mem_every": 0}, "mem_every"),
        ({"mem_every": -1}, "mem_every"),
        ({"deep_update_every": 0}, "deep_update_every"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": -1}, "top_k"),
        ({"min_mid_term_frames": 0}, "min_mid_term_frames"),
        ({"min_mid_term_frames": 10}, "max_mid_term_frames must be over min_mid_term_frames"),
        ({"max_mid_term_frames": 5}, "max_mid_term_frames"),
        ({"num_prototypes": 0}, "num_prototypes"),
        ({"max_long_term_elements": 127}, "max_long_term_elements"),
    ],
)
def test_impossible_settings_are_refused(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        InferenceConfig.from_settings(**changes)


def test_extreme_settings_are_accepted():
    InferenceConfig.from_settings(
        top_k=None, mem_every=1, min_mid_term_frames=1, max_mid_term_frames=2, deep_update_every=-7
    )
    InferenceConfig.from_settings(max_long_term_elements=128)


@settings(deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70), multiple=st.integers(1, 16))
def test_padding(height, width, multiple):
    padding = Padding.to_multiple(height, width, multiple)
    x = torch.rand(2, height, width, generator=torch.Generator().manual_seed(0)) + 1
    padded = padding.pad(x)
    rows, columns = padded.shape[-2] - height, padded.shape[-1] - width
    assert padded.shape[-2] % multiple == padded.shape[-1] % multiple == 0
    assert 0 <= rows < multiple
    assert 0 <= columns < multiple
    assert (padding.top, padding.left) == (rows // 2, columns // 2)
    assert torch.equal(padding.crop(padded), x)
    assert padded.sum() == pytest.approx(x.sum())
    assert (padded == 0).sum() == 2 * (padded[0].numel() - height * width)


# ---------------------------------------------------------------------------------------------------------------------
# Frames and masks


def test_what_comes_out(network):
    core = InferenceCore(network, configuration())
    for index, prob in enumerate(follow(core, clip(8), label_map(1, 2, 3))):
        assert prob.shape == (4, HEIGHT, WIDTH)
        assert prob.dtype == torch.float32
        torch.testing.assert_close(prob.sum(dim=0), torch.ones(HEIGHT, WIDTH))
        assert not prob.requires_grad
        if index == 0:
            assert torch.equal(prob.argmax(dim=0), label_map(1, 2, 3).long())


def test_results_depend_on_what_was_given_and_stored(network):
    """Else most comparisons below would compare nothing."""
    one, other = (
        follow(InferenceCore(network, configuration()), clip(8), labels) for labels in (label_map(1), 1 - label_map(1))
    )
    assert min((a - b).abs().max().item() for a, b in zip(one, other, strict=True)) > 1e-3
    rarely = follow(InferenceCore(network, configuration(mem_every=100)), clip(8), label_map(1))
    assert (one[-1] - rarely[-1]).abs().max() > 1e-4


def test_labels_may_have_gaps(network):
    plain, gaps = InferenceCore(network, configuration()), InferenceCore(network, configuration())
    assert_same(follow(plain, clip(8), label_map(1, 2)), follow(gaps, clip(8), label_map(7, 255)))
    assert plain.objects == [1, 2]
    assert gaps.objects == [7, 255]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint16, torch.int32, torch.int64])
def test_label_maps_of_any_integer_type(network, dtype):
    core = InferenceCore(network)
    expected = InferenceCore(network).step(clip(1)[0], label_map(3, 100))
    assert torch.equal(core.step(clip(1)[0], label_map(3, 100).to(dtype)), expected)
    assert core.objects == [3, 100]
    assert {type(label) for label in core.objects} == {int}


def test_a_boolean_mask_is_one_object(network):
    core = InferenceCore(network)
    prob = core.step(clip(1)[0], label_map(5) > 0)
    assert torch.equal(prob, InferenceCore(network).step(clip(1)[0], label_map(1)))
    assert core.objects == [1]
    assert {type(label) for label in core.objects} == {int}


def test_soft_masks_of_zeros_and_ones_are_a_label_map(network):
    labels = label_map(3, 8, 5)
    hard, soft = InferenceCore(network, configuration()), InferenceCore(network, configuration())
    soft_results = [
        soft.step(image, *((one_hot(labels, 3, 5, 8), [3, 5, 8]) if t == 0 else ())) for t, image in enumerate(clip(6))
    ]
    assert_same(soft_results, follow(hard, clip(6), labels))


def test_soft_masks_are_not_rounded(network):
    masks = torch.rand(2, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    prob = InferenceCore(network).step(clip(1)[0], masks, [1, 2])
    assert torch.equal(prob, soft_aggregation(masks).prob)


def test_soft_masks_go_with_their_objects_in_any_order(network):
    masks = torch.rand(2, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    ascending, descending = InferenceCore(network), InferenceCore(network)
    expected = ascending.step(clip(1)[0], masks, [4, 9])
    assert torch.equal(descending.step(clip(1)[0], masks.flip(0), [9, 4]), expected)
    assert ascending.objects == descending.objects == [4, 9]


def test_objects_say_which_labels_count(network):
    labels = label_map(1, 2, 3)
    some, only = InferenceCore(network, configuration()), InferenceCore(network, configuration())
    assert torch.equal(some.step(clip(1)[0], labels, [3, 1]), only.step(clip(1)[0], labels * (labels != 2)))
    assert some.objects == [1, 3]


def test_an_object_may_be_invisible(network):
    core = InferenceCore(network, configuration())
    prob = core.step(clip(1)[0], label_map(1), objects=[1, 6])
    assert core.objects == [1, 6]
    assert prob[2].max() < 1e-6
    assert core.step(clip(2)[1]).shape == (3, HEIGHT, WIDTH)


def test_channels_are_in_order_of_arrival(network):
    core, images = InferenceCore(network, configuration()), clip(4)
    core.step(images[0], label_map(9, 4))
    assert core.objects == [4, 9]
    prob = core.step(images[1], label_map(2, 7))
    assert core.objects == [4, 9, 2, 7]
    for channel, label in ((3, 2), (4, 7)):
        assert prob[channel][label_map(2, 7) == label].min() > 0.99
    assert core.step(images[2]).shape == (5, HEIGHT, WIDTH)
    assert core.memory.sensory.hidden.shape[1] == 4
    assert core.memory.objects.arrivals == [[4, 9], [2, 7]]


def test_the_list_of_objects_is_the_callers_own(network):
    core = InferenceCore(network)
    core.step(clip(1)[0], label_map(1))
    core.objects.append(99)
    assert core.objects == [1]


def test_frames_before_the_first_annotation_are_skipped(network):
    late, prompt, images = InferenceCore(network, configuration()), InferenceCore(network, configuration()), clip(8)
    for image, labels in (
        (images[6], None),
        (images[7], label_map()),
        (
            images[5],
            label_map(),
        ),
    ):
        prob = late.step(image, labels)
        assert torch.equal(prob, torch.ones(1, HEIGHT, WIDTH))
    assert late.objects == []
    assert late.memory.working.size == 0
    assert_same(follow(late, images, label_map(1, 2)), follow(prompt, images, label_map(1, 2)))


def test_an_empty_label_map_later_on_says_nothing(network):
    """0 is "unknown"."""
    core = InferenceCore(network, configuration())
    follow(core, clip(2), label_map(1, 2))
    other = twin(core)
    assert torch.equal(core.step(clip(3)[2], label_map()), other.step(clip(3)[2]))
    assert sizes(core) == sizes(other)


@pytest.mark.parametrize(("height", "width"), [(32, 48), (45, 61), (33, 50), (17, 16)])
def test_odd_sizes_are_zero_padded(network, height, width):
    """A padded clip gives what the clip gives."""
    padding = Padding.to_multiple(height, width, 16)
    images, labels = clip(6, height, width), label_map(1, 2, height=height, width=width)
    results = follow(InferenceCore(network, configuration()), images, labels)
    assert results[0].shape == (labels.max() + 1, height, width)
    padded_images = [padding.pad(image) for image in images]
    padded_labels = padding.pad(labels[None].float())[0].to(labels.dtype)
    padded = follow(InferenceCore(network, configuration()), padded_images, padded_labels)
    assert_same(results, [padding.crop(prob) for prob in padded])


@pytest.mark.parametrize("hidden_dim", [0, 8])
def test_with_and_without_sensory_memory(hidden_dim):
    network = tiny_network(replace(TINY, hidden_dim=hidden_dim))
    core = InferenceCore(network, configuration())
    results = follow(core, clip(12), label_map(1, 2))
    assert (core.memory.sensory.hidden is None) == (hidden_dim == 0)
    core.delete_objects([1])
    core.step(clip(13)[12], label_map(3))
    assert core.objects == [2, 3]
    assert results[-1].shape == (3, HEIGHT, WIDTH)


def test_inference_mode_may_end_in_the_middle_of_a_video(network):
    """What was stored in it is written to outside it: usage, new rows, rows of objects that go."""
    core, images = InferenceCore(network, configuration()), clip(20)
    other = twin(core)
    with torch.inference_mode():
        results = follow(core, images[:10], label_map(1, 2))
    results += follow(core, images[10:15])
    expected = follow(other, images[:15], label_map(1, 2))
    for each in (core, other):
        each.delete_objects([1])
    assert core.objects == [2]
    assert_same(results + follow(core, images[15:]), expected + follow(other, images[15:]))
    assert not results[-1].is_inference()


def test_a_float64_network_works_in_float64_throughout(network):
    exact = InferenceCore(tiny_network().double(), configuration())
    results = follow(exact, clip(14).double(), label_map(1, 2))
    results.append(exact.step(clip(15)[14].double(), label_map(3)))
    assert {prob.dtype for prob in results} == {torch.float64}
    assert exact.memory.working.memory_rows.dtype == exact.memory.long_term.memory_rows.dtype == torch.float64
    assert exact.memory.sensory.hidden.dtype == torch.float64
    core = InferenceCore(network, configuration())
    rounded = [*follow(core, clip(14), label_map(1, 2)), core.step(clip(15)[14], label_map(3))]
    for a, b in zip(results, rounded, strict=True):
        torch.testing.assert_close(a.float(), b, rtol=0, atol=1e-4)


def test_the_network_is_left_as_it_was(network):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    follow(InferenceCore(network, configuration()), clip(6), label_map(1))
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


# ---------------------------------------------------------------------------------------------------------------------
# Later masks


def test_a_correction_overrules_what_was_predicted(network):
    """Given objects take their masks; the others keep their prediction where no mask is certain."""
    core, images = InferenceCore(network, configuration()), clip(5)
    follow(core, images[:3], label_map(1, 2, 3))
    predicted = twin(core).step(images[3])
    correction = one_hot(label_map(3, 2), 2) * 0.9  # at object 3's place
    prob = core.step(images[3], correction, objects=[2])
    expected = predicted[1:].clone()
    expected[:, correction[0] > 0.5] = 0
    expected[1] = correction[0]
    assert torch.equal(prob, soft_aggregation(expected).prob)
    assert core.objects == [1, 2, 3]


def test_masks_of_all_objects_need_no_prediction(network):
    core, images = InferenceCore(network, configuration()), clip(4)
    follow(core, images[:3], label_map(1, 2))
    hidden, reads = core.memory.sensory.hidden, core.memory.working.shared["life"].rows.clone()
    prob = core.step(images[3], label_map(2, 1))
    assert torch.equal(prob, soft_aggregation(one_hot(label_map(2, 1), 1, 2)).prob)
    assert torch.equal(core.memory.working.shared["life"].rows[: len(reads)], reads)
    assert not torch.equal(core.memory.sensory.hidden, hidden)  # a memory frame: a deep update


def test_a_mask_makes_a_memory_frame_and_restarts_the_clock(network):
    core, images = InferenceCore(network, configuration(mem_every=3, enable_long_term=False)), clip(12)
    stored = []
    for index, image in enumerate(images):
        before = core.memory.working.size
        core.step(image, label_map(1) if index in (0, 4) else None)
        if core.memory.working.size > before:
            stored.append(index)
    assert stored == [0, 3, 4, 7, 10]


def test_only_the_first_annotation_of_an_object_is_kept(network):
    core, images = InferenceCore(network, configuration()), clip(8)
    core.step(images[0], label_map(1))
    core.step(images[1], label_map(1))  # a correction
    core.step(images[2], label_map(1, 5))  # a correction, and a new object
    assert [frame.is_kept for frame in core.memory.working.frames] == [True, False, True]
    assert [frame.is_counted for frame in core.memory.working.frames] == [True, True, False]


def test_an_object_that_enters_late_reads_nothing_older(network):
    """What was remembered before it came plays no role for it; the other objects do, once predictions are merged.

    Both objects are alone at their places, so a network that sees no other objects' masks is the fair comparison.
    """
    network = tiny_network(replace(TINY, single_object=True))
    images, labels = clip(6), label_map(1, 2)
    late, alone = InferenceCore(network, configuration()), InferenceCore(network, configuration())
    late.step(images[0], labels * (labels == 1))
    late.step(images[1], labels * (labels == 2))
    alone.step(images[1], labels * (labels == 2))
    query, _ = network.encode_key(images[2:3])
    readout = late.memory.read(query.key[0], query.selection[0])
    expected = alone.memory.read(query.key[0], query.selection[0])
    torch.testing.assert_close(readout[1], expected[0], rtol=0, atol=1e-4)
    assert (readout[0] - expected[0]).abs().max() > 0.01
    torch.testing.assert_close(late.memory.sensory.hidden[:, 1], alone.memory.sensory.hidden[:, 0], rtol=0, atol=1e-4)


def test_objects_enter_at_any_time(network):
    core, images = InferenceCore(network, configuration()), clip(30)
    arrivals = {0: label_map(3), 1: label_map(1), 9: label_map(8, 5), 20: label_map(200)}
    for index, image in enumerate(images):
        prob = core.step(image, arrivals.get(index))
        assert prob.shape[0] == 1 + len(core.objects)
        assert prob.isfinite().all()
    assert core.objects == [3, 1, 5, 8, 200]
    kept = [sorted(frame.annotates) for frame in core.memory.working.frames if frame.is_kept]
    assert kept == [[3], [1], [5, 8], [200]]


# ---------------------------------------------------------------------------------------------------------------------
# Removing objects


def test_removed_objects_leave_no_trace(network):
    core, images = InferenceCore(network, configuration()), clip(14)
    follow(core, images[:12], label_map(1, 2, 3))
    hidden = core.memory.sensory.hidden
    core.delete_objects([2])
    assert core.objects == [1, 3]
    assert torch.equal(core.memory.sensory.hidden, hidden[:, [0, 2]])
    assert 2 not in core.memory.working.values
    assert 2 not in core.memory.long_term.values
    assert core.step(images[12]).shape == (3, HEIGHT, WIDTH)


def test_removing_one_object_does_not_change_what_is_read_for_another(network):
    core = InferenceCore(network, configuration())
    follow(core, clip(12), label_map(1, 2, 3))
    query, _ = network.encode_key(clip(13)[12:])
    before = core.memory.read(query.key[0], query.selection[0], count_usage=False)
    core.delete_objects([2])
    after = core.memory.read(query.key[0], query.selection[0], count_usage=False)
    assert torch.equal(after, before[[0, 2]])


def test_an_unknown_object_cannot_be_removed_and_nothing_is(network):
    core, images = InferenceCore(network, configuration()), clip(5)
    follow(core, images[:3], label_map(1, 2))
    other = twin(core)
    for labels in ([7], [1, 7], [1, 2, 7]):
        with pytest.raises(KeyError, match="7"):
            core.delete_objects(labels)
    assert core.objects == [1, 2]
    assert_same(follow(core, images[3:]), follow(other, images[3:]))


def test_an_object_that_comes_back_is_new(network):
    core, images = InferenceCore(network, configuration(deep_update_every=1000)), clip(8)
    follow(core, images[:3], label_map(1, 2))
    core.delete_objects([1])
    core.step(images[3], label_map(1))
    assert core.objects == [2, 1]
    assert core.memory.sensory.hidden[:, 0].any()
    assert not core.memory.sensory.hidden[:, 1].any()
    assert core.memory.working.values[1].size == FRAME_SIZE
    assert core.step(images[4]).shape == (3, HEIGHT, WIDTH)


def test_without_objects_everything_begins_anew(network):
    core, fresh, images = InferenceCore(network, configuration()), InferenceCore(network, configuration()), clip(20)
    follow(core, images[:11], label_map(1, 2))
    core.delete_objects([2, 1])
    assert core.objects == []
    assert sizes(core) == (0, 0)
    assert core.memory.sensory.hidden is None
    assert torch.equal(core.step(images[11]), torch.ones(1, HEIGHT, WIDTH))
    assert_same(follow(core, images[12:17], label_map(4, 6)), follow(fresh, images[12:17], label_map(4, 6)))


def test_removals_and_arrivals_in_a_long_clip(network):
    core, images = InferenceCore(network, configuration()), clip(40)
    for index, image in enumerate(images):
        if index in (9, 22):
            core.delete_objects(core.objects[:1])
        if index == 30:
            core.delete_objects(core.objects[1:])
        prob = core.step(image, {0: label_map(1, 2), 6: label_map(3), 15: label_map(4, 5)}.get(index))
        assert prob.shape[0] == 1 + len(core.objects)
        assert prob.isfinite().all()
    assert core.objects == [3]


# ---------------------------------------------------------------------------------------------------------------------
# What is stored, and what is not


def test_the_last_frame_stores_nothing(network):
    for frames in (3, 4):  # the frame that follows would be a memory frame, or would not
        core, images = InferenceCore(network, configuration()), clip(5)
        follow(core, images[:frames], label_map(1, 2))
        other = twin(core)
        before, hidden = sizes(core), core.memory.sensory.hidden
        assert torch.equal(core.step(images[frames], end=True), other.step(images[frames]))
        assert sizes(core) == before
        assert core.memory.sensory.hidden is hidden
    assert sizes(other) != before


def test_a_mask_on_the_last_frame_is_used_but_not_stored(network):
    core, images = InferenceCore(network, configuration()), clip(5)
    follow(core, images[:3], label_map(1, 2))
    other = twin(core)
    before = sizes(core)
    assert torch.equal(core.step(images[3], label_map(2), end=True), other.step(images[3], label_map(2)))
    assert sizes(core) == before
    assert sizes(other)[0] == before[0] + FRAME_SIZE


def test_a_clip_of_one_frame(network):
    core = InferenceCore(network)
    assert torch.equal(core.step(clip(1)[0], label_map(2), end=True).argmax(dim=0) > 0, label_map(2) > 0)
    assert sizes(core) == (0, 0)


def memory_tensors(core: InferenceCore) -> list[Tensor]:
    """All that working and long-term memory hold."""
    stores = (core.memory.working, core.memory.long_term)
    shared = [rows.rows.clone() for store in stores for rows in store.shared.values() if rows.size]
    return shared + [rows.rows.clone() for store in stores for rows in store.values.values() if rows.size]


def test_a_frozen_memory_is_read_and_nothing_more(network):
    core, images = InferenceCore(network, configuration()), clip(14)
    follow(core, images[:12], label_map(1, 2))
    before, hidden = memory_tensors(core), core.memory.sensory.hidden
    results = [core.step(image, memorize=False) for image in images[12:]]
    assert_same(memory_tensors(core), before)
    assert not torch.equal(core.memory.sensory.hidden, hidden)
    assert not torch.equal(results[0], results[1])


def test_frozen_frames_might_as_well_not_have_been(network):
    """But for the sensory memory: without it, or with it put back, all that follows is the same."""
    images = clip(20)
    for network_ in (network, tiny_network(replace(TINY, hidden_dim=0))):
        plain, frozen = InferenceCore(network_, configuration()), InferenceCore(network_, configuration())
        expected, results = follow(plain, images[:9], label_map(1, 2)), follow(frozen, images[:5], label_map(1, 2))
        hidden = frozen.memory.sensory.hidden
        for image in images[9:12]:
            frozen.step(image, memorize=False)
        frozen.memory.sensory.hidden = hidden
        assert_same(results + follow(frozen, images[5:9]), expected)
        assert sizes(plain) == sizes(frozen)


def test_frozen_frames_do_not_stop_the_sensory_memory(network):
    """Without a memory frame in between, they differ from others in nothing but usage."""
    frozen, plain, images = InferenceCore(network), InferenceCore(network), clip(4)
    expected = follow(plain, images, label_map(1, 2))
    results = [frozen.step(images[0], label_map(1, 2)), *(frozen.step(image, memorize=False) for image in images[1:])]
    assert_same(results, expected)
    assert torch.equal(frozen.memory.sensory.hidden, plain.memory.sensory.hidden)
    assert not frozen.memory.working.usage.any()
    assert plain.memory.working.usage.any()


def test_a_frozen_memory_takes_corrections_for_this_frame_only(network):
    core, images = InferenceCore(network, configuration()), clip(6)
    follow(core, images[:3], label_map(1, 2))
    before = memory_tensors(core)
    prob = core.step(images[3], label_map(2, 1), memorize=False)
    assert torch.equal(prob, soft_aggregation(one_hot(label_map(2, 1), 1, 2)).prob)
    assert_same(memory_tensors(core), before)


def test_a_frozen_memory_takes_no_new_objects_and_no_permanent_frames(network):
    core, images = InferenceCore(network, configuration()), clip(3)
    with pytest.raises(ValueError, match="memorize"):
        core.step(images[0], label_map(1), memorize=False)
    core.step(images[0], label_map(1))
    with pytest.raises(ValueError, match="memorize"):
        core.step(images[1], label_map(1, 2), memorize=False)
    with pytest.raises(ValueError, match="memorize"):
        core.step(images[1], memorize=False, permanent=True)
    assert core.objects == [1]
    assert sizes(core) == (FRAME_SIZE, 0)


def test_permanent_frames_stay_and_count_in_nothing(network):
    """The elements of two permanent frames come on top of what a core without them has, at every time."""
    images, extra = clip(24), clip(2, seed=9)
    plain, permanent = InferenceCore(network, configuration()), InferenceCore(network, configuration())
    for core in (plain, permanent):
        core.step(images[0], label_map(1, 2))
    for image in extra:
        permanent.step(image, permanent=True)
        kept = permanent.memory.working.memory_rows[-FRAME_SIZE:].clone()
    permanent._time -= len(extra)  # so that both clocks agree from here on
    permanent._last_memory_time = plain._last_memory_time
    consolidations = 0
    for image in images[1:]:
        before = sizes(plain)[1]
        plain.step(image)
        permanent.step(image)
        assert sizes(permanent) == (sizes(plain)[0] + 2 * FRAME_SIZE, sizes(plain)[1])
        consolidations += sizes(plain)[1] != before
    assert consolidations >= 2
    rows = permanent.memory.working.memory_rows
    assert torch.equal(rows[2 * FRAME_SIZE : 3 * FRAME_SIZE], kept)


def test_a_permanent_frame_needs_no_mask_and_no_due_date(network):
    core, images = InferenceCore(network, configuration(mem_every=100)), clip(4)
    core.step(images[0], label_map(1))
    core.step(images[1], permanent=True)
    core.step(images[2], label_map(1), permanent=True)
    assert sizes(core) == (3 * FRAME_SIZE, 0)
    core.step(images[3])
    assert sizes(core) == (3 * FRAME_SIZE, 0)


@pytest.mark.parametrize(
    ("mem_every", "deep_update_every", "deep", "normal"),
    [
        (2, -1, [0, 2, 4, 6, 8], [1, 3, 5, 7]),
        (2, -5, [0, 2, 4, 6, 8], [1, 3, 5, 7]),
        (2, 1, [0, 2, 4, 6, 8], [1, 2, 3, 4, 5, 6, 7, 8]),
        (2, 3, [0, 4, 8], [1, 2, 3, 4, 5, 6, 7, 8]),
        (2, 4, [0, 4, 8], [1, 2, 3, 4, 5, 6, 7, 8]),
        (3, 100, [0], [1, 2, 3, 4, 5, 6, 7, 8]),
    ],
)
def test_when_the_sensory_memory_is_updated(network, mem_every, deep_update_every, deep, normal):
    """With a negative deep_update_every the decoder's update gives way to the deep one, else both happen."""
    core = InferenceCore(network, configuration(mem_every=mem_every, deep_update_every=deep_update_every))
    happened = {"deep": [], "normal": []}
    hooks = [
        module.register_forward_hook(lambda *_, name=name: happened[name].append(index))
        for name, module in (
            ("deep", network.value_encoder.hidden_reinforce),
            ("normal", network.decoder.hidden_update),
        )
    ]
    try:
        for index, image in enumerate(clip(10)):
            core.step(image, label_map(1, 2) if index == 0 else None, end=index == 9)
    finally:
        for hook in hooks:
            hook.remove()
    assert happened == {"deep": deep, "normal": normal}


def test_memory_is_bounded(network):
    """Frames of one element each; sizes, and what is allocated for them."""
    config = configuration(mem_every=1)
    core, images = InferenceCore(network, config), clip(20, 16, 16)
    largest = 0
    for index in range(300):
        core.step(images[index % 20], label_map(1, height=16, width=16) if index == 0 else None)
        assert core.memory.working.size < config.working.when_full.max_mid_term_frames
        assert core.memory.long_term.size <= config.working.when_full.max_long_term_elements
        columns = [*core.memory.working.shared.values(), *core.memory.long_term.shared.values()]
        largest = max(largest, *(len(rows._buffer) for rows in columns if rows._buffer is not None))
    assert core.memory.long_term.size == config.working.when_full.max_long_term_elements
    assert largest <= config.working.when_full.max_long_term_elements


def test_without_long_term_memory_everything_is_kept(network):
    core = InferenceCore(network, configuration(mem_every=1, enable_long_term=False))
    follow(core, clip(20), label_map(1))
    assert sizes(core) == (20 * FRAME_SIZE, 0)


# ---------------------------------------------------------------------------------------------------------------------
# Reset, save and load


def test_reset_is_a_new_beginning(network):
    core, images = InferenceCore(network, configuration()), clip(20)
    expected = follow(core, images, label_map(1, 2))
    core.reset()
    assert core.objects == []
    assert sizes(core) == (0, 0)
    smaller = follow(core, clip(3, 32, 32, seed=5), label_map(4, height=32, width=32))
    assert smaller[-1].shape == (2, 32, 32)
    core.reset()
    assert_same(follow(core, images, label_map(1, 2)), expected)


CONTINUE = """
import sys
import torch
from inference.inference_core import InferenceConfig, InferenceCore
from model.network import XMem

network, memory, frames, results = sys.argv[1:5]
settings, images, masks = torch.load(frames, weights_only=True)
torch.set_num_threads(1)
core = InferenceCore(XMem.from_checkpoint(network), InferenceConfig.from_settings(**settings))
core.load_memory(memory)
probabilities = [core.step(image, masks.get(index)) for index, image in enumerate(images)]
torch.save((core.objects, probabilities), results)
"""


def test_another_process_goes_on_with_the_same_bits(network, tmp_path):
    """Over consolidations, an eviction, a correction and a new object."""
    settings = configuration(deep_update_every=3, max_long_term_elements=15)
    core, images = InferenceCore(network, settings), clip(24)
    for index, image in enumerate(images[:13]):
        core.step(image, {0: label_map(7, 3), 4: label_map(255)}.get(index), permanent=index == 6)
    core.delete_objects([3])
    masks = {2: label_map(9), 5: label_map(7)}
    files = [str(tmp_path / name) for name in ("network.pth", "memory.pth", "frames.pth", "results.pth")]
    save_network(files[0], network.config, network.state_dict())
    core.save_memory(files[1])
    torch.save((settings.settings(), list(images[13:]), masks), files[2])
    before = sizes(core)
    expected = [core.step(image, masks.get(index)) for index, image in enumerate(images[13:])]
    assert (before[1], core.memory.long_term.size) == (10, 15)
    repository = Path(inference_core.__file__).resolve().parent.parent
    subprocess.run([sys.executable, "-c", CONTINUE, *files], cwd=repository, check=True)
    objects, results = torch.load(files[3], weights_only=True)
    assert objects == core.objects == [7, 255, 9]
    assert_same(results, expected)


@pytest.mark.parametrize("frames", [0, 1, 11])
def test_saving_changes_nothing_and_loading_goes_on(network, tmp_path, frames):
    """At any time, also before there is anything to remember."""
    core, images = InferenceCore(network, configuration()), clip(15)
    follow(core, images[:frames], label_map(1, 2))
    untouched = twin(core)
    core.save_memory(tmp_path / "memory.pth")
    other = InferenceCore(network, configuration())
    follow(other, clip(3, seed=3), label_map(6))  # forgotten by loading
    other.load_memory(str(tmp_path / "memory.pth"))
    first_labels = label_map(1, 2) if frames == 0 else None
    expected = follow(untouched, images[frames:], first_labels)
    assert_same(follow(core, images[frames:], first_labels), expected)
    assert_same(follow(other, images[frames:], first_labels), expected)
    assert other.objects == [1, 2]
    assert sizes(other) == sizes(core)


def test_a_saved_memory_remembers_the_size_of_its_frames(network, tmp_path):
    core = InferenceCore(network)
    core.step(clip(1)[0], label_map(1))
    core.save_memory(tmp_path / "memory.pth")
    core.reset()
    core.load_memory(tmp_path / "memory.pth")
    with pytest.raises(ValueError, match="one size"):
        core.step(clip(1, 32, 32)[0])


def test_other_settings_are_taken_with_a_warning(network, tmp_path, caplog):
    core = InferenceCore(network, configuration())
    follow(core, clip(12), label_map(1))
    core.save_memory(tmp_path / "memory.pth")
    other = InferenceCore(network, configuration(mem_every=7, max_long_term_elements=12))
    with caplog.at_level(logging.WARNING):
        other.load_memory(tmp_path / "memory.pth")
    assert "max_long_term_elements: 25 before, 12 now; mem_every: 2 before, 7 now" in caplog.text
    follow(other, clip(30, seed=2))
    assert other.memory.long_term.size <= 12


def test_a_memory_with_long_term_may_go_on_without(network, tmp_path):
    """Nothing is consolidated any more; what is in long-term memory is still read."""
    core, images = InferenceCore(network, configuration()), clip(20)
    follow(core, images[:12], label_map(1, 2))
    core.save_memory(tmp_path / "memory.pth")
    other = InferenceCore(network, configuration(enable_long_term=False))
    other.load_memory(tmp_path / "memory.pth")
    before = sizes(other)
    other.step(images[12], label_map(3))
    follow(other, images[13:])
    assert sizes(other)[1] == before[1] > 0
    assert sizes(other)[0] >= before[0] + 4 * FRAME_SIZE
    other.delete_objects([1, 2])
    assert other.step(images[0]).shape == (2, HEIGHT, WIDTH)


def assert_not_loaded(core: InferenceCore, path: Path, complaint: str) -> None:
    """One line that names the file, and the core as before."""
    before = memory_tensors(core), core.objects
    with pytest.raises(UserError) as caught:
        core.load_memory(path)
    message = str(caught.value)
    assert str(path) in message
    assert complaint in message
    assert "\n" not in message
    assert core.objects == before[1]
    assert_same(memory_tensors(core), before[0])


def test_files_that_are_no_memory(network, tmp_path):
    core, path = InferenceCore(network, configuration()), tmp_path / "memory.pth"
    follow(core, clip(6), label_map(1, 2))
    untouched = twin(core)
    assert_not_loaded(core, path, "no such file")
    assert_not_loaded(core, tmp_path, "no such file")
    core.save_memory(path)
    whole = path.read_bytes()
    for content in (b"", b"text 1.0", b"\x80\x02garbage", whole[: len(whole) // 2], whole[:-5]):
        path.write_bytes(content)
        assert_not_loaded(core, path, "damaged or not a saved memory")
    for content in ([1, 2], {}, {"format": "xmem-memory-0"}, network.key_proj.state_dict()):
        torch.save(content, path)
        assert_not_loaded(core, path, "not a saved memory")
    save_network(path, network.config, network.key_proj.state_dict())
    assert_not_loaded(core, path, "not a saved memory")
    path.write_bytes(whole)
    content = torch.load(path, weights_only=True)
    for name in content.keys() - {"format", "network"}:
        torch.save({key: value for key, value in content.items() if key != name}, path)
        assert_not_loaded(core, path, "is damaged, or of another version")
    torch.save(content | {"network": {"key_dim": torch.zeros(2)}}, path)
    assert_not_loaded(core, path, "other widths")
    assert_same(follow(core, clip(4, seed=1)), follow(untouched, clip(4, seed=1)))


def test_the_memory_of_another_network(network, tmp_path):
    core = InferenceCore(network, configuration())
    follow(core, clip(3), label_map(1))
    other = InferenceCore(tiny_network(replace(TINY, value_dim=24)), configuration())
    follow(other, clip(3), label_map(1))
    other.save_memory(tmp_path / "memory.pth")
    assert_not_loaded(core, tmp_path / "memory.pth", "other widths")


def test_a_memory_without_long_term_cannot_be_consolidated(network, tmp_path):
    core = InferenceCore(network, configuration())
    follow(core, clip(3), label_map(1))
    other = InferenceCore(network, configuration(enable_long_term=False))
    follow(other, clip(3), label_map(1))
    other.save_memory(tmp_path / "memory.pth")
    assert_not_loaded(core, tmp_path / "memory.pth", "without consolidation")


def test_saving_leaves_an_old_file_alone_until_the_new_one_is_whole(network, tmp_path, monkeypatch):
    core, path = InferenceCore(network, configuration()), tmp_path / "memory.pth"
    follow(core, clip(3), label_map(1))
    core.save_memory(path)
    before = path.read_bytes()

    def break_off(content: object, file: Path) -> None:
        file.write_bytes(b"half of it")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", break_off)
    with pytest.raises(UserError, match=r"memory\.pth cannot be written: disk full"):
        core.save_memory(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


# ---------------------------------------------------------------------------------------------------------------------
# Mixed precision (on small frames: it is slow on processors without bfloat16)


def follow_mixed(core: InferenceCore, frames: slice = slice(12), mixed: bool = True) -> list[Tensor]:
    """These frames of a clip, in mixed precision or not; those from the first one on begin with two objects."""
    labels = label_map(1, 2, height=16, width=32) if not frames.start else None
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
        return follow(core, clip(12, 16, 32)[frames], labels)


def test_mixed_precision_is_close(network):
    exact, rounded = (follow_mixed(InferenceCore(network, configuration()), mixed=mixed) for mixed in (False, True))
    assert {prob.dtype for prob in rounded} == {torch.float32}
    assert torch.equal(rounded[0], exact[0])
    for a, b in zip(rounded[1:], exact[1:], strict=True):
        assert not torch.equal(a, b)
        torch.testing.assert_close(a, b, rtol=0, atol=0.1)


def test_memory_keys_are_in_float32_under_mixed_precision(network, monkeypatch):
    seen = set()

    def watched(queries: Tensor, memory: Tensor, out: Tensor | None = None) -> Tensor:
        result = similarity(queries, memory, out=out)
        seen.update({queries.dtype, memory.dtype, result.dtype})
        return result

    monkeypatch.setattr("inference.memory.reading.similarity", watched)
    monkeypatch.setattr("inference.strategies.prototypes.similarity", watched)
    core = InferenceCore(network, configuration())
    follow_mixed(core)
    assert seen == {torch.float32}
    assert core.memory.working.values_of(1).dtype == torch.bfloat16  # half the memory
    scaled_shrinkage = core.memory.long_term.memory_rows[:, -1]
    assert len(scaled_shrinkage) > 0
    assert not torch.equal(scaled_shrinkage, scaled_shrinkage.bfloat16().float())


@pytest.mark.parametrize("mixed_first", [True, False])
def test_precision_may_change_in_between(network, tmp_path, mixed_first):
    """Say, a memory made on a GPU in mixed precision, and used on a CPU."""
    exact = follow_mixed(InferenceCore(network, configuration()), mixed=False)
    core = InferenceCore(network, configuration())
    follow_mixed(core, slice(0, 6), mixed=mixed_first)
    core.save_memory(tmp_path / "memory.pth")
    core.load_memory(tmp_path / "memory.pth")
    for a, b in zip(follow_mixed(core, slice(6, 12), mixed=not mixed_first), exact[6:], strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0, atol=0.1)


# ---------------------------------------------------------------------------------------------------------------------
# Mistakes


@pytest.mark.parametrize(
    ("mask", "objects", "complaint"),
    [
        (None, [1], "there is no mask"),
        (torch.zeros(4, 5, dtype=torch.uint8), None, "the mask is \\(4, 5\\), the image \\(32, 48\\)"),
        (torch.zeros(1, 48, 32), [1], "the mask is \\(48, 32\\), the image \\(32, 48\\)"),
        (torch.zeros(HEIGHT, WIDTH), None, "integer H×W label map"),
        (torch.zeros(HEIGHT, WIDTH), [1], "integer H×W label map"),
        (torch.zeros(1, 1, HEIGHT, WIDTH), [1], "integer H×W label map"),
        (torch.zeros(2, HEIGHT, WIDTH), None, "2 soft masks need as many objects"),
        (torch.zeros(2, HEIGHT, WIDTH), [1], "2 soft masks need as many objects"),
        (torch.zeros(2, HEIGHT, WIDTH), [1, 1], "distinct positive labels"),
        (torch.zeros(2, HEIGHT, WIDTH), [0, 1], "distinct positive labels"),
        (label_map(1), [1, -1], "distinct positive labels"),
        (-label_map(1).int(), None, "labels must be positive"),
        (255 * one_hot(label_map(1), 1), [1], "soft masks are in \\[0, 1\\]"),
        (-one_hot(label_map(1), 1), [1], "soft masks are in \\[0, 1\\]"),
        (torch.full((1, HEIGHT, WIDTH), torch.nan), [1], "soft masks are in \\[0, 1\\]"),
    ],
)
def test_masks_that_cannot_be_read(mask, objects, complaint):
    with pytest.raises(ValueError, match=complaint):
        read_masks(mask, objects, (HEIGHT, WIDTH))


def test_no_objects_are_no_mask():
    assert read_masks(None, None, (HEIGHT, WIDTH)) is None
    assert read_masks(label_map(), None, (HEIGHT, WIDTH)) is None
    assert read_masks(label_map(1), [], (HEIGHT, WIDTH)) is None
    assert read_masks(torch.zeros(0, HEIGHT, WIDTH), [], (HEIGHT, WIDTH)) is None


def test_a_refused_frame_changes_nothing(network):
    core, images = InferenceCore(network, configuration()), clip(6)
    follow(core, images[:3], label_map(1, 2))
    untouched = twin(core)
    with pytest.raises(ValueError, match="one size"):
        core.step(clip(1, 32, 64)[0])
    with pytest.raises(ValueError, match="distinct positive"):
        core.step(images[3], label_map(1), [1, 1])
    with pytest.raises(ValueError, match="no mask"):
        core.step(images[3], objects=[1])
    assert core.objects == [1, 2]
    assert_same(follow(core, images[3:]), follow(untouched, images[3:]))


@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize("operation", ["encode_key", "segment", "encode_value"])
def test_a_frame_that_failed_can_be_given_again(network, monkeypatch, operation, end):
    core, images = InferenceCore(network, configuration()), clip(7)
    follow(core, images[:4], label_map(1, 2))
    untouched = twin(core)

    def out_of_memory(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(core.network, operation, out_of_memory)
        with pytest.raises(MemoryError):
            core.step(images[4], label_map(3), permanent=True, end=end)
    assert core.objects == [1, 2]
    assert core.memory.counts == untouched.memory.counts
    for index in (4, 5, 6):
        mask = label_map(3) if index == 4 else None
        assert torch.equal(core.step(images[index], mask), untouched.step(images[index], mask))


def test_frames_remembered_before_the_first_one_count_as_a_memory_frame(network):
    core, images = InferenceCore(network, configuration()), clip(9)
    core.remember(images[0], label_map(1))
    before = core.memory.counts.insertions
    for image in images[1:]:
        core.step(image)
    assert core.memory.counts.insertions > before


def test_objects_are_deleted_from_any_collection(network):
    core = InferenceCore(network, configuration())
    core.step(clip(1)[0], label_map(1, 2, 3))
    core.delete_objects(label for label in [1])
    core.delete_objects(torch.tensor([3]))
    assert core.objects == [2]


def test_without_sensory_memory_a_saved_one_is_not_taken(network, tmp_path):
    core = InferenceCore(network, configuration())
    follow(core, clip(3), label_map(1))
    core.save_memory(tmp_path / "memory.pth")
    other = InferenceCore(network, configuration(enable_sensory=False))
    other.load_memory(tmp_path / "memory.pth")
    assert core.memory.sensory.hidden.any()
    assert not other.memory.sensory.hidden.any()


def test_objects_that_begin_on_the_last_frame_cannot_be_followed_further(network):
    core = InferenceCore(network, InferenceConfig())
    image, labels = torch.randn(3, 32, 48), torch.zeros(32, 48, dtype=torch.uint8)
    labels[8:24, 8:24] = 1
    core.step(image, labels)
    labels[2:6, 30:40] = 2
    assert core.step(image, labels, end=True).shape == (3, 32, 48)
    with pytest.raises(ValueError, match="reset\\(\\) begins a new video"):
        core.step(image)
    core.reset()
    core.step(image, labels)
    assert core.step(image).shape == (3, 32, 48)
