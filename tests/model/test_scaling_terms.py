"""Networks without shrinkage or selection (table 5) or sensory memory (table 4): trained, saved, read back as such."""

from dataclasses import asdict, replace

import pytest
import torch

import train
from inference.inference_core import InferenceCore
from model.checkpoint import CheckpointError, read_checkpoint, save_network
from model.config import NetworkConfig
from model.network import XMem
from tests.helpers.tiny_network import TINY
from training.config import RunConfig
from training.initialisation import untrained_network, without_parts
from training.starting_point import find_starting_point
from util.errors import UserError

SETTINGS = [(False, True), (True, False), (False, False)]


@pytest.fixture(scope="module")
def network() -> XMem:
    return untrained_network(TINY, seed=1)


def terms(network: XMem) -> tuple[torch.Tensor, torch.Tensor]:
    """Shrinkage and selection of a frame."""
    image = torch.randn(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        query, _ = network.encode_key(image)
    return query.shrinkage, query.selection


@pytest.mark.parametrize(("use_shrinkage", "use_selection"), SETTINGS)
def test_a_term_that_is_not_used_is_one_and_all_else_as_before(network, use_shrinkage, use_selection):
    simpler = without_parts(network, use_shrinkage, use_selection, use_sensory=True)
    for term, full, used in zip(terms(simpler), terms(network), (use_shrinkage, use_selection), strict=True):
        assert term.shape == full.shape
        assert torch.equal(term, full if used else torch.ones_like(full))
        assert not torch.equal(full, torch.ones_like(full))
    gone = {name for name in network.state_dict() if name not in simpler.state_dict()}
    assert {name.split(".")[1] for name in gone} == {
        name for name, used in (("d_proj", use_shrinkage), ("e_proj", use_selection)) if not used
    }


def test_a_network_with_both_terms_stays_what_it_is(network):
    assert without_parts(network, True, True, True) is network


@pytest.mark.parametrize(("use_shrinkage", "use_selection"), SETTINGS)
def test_files_say_which_terms_there_are(network, use_shrinkage, use_selection, tmp_path):
    simpler = without_parts(network, use_shrinkage, use_selection, use_sensory=True)
    save_network(tmp_path / "network.pth", simpler.config, simpler.state_dict())
    back = XMem.from_checkpoint(tmp_path / "network.pth")
    assert (back.config.use_shrinkage, back.config.use_selection) == (use_shrinkage, use_selection)
    for mine, theirs in zip(terms(simpler), terms(back), strict=True):
        assert torch.equal(mine, theirs)


def test_files_from_before_have_both_terms(network, tmp_path):
    fields = asdict(network.config)
    del fields["use_shrinkage"], fields["use_selection"]
    content = {"format": "xmem-network-1", "network_config": fields, "state_dict": network.state_dict(), "metadata": {}}
    torch.save(content, tmp_path / "network.pth")
    assert read_checkpoint(tmp_path / "network.pth").network_config == network.config


def test_a_published_file_that_lacks_a_term_is_damaged(tmp_path):
    """Only files of our format say that a term is not there on purpose."""
    state = {n: t for n, t in untrained_network(TINY, 0).state_dict().items() if not n.startswith("key_proj.e_proj")}
    torch.save(state, tmp_path / "plain.pth")
    with pytest.raises(CheckpointError, match=r"misses key_proj\.e_proj"):
        XMem.from_checkpoint(tmp_path / "plain.pth")


def test_the_memory_of_a_network_with_other_terms_is_refused(network, tmp_path):
    core = InferenceCore(network)
    core.step(torch.zeros(3, 32, 32), torch.ones(32, 32, dtype=torch.long))
    core.save_memory(tmp_path / "memory.pth")
    with pytest.raises(UserError, match="memory of a network with other widths"):
        InferenceCore(without_parts(network, False, True, True)).load_memory(tmp_path / "memory.pth")


@pytest.mark.parametrize(
    ("flags", "changes"),
    [
        ((), {}),
        (("--no_shrinkage",), {"use_shrinkage": False}),
        (("--no_selection",), {"use_selection": False}),
        (("--no_shrinkage", "--no_selection"), {"use_shrinkage": False, "use_selection": False}),
        (("--hidden_dim", "0"), {"hidden_dim": 0}),
    ],
)
def test_flags_of_train(flags, changes, network, tmp_path):
    """For a new network, and for one that starts from a file."""

    def configure(*more: str) -> RunConfig:
        command = ["--stages", "s", "--exp_id", "x", "--output", str(tmp_path), *flags, *more]
        return train.configure(train.parse_arguments(command), torch.device("cpu"))

    assert (configure().network or NetworkConfig()) == replace(NetworkConfig(), **changes)
    save_network(tmp_path / "network.pth", network.config, network.state_dict())
    config = configure("--load_network", str(tmp_path / "network.pth"))
    start = find_starting_point(config).for_network(config.network)
    assert start.network.config == replace(TINY, **changes)


def test_without_a_sensory_memory_is_as_with_one_of_zeros(network):
    """Of its file's other weights nothing is lost."""
    simpler = without_parts(network, True, True, use_sensory=False)
    assert simpler.config == replace(TINY, hidden_dim=0)
    image, readout = torch.randn(1, 3, 32, 48), torch.randn(1, 2, TINY.value_dim, 2, 3)
    zeros = torch.zeros(1, 2, TINY.hidden_dim, 2, 3)
    _, features = network.encode_key(image)
    expected = network.segment(features, readout, zeros)
    found = simpler.segment(simpler.encode_key(image)[1], readout, None)
    assert found.hidden is None
    torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=1e-5)
    assert found.prob[0, 0].std() > 0


def test_gradients_reach_everything_that_is_there(network):
    simpler = without_parts(network, use_shrinkage=False, use_selection=False, use_sensory=True).train()
    query, _ = simpler.encode_key(torch.randn(2, 3, 32, 32))
    values = torch.randn(1, 1, simpler.config.value_dim, 4)
    memory, now = (type(query)(*(part[index : index + 1] for part in query)) for index in (0, 1))
    simpler.read_memory(now, memory, values).sum().backward()
    assert simpler.key_proj.key_proj.weight.grad is not None
    assert replace(simpler.config, use_shrinkage=True, use_selection=True) == TINY
