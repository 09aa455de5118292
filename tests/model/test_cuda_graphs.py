"""A network whose operations are CUDA graphs gives what it gives without them; graphs are recorded on the CPU here."""

import logging
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from inference.config import InferenceConfig
from inference.inference_core import InferenceCore
from model import cuda_graphs
from model.cuda_graphs import GraphedNetwork, graphed
from model.network import XMem
from tests.helpers.recorded_graphs import RecordedGraph, use_recorded_graphs
from tests.helpers.tiny_network import TINY, tiny_network

CONFIG = InferenceConfig.from_settings(
    mem_every=2, min_mid_term_frames=2, max_mid_term_frames=4, num_prototypes=10, max_long_term_elements=25
)


@pytest.fixture(autouse=True)
def graphs(monkeypatch):
    use_recorded_graphs(monkeypatch)


def follow(network: XMem, height: int = 48, inference_mode: bool = True) -> list[Tensor]:
    """Follow two objects, then a third, then two of them, through noise; a copy of each frame's probabilities."""
    generator = torch.Generator().manual_seed(0)
    core = InferenceCore(network, CONFIG)
    first, later = torch.zeros(2, height, 64, dtype=torch.uint8)
    first[4:20, 4:30], first[15:40, 25:50], later[20:44, 2:20] = 1, 2, 5
    results = []
    with torch.inference_mode(inference_mode):
        for time in range(16):
            if time == 12:
                core.delete_objects([2])
            image = torch.randn(3, height, 64, generator=generator)
            results.append(core.step(image, {0: first, 6: later}.get(time), end=time == 15))
    copies = [each.clone() for each in results]
    assert all(torch.equal(each, copy) for each, copy in zip(results, copies, strict=True))
    return copies


@pytest.mark.parametrize("inference_mode", [True, False])
@pytest.mark.parametrize("hidden_dim", [TINY.hidden_dim, 0])
def test_results_are_the_same_to_the_bit(hidden_dim, inference_mode):
    network = tiny_network(replace(TINY, hidden_dim=hidden_dim)).for_inference()
    expected = follow(network, inference_mode=inference_mode)
    graphed = GraphedNetwork(network)
    for _ in range(2):  # the second video is all graphs
        found = follow(graphed, inference_mode=inference_mode)
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert RecordedGraph.made >= 6


def test_a_graph_serves_for_one_size_and_number_of_objects():
    graphed = GraphedNetwork(tiny_network().for_inference())
    follow(graphed)
    follow(graphed)
    made = RecordedGraph.made
    follow(graphed)
    assert RecordedGraph.made == made
    follow(graphed, height=64)
    follow(graphed, height=64)
    assert RecordedGraph.made == 2 * made


def test_what_was_returned_is_not_written_to_again():
    graphed = GraphedNetwork(tiny_network().for_inference())
    images = torch.randn(4, 1, 3, 48, 64)
    outputs = [graphed.encode_key(image) for image in images]
    copies = [[each.clone() for each in (*query, *features)] for query, features in outputs]
    graphed.encode_key(images[0])
    for (query, features), copied in zip(outputs, copies, strict=True):
        assert all(torch.equal(each, copy) for each, copy in zip((*query, *features), copied, strict=True))


def test_only_what_is_on_a_cuda_device_is_recorded(monkeypatch):
    network = tiny_network().for_inference()
    assert graphed(network) is network
    monkeypatch.setattr(XMem, "device", torch.device("cuda"))
    recorded = graphed(network)
    assert isinstance(recorded, GraphedNetwork)
    assert graphed(recorded) is recorded
    monkeypatch.setattr(XMem, "has_fixed_precision", True)
    assert graphed(network) is network


def test_graphs_that_are_not_used_make_room(monkeypatch):
    monkeypatch.setattr(cuda_graphs, "MOST_GRAPHS", 3)
    graphed = GraphedNetwork(tiny_network().for_inference())
    follow(graphed)
    assert len(graphed._graphs) == 3


def test_where_nothing_can_be_recorded_all_goes_on_without(monkeypatch, caplog):
    network = tiny_network().for_inference()
    expected = follow(network)

    def fail(*_, **__):
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(torch.cuda, "graph", fail)
    with caplog.at_level(logging.WARNING):
        found = follow(GraphedNetwork(network))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    (message,) = caplog.messages
    assert message == (
        "CUDA graphs are not used, since one cannot be recorded: "
        "CUDA error: operation not permitted when stream is capturing"
    )


def test_the_recorder_notices_what_a_graph_would_not_hold():
    """A check of the check: a number that Python works out is recorded as it was."""
    calls = 0

    def operation(x: Tensor) -> list[Tensor]:
        nonlocal calls
        calls += 1
        return [x + calls]

    graph = cuda_graphs.Graph(operation, [torch.zeros(2)])
    assert graph([torch.ones(2)])[0].tolist() == graph([torch.ones(2)])[0].tolist() == [2, 2]
