"""The memory against its oracle (memory_oracle.py): the same frames, reads and removals must give the same.

First examples small enough to follow by hand, then random schedules of everything that can happen to a memory.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from inference.config import InferenceConfig
from inference.memory_manager import MemoryManager
from inference.object_manager import ObjectManager
from tests.helpers.memory_oracle import MemoryOracle

NOBODY: frozenset[int] = frozenset()


class MemoryPair:
    """A memory and its oracle. Whatever happens, happens to both, and they are compared afterwards."""

    def __init__(self, config: InferenceConfig, tolerance: float) -> None:
        self.memory = MemoryManager(config, ObjectManager())
        self.oracle = MemoryOracle(config)
        self.tolerance = tolerance

    def insert(
        self,
        key: Float[Tensor, "key_dim height width"],
        shrinkage: Float[Tensor, "1 height width"],
        selection: Float[Tensor, "key_dim height width"],
        values: Float[Tensor, "objects value_dim height width"],
        objects: Sequence[int],
        permanent: bool = False,
    ) -> None:
        arrived = self.memory.objects.add(objects)
        self.memory.insert(key, shrinkage, selection, values, arrived, permanent=permanent)
        self.oracle.insert(key, shrinkage, selection, values, objects, permanent=permanent)
        self.compare_stores()

    def read(
        self,
        key: Float[Tensor, "key_dim height width"],
        selection: Float[Tensor, "key_dim height width"],
        count_usage: bool = True,
    ) -> Float[np.ndarray, "objects value_dim height width"]:
        readout = self.memory.read(key, selection, count_usage=count_usage)
        expected = self.oracle.read(key, selection, count_usage=count_usage)
        np.testing.assert_allclose(readout, expected, rtol=0, atol=self.tolerance, err_msg="readout")
        self.compare_stores()
        return expected

    def delete_objects(self, labels: Sequence[int]) -> None:
        self.memory.delete_objects(labels)
        self.oracle.delete_objects(labels)
        self.compare_stores()

    def compare_stores(self) -> None:
        assert self.sizes == (len(self.oracle.working), len(self.oracle.long_term)), "sizes"
        for name in ("working", "long_term"):
            usage = getattr(self.memory, name).usage
            expected = [element.usage for element in getattr(self.oracle, name)]
            # Usage is counted in whole units.
            np.testing.assert_allclose(usage, expected, rtol=0, atol=self.tolerance + 1e-7, err_msg=f"usage of {name}")

    @property
    def sizes(self) -> tuple[int, int]:
        return self.memory.working.size, self.memory.long_term.size


def configuration(**changes: int | bool | None) -> InferenceConfig:
    """A long-term memory of 100 elements; without the first frame, working memory holds one frame or two."""
    long_term = {
        "min_mid_term_frames": 2,
        "max_mid_term_frames": 4,
        "num_prototypes": 10,
        "max_long_term_elements": 100,
    }
    settings = {"top_k": None} | (long_term if changes.get("enable_long_term", True) else {})
    return InferenceConfig.from_settings(**settings | changes)


# ---------------------------------------------------------------------------------------------------------------------
# Examples: frames of one position with a one-dimensional key, S = −(k − q)², and one-dimensional values.
# Keys that are ten apart do not mix: e⁻¹⁰⁰ is nothing.


class Line:
    """A memory whose keys are points on a line, with shrinkage and selection 1."""

    def __init__(self, **changes: int | bool | None) -> None:
        self.pair = MemoryPair(configuration(**changes), tolerance=1e-8)

    def insert(self, at: float, values: Mapping[int, float], permanent: bool = False) -> None:
        value = torch.tensor(list(values.values()), dtype=torch.float64).view(-1, 1, 1, 1)
        self.pair.insert(point(at), point(1), point(1), value, list(values), permanent)

    def read(self, at: float, count_usage: bool = True) -> list[float]:
        """The value of every object."""
        return self.pair.read(point(at), point(1), count_usage).flatten().tolist()

    def delete(self, *labels: int) -> None:
        self.pair.delete_objects(labels)

    @property
    def sizes(self) -> tuple[int, int]:
        """Elements in working memory, elements in long-term memory."""
        return self.pair.sizes

    @property
    def usage(self) -> list[float]:
        """That of working memory, then that of long-term memory."""
        return [*self.pair.memory.working.usage.tolist(), *self.pair.memory.long_term.usage.tolist()]


def point(value: float) -> Float[Tensor, "1 1 1"]:
    return torch.full((1, 1, 1), value, dtype=torch.float64)


NEAR = 1 / (1 + math.exp(-1))
"""The softmax weight of an element at distance 0 where the only other one is at distance 1."""


def test_reading_is_a_softmax_over_similarities():
    line = Line()
    line.insert(0, {1: 5.0})
    line.insert(1, {1: 7.0})
    assert line.read(0) == pytest.approx([5 * NEAR + 7 * (1 - NEAR)])


def test_reading_with_top_k_is_a_softmax_over_the_nearest_only():
    line = Line(top_k=2)
    for at, value in ((0, 5.0), (1, 7.0), (1.5, 100.0)):
        line.insert(at, {1: value})
    assert line.read(0) == pytest.approx([5 * NEAR + 7 * (1 - NEAR)])


def test_usage_is_affinity_per_counted_read():
    line = Line()
    line.insert(0, {1: 1.0})
    line.insert(1, {1: 1.0})
    line.read(0)
    line.read(0.5)
    assert line.usage == pytest.approx([(NEAR + 0.5) / 2, (1 - NEAR + 0.5) / 2])
    line.read(1, count_usage=False)
    assert line.usage == pytest.approx([(NEAR + 0.5) / 2, (1 - NEAR + 0.5) / 2])
    line.insert(10, {1: 1.0})
    line.read(10)  # younger elements are measured over their own life
    assert line.usage == pytest.approx([(NEAR + 0.5) / 3, (1 - NEAR + 0.5) / 3, 1.0])


def test_usage_is_that_of_the_object_that_is_there_longest():
    line = Line()
    line.insert(0, {1: 1.0})
    line.insert(1, {1: 1.0, 2: 1.0})
    line.read(0)  # object 2 reads all it gets from the second frame
    assert line.usage == pytest.approx([NEAR, 1 - NEAR])
    line.delete(1)
    line.read(0)
    assert line.usage == pytest.approx([((1 - NEAR) + 1) / 2])


def test_consolidation_leaves_the_first_and_the_last_frames():
    line = Line(min_mid_term_frames=2, max_mid_term_frames=4)
    for at in (0, 10, 20):
        line.insert(at, {1: at})
    assert line.sizes == (3, 0)
    line.insert(30, {1: 30.0})
    assert line.sizes == (2, 2)
    assert [line.read(at)[0] for at in (0, 10, 20, 30)] == pytest.approx([0, 10, 20, 30])


def test_no_consolidation_without_long_term_memory():
    line = Line(enable_long_term=False)
    for at in range(10):
        line.insert(at, {1: at})
    assert line.sizes == (10, 0)


def test_potentiation_averages_over_all_candidates_whatever_top_k_is():
    line = Line(num_prototypes=1, top_k=1)
    for at, value in ((100, 0.0), (0, 5.0), (1, 7.0), (200, 0.0)):
        line.insert(at, {1: value})
    assert line.sizes == (2, 1)
    assert line.read(0) == pytest.approx([5 * NEAR + 7 * (1 - NEAR)])


def test_prototypes_are_the_most_used_candidates():
    line = Line(num_prototypes=1)
    for at in (0, 10, 20):
        line.insert(at, {1: at})
    line.read(20)
    line.insert(30, {1: 30.0})
    assert line.sizes == (2, 1)
    assert line.read(12) == pytest.approx([20])  # the candidate at 10 is gone


def test_the_older_candidates_become_prototypes_where_none_was_used():
    line = Line(num_prototypes=2, max_mid_term_frames=6)
    for at in (0, 10, 20, 30, 40, 50):
        line.insert(at, {1: at})
    assert line.sizes == (2, 2)
    assert [line.read(at)[0] for at in (10, 20, 32, 38)] == pytest.approx([10, 20, 20, 50])


def test_eviction_drops_as_many_as_needed_and_the_oldest_of_equals():
    line = Line(min_mid_term_frames=1, max_mid_term_frames=4, num_prototypes=3, max_long_term_elements=4)
    for at in (0, 10, 20, 30):
        line.insert(at, {1: at})
    line.read(10)
    assert line.sizes == (1, 3)
    for at in (40, 50):
        line.insert(at, {1: at})
    assert line.sizes == (3, 3)
    line.insert(60, {1: 60.0})
    assert line.sizes == (1, 4)  # two of three had to go; 20 and 30 were never read
    assert [line.read(at)[0] for at in (12, 28, 40, 50, 60)] == pytest.approx([10, 40, 40, 50, 60])


def test_one_goes_where_all_are_tied():
    line = Line(min_mid_term_frames=1, max_mid_term_frames=2, num_prototypes=1, max_long_term_elements=3)
    for at in (0, 10, 20, 30, 40):
        line.insert(at, {1: at})
    assert line.sizes == (1, 3)
    assert [line.read(at)[0] for at in (9, 20, 30, 40)] == pytest.approx([0, 20, 30, 40])


def test_an_object_that_enters_after_a_consolidation_reads_only_what_it_has_values_for():
    line = Line()
    for at in (0, 10, 20, 30):
        line.insert(at, {1: at})
    assert line.sizes == (2, 2)
    line.insert(40, {1: 40.0, 2: 400.0})
    assert [line.read(at) for at in (0, 10, 40)] == [pytest.approx([at, 400]) for at in (0, 10, 40)]
    line.insert(50, {1: 50.0, 2: 500.0})
    assert line.sizes == (4, 2)
    line.insert(60, {1: 60.0, 2: 600.0})  # 0, 30, 50, 60 are as many as there may be; 40 is kept for object 2
    assert line.sizes == (3, 4)  # two of the four prototypes, 10 and 20, and that of 30 have no value for object 2
    assert [line.read(at) for at in (10, 30)] == [pytest.approx([at, 400]) for at in (10, 30)]
    assert [line.read(at) for at in (40, 50, 60)] == [pytest.approx([at, 10 * at]) for at in (40, 50, 60)]


def test_potentiation_for_a_late_object_is_over_its_own_candidates():
    line = Line(max_mid_term_frames=4, num_prototypes=2)
    line.insert(100, {1: 0.0})
    line.insert(0, {1: 5.0})
    line.insert(200, {1: 0.0, 2: 0.0})  # kept
    line.insert(1, {1: 7.0, 2: 9.0})
    line.insert(300, {1: 0.0, 2: 0.0})
    assert line.sizes == (3, 2)
    line.delete(1)  # what is left for object 2 is the prototype at 1
    assert line.sizes == (2, 1)
    assert line.read(1) == pytest.approx([9])


def test_the_annotated_frame_of_a_late_object_survives_consolidations():
    line = Line(top_k=1, num_prototypes=1, max_long_term_elements=3)
    line.insert(0, {1: 0.0})
    line.insert(10, {1: 10.0, 2: 100.0})
    consolidations = 0
    for at in range(20, 140, 10):
        before = line.sizes
        line.insert(at, {1: at, 2: 10 * at})
        consolidations += line.sizes[0] <= before[0]
    assert consolidations >= 5
    assert line.sizes[1] == 3
    assert line.read(10) == [10.0, 100.0]  # as it was: not averaged with anything


def test_permanent_frames_are_beyond_count_and_consolidation():
    line = Line()
    for at in (0, 10, 20, 30, 40):
        line.insert(at, {1: at}, permanent=True)
    for at in (50, 60, 70):
        line.insert(at, {1: at})
    assert line.sizes == (8, 0)
    line.insert(80, {1: 80.0})  # four frames, of which the last stays: the video's first is not among them
    assert line.sizes == (6, 3)


def test_a_removed_object_releases_its_frame_and_takes_what_only_it_has():
    line = Line()
    line.insert(0, {1: 0.0})
    line.insert(10, {1: 10.0, 2: 100.0})
    line.insert(20, {1: 20.0, 2: 200.0})
    line.insert(30, {1: 30.0, 2: 300.0})
    assert line.sizes == (4, 0)
    line.delete(2)
    assert line.sizes == (4, 0)
    line.insert(40, {1: 40.0})  # five count now
    assert line.sizes == (2, 3)
    line.insert(50, {1: 50.0, 3: 500.0})
    line.delete(1)
    assert line.sizes == (1, 0)
    assert line.read(0) == pytest.approx([500])


def test_the_annotation_of_two_objects_stays_until_both_are_gone():
    line = Line()
    line.insert(0, {1: 0.0})
    line.insert(10, {1: 10.0, 2: 100.0, 3: 1000.0})
    line.delete(2)
    for at in (20, 30, 40):
        line.insert(at, {1: at, 3: 100 * at})
    assert line.sizes == (3, 2)
    assert line.read(10) == [10.0, 1000.0]
    line.delete(3)
    line.insert(50, {1: 50.0})  # 0, 10, 40, 50
    assert line.sizes == (2, 4)


def test_a_permanent_frame_outlives_the_object_it_annotates():
    line = Line()
    line.insert(0, {1: 0.0})
    line.insert(10, {1: 10.0, 2: 100.0}, permanent=True)
    line.delete(2)
    for at in (20, 30, 40):
        line.insert(at, {1: at})
    assert line.sizes == (3, 2)
    assert line.read(10) == [10.0]


def test_a_prototype_is_as_old_as_its_source():
    line = Line(min_mid_term_frames=1, max_mid_term_frames=3, num_prototypes=2, max_long_term_elements=4)
    line.insert(0, {1: 0.0})
    line.insert(10, {1: 10.0, 2: 100.0})
    for at in (20, 30):
        line.insert(at, {1: at, 2: 10 * at})
    line.delete(2)
    line.insert(40, {1: 40.0})
    assert line.sizes == (1, 4)  # 20 and 30 became prototypes before 10 and 40 did
    for at in (50, 60):
        line.insert(at, {1: at})
    assert line.sizes == (1, 4)
    assert [line.read(at)[0] for at in (12, 22, 30, 40)] == pytest.approx([0, 30, 30, 40])  # 10 and 20 are evicted


def test_an_object_that_comes_back_is_new():
    line = Line()
    line.insert(0, {1: 0.0, 2: 0.0})
    line.insert(10, {1: 10.0, 2: 100.0})
    line.delete(2)
    line.insert(20, {1: 20.0, 2: 200.0})
    assert line.read(10) == pytest.approx([10, 200])
    line.delete(1, 2)
    assert line.sizes == (0, 0)
    for at in (30, 40, 50, 60):
        line.insert(at, {1: at})
    assert line.sizes == (4, 0)  # 30 annotates an object that entered after the video's first frame: it is not counted
    line.insert(70, {1: 70.0})
    assert line.sizes == (2, 3)


# ---------------------------------------------------------------------------------------------------------------------
# Random schedules


@dataclass(frozen=True)
class Insert:
    """A memory frame, in which some objects may enter."""

    entering: frozenset[int] = NOBODY
    permanent: bool = False


@dataclass(frozen=True)
class Read:
    """A read that counts."""


@dataclass(frozen=True)
class Remove:
    labels: frozenset[int]


Operation = Insert | Read | Remove

LABELS = (1, 2, 3, 255)
KEY_DIM, VALUE_DIM, HEIGHT, WIDTH = 5, 3, 2, 2


def random_configuration(random: Random) -> InferenceConfig:
    """Small stores, which fill up, overflow and run dry; a frame has four elements."""
    t_min = random.randint(1, 3)
    prototypes = random.choice([1, 2, 4, 6, 12, 1000])  # of four to sixteen candidates as a rule
    top_k = random.choice([None, 1, 2, 4, 8, 1000])
    if random.random() >= 0.95:
        return configuration(top_k=top_k, enable_long_term=False)
    return configuration(
        top_k=top_k,
        min_mid_term_frames=t_min,
        max_mid_term_frames=t_min + random.randint(1, 3),
        num_prototypes=prototypes,
        max_long_term_elements=prototypes + random.randint(1, 12),
    )


def random_operations(random: Random, number: int) -> list[Operation]:
    reads = random.choice([0, 6, 12, 24])  # some memories are never read before they are consolidated
    removals = random.choice([0, 1, 2])

    def one() -> Operation:
        some = frozenset(random.sample(LABELS, k=random.randint(1, 2)))
        operations = {
            Insert(): 12,
            Insert(entering=some): 2,
            Insert(entering=some, permanent=True): 0.5,
            Insert(permanent=True): 0.5,
            Read(): reads,
            Remove(some): removals,
            Remove(frozenset(LABELS)): removals / 6,
        }
        return random.choices(list(operations), list(operations.values()))[0]

    return [one() for _ in range(number)]


class Schedule:
    """Carries operations out on a pair, with random tensors."""

    def __init__(self, pair: MemoryPair, seed: int, dtype: torch.dtype) -> None:
        self.pair = pair
        self.generator = torch.Generator().manual_seed(seed)
        self.dtype = dtype
        self.objects: list[int] = []

    def normal(self, *shape: int) -> Float[Tensor, "..."]:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64).to(self.dtype)

    def query(self) -> tuple[Float[Tensor, "key_dim height width"], Float[Tensor, "key_dim height width"]]:
        """A key and a selection."""
        return self.normal(KEY_DIM, HEIGHT, WIDTH), self.normal(KEY_DIM, HEIGHT, WIDTH).sigmoid()

    def carry_out(self, operation: Operation) -> None:
        match operation:
            case Insert(entering, permanent):
                if not self.objects and not entering:
                    entering = {LABELS[0]}
                self.objects += sorted(entering - set(self.objects))
                key, selection = self.query()
                shrinkage = self.normal(1, HEIGHT, WIDTH) ** 2 + 1
                values = self.normal(len(self.objects), VALUE_DIM, HEIGHT, WIDTH)
                self.pair.insert(key, shrinkage, selection, values, list(self.objects), permanent)
            case Remove(labels):
                removed = [label for label in self.objects if label in labels]
                self.objects = [label for label in self.objects if label not in labels]
                self.pair.delete_objects(removed)
        if self.objects:  # without an object there is nothing to read
            self.pair.read(*self.query(), count_usage=operation == Read())


def carry_out_random_schedule(seed: int, dtype: torch.dtype, tolerance: float, **changes: int | bool | None) -> None:
    random = Random(seed)
    config = InferenceConfig.from_settings(**random_configuration(random).settings() | changes)
    schedule = Schedule(MemoryPair(config, tolerance), seed, dtype)
    for operation in random_operations(random, number=60):
        schedule.carry_out(operation)


@pytest.mark.parametrize("seed", range(24))
def test_random_schedules(seed):
    carry_out_random_schedule(seed, torch.float64, tolerance=1e-8)


@pytest.mark.parametrize("seed", range(4))
def test_random_schedules_in_single_precision(seed):
    # Over everything: among the top k, or with the whole numbers that top_k = 1 gives as use, rounding could decide.
    carry_out_random_schedule(seed, torch.float32, tolerance=1e-4, top_k=None)
