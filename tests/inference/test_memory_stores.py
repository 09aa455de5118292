"""The stores under the memory: growing buffers, elements whose values start late, chunked reading, saved state.

What the memory as a whole should do is in test_memory_against_oracle.py.
"""

import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inference.config import InferenceConfig
from inference.memory import reading
from inference.memory.element_store import LIFE_AT_BIRTH, USE_UNIT, ElementStore, Rows
from inference.memory.long_term import LongTermMemory
from inference.memory.sensory import SensoryMemory
from inference.memory.working import MemoryFrame, WorkingMemory
from inference.memory_manager import MemoryManager
from inference.object_manager import ObjectManager
from model.memory_reading import SparseAffinity

# ---------------------------------------------------------------------------------------------------------------------
# Rows


@settings(deadline=None)
@given(
    capacity=st.integers(0, 8),
    operations=st.lists(st.one_of(st.integers(0, 5), st.lists(st.booleans(), max_size=20)), max_size=12),
)
def test_rows_behave_like_a_list(capacity, operations):
    """An integer appends so many rows; booleans say which rows to keep (those beyond them go)."""
    rows, expected, count = Rows(capacity), [], 0
    for operation in operations:
        if isinstance(operation, int):
            new = list(range(count, count + operation))
            count += operation
            rows.append(torch.tensor(new, dtype=torch.float32).view(-1, 1))
            expected += new
        else:
            kept = [index for index, keep in enumerate(operation[: len(expected)]) if keep]
            rows.keep(torch.tensor(kept, dtype=torch.long))
            expected = [expected[index] for index in kept]
        assert rows.size == len(expected)
        if count:
            assert rows.rows.flatten().tolist() == expected


def test_rows_within_capacity_stay_where_they_are():
    rows = Rows(capacity=6)
    rows.append(torch.zeros(2, 3))
    place = rows.rows.data_ptr()
    for _ in range(10):
        rows.append(torch.zeros(4, 3))
        rows.keep(torch.tensor([0, 5]))
    assert rows.rows.data_ptr() == place


def test_rows_without_capacity_grow_by_doubling():
    rows, places = Rows(), set()
    for number in range(1000):
        rows.append(torch.full((1, 2), float(number)))
        places.add(len(rows._buffer))
    assert len(places) <= 11
    assert rows.rows[:, 1].tolist() == list(range(1000))


def test_rows_that_were_never_there_have_no_shape():
    with pytest.raises(LookupError):
        _ = Rows(capacity=5).rows


# ---------------------------------------------------------------------------------------------------------------------
# Elements


def element_rows(count: int, first: int = 0) -> Tensor:
    """Memory rows (2 · Cᵏ + 1 wide) that tell which element they belong to."""
    return torch.arange(first, first + count, dtype=torch.float64).view(-1, 1).repeat(1, 3)


def values_like(rows: Tensor) -> Tensor:
    return rows[:, :2] * 10


def add(store: ElementStore, count: int, *labels: int) -> None:
    """`count` elements more, all with values for the objects; values are ten times the element's number."""
    rows = element_rows(count, first=store.size)
    time = torch.full((count,), store.size)
    store.append({label: values_like(rows) for label in labels}, memory_row=rows, time=time)


def numbers(store: ElementStore) -> list[int]:
    return [int(row[0]) for row in store.memory_rows]


def values_by_number(store: ElementStore, label: int) -> list[int]:
    """The elements an object has values for, by what its values say."""
    return [int(row[0]) // 10 for row in store.values_of(label)]


@pytest.fixture
def store() -> ElementStore:
    """Elements 0–3 know object 1; 4–6 objects 1 and 9; 7 objects 1, 9 and 4."""
    store = ElementStore()
    add(store, 4, 1)
    add(store, 3, 1, 9)
    add(store, 1, 1, 9, 4)
    return store


def test_values_start_where_their_object_arrived(store):
    assert store.size == 8
    assert [store.first_element(label) for label in (1, 9, 4, 77)] == [0, 4, 7, 8]
    assert values_by_number(store, 9) == [4, 5, 6, 7]


def test_removal_keeps_values_with_their_elements(store):
    store.remove(torch.tensor([5, 1, 7]))
    assert numbers(store) == [0, 2, 3, 4, 6]
    assert values_by_number(store, 1) == [0, 2, 3, 4, 6]
    assert [store.first_element(label) for label in (9, 4)] == [3, 5]
    assert values_by_number(store, 9) == [4, 6]


def test_removed_objects_take_along_what_only_they_had(store):
    store.delete_objects([1])
    assert numbers(store) == [4, 5, 6, 7]
    assert values_by_number(store, 9) == [4, 5, 6, 7]
    store.delete_objects([4])
    assert numbers(store) == [4, 5, 6, 7]
    store.delete_objects([9])
    assert store.size == 0


def count_read(store: ElementStore, use: Tensor) -> None:
    """Count a read of one query with these affinities."""
    store.count_use(use[None])
    store.count_read()


def test_usage_is_use_over_life(store):
    count_read(store, torch.arange(8, dtype=torch.float64))
    add(store, 1, 1, 9, 4)
    count_read(store, torch.ones(9, dtype=torch.float64))
    expected = [*((use + 1) / (2 + LIFE_AT_BIRTH) for use in range(8)), 1 / (1 + LIFE_AT_BIRTH)]
    assert store.usage.tolist() == pytest.approx(expected, rel=1e-12)


@settings(deadline=None)
@given(data=st.data())
def test_usage_is_the_same_to_the_bit_in_whatever_order_it_is_counted(data):
    """GPUs add up in any order: with floats, runs would not repeat."""
    size = data.draw(st.integers(1, 6))
    pairs = st.tuples(st.integers(0, size - 1), st.floats(0, 1, width=32))
    drawn = data.draw(st.lists(pairs, min_size=1, max_size=40))
    stores = [ElementStore(), ElementStore()]
    for store, order in zip(stores, (drawn, data.draw(st.permutations(drawn))), strict=True):
        add(store, size, 1)
        elements, weights = (torch.tensor(each)[None] for each in zip(*order, strict=True))
        store.count_use(SparseAffinity(weights.float(), elements, torch.tensor([0])))
        store.count_read()
    assert torch.equal(stores[0].usage, stores[1].usage)
    total = sum(weight for _, weight in drawn)
    assert stores[0].shared["use"].rows.sum().item() * USE_UNIT == pytest.approx(total, abs=1e-7)


def test_a_memory_saved_before_use_was_counted_in_units_is_restored(store):
    count_read(store, torch.arange(8, dtype=torch.float64))
    state = store.state()
    state["shared"]["use"] = torch.arange(8, dtype=torch.float32)
    older = ElementStore()
    older.restore(state)
    assert torch.equal(older.usage, store.usage)


def test_an_empty_store_has_no_usage():
    assert ElementStore().usage.tolist() == []
    emptied = ElementStore()
    add(emptied, 2, 1)
    emptied.delete_objects([1])
    assert emptied.usage.tolist() == []


def test_a_restored_store_is_the_same_and_goes_on_alike(store):
    count_read(store, torch.arange(8, dtype=torch.float64))
    restored = ElementStore()
    restored.restore(store.state())
    for each in (store, restored):
        add(each, 2, 1, 9, 4)
        each.remove(torch.tensor([0, 8]))
    assert torch.equal(restored.memory_rows, store.memory_rows)
    assert torch.equal(restored.usage, store.usage)
    assert all(torch.equal(restored.values_of(label), store.values_of(label)) for label in (1, 9, 4))


def test_state_does_not_change_with_the_store(store):
    state = store.state()
    before = state["shared"]["memory_row"].clone()
    store.remove(torch.tensor([0, 1, 2]))
    add(store, 5, 1, 9, 4)
    assert torch.equal(state["shared"]["memory_row"], before)


# ---------------------------------------------------------------------------------------------------------------------
# Long-term and working memory


def test_eviction_takes_the_least_used_and_the_oldest_of_equals():
    store = LongTermMemory()
    add(store, 6, 1)
    count_read(store, torch.tensor([0.0, 3, 0, 2, 0, 9], dtype=torch.float64))
    store.evict(-2)
    assert store.size == 6
    store.evict(2)
    assert numbers(store) == [1, 3, 4, 5]
    store.evict(2)
    assert numbers(store) == [1, 5]


def test_prototypes_from_earlier_frames_are_put_in_their_place():
    """After a kept frame became an ordinary one, its prototypes are older than some that are there already."""
    store = LongTermMemory()
    times, known = torch.tensor([2, 5, 6]), torch.tensor([50.0, 60.0]).view(-1, 1)
    all_rows = torch.tensor([20.0, 50.0, 60.0]).view(-1, 1)
    store.append_prototypes({1: all_rows, 2: known}, (2, 6), memory_row=all_rows.repeat(1, 3), time=times)
    late = torch.tensor([10.0, 40.0, 70.0]).view(-1, 1)
    store.append_prototypes({1: late, 2: late[1:]}, (1, 7), memory_row=late.repeat(1, 3), time=torch.tensor([1, 4, 7]))
    assert store.time.tolist() == [1, 2, 4, 5, 6, 7]
    assert store.memory_rows[:, 0].tolist() == [10, 20, 40, 50, 60, 70]
    assert store.values_of(1).flatten().tolist() == [10, 20, 40, 50, 60, 70]
    assert store.values_of(2).flatten().tolist() == [40, 50, 60, 70]
    assert store.first_element(2) == 2


def test_candidates_are_whole_frames_that_may_leave():
    working = WorkingMemory()
    frames = [
        MemoryFrame(first=True, annotates={1}),
        MemoryFrame(),
        MemoryFrame(permanent=True),
        MemoryFrame(),
        MemoryFrame(annotates={2}),
        MemoryFrame(),
    ]
    for index, frame in enumerate(frames):
        rows = element_rows(2, first=2 * index)
        columns = dict.fromkeys(("memory_row", "key", "shrinkage", "selection"), rows)
        working.append_frame(frame, {1: values_like(rows)}, time=torch.full((2,), index), **columns)
    assert working.counted_frames == 4
    assert working.candidates(1).tolist() == [2, 3, 6, 7, 10, 11]
    assert working.candidates(2).tolist() == [2, 3, 6, 7]
    assert working.candidates(9).tolist() == []
    working.remove_candidates(working.candidates(2))
    assert working.frames == [frames[0], frames[2], frames[4], frames[5]]
    assert numbers(working) == [0, 1, 4, 5, 8, 9, 10, 11]
    assert working.frame_size == 2


# ---------------------------------------------------------------------------------------------------------------------
# Reading and saving, through the manager

KEY_DIM, VALUE_DIM, HEIGHT, WIDTH = 4, 6, 3, 5


def configuration(**changes: int | bool | None) -> InferenceConfig:
    settings = {"max_mid_term_frames": 4, "min_mid_term_frames": 2, "num_prototypes": 9, "max_long_term_elements": 20}
    return InferenceConfig.from_settings(**settings | changes)


class Random:
    """Frames and queries in float64, the same ones for the same seed."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, HEIGHT, WIDTH, generator=self.generator, dtype=torch.float64)

    def insert(self, memory: MemoryManager, *objects: int) -> None:
        key, shrinkage, selection = self.normal(KEY_DIM), self.normal(1) ** 2 + 1, self.normal(KEY_DIM).sigmoid()
        arrived = memory.objects.add(objects)
        memory.insert(key, shrinkage, selection, self.normal(len(objects), VALUE_DIM), arrived)

    def read(self, memory: MemoryManager, count_usage: bool = True) -> Tensor:
        return memory.read(self.normal(KEY_DIM), self.normal(KEY_DIM).sigmoid(), count_usage)


def filled_memory(random: Random, **changes: int | bool | None) -> MemoryManager:
    """After two consolidations, with objects that arrived before and after them."""
    memory = MemoryManager(configuration(**changes), ObjectManager())
    for _ in range(5):
        random.insert(memory, 3, 5)
        random.read(memory)
    for _ in range(4):
        random.insert(memory, 3, 5, 1)
        random.read(memory)
    assert memory.working.size
    assert memory.long_term.size
    return memory


@pytest.mark.parametrize("top_k", [None, 3, 30, 10**6])
@pytest.mark.parametrize("similarities", [1, 100, 333])
def test_reading_in_chunks_makes_no_difference(monkeypatch, top_k, similarities):
    whole, chunked = (filled_memory(Random(), top_k=top_k) for _ in range(2))
    expected = Random(1).read(whole)
    monkeypatch.setattr(reading, "CHUNK_SIMILARITIES", {"cpu": similarities})
    torch.testing.assert_close(Random(1).read(chunked), expected, rtol=0, atol=1e-12)
    for name in ("working", "long_term"):
        usage, usage_of_whole = (getattr(memory, name).usage for memory in (chunked, whole))
        torch.testing.assert_close(usage, usage_of_whole, rtol=0, atol=HEIGHT * WIDTH * USE_UNIT)


def test_reading_with_all_elements_is_reading_without_top_k():
    limited, unlimited = (filled_memory(Random(), top_k=top_k) for top_k in (10**6, None))
    assert torch.equal(Random(1).read(limited), Random(1).read(unlimited))


def total_use(memory: MemoryManager) -> float:
    """The affinity that all elements have drawn."""
    return sum(store.shared["use"].rows.sum().item() for store in (memory.working, memory.long_term)) * USE_UNIT


def test_every_query_gives_out_all_of_its_affinity():
    random = Random()
    memory = filled_memory(random)
    before = total_use(memory)
    random.read(memory)
    assert total_use(memory) - before == pytest.approx(HEIGHT * WIDTH, abs=1e-7)


def test_a_read_that_is_not_counted_changes_nothing():
    memory = filled_memory(Random())
    before = [(store.usage.clone(), store.shared["life"].rows.clone()) for store in (memory.working, memory.long_term)]
    Random(1).read(memory, count_usage=False)
    for store, (usage, life) in zip((memory.working, memory.long_term), before, strict=True):
        assert torch.equal(store.usage, usage)
        assert torch.equal(store.shared["life"].rows, life)


def test_an_affinity_is_split_by_store():
    """Elements 0–2 are the first store's, 3–6 the second's, whose first two have no value for this object."""
    weights = torch.tensor([[0.5, 0.25, 0.25]])
    first, second = reading.split_affinity(
        SparseAffinity(weights, torch.tensor([[1, 6, 5]]), torch.tensor([0])), [3, 4], [0, 2]
    )
    assert first.weights.tolist() == [[0.5, 0, 0]]
    assert first.elements[0, 0] == 1
    assert first.elements.max() < 3
    assert second.weights.tolist() == [[0, 0.25, 0.25]]
    assert second.elements[0, 1:].tolist() == [1, 0]
    assert second.elements.min() >= 0


def test_a_memory_goes_on_from_its_saved_state_with_the_same_bits():
    memory = filled_memory(Random())
    file = io.BytesIO()
    torch.save(memory.state(), file)
    file.seek(0)
    restored = MemoryManager(configuration(), ObjectManager(memory.objects.arrivals))
    restored.restore(torch.load(file, weights_only=True))
    one, other = Random(7), Random(7)
    for _ in range(8):  # consolidates and evicts
        one.insert(memory, 3, 5, 1)
        other.insert(restored, 3, 5, 1)
        assert torch.equal(one.read(memory), other.read(restored))
    memory.delete_objects([3])
    restored.delete_objects([3])
    assert torch.equal(one.read(memory), other.read(restored))
    assert torch.equal(memory.long_term.usage, restored.long_term.usage)


def test_bytes_of_memory():
    memory = MemoryManager(InferenceConfig(), ObjectManager(), hidden_dim=8)
    assert memory.nbytes == 0
    rows = {"memory_row": torch.zeros(6, 17), "time": torch.zeros(6, dtype=torch.long)}
    memory.long_term.append_prototypes({1: torch.zeros(6, 16), 2: torch.zeros(4, 16)}, (0, 0), **rows)
    stores = 4 * (6 * 17 + 6 + 10 * 16) + 8 * (6 + 6)
    assert memory.nbytes == stores
    memory.sensory.hidden = torch.zeros(1, 2, 8, 3, 4)
    assert memory.nbytes == stores + 4 * 2 * 8 * 3 * 4


def test_long_term_memory_stays_in_the_buffer_it_was_given():
    random, memory = Random(), MemoryManager(configuration(), ObjectManager())
    for _ in range(5):
        random.insert(memory, 1)
    place = memory.long_term.memory_rows.data_ptr()
    for _ in range(30):
        random.insert(memory, 1)
        assert memory.long_term.size <= 20
        assert memory.working.size <= 4 * HEIGHT * WIDTH
    assert memory.long_term.memory_rows.data_ptr() == place


def test_there_is_a_value_for_every_object():
    random, memory = Random(), MemoryManager(configuration(), ObjectManager())
    random.insert(memory, 3, 5)
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        random.insert(memory, 3)
    assert memory.working.size == HEIGHT * WIDTH


def test_the_sensory_memory_has_a_state_per_object():
    sensory, key = SensoryMemory(hidden_dim=3), torch.zeros(1, KEY_DIM, 2, 2)
    sensory.add_objects(2, like=key)
    assert torch.equal(sensory.hidden, torch.zeros(1, 2, 3, 2, 2))
    sensory.hidden = sensory.hidden + torch.tensor([1.0, 2.0]).view(1, 2, 1, 1, 1)
    sensory.add_objects(1, like=key)
    assert sensory.hidden[0, :, 0, 0, 0].tolist() == [1, 2, 0]
    sensory.keep([2, 1])
    assert sensory.hidden[0, :, 0, 0, 0].tolist() == [0, 2]
    sensory.keep([])
    assert sensory.hidden is None


def test_without_sensory_memory_there_is_no_state():
    sensory = SensoryMemory(hidden_dim=0)
    sensory.add_objects(2, like=torch.zeros(1, KEY_DIM, 2, 2))
    sensory.keep([1])
    assert sensory.hidden is None
