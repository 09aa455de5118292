"""Long synthetic videos: everybody is there at the start, leaves, and comes back."""

from itertools import islice

import numpy as np
import pytest

from dataset.synthetic.long_video import FRAMES_TO_LEAVE, WAY_OUT, Absence, long_scene, long_video
from dataset.synthetic.textures import TextureBank

SIZE = {"height": 36, "width": 64, "patterns": 4}


@pytest.fixture(scope="module")
def label_maps() -> np.ndarray:
    """Of every eighth frame."""
    rng, bank = np.random.default_rng(1), TextureBank(np.random.SeedSequence(1), count=4)
    scene = long_scene(rng, bank, frames=280, aspect=36 / 64, size=64, objects=2)
    return np.stack([scene.render(float(time), rng)[1][14:50] for time in range(0, 280, 8)])


def test_every_object_is_there_at_the_start_leaves_and_comes_back(label_maps):
    for label in 1, 2:
        there = (label_maps == label).any(axis=(1, 2))
        assert there[0]
        left = np.flatnonzero(~there)[0]
        assert there[left:].any()
        assert there[:left].all()


def test_nothing_else_is_labelled(label_maps):
    assert set(np.unique(label_maps)) == {0, 1, 2}


def test_distractors_pass_and_are_not_labelled():
    """Where nothing is labelled, a look-alike covers more of the picture than the camera's noise can."""
    plain, passed = (list(islice(long_video(seed=3, frames=300, distractors=number, **SIZE), 40)) for number in (0, 2))
    assert set(np.unique([labels for _, labels in passed])) == {0, 1}
    background = np.array([labels == 0 for _, labels in passed])
    differs = [np.abs(a.astype(int) - b).max(axis=2) > 40 for (a, _), (b, _) in zip(plain, passed, strict=True)]
    assert (differs & background).mean() > 0.02


def test_a_greater_change_makes_objects_grow_and_shrink_more():
    def spread(change: float) -> float:
        labels = [labels for _, labels in islice(long_video(seed=5, frames=60, change=change, **SIZE), 60)]
        areas = (np.array(labels) == 1).sum(axis=(1, 2))
        return areas.max() / areas.min()

    assert spread(3.0) > spread(1.0)


def test_the_same_arguments_give_the_same_video():
    first, second = (list(islice(long_video(seed=3, frames=300, **SIZE), 3)) for _ in range(2))
    other = list(islice(long_video(seed=4, frames=300, **SIZE), 3))
    assert first[0][0].shape == (36, 64, 3)
    assert first[0][1].shape == (36, 64)
    for mine, same, different in zip(first, second, other, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(mine, same, strict=True))
        assert not np.array_equal(mine[0], different[0])


def test_an_absence_leads_out_and_back():
    absence = Absence(begin=100, end=200, direction=(-1.0, 0.0))
    assert absence.offset(100.0).tolist() == absence.offset(200.0).tolist() == absence.offset(50.0).tolist() == [0, 0]
    assert absence.offset(100.0 + FRAMES_TO_LEAVE).tolist() == [-WAY_OUT, 0]
    assert absence.offset(100 + FRAMES_TO_LEAVE / 2).tolist() == [-WAY_OUT / 2, 0]
    assert absence.offset(150.0).tolist() == [-WAY_OUT, 0]
