"""What a sample's number decides, and the laws of choosing frames and objects."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dataset.sampling import (
    DRAWS,
    SamplingConfig,
    TrainingSample,
    choose_frames,
    clip_of_objects,
    draw_sample,
    epoch_entry,
    max_jump,
    sample_generator,
)
from util.errors import UserError

CONFIG = SamplingConfig(seed=3, stage="3", num_frames=4)


@given(
    seed=st.integers(0, 2**32),
    num_frames=st.integers(1, 10),
    more=st.integers(0, 90),
    jump=st.integers(1, 20),
)
def test_frames_are_distinct_in_order_and_never_further_apart_than_allowed(seed, num_frames, more, jump):
    frame_count = num_frames + more
    frames = choose_frames(np.random.default_rng(seed), range(frame_count), num_frames, jump)
    steps = np.diff(frames)
    assert len(frames) == num_frames
    assert min(frames) >= 0
    assert max(frames) < frame_count
    assert np.all(steps > 0) or np.all(steps < 0)
    assert np.all(np.abs(steps) <= jump)


def test_frames_start_everywhere_go_both_ways_and_use_the_whole_jump():
    rng = np.random.default_rng(0)
    clips = np.array([choose_frames(rng, range(30), 4, 5) for _ in range(2000)])
    assert set(clips.ravel()) == set(range(30))
    assert set(np.abs(np.diff(clips)).ravel()) == {1, 2, 3, 4, 5}
    assert 0.45 < np.mean(clips[:, 0] > clips[:, 1]) < 0.55


@given(
    seed=st.integers(0, 2**32),
    positions=st.lists(st.integers(0, 60), min_size=3, max_size=12, unique=True).map(sorted),
    jump=st.integers(1, 20),
)
def test_jumps_count_frames_without_a_mask(seed, positions, jump):
    chosen = choose_frames(np.random.default_rng(seed), positions, 3, jump)
    assert len(set(chosen)) == 3
    ascending = sorted(chosen)
    assert chosen in (ascending, ascending[::-1])
    for before, after in pairwise(ascending):
        distance = positions[after] - positions[before]
        # Only where no frame is as near may one be further away: then it is the next one that has a mask.
        assert distance <= jump or after == before + 1


@pytest.mark.parametrize(("frame_count", "jump"), [(3, 5), (4, 0)])
def test_a_clip_that_cannot_be_is_refused(frame_count, jump):
    with pytest.raises(ValueError, match="frames of"):
        choose_frames(np.random.default_rng(0), range(frame_count), 4, jump)


@given(seed=st.integers(0, 2**32), entries=st.integers(1, 50), epoch=st.integers(0, 1000))
def test_an_epoch_shows_every_entry_once(seed, entries, epoch):
    config = SamplingConfig(seed, "2", 4)
    numbers = range(epoch * entries, (epoch + 1) * entries)
    assert sorted(epoch_entry(config, number, entries) for number in numbers) == list(range(entries))


def test_epochs_stages_and_seeds_have_orders_of_their_own():
    def order(seed: int, stage: str, epoch: int) -> tuple[int, ...]:
        config = SamplingConfig(seed, stage, 4)
        return tuple(epoch_entry(config, 40 * epoch + position, 40) for position in range(40))

    assert len({order(0, "2", 0), order(0, "2", 1), order(0, "3", 0), order(1, "2", 0)}) == 4
    assert order(0, "2", 1) == order(0, "2", 1)


def test_samples_stages_and_seeds_have_random_numbers_of_their_own():
    variants = [(0, "2", 0), (0, "2", 1), (0, "3", 0), (1, "2", 0)]
    numbers = [sample_generator(SamplingConfig(seed, stage, 4), n).random() for seed, stage, n in variants]
    assert len(set(numbers)) == 4


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"num_frames": 0}, {"size": 0}, {"max_objects": 0}, {"stage": ""}])
def test_a_configuration_without_sense_is_refused(wrong):
    with pytest.raises(ValueError, match=r"seed|stage"):
        SamplingConfig(**{"seed": 0, "stage": "3", "num_frames": 4, **wrong})


# --- Objects ----------------------------------------------------------------------------------------------------------


def test_chosen_objects_are_numbered_and_others_are_background():
    labels = np.array([[[0, 3, 9, 20]], [[20, 20, 3, 77]]], np.uint8)
    sample = clip_of_objects(torch.zeros(2, 3, 1, 4, dtype=torch.uint8), labels, [20, 3])
    assert sample.labels.tolist() == [[[0, 2, 0, 1]], [[1, 1, 2, 0]]]
    assert sample.objects == 2


def _sample() -> TrainingSample:
    return TrainingSample(torch.zeros(1, 3, 1, 1, dtype=torch.uint8), torch.ones(1, 1, 1, dtype=torch.uint8), 1)


def test_an_empty_first_frame_is_drawn_five_times_then_another_entry_takes_its_place():
    drawn = []

    def draw(entry: str, rng: np.random.Generator) -> TrainingSample | None:
        drawn.append(entry)
        return _sample() if entry == "full" else None

    entries = ("empty", "full")
    number = next(n for n in range(10) if epoch_entry(CONFIG, n, 2) == 0)
    skipped = draw_sample(CONFIG, number, entries, draw).skipped
    assert drawn[:DRAWS] == ["empty"] * 5
    assert drawn[-1] == "full"
    assert len(skipped) == (len(drawn) - 1) / DRAWS
    assert all("empty" in line for line in skipped)


def test_a_file_that_cannot_be_read_is_replaced_and_named_or_raised_when_strict():
    def draw(entry: str, rng: np.random.Generator) -> TrainingSample | None:
        if entry == "torn":
            raise UserError("torn.jpg is damaged")
        return _sample()

    number = next(n for n in range(10) if epoch_entry(CONFIG, n, 2) == 0)
    assert set(draw_sample(CONFIG, number, ("torn", "whole"), draw).skipped) == {"torn.jpg is damaged"}
    assert draw_sample(CONFIG, number, ("whole", "torn"), draw).skipped == ()
    with pytest.raises(UserError, match=r"torn\.jpg"):
        draw_sample(SamplingConfig(3, "3", 4, strict=True), number, ("torn", "whole"), draw)
    with pytest.raises(UserError, match=r"stage 3: none of .* because: torn\.jpg is damaged"):
        draw_sample(CONFIG, number, ("torn",), draw)


# --- Curriculum -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        ("3", {0: 5, 9_999: 5, 10_000: 10, 29_999: 10, 30_000: 15, 89_999: 15, 90_000: 5, 100_000: 5, 109_999: 5}),
        ("1", {0: 5, 10_000: 10, 30_000: 15, 79_999: 15, 80_000: 5, 99_999: 5}),
    ],
)
def test_the_jump_widens_and_is_narrow_at_the_end(stage, changes):
    assert {iteration: max_jump(iteration, 100_000, stage) for iteration in changes} == changes
