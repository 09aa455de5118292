"""CUDA graphs on a CPU: what is recorded is the list of operators, which is played again on the same memory.

As on a GPU, operators that a graph does not hold are not played, and neither is anything that Python decides. So what
the graph got from outside when it was recorded stays as it was then.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class RecordedGraph(TorchDispatchMode):
    """Stands for `torch.cuda.CUDAGraph`; as a mode it records."""

    made = 0
    """How many there have been."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        RecordedGraph.made += 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        for func, args, kwargs, result in self.calls:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():  # else a view, or in place
                    old.copy_(new)


@contextmanager
def recording(graph: RecordedGraph, capture_error_mode: str) -> Iterator[None]:
    """Stand for `torch.cuda.graph`."""
    with graph:
        yield


def use_recorded_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have CUDA graphs recorded on the CPU."""
    monkeypatch.setattr(torch.cuda, "CUDAGraph", RecordedGraph)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    monkeypatch.setattr(RecordedGraph, "made", 0)
