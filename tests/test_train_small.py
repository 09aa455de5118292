"""The bundled network's recipe: what train.py makes of its flags, and the file that it ends with."""

import pytest
import torch
from tiny_network import save_tiny_network

import train
from model.checkpoint import read_checkpoint
from scripts.train_small import INTENDED_SIZE, PHASES, VARIANTS, export, variant_phase

STAGES_OF_PHASES = [*PHASES, *(variant_phase(suffix) for suffix in VARIANTS)]


@pytest.mark.parametrize("phase", STAGES_OF_PHASES, ids=lambda phase: phase.name)
def test_train_takes_the_flags(phase, tmp_path):
    flags = ["--stages", phase.stage, f"--s{phase.stage}_iterations", str(phase.iterations), "--no_pretrained"]
    roots = ["--videos_root", str(tmp_path)] if phase.stage == "m" else []
    arguments = train.parse_arguments([*flags, "--exp_id", phase.name, *roots, *phase.flags.split()])
    (stage,) = train.configure(arguments, train.Beginning(), torch.device("cpu")).stages
    assert stage.iterations == phase.iterations
    assert stage.steps
    assert max(stage.steps) < phase.iterations


def test_the_network_is_written_in_half_precision_with_what_it_is_meant_for(tmp_path):
    trained = save_tiny_network(tmp_path / "trained.pth", metadata={"videos_seen": ["camel"]})
    export(trained, tmp_path / "exported.pth")
    before, after = read_checkpoint(trained), read_checkpoint(tmp_path / "exported.pth")
    assert after.metadata == {"videos_seen": ["camel"], "size": INTENDED_SIZE}
    assert after.network_config == before.network_config
    for name, tensor in before.state_dict.items():
        assert torch.equal(after.state_dict[name], tensor.half() if tensor.is_floating_point() else tensor)
