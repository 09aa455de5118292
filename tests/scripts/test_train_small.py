"""The bundled network's recipe: what train.py makes of its flags, and the file that it ends with."""

import signal
import subprocess
import sys
import time

import pytest
import torch
from PIL import Image

import train
from model.checkpoint import read_checkpoint
from scripts.train_small import (
    INTENDED_SIZE,
    NOT_DONE,
    PHASES,
    TRAINING_VIDEOS,
    VARIANTS,
    blended,
    export,
    main,
    variant_phase,
)
from tests.helpers.tiny_network import save_tiny_network
from util.provenance import REPOSITORY

STAGES_OF_PHASES = [*PHASES, *(variant_phase(suffix) for suffix in VARIANTS)]


@pytest.mark.parametrize("phase", STAGES_OF_PHASES, ids=lambda phase: phase.name)
def test_train_takes_the_flags(phase, tmp_path):
    roots = ["--videos_root", str(tmp_path)] if phase.stage == "m" else []
    arguments = train.parse_arguments([*phase.arguments(), *roots])
    (stage,) = train.configure(arguments, train.Beginning(), torch.device("cpu")).stages
    assert (stage.iterations, stage.batch_size) == (phase.iterations, phase.batch_size)
    assert stage.steps
    assert max(stage.steps) < phase.iterations


def test_what_will_be_missing_in_hours_is_told_now(tmp_path, capsys):
    command = ["--output", str(tmp_path / "out"), "--davis_root", str(tmp_path / "nowhere")]
    assert main(command) == NOT_DONE
    assert "nowhere does not exist: --videos_root" in capsys.readouterr().err
    for name in TRAINING_VIDEOS:
        for folder, mode, suffix in (("JPEGImages", "RGB", "jpg"), ("Annotations", "L", "png")):
            (tmp_path / folder / name).mkdir(parents=True)
            Image.new(mode, (4, 4)).save(tmp_path / folder / name / f"0.{suffix}")
    assert main(["--output", str(tmp_path / "out"), "--davis_root", str(tmp_path), "--processes", "16"]) == NOT_DONE
    assert "the batch of 8 of small_longer does not divide" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_training_which_may_end_well(tmp_path, number):
    child = """
import signal, sys, time
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
open(sys.argv[1] + "/ready", "w").close()
while not asked:
    time.sleep(0.01)
time.sleep(0.5)
open(sys.argv[1] + "/ended well", "w").close()
"""
    command = [sys.executable, "-c", child, str(tmp_path)]
    program = f"import os; from scripts.train_small import run; run({command!r}, os.environ)"
    caller = subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "ready").exists():
        assert caller.poll() is None
        time.sleep(0.01)
    caller.send_signal(number)
    assert "KeyboardInterrupt" in caller.communicate(timeout=60)[1]
    assert (tmp_path / "ended well").exists()


def test_a_phase_may_begin_with_the_mean_of_several(tmp_path):
    one = save_tiny_network(tmp_path / "one.pth", seed=1)
    two = save_tiny_network(tmp_path / "two.pth", seed=2, metadata={"videos_seen": ["camel"]})
    assert blended([two], tmp_path / "mean.pth") == two
    mean = blended([one, two], tmp_path / "mean.pth")
    weights = [read_checkpoint(path).state_dict for path in (one, two, mean)]
    for name, tensor in weights[2].items():
        torch.testing.assert_close(tensor, ((weights[0][name].double() + weights[1][name]) / 2).to(tensor.dtype))
    assert read_checkpoint(mean).metadata == {"videos_seen": ["camel"]}
    written = mean.stat().st_mtime_ns
    assert blended([one, two], mean).stat().st_mtime_ns == written  # a resumed run began with this very file


def test_the_network_is_written_in_half_precision_with_what_it_is_meant_for(tmp_path):
    trained = save_tiny_network(tmp_path / "trained.pth", metadata={"videos_seen": ["camel"]})
    export(trained, tmp_path / "exported.pth")
    before, after = read_checkpoint(trained), read_checkpoint(tmp_path / "exported.pth")
    assert after.metadata == {"videos_seen": ["camel"], "size": INTENDED_SIZE}
    assert after.network_config == before.network_config
    for name, tensor in before.state_dict.items():
        assert torch.equal(after.state_dict[name], tensor.half() if tensor.is_floating_point() else tensor)
