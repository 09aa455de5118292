"""Reading a full memory at 480p, timed beside the plain dense formulation of the paper's equations.

Both read the same memory for the same queries, in turn, with usage counted. Peak memory is what a read needs on top
of the memory itself: on a CPU measured in a process of its own, by what the read adds to the process's peak.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable
from statistics import median

import torch
from jaxtyping import Float
from torch import Tensor

from inference.memory.element_store import ElementStore
from inference.memory.reading import read_stores
from model.memory_reading import memory_rows, query_rows
from util.device import choose_device, hardware_name
from util.errors import UserError
from util.machine import peak_process_bytes

KEY_DIM, VALUE_DIM, TOP_K = 64, 512, 30
QUERIES = 30 * 54  # 480 × 854 at stride 16
WORKING_ELEMENTS = 10 * QUERIES  # T_max frames; what is beyond them lies in long-term memory


class FilledMemory:
    """A memory of made-up elements, in both forms: as stores, and as the dense formulation wants it."""

    def __init__(self, elements: int, objects: int, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(elements)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator).to(device)

        self.objects = list(range(1, objects + 1))
        self.key, self.shrinkage = draw(elements, KEY_DIM), draw(elements, 1).square() + 1
        self.values = draw(objects, elements, VALUE_DIM)
        self.query_key, self.selection = draw(QUERIES, KEY_DIM), draw(QUERIES, KEY_DIM).sigmoid()
        self.stores = [ElementStore(), ElementStore()]
        in_long_term = max(elements - WORKING_ELEMENTS, 0)
        rows = memory_rows(self.key, self.shrinkage)
        for store, part in zip(self.stores, (slice(0, in_long_term), slice(in_long_term, elements)), strict=True):
            store.append(
                dict(zip(self.objects, self.values[:, part], strict=True)),
                memory_row=rows[part],
                time=torch.zeros(len(rows[part]), dtype=torch.long, device=device),
            )

    def read(self) -> Float[Tensor, "objects queries value_dim"]:
        """The program's own read."""
        queries = query_rows(self.query_key, self.selection)
        return read_stores(queries, self.stores, [self.objects], TOP_K)

    def read_densely(self) -> Float[Tensor, "objects value_dim queries"]:
        """Similarity by three products, top-k along the memory, a dense affinity, one product per object."""
        key, query, selection = self.key, self.query_key.t(), self.selection.t()
        squares = key.square() @ selection
        mixed = 2 * (key @ (query * selection))
        constant = (selection * query.square()).sum(dim=0, keepdim=True)
        similarity = (-squares + mixed - constant) * self.shrinkage / KEY_DIM**0.5
        largest, elements = similarity.topk(TOP_K, dim=0)
        weights = torch.softmax(largest, dim=0)
        affinity = similarity.zero_().scatter_(0, elements, weights)
        self.use = affinity.sum(dim=1)
        return torch.stack([values.t() @ affinity for values in self.values])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this benchmark."""
    parser.add_argument("--elements", type=int, nargs="+", default=[8100, 16200, 26000], help="memory sizes")
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 3, 5], help="numbers of objects")
    parser.add_argument("--repeats", type=int, default=9, help="timed reads of either kind, in turn")
    parser.add_argument("--device", default="cpu", help="auto, cuda, cuda:N, mps or cpu")


@torch.inference_mode()
def run(arguments: argparse.Namespace) -> None:
    """Print a table: medians of both reads, their ratio, both peaks of memory and the largest difference."""
    if min(*arguments.elements, *arguments.objects, arguments.repeats) < 1:
        raise UserError("--elements, --objects and --repeats must be at least 1")
    device = choose_device(arguments.device)
    print(f"{hardware_name(device)}, {torch.get_num_threads()} threads, {QUERIES} queries, top-{TOP_K}")
    print("| elements | objects | dense | this | ratio | dense peak | this peak | peak ratio | largest difference |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for elements in arguments.elements:
        for objects in arguments.objects:
            memory = FilledMemory(elements, objects, device)
            difference = (memory.read_densely().transpose(1, 2) - memory.read()).abs().max().item()
            dense, ours = time_in_turn([memory.read_densely, memory.read], arguments.repeats, device)
            peaks = [peak_of(method, elements, objects, device) for method in ("read_densely", "read")]
            speed = f"{1e3 * dense:.0f} ms | {1e3 * ours:.0f} ms | {dense / ours:.1f}×"
            space = f"{peaks[0] / 2**20:.0f} MiB | {peaks[1] / 2**20:.0f} MiB | {peaks[1] / peaks[0]:.2f}"
            print(f"| {elements} | {objects} | {speed} | {space} | {difference:.0e} |", flush=True)


def time_in_turn(functions: list[Callable[[], Tensor]], repeats: int, device: torch.device) -> list[float]:
    """Median seconds of each function, after a warm-up, called in turn so that a slow phase hits all alike."""
    seconds: list[list[float]] = [[] for _ in functions]
    for repeat in range(repeats + 1):
        for function, taken in zip(functions, seconds, strict=True):
            synchronise(device)
            begun = time.perf_counter()
            function()
            synchronise(device)
            if repeat:
                taken.append(time.perf_counter() - begun)
    return [median(taken) for taken in seconds]


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def peak_of(method: str, elements: int, objects: int, device: torch.device) -> int:
    """Bytes that one read needs beyond the memory it reads."""
    if device.type == "cuda":
        memory = FilledMemory(elements, objects, device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        getattr(memory, method)()
        return torch.cuda.max_memory_allocated(device) - before
    with multiprocessing.get_context("spawn").Pool(1) as process:
        return process.apply(added_to_peak, (method, elements, objects))


def added_to_peak(method: str, elements: int, objects: int) -> int:
    """Bytes that a read adds to this process's peak; run in a process of its own."""
    memory = FilledMemory(elements, objects, torch.device("cpu"))
    getattr(FilledMemory(100, objects, torch.device("cpu")), method)()  # so that libraries' own buffers are there
    before = peak_process_bytes()
    getattr(memory, method)()
    return max(peak_process_bytes() - before, 1)
