"""Names and shapes of released files, and one frame through each module of the published network."""

import copy
import json

import numpy as np
import pytest
import torch

from inference.images import normalise_image
from model.config import NetworkConfig
from model.encoders import QueryKey
from model.network import XMem
from tests.helpers.reference import PARITY, reference_network

VARIANTS = {
    "default": NetworkConfig(),
    "single_object": NetworkConfig(single_object=True),
    "no_sensory": NetworkConfig(hidden_dim=0),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_state_dict_names_and_shapes(variant):
    expected = json.loads((PARITY / "state_dict.json").read_text())[variant]
    with torch.device("meta"):
        network = XMem(VARIANTS[variant])
    assert {name: list(tensor.shape) for name, tensor in network.state_dict().items()} == expected


@pytest.fixture(scope="module")
def expected(shared):
    """The reference numbers by name."""
    with np.load(shared / "parity" / "modules.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


@pytest.fixture(scope="module", params=[torch.float32, torch.float64], ids=["float32", "float64"])
def actual(request, expected):
    """What each module makes of the reference's input to it, under the same names; so rounding does not add up."""
    dtype = request.param
    network = copy.deepcopy(reference_network()).to(dtype)
    first, second = (normalise_image(rgb).unsqueeze(0).to(dtype) for rgb in expected["rgb"])
    masks = torch.stack([expected["label"] == label for label in (1, 2)]).to(dtype).unsqueeze(0)
    with torch.no_grad():
        memory, features = network.encode_key(first)
        no_hidden = torch.zeros(1, 2, 64, *memory.key.shape[-2:], dtype=dtype)
        deep = network.encode_value(first, features.f16, no_hidden, masks, deep_update=True)
        second_value = network.encode_value(first, features.f16, deep.hidden, masks, deep_update=False)
        query, query_features = network.encode_key(second)
        stored = QueryKey(*(expected[name].to(dtype) for name in QueryKey._fields))
        readout = network.read_memory(query, stored, expected["value"].to(dtype).flatten(3))
        segmentation = network.segment(query_features, expected["readout"].to(dtype), expected["hidden_deep"].to(dtype))
    assert torch.equal(second_value.hidden, deep.hidden)
    return {
        **memory._asdict(),
        **features._asdict(),
        "value": deep.value,
        "hidden_deep": deep.hidden,
        "value_second": second_value.value,
        "readout": readout,
        "hidden_updated": segmentation.hidden,
        "logits": segmentation.logits,
        "prob": segmentation.prob,
    }


TOLERANCES = {
    "key": 1e-4,
    "shrinkage": 1e-4,
    "selection": 1e-4,
    "f16": 5e-3,  # stored in half precision
    "f8": 5e-3,
    "f4": 5e-3,
    "value": 1e-4,
    "hidden_deep": 1e-4,
    "value_second": 1e-4,
    "readout": 1e-4,
    "hidden_updated": 1e-4,
    "logits": 1e-4,
    "prob": 1e-4,
}


@pytest.mark.parametrize("name", TOLERANCES)
def test_module(actual, expected, name):
    result, reference = actual[name].double(), expected[name].double()
    torch.testing.assert_close(result.reshape(reference.shape), reference, rtol=0, atol=TOLERANCES[name])
