"""The variants of tables 4 and 6 to 8: each changes what it should, and the default ones are the published program.

Memories by hand have keys on a line, S = −(k − q)², and one-dimensional values. Keys that are ten apart do not mix.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from inference.config import InferenceConfig, WorkingMemoryConfig
from inference.inference_core import InferenceCore
from inference.memory.element_store import ElementStore
from inference.memory_manager import MemoryCounts, MemoryManager
from inference.object_manager import ObjectManager
from inference.strategies.consolidation import WhenFull
from inference.strategies.insertion import Insertion, RegularInsertion, SparseInsertion
from inference.strategies.prototypes import (
    Candidates,
    Centroids,
    MostUsed,
    Prototypes,
    PrototypeSelection,
    Random,
)
from model.network import XMem
from tests.helpers.tiny_network import tiny_network
from util.errors import SettingError, UserError

Setting = int | bool | str | None


def configuration(**changes: Setting) -> InferenceConfig:
    """Consolidates at the fourth frame, evicts at the eleventh element, where there is long-term memory."""
    settings: dict[str, Setting] = {"mem_every": 2}
    if not changes.keys() & {"when_full", "enable_long_term", "enable_working"}:
        settings |= {
            "min_mid_term_frames": 2,
            "max_mid_term_frames": 4,
            "num_prototypes": 3,
            "max_long_term_elements": 10,
        }
    return InferenceConfig.from_settings(**settings | changes)


WINDOW = {"when_full": "local_window"}
SENSORY_ONLY = {"enable_working": False}


# ---------------------------------------------------------------------------------------------------------------------
# Settings


PLAIN: dict[str, Setting] = {
    "insertion": "regular",
    "mem_every": 5,
    "mem_offset": 0,
    "deep_update": "memory_frames",
    "deep_update_every": -1,
    "top_k": 30,
    "when_full": "consolidate",
    "max_mid_term_frames": 10,
    "min_mid_term_frames": 5,
    "num_prototypes": 128,
    "max_long_term_elements": 10000,
    "prototypes": "usage",
    "potentiation": True,
}


def test_the_default_settings_are_the_published_ones():
    assert InferenceConfig().settings() == InferenceConfig.from_settings().settings() == PLAIN
    assert InferenceConfig.from_settings() == InferenceConfig()


@pytest.mark.parametrize(
    "settings",
    [
        {"insertion": "regular", "prototypes": "usage", "when_full": "consolidate", "deep_update": "memory_frames"},
        {"prototypes": "random", "min_mid_term_frames": 1, "max_mid_term_frames": 2, "num_prototypes": 26},
        {"prototypes": "centroids", "potentiation": False},
        {"insertion": "sparse", "enable_long_term": False, "max_memory_frames": 20, "mem_offset": 4},
        {"insertion": "sparse", "when_full": "local_window", "max_memory_frames": 20, "top_k": None},
        {"when_full": "local_window", "max_memory_frames": 20},
        {"enable_working": False, "deep_update": "never"},
        {"enable_working": False, "deep_update": "every_frame"},
        {"enable_sensory": False, "enable_long_term": False},
    ],
)
def test_settings_by_name_make_a_configuration_and_come_back(settings):
    config = InferenceConfig.from_settings(**settings)
    assert config.settings().items() >= settings.items()
    assert InferenceConfig.from_settings(**config.settings()) == config
    assert all(type(value) in (int, bool, str, type(None)) for value in config.settings().values())  # plain, for files


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"insertion": "often"}, "insertion must be one of regular, sparse, not often"),
        ({"prototypes": ""}, "prototypes must be one of usage, random, centroids"),
        ({"when_full": "forget"}, "when_full must be one of"),
        ({"deep_update": "always"}, "deep_update must be one of"),
        ({"mem_offset": 5}, "mem_offset .* less than mem_every"),
        ({"mem_offset": -1}, "mem_offset"),
        ({"max_memory_frames": 0, "insertion": "sparse"}, "max_memory_frames must be at least 1"),
        ({"max_memory_frames": 20}, "max_memory_frames has no effect with the published strategies"),
        (
            {"when_full": "local_window", "max_mid_term_frames": 9},
            "max_mid.* has no effect with when_full=local_window$",
        ),
        ({"when_full": "local_window", "min_mid_term_frames": 2}, "min_mid_term_frames has no effect"),
        ({"when_full": "local_window", "potentiation": False}, "potentiation has no effect"),
        ({"when_full": "local_window", "prototypes": "random"}, "prototypes has no effect"),
        ({"when_full": "local_window", "enable_long_term": False}, "when_full .* enable_long_term=False"),
        ({"enable_long_term": False, "prototypes": "random"}, "prototypes .* enable_long_term=False"),
        ({"enable_long_term": False, "max_mid_term_frames": 7}, "max_mid_term_frames .* enable_long_term=False"),
        ({"enable_working": False, "num_prototypes": 64}, "num_prototypes .* enable_working=False$"),
        ({"enable_working": False, "top_k": 3}, "top_k .* enable_working=False$"),
        ({"enable_sensory": False, "deep_update": "never"}, "deep_update .* enable_sensory=False"),
        ({"enable_sensory": False, "deep_update_every": 3}, "deep_update_every has no effect"),
        ({"deep_update": "every_frame", "deep_update_every": 3}, "deep_update_every .* deep_update=every_frame$"),
        ({"enable_sensory": False, "enable_working": False}, "or nothing is remembered"),
        ({"enable_sensory": "false"}, "enable_sensory must be True or False, not 'false'"),
        ({"potentiation": 0}, "potentiation must be True or False, not 0"),
        ({"mem_every": 2.5}, "mem_every must be a whole number, not 2.5"),
        ({"mem_every": True}, "mem_every must be a whole number, not True"),
        ({"mem_every": "5"}, "mem_every must be a whole number, not '5'"),
        ({"mem_every": None}, "mem_every must be a whole number, not None"),
        ({"top_k": 3.5}, "top_k must be a whole number, not 3.5"),
        ({"max_long_term_elements": 1e4}, "max_long_term_elements must be a whole number, not 10000.0"),
    ],
)
def test_contradictions_are_refused_by_the_name_of_the_setting(settings, complaint):
    with pytest.raises(SettingError, match=complaint) as error:
        InferenceConfig.from_settings(**settings)
    assert error.value.field in settings


def test_a_setting_of_another_name_is_a_programming_error():
    with pytest.raises(TypeError, match="there is no setting mem_evry"):
        InferenceConfig.from_settings(mem_evry=3)


# ---------------------------------------------------------------------------------------------------------------------
# When frames are stored


def stored(insertion: Insertion, frames: int, video_length: int | None = None) -> list[int]:
    """The frames that are stored of so many, the first of which has the mask."""
    times = [0]
    for time in range(1, frames):
        if insertion.is_due(time, times[-1], video_length):
            times.append(time)
    return times


@pytest.mark.parametrize(
    ("offset", "times"), [(0, [0, 5, 10, 15]), (1, [0, 4, 9, 14]), (3, [0, 2, 7, 12]), (4, [0, 1, 6, 11, 16])]
)
def test_an_offset_moves_the_first_insertion_and_thereby_all(offset, times):
    assert stored(RegularInsertion(mem_every=5, mem_offset=offset), frames=17) == times


@pytest.mark.parametrize(
    ("length", "times"),
    [(3, [0, 1, 2]), (4, [0, 1, 2, 3]), (5, [0, 2, 4]), (8, [0, 2, 4, 6]), (9, [0, 3, 6]), (401, [0, 101, 202, 303])],
)
def test_sparse_insertion_divides_the_video(length, times):
    insertion = SparseInsertion(max_memory_frames=4, mem_every=5, mem_offset=0)
    assert stored(insertion, length, video_length=length) == times


@pytest.mark.parametrize("offset", range(5))
def test_the_offset_of_sparse_insertion_is_a_share_of_the_interval(offset):
    """The same frames, so many earlier; never more of them than without."""
    plain, moved = (SparseInsertion(max_memory_frames=8, mem_every=5, mem_offset=o) for o in (0, offset))
    for length in [*range(1, 40), 80, 81]:
        of_interval = offset * math.ceil(length / 8) // 5
        expected = stored(plain, length, video_length=length)
        assert len(expected) <= 8
        expected = [0, *(time - of_interval for time in expected[1:])]
        assert stored(moved, length, video_length=length) == expected


def test_sparse_insertion_has_to_know_the_length(network):
    core, images = (
        InferenceCore(network, InferenceConfig.from_settings(insertion="sparse", max_memory_frames=4)),
        clip(8),
    )
    core.step(images[0], LABELS)
    with pytest.raises(ValueError, match="length of the video: give it to reset"):
        core.step(images[1])
    core.reset(video_length=8)
    follow(core, images)
    assert core.memory.counts.insertions == 4


# ---------------------------------------------------------------------------------------------------------------------
# Memories by hand


class Line:
    """A memory of frames of a few positions. The first frame's keys are 0, so that the others are as they are given."""

    def __init__(self, positions: int = 1, **changes: Setting) -> None:
        self.memory = MemoryManager(configuration(**changes), ObjectManager())
        self.objects = [1]
        self.insert(*[0] * positions)

    def insert(self, *keys: float, permanent: bool = False, seed: int = 0) -> None:
        """A frame with these keys; values are ten times the keys, and shrinkage is 1 + key / 1000."""
        key = torch.tensor(keys, dtype=torch.float64).view(1, 1, -1)
        values = (10 * key).expand(len(self.objects), 1, 1, -1)
        arrived = self.memory.objects.add(self.objects)
        self.memory.insert(key, 1 + key / 1000, torch.ones_like(key), values, arrived, permanent, seed)

    def enter(self, label: int) -> None:
        self.objects.append(label)

    def read(self, at: float) -> list[float]:
        key = torch.full((1, 1, 1), at, dtype=torch.float64)
        return self.memory.read(key, torch.ones_like(key)).flatten().tolist()

    @property
    def working(self) -> list[float]:
        return keys_of(self.memory.working)

    @property
    def long_term(self) -> list[float]:
        return keys_of(self.memory.long_term)

    @property
    def shrinkage(self) -> list[float]:
        """Of the prototypes."""
        return (-self.memory.long_term.memory_rows[:, 2]).tolist()

    def prototype_values(self, label: int = 1) -> list[float]:
        return self.memory.long_term.values_of(label).flatten().tolist()


def keys_of(store: ElementStore) -> list[float]:
    """From memory rows −s · [k², −2k, 1]."""
    if not store.size:
        return []
    rows = store.memory_rows
    return (rows[:, 1] / rows[:, 2] / -2).round(decimals=9).tolist()


def test_a_local_window_keeps_the_first_frame_and_the_latest():
    line = Line(**WINDOW, max_memory_frames=3)
    for at in (10, 20):
        line.insert(at)
    assert line.working == [0, 10, 20]  # it may hold three
    line.insert(30)
    assert line.working == [0, 20, 30]
    for at in (40, 50, 60):
        line.insert(at)
    assert line.working == [0, 50, 60]
    assert line.long_term == []
    assert line.read(48) == pytest.approx([500])
    assert line.memory.counts == MemoryCounts(
        insertions=7,
        working_frames=3,
        working_elements=3,
        frames_removed=4,
        consolidations=0,
        prototypes=0,
        evicted=0,
        long_term_elements=0,
    )


def test_a_local_window_of_one_is_the_first_frame():
    line = Line(**WINDOW, max_memory_frames=1)
    for at in (10, 20):
        line.insert(at)
    assert line.working == [0]


def test_a_local_window_keeps_what_must_stay_on_top():
    line = Line(**WINDOW, max_memory_frames=3)
    line.insert(10, permanent=True)
    line.enter(2)
    line.insert(20)  # the annotation of object 2
    for at in (30, 40, 50, 60):
        line.insert(at)
    assert line.working == [0, 10, 20, 50, 60]
    assert line.read(21) == pytest.approx([200, 200])
    assert line.read(0) == pytest.approx([0, 200])


def test_without_bound_everything_stays():
    line = Line(enable_long_term=False)
    for at in range(10, 120, 10):
        line.insert(at)
    assert line.working == list(range(0, 120, 10))
    assert (line.memory.counts.frames_removed, line.memory.counts.consolidations) == (0, 0)


@pytest.mark.parametrize(
    ("changes", "columns"),
    [
        ({}, {"key", "shrinkage", "selection"}),
        ({"enable_long_term": False}, set()),
        (WINDOW | {"max_memory_frames": 2}, set()),
    ],
)
def test_only_consolidation_stores_what_it_needs(changes, columns):
    line = Line(**changes)
    line.enter(2)
    line.insert(10)
    line.memory.delete_objects([1])  # and with it the first frame
    assert line.working == [10]
    saved = line.memory.state()["working"]["shared"]
    assert set(saved) == set(ElementStore.columns) | columns


def test_eager_compression_leaves_the_first_frame():
    """T_min 1 and T_max 2 with random prototypes: every frame is compressed at once."""
    line = Line(positions=4, prototypes="random", min_mid_term_frames=1, max_mid_term_frames=2, num_prototypes=2)
    for number, at in enumerate((10, 20, 30), 1):
        line.insert(at, at + 100, at + 200, at + 300, seed=number)
        assert line.working == [0, 0, 0, 0]
        assert line.memory.counts.consolidations == number
        assert len(line.long_term) == 2 * number
        assert {key % 100 for key in line.long_term[-2:]} == {at}


# ---------------------------------------------------------------------------------------------------------------------
# Which prototypes


def candidates(*keys: float, usage: Sequence[float] | None = None) -> Candidates:
    """Selections are a thousandth of the keys."""
    key = torch.tensor(keys, dtype=torch.float64).view(-1, 1)
    numbers = torch.arange(len(keys))
    used = torch.zeros(len(keys)) if usage is None else torch.tensor(usage)
    ones = torch.ones_like(key)
    return Candidates(numbers, ones.expand(-1, 3), key, ones, key / 1000, time=numbers, usage=used)


def test_the_most_used_are_picked_in_order_of_time():
    prototypes = MostUsed().select(candidates(5, 6, 7, 8, usage=[0.1, 0.5, 0.1, 0.3]), 3, seed=0)
    assert prototypes.source.tolist() == [0, 1, 3]
    assert prototypes.key.flatten().tolist() == [5, 6, 8]
    assert prototypes.selection.flatten().tolist() == [0.005, 0.006, 0.008]


def test_random_ones_are_picked_by_seed():
    many = candidates(*range(100), usage=list(range(100)))
    picks = [Random().select(many, 10, seed).source.tolist() for seed in (3, 4, 3)]
    assert picks[0] == picks[2] != picks[1]
    assert all(pick == sorted(set(pick)) and len(pick) == 10 for pick in picks)
    how_often = torch.zeros(10)
    for seed in range(300):
        how_often[Random().select(candidates(*range(10)), 2, seed).source] += 1
    assert how_often.min() > 30  # of 60: every one may be picked
    assert how_often.max() < 90
    assert Random().select(many, 100, seed=0).source.tolist() == list(range(100))


@pytest.mark.parametrize("seed", range(5))
def test_centroids_are_the_means_of_clusters(seed):
    """Three clusters so far apart that ten random starts find them wherever they begin."""
    keys = (100, 1, 3, 0, 104, 200, 105)
    prototypes = best_of(Centroids(), candidates(*keys), 3, seed)
    assert prototypes.source.tolist() == [1, 4, 5]  # what is nearest to the mean, in order of time
    expected = [4 / 3, 103, 200]
    assert prototypes.key.flatten().tolist() == pytest.approx(expected)
    assert prototypes.selection.flatten().tolist() == pytest.approx([mean / 1000 for mean in expected])


def best_of(selection: PrototypeSelection, elements: Candidates, count: int, seed: int) -> Prototypes:
    """Of ten starts the one with the smallest distances: k-means depends on where it begins."""
    runs = [selection.select(elements, count, 100 * seed + run) for run in range(10)]
    return min(runs, key=lambda run: torch.cdist(elements.key, run.key).amin(dim=1).square().sum().item())


def test_centroids_depend_on_the_seed_alone():
    many = candidates(*torch.rand(200, generator=torch.Generator().manual_seed(0)).tolist())
    one, other, again = (Centroids().select(many, 20, seed) for seed in (1, 2, 1))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one.key, other.key)
    assert len(one.source.unique()) == len(one.source) == 20


def test_centroids_are_in_full_precision_under_mixed_precision():
    key = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    points = candidates(*[0] * 50)._replace(key=key, selection=key.sigmoid())
    expected = Centroids().select(points, 8, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same(Centroids().select(points, 8, seed=1), expected)


def test_a_centroid_is_represented_by_a_member_of_its_cluster():
    """In many dimensions another cluster's may be nearer to it, and would then represent two."""
    for seed in range(60):
        key = torch.randn(60, 30, generator=torch.Generator().manual_seed(seed))
        points = candidates(*[0] * 60)._replace(key=key, selection=key)
        source = Centroids().select(points, 5, seed).source
        assert len(source.unique()) == len(source)


def test_as_many_centroids_as_candidates_are_the_candidates():
    prototypes = Centroids().select(candidates(9, 3, 7), 3, seed=0)
    assert prototypes.source.tolist() == [0, 1, 2]
    assert prototypes.key.flatten().tolist() == [9, 3, 7]


def test_candidates_that_coincide_are_one_cluster():
    prototypes = Centroids().select(candidates(4, 4, 4, 4, 8), 4, seed=0)
    assert prototypes.key.flatten().unique().tolist() == [4, 8]
    assert len(prototypes.source) == 2


def consolidated(**changes: Setting) -> Line:
    """Two frames of candidates, at 10, 11 and 40, and at 20, 21 and 50; those at 11 and 50 were read most."""
    line = Line(positions=3, **changes)
    line.insert(10, 11, 40)
    line.insert(20, 21, 50)
    for at in (11, 11, 50):
        line.read(at)
    line.insert(60, 61, 70)
    return line


def test_usage_decides_which_keys_enter_long_term_memory():
    line = consolidated(num_prototypes=2)
    assert line.long_term == [11, 50]
    assert line.working == [0, 0, 0, 60, 61, 70]


def test_potentiation_averages_and_its_absence_does_not():
    near = 1 / (1 + math.exp(-1 * 1.010))  # the element at 10 has shrinkage 1.01
    line = consolidated(num_prototypes=2)
    assert line.prototype_values() == pytest.approx([110 * near + 100 * (1 - near), 500], abs=1e-6)
    assert line.shrinkage == pytest.approx([1.011 * near + 1.010 * (1 - near), 1.05], abs=1e-6)
    line = consolidated(num_prototypes=2, potentiation=False)
    assert line.long_term == [11, 50]
    assert line.prototype_values() == pytest.approx([110, 500])
    assert line.shrinkage == pytest.approx([1.011, 1.050])


def seed_for_clusters(changes: dict[str, Setting]) -> Line:
    """Consolidated with the first seed for which k-means ends with the four clusters that there are."""
    for seed in range(50):
        line = Line(positions=3, prototypes="centroids", num_prototypes=4, **changes)
        line.insert(10, 11, 40)
        line.insert(20, 21, 50)
        line.insert(60, 61, 70, seed=seed)
        if sorted(line.long_term) == [10.5, 20.5, 40, 50]:
            return line
    raise AssertionError("no seed finds the clusters")


def test_centroids_enter_long_term_memory_with_potentiated_values():
    line = seed_for_clusters({})
    assert line.long_term == [10.5, 40, 20.5, 50]  # each as old as its nearest candidate
    weight = 1 / (1 + math.exp(0.25 * (1.010 - 1.011)))  # of the element at 10, whose shrinkage is smaller
    values = line.prototype_values()
    assert values[0] == pytest.approx(100 * weight + 110 * (1 - weight), abs=1e-4)
    assert values[1::2] == pytest.approx([400, 500])


def test_without_potentiation_a_centroid_has_the_values_of_the_nearest_candidate():
    line = seed_for_clusters({"potentiation": False})
    assert line.long_term == [10.5, 40, 20.5, 50]
    values = line.prototype_values()
    assert values[0] in (100, 110)
    assert values[1::2] == [400, 500]


@pytest.mark.parametrize("potentiation", [True, False])
@pytest.mark.parametrize("prototypes", ["usage", "random", "centroids"])
def test_prototypes_of_a_late_object_have_values_if_their_sources_do(prototypes, potentiation):
    """Object 2 enters with the third frame, which is kept; of the candidates the last frame's have a value for it."""
    line = Line(positions=3, prototypes=prototypes, num_prototypes=6, potentiation=potentiation)
    line.insert(10, 20, 30)
    line.enter(2)
    line.insert(300, 310, 320)
    line.insert(40, 50, 60)
    line.insert(70, 80, 90)
    assert line.memory.counts.consolidations == 1
    assert line.long_term == [10, 20, 30, 40, 50, 60]
    assert line.prototype_values(1) == pytest.approx([100, 200, 300, 400, 500, 600])
    assert line.prototype_values(2) == pytest.approx([400, 500, 600])
    assert line.read(20) == pytest.approx([200, 400])


def test_counts_are_what_has_happened():
    line = Line(positions=2, num_prototypes=3, max_long_term_elements=4)
    for at in (10, 20, 30):
        line.insert(at, at + 100)
    # The frames at 10 and 20 gave three prototypes.
    assert line.memory.counts == (4, 2, 4, 2, 1, 3, 0, 3)
    for at in (40, 50):
        line.insert(at, at + 100)
    # Those at 30 and 40 three more, two of which there was no room for.
    assert line.memory.counts == (6, 2, 4, 4, 2, 6, 2, 4)
    restored = MemoryManager(line.memory.config, line.memory.objects)
    restored.restore(line.memory.state())
    assert restored.counts == line.memory.counts


def test_a_new_strategy_is_a_class():
    @dataclass(frozen=True)
    class EveryOther(WhenFull):
        """Thins working memory out."""

        frames: int = 5

        name = "every_other"

        @property
        def full_at(self) -> int:
            return self.frames

        def make_room(self, working, long_term, arrivals, seed):
            working.remove_candidates(working.candidates(1)[::2])

    line = Line()
    line.memory = MemoryManager(InferenceConfig(working=WorkingMemoryConfig(when_full=EveryOther())), ObjectManager())
    for at in (0, 10, 20, 30, 40):
        line.insert(at)
    assert line.working == [0, 20, 40]


# ---------------------------------------------------------------------------------------------------------------------
# Through the per-frame loop

HEIGHT, WIDTH = 32, 48
LABELS = torch.zeros(HEIGHT, WIDTH, dtype=torch.uint8)
LABELS[2:14, 4:20], LABELS[12:28, 24:40] = 1, 2


@pytest.fixture(scope="module")
def network() -> XMem:
    return tiny_network()


def clip(frames: int, seed: int = 0) -> Tensor:
    """Smooth random images, which change from frame to frame."""
    coarse = torch.randn(frames, 3, HEIGHT // 8 + 1, WIDTH // 8 + 1, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, (HEIGHT, WIDTH), mode="bilinear", align_corners=False)


def follow(core: InferenceCore, images: Sequence[Tensor], masks: dict[int, Tensor] | None = None) -> list[Tensor]:
    """Probabilities of all frames, the last of which is announced; by default frame 0 has a mask."""
    masks = {0: LABELS} if masks is None else masks
    return [core.step(image, masks.get(time), end=time == len(images) - 1) for time, image in enumerate(images)]


def assert_same(one: Sequence[Tensor], other: Sequence[Tensor]) -> None:
    """Bit for bit."""
    for time, (a, b) in enumerate(zip(one, other, strict=True)):
        assert torch.equal(a, b), f"frame {time}: {(a - b).abs().max()}"


VARIANTS = [
    {"prototypes": "random"},
    {"prototypes": "centroids"},
    {"potentiation": False},
    {"mem_offset": 1},
    {"insertion": "sparse", "max_memory_frames": 3},
    {"enable_long_term": False},
    WINDOW | {"max_memory_frames": 3},
    {"deep_update": "every_frame"},
    {"deep_update": "never"},
    {"enable_sensory": False},
    SENSORY_ONLY,
]


@pytest.fixture(scope="module")
def published(network) -> list[Tensor]:
    """What the default strategies give."""
    return follow(InferenceCore(network, configuration()), clip(10))


@pytest.mark.parametrize("changes", VARIANTS, ids=lambda changes: " ".join(f"{k}={v}" for k, v in changes.items()))
def test_every_variant_is_another_program_and_goes_on_from_a_file(network, published, tmp_path, changes):
    images, path = clip(10), tmp_path / "memory.pth"
    core, other = (InferenceCore(network, configuration(**changes)) for _ in range(2))
    core.reset("video", len(images))
    results = [core.step(image, LABELS if time == 0 else None) for time, image in enumerate(images[:7])]
    core.save_memory(path)
    other.load_memory(path)
    results += follow(core, images[7:], masks={})
    assert max((a - b).abs().max().item() for a, b in zip(results, published, strict=True)) > 1e-5
    assert_same(follow(other, images[7:], masks={}), results[7:])
    assert other.memory.counts == core.memory.counts


def test_what_is_random_depends_on_the_video_and_the_frame(network):
    images = clip(8)
    core = InferenceCore(network, configuration(prototypes="random"))

    def times_and_rows(name: str) -> Tensor:
        core.reset(name)
        follow(core, images)
        return core.memory.long_term.memory_rows.clone()

    first, second, again = (times_and_rows(name) for name in ("horse", "camel", "horse"))
    assert torch.equal(first, again)
    assert first.shape == second.shape
    assert not torch.equal(first, second)


def test_seeds_differ_from_frame_to_frame(network, monkeypatch):
    seeds = []
    insert = MemoryManager.insert

    def watched(self: MemoryManager, *arguments: object) -> None:
        seeds.append(arguments[-1])
        insert(self, *arguments)

    monkeypatch.setattr(MemoryManager, "insert", watched)
    core = InferenceCore(network, configuration())
    for name in ("horse", "camel", "horse"):
        core.reset(name)
        follow(core, clip(6))
    assert seeds[:3] == seeds[6:]
    assert len(set(seeds)) == 6


def frames_with(network: XMem, config: InferenceConfig, frames: int) -> dict[str, list[int]]:
    """On which frames the value encoder runs, deep and normal updates happen, and frames are stored."""
    core = InferenceCore(network, config)
    happened = {"value": [], "deep": [], "normal": [], "stored": []}
    hooks = [
        module.register_forward_hook(lambda *_, name=name: happened[name].append(time))
        for name, module in (
            ("value", network.value_encoder),
            ("deep", network.value_encoder.hidden_reinforce),
            ("normal", network.decoder.hidden_update),
        )
    ]
    try:
        for time, image in enumerate(clip(frames)):
            before = core.memory.counts.insertions
            core.step(image, LABELS if time == 0 else None, end=time == frames - 1)
            happened["stored"] += [time] * (core.memory.counts.insertions - before)
    finally:
        for hook in hooks:
            hook.remove()
    return happened


@pytest.mark.parametrize(
    ("changes", "value", "deep", "normal", "stored_frames"),
    [
        ({}, [0, 3, 6], [0, 3, 6], [1, 2, 4, 5, 7], [0, 3, 6]),
        ({"mem_offset": 1}, [0, 2, 5], [0, 2, 5], [1, 3, 4, 6, 7], [0, 2, 5]),
        ({"deep_update": "every_frame"}, range(8), range(8), range(1, 8), [0, 3, 6]),
        ({"deep_update": "never"}, [0, 3, 6], [], range(1, 8), [0, 3, 6]),
        ({"enable_sensory": False}, [0, 3, 6], [], [], [0, 3, 6]),
        ({"enable_working": False}, [0, 3, 6], [0, 3, 6], [1, 2, 4, 5, 7], []),
    ],
)
def test_what_happens_on_which_frame(network, changes, value, deep, normal, stored_frames):
    happened = frames_with(network, InferenceConfig.from_settings(mem_every=3, **changes), frames=9)
    expected = {"value": value, "deep": deep, "normal": normal, "stored": stored_frames}
    assert happened == {name: list(frames) for name, frames in expected.items()}


def test_frozen_frames_have_no_deep_update(network):
    core, images = InferenceCore(network, InferenceConfig.from_settings(deep_update="every_frame")), clip(3)
    frozen, plain = InferenceCore(network, InferenceConfig()), core
    for each in (frozen, plain):
        each.step(images[0], LABELS)
    assert_same(*([each.step(image, memorize=False) for image in images[1:]] for each in (frozen, plain)))


def test_without_sensory_memory_the_network_is_fed_zeros(network):
    core, images = InferenceCore(network, InferenceConfig.from_settings(enable_sensory=False)), clip(4)
    for time, image in enumerate(images[:3]):
        core.step(image, LABELS if time == 0 else None)
    hidden = core.memory.sensory.hidden
    assert torch.equal(hidden, torch.zeros_like(hidden))
    query, features = network.encode_key(images[3:])
    read = core.memory.read(query.key[0], query.selection[0], count_usage=False)
    expected = network.segment(features, read.unsqueeze(0), hidden).prob[0]
    assert torch.equal(core.step(images[3]), expected)
    assert core.memory.sensory.hidden is hidden


def test_without_working_memory_zeros_are_read(network):
    core, images = InferenceCore(network, InferenceConfig.from_settings(enable_working=False, mem_every=2)), clip(8)
    for time, image in enumerate(images[:7]):
        core.step(image, {0: LABELS * (LABELS == 1), 3: LABELS * (LABELS == 2)}.get(time))
        assert core.memory.counts == (0,) * 8
    query, features = network.encode_key(images[7:])
    zeros = query.key.new_zeros(1, 2, network.config.value_dim, *query.key.shape[-2:])
    expected = network.segment(features, zeros, core.memory.sensory.hidden).prob[0]
    assert torch.equal(core.step(images[7]), expected)
    core.delete_objects([1])
    assert core.step(images[0]).shape == (2, HEIGHT, WIDTH)


# ---------------------------------------------------------------------------------------------------------------------
# Saved memories


@pytest.mark.parametrize(
    ("saved", "complaint"),
    [
        (WINDOW, "without consolidation"),
        ({"enable_long_term": False}, "without consolidation"),
        (SENSORY_ONLY, "enable_working"),
    ],
)
def test_a_memory_that_lacks_what_is_needed_is_refused(network, tmp_path, saved, complaint):
    core, other = InferenceCore(network, configuration(**saved)), InferenceCore(network, configuration())
    for image in clip(5):
        core.step(image, None if core.objects else LABELS)
    core.save_memory(tmp_path / "memory.pth")
    with pytest.raises(UserError, match=complaint):
        other.load_memory(tmp_path / "memory.pth")
    assert other.objects == []
