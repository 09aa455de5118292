"""train.py as a whole: every stage, stops and resumes, validation, and that something is learned."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import train
from model.checkpoint import load_tensors, read_checkpoint, save_network
from model.network import XMem
from tests.helpers import REPOSITORY
from tests.helpers.tiny_network import save_tiny_network
from tests.helpers.training_layouts import TINY_NETWORK, tiny_stage, write_images, write_training_sets, write_videos
from training.checkpoints import RunFolder
from training.logger import TrainingLogger
from training.signals import StopRequest
from training.step import Stepper, StepReport, TrainingBatch
from util.errors import UserError

RANDOM = [*TINY_NETWORK, "--no_pretrained"]
UNMOVED = 1e-30  # a learning rate: Adam's steps are about as long


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Flags that say where tiny data sets lie."""
    return write_training_sets(tmp_path_factory.mktemp("sets"))


def run(output: Path, stages: str, *flags: str, **changes: object) -> int:
    """train.py in this process, with tiny stages; `changes` are values of them all."""
    of_stages = [word for stage in stages for word in tiny_stage(stage, **changes)]
    command = ["--stages", stages, "--exp_id", "x", "--output", str(output), "--num_workers", "0"]
    return train.main([*command, *of_stages, *flags])


def torchrun(program: Path, *arguments: str, max_restarts: int = 0) -> subprocess.CompletedProcess:
    own = ["--standalone", "--nproc_per_node=2", f"--max_restarts={max_restarts}", "--monitor_interval=0.1"]
    command = [sys.executable, "-m", "torch.distributed.run", *own, str(program)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    environment |= {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # as docs/training.md has it for restarts
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=300, env=environment)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_tensors(path)["state_dict"]


def assert_same_weights(one: Path, other: Path, tolerance: float = 0.0) -> None:
    torch.testing.assert_close(weights(one), weights(other), rtol=0, atol=tolerance)


# --- Stages -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_stage_on_two_processes(roots, tmp_path):
    stages = "0123sm"
    of_stages = [word for stage in stages for word in tiny_stage(stage, iterations=1, finetune=int(stage in "123"))]
    finished = torchrun(
        REPOSITORY / "train.py", "--stages", stages, "--exp_id", "all", "--output", str(tmp_path), *RANDOM,
        *of_stages, *roots, "--num_workers", "2",
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    done = {"0": 1, "1": 2, "2": 2, "3": 2, "s": 1, "m": 1}
    files = {stage: tmp_path / "all" / f"all_{stage}_{iterations:08}.pth" for stage, iterations in done.items()}
    networks = {stage: XMem.from_checkpoint(path) for stage, path in files.items()}
    assert not any(network.config.single_object for network in networks.values())  # widened for inference
    assert {stage: load_tensors(path)["network_config"]["single_object"] for stage, path in files.items()} == {
        stage: stage == "0" for stage in stages
    }
    metadata = read_checkpoint(files["m"]).metadata
    assert metadata["trained_on"] == [
        "static images", "BL30K", "YouTubeVOS", "DAVIS 2017", "synthetic sequences", "own videos",
    ]  # fmt: skip
    assert {"bear", "bike", "own_a", "own_b"} <= set(metadata["videos_seen"])
    assert len(metadata["settings"]["config"]["stages"]) == len(stages)
    assert finished.stderr.count("INFO: network:") == len(stages)  # told by one process
    record = json.loads((tmp_path / "all" / "run_1.json").read_text())
    assert record["settings"]["data"]["3 (3)"].keys() == {"YouTubeVOS", "DAVIS 2017"}


def test_after_stage_0_other_objects_get_an_orthogonal_input(roots, tmp_path):
    assert run(tmp_path, "0s", *RANDOM, *roots, lr=UNMOVED) == 0
    name = "value_encoder.conv1.weight"
    single, several = (weights(tmp_path / "x" / f"x_{stage}_00000002.pth") for stage in "0s")
    others = several[name][:, 4].flatten(1)
    torch.testing.assert_close(others @ others.T, torch.eye(len(others)))
    assert single[name].shape[1] == 4
    several[name] = several[name][:, :4]
    torch.testing.assert_close(several, single, rtol=0, atol=4 * UNMOVED)
    file = tmp_path / "x" / "x_0_00000002.pth"
    assert run(tmp_path / "later", "s", "--load_network", str(file), lr=UNMOVED) == 0
    assert_same_weights(tmp_path / "later" / "x" / "x_s_00000002.pth", tmp_path / "x" / "x_s_00000002.pth", 8 * UNMOVED)


def test_a_network_file_is_where_training_goes_on_and_what_it_saw_is_remembered(roots, tmp_path):
    assert run(tmp_path / "first", "m", *RANDOM, *roots) == 0
    file = tmp_path / "first" / "x" / "x_m_00000002.pth"
    assert run(tmp_path / "second", "s", "--load_network", str(file), lr=UNMOVED) == 0
    second = tmp_path / "second" / "x" / "x_s_00000002.pth"
    assert_same_weights(second, file, tolerance=4 * UNMOVED)
    metadata = read_checkpoint(second).metadata
    assert metadata["trained_on"] == ["synthetic sequences", "own videos"]
    assert metadata["videos_seen"] == ["own_a", "own_b"]
    assert (metadata["stage"], metadata["iteration"]) == ("s", 2)


# --- Nothing is lost --------------------------------------------------------------------------------------------------


@pytest.fixture
def stop_in(monkeypatch) -> Callable[[str, int], None]:
    """Has SIGTERM come during an iteration, or never (None)."""

    def stop_in(stage: str | None, iteration: int = 0) -> None:
        monkeypatch.undo()
        step = Stepper.step

        def step_and_signal(self, batch, number):
            if (self.stage.name, number) == (stage, iteration):
                signal.raise_signal(signal.SIGTERM)
            return step(self, batch, number)

        monkeypatch.setattr(Stepper, "step", step_and_signal)

    return stop_in


def test_iterations_that_are_not_finite_are_counted_also_after_a_resume(roots, tmp_path, stop_in, monkeypatch, caplog):
    command = (tmp_path, "0", *RANDOM, *roots, "--resume", "auto")
    stop_in("0", 1)
    step = Stepper.step

    def step_not_finite_at_first(self: Stepper, batch: TrainingBatch, number: int) -> StepReport:
        report = step(self, batch, number)
        return report if number else replace(report, gradient_norm=torch.tensor(torch.nan))

    monkeypatch.setattr(Stepper, "step", step_not_finite_at_first)
    assert run(*command, iterations=3) == 0
    assert "stage 0: 1 of 2 iterations were skipped" in caplog.text
    stop_in(None)
    assert run(*command, iterations=3) == 0
    assert "stage 0: 1 of 3 iterations were skipped" in caplog.text


@pytest.fixture(scope="module")
def straight(roots, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last network of two stages that nothing stopped."""
    output = tmp_path_factory.mktemp("straight")
    assert run(output, "0s", *RANDOM, *roots, iterations=3) == 0
    return output / "x" / "x_s_00000003.pth"


@pytest.mark.parametrize(
    ("stage", "iteration", "checkpoint"),
    [("0", 1, "x_checkpoint_0_00000002.pth"), ("0", 2, "x_checkpoint_0_00000003.pth"),
     ("s", 0, "x_checkpoint_1_00000001.pth")],
)  # fmt: skip
def test_a_run_that_is_asked_to_stop_goes_on_later_to_the_same_end(
    straight, roots, tmp_path, stop_in, stage, iteration, checkpoint
):
    stop_in(stage, iteration)
    command = (tmp_path, "0s", *RANDOM, *roots, "--resume", "auto")
    assert run(*command, iterations=3) == 0
    assert max(path.name for path in tmp_path.glob("x/*checkpoint*")) == checkpoint
    assert not (tmp_path / "x" / straight.name).exists()
    stop_in(None)
    assert run(*command, iterations=3) == 0
    assert_same_weights(tmp_path / "x" / straight.name, straight)


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_after_the_same_iteration(straight, roots, tmp_path):
    """As many processes as there are give the same samples, so what is resumed by one is nearly the same."""
    of_stages = [word for stage in "0s" for word in tiny_stage(stage, iterations=3)]
    flags = ["--stages", "0s", "--exp_id", "x", "--output", str(tmp_path), *of_stages, *RANDOM, *roots]
    stopped = torchrun(
        REPOSITORY / "tests/helpers/train_and_stop.py", "SIGTERM", "1", "1", *flags, "--num_workers", "2"
    )
    assert stopped.returncode == 0, stopped.stderr
    assert [path.name for path in tmp_path.glob("x/*.pth")] == ["x_checkpoint_0_00000002.pth"]
    assert run(tmp_path, "0s", *RANDOM, *roots, "--resume", "auto", iterations=3) == 0
    torch.testing.assert_close(weights(tmp_path / "x" / straight.name), weights(straight), rtol=0.02, atol=1e-3)


@pytest.mark.slow
@pytest.mark.long
def test_torchrun_restarts_a_run_that_lost_a_process_and_it_ends_as_if_it_had_not(roots, tmp_path):
    """As with a node that is lost: the others end, and all begin again with the newest checkpoint."""
    of_stage = [*tiny_stage("s", iterations=5), "--save_checkpoint_interval", "2", "--resume", "auto"]
    ends = []
    for name in ("straight", "killed"):
        flags = ["--stages", "s", "--exp_id", "x", "--output", str(tmp_path / name), *of_stage, *RANDOM, *roots]
        program, own = REPOSITORY / "train.py", []
        if name == "killed":
            program, own = REPOSITORY / "tests/helpers/train_and_stop.py", ["SIGKILL", "1", "3"]
        run = torchrun(program, *own, *flags, "--num_workers", "2", max_restarts=1)
        assert run.returncode == 0, run.stderr
        ends.append(tmp_path / name / "x" / "x_s_00000005.pth")
    assert sorted(path.name for path in ends[1].parent.glob("run_*.json")) == ["run_1.json", "run_2.json"]
    assert_same_weights(*ends)


class Killed(BaseException):
    """Takes a process's place: nothing that it would still have done is done."""


@pytest.mark.parametrize("iteration", [1, 2, 3])
def test_a_run_killed_between_two_files_has_both_in_the_end(straight, roots, tmp_path, monkeypatch, iteration):
    """Network and checkpoint of the same iteration of stage 0: the first, one between, and the last."""
    replace_file = os.replace

    def replace_and_die(source: Path, target: Path) -> None:
        replace_file(source, target)
        if target.name.endswith(f"{iteration:08}.pth"):
            raise Killed

    command = (tmp_path, "0s", *RANDOM, *roots, "--resume", "auto")
    command += ("--save_network_interval", "1", "--save_checkpoint_interval", "1")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace_and_die)
        with pytest.raises(Killed):
            run(*command, iterations=3)
    assert len(list(tmp_path.glob(f"x/x_*{iteration:08}.pth"))) == 1
    assert run(*command, iterations=3) == 0
    names = {path.name for path in tmp_path.glob("x/*.pth") if "checkpoint" not in path.name}
    assert names == {f"x_{stage}_{done:08}.pth" for stage in "0s" for done in (1, 2, 3)}
    assert_same_weights(tmp_path / "x" / straight.name, straight)


def test_a_checkpoint_is_the_same_to_the_last_counter_when_a_run_was_resumed(straight, roots, tmp_path, stop_in):
    command = (tmp_path, "0s", *RANDOM, *roots, "--resume", "auto")
    for stage, iteration in (("0", 1), ("0", 2), ("s", 0), (None, 0)):
        stop_in(stage, iteration)
        assert run(*command, iterations=3) == 0
    name = "x_checkpoint_1_00000003.pth"
    resumed, at_once = (load_tensors(folder / name) for folder in (tmp_path / "x", straight.parent))
    assert resumed["stepper"].keys() == {"network", "optimizer", "scaler", "average", "random_state"}
    torch.testing.assert_close(resumed["stepper"], at_once["stepper"], rtol=0, atol=0)
    assert resumed | {"stepper": 0} == at_once | {"stepper": 0}


def test_a_network_that_is_trained_on_says_its_origin_and_size(tmp_path):
    start = save_tiny_network(tmp_path / "start.pth", metadata={"size": 320, "origin": "somebody's, licence", "x": 1})
    assert run(tmp_path, "s", "--load_network", str(start)) == 0
    metadata = read_checkpoint(tmp_path / "x" / "x_s_00000002.pth").metadata
    assert (metadata["size"], metadata["origin"]) == (320, "somebody's, licence")
    assert "x" not in metadata


def test_going_on_needs_nothing_but_the_checkpoint_and_the_data(roots, tmp_path, stop_in, monkeypatch, capsys):
    assert run(tmp_path / "first", "s", *RANDOM) == 0
    file = tmp_path / "first" / "x" / "x_s_00000002.pth"
    stop_in("m", 0)
    command = (tmp_path, "m", "--load_network", str(file), *roots, "--resume", "auto")
    assert run(*command) == 0
    stop_in(None)
    another = tmp_path / "another.pth"
    save_network(another, XMem.from_checkpoint(file).config, weights(file), {"better": True})
    assert run(tmp_path, "m", "--load_network", str(another), *roots, "--resume", "auto") == train.MISTAKE
    assert "(load_network: SHA-256 " in capsys.readouterr().err
    file.unlink()
    for name in ("initialise", "untrained_network"):
        monkeypatch.setattr(f"training.run.{name}", None)
    assert run(*command) == 0
    metadata = read_checkpoint(tmp_path / "x" / "x_m_00000002.pth").metadata
    assert metadata["trained_on"] == ["synthetic sequences", "own videos"]


def test_what_is_finished_is_not_done_again(tmp_path, caplog):
    videos = write_videos(tmp_path / "own")
    command = (tmp_path, "sm", *RANDOM, "--videos_root", str(videos), "--resume", "auto")
    assert run(*command) == 0
    shutil.rmtree(videos)  # data are not needed either
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    with caplog.at_level(logging.INFO):
        assert run(*command) == 0
    assert "all stages are finished" in caplog.text
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before


def test_a_checkpoint_is_continued_elsewhere(straight, roots, tmp_path):
    checkpoint = straight.with_name("x_checkpoint_0_00000003.pth")
    assert run(tmp_path, "0s", *RANDOM, *roots, "--load_checkpoint", str(checkpoint), iterations=3) == 0
    assert_same_weights(tmp_path / "x" / straight.name, straight)


def test_a_second_interrupt_counts_only_some_time_later(monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        monkeypatch.setattr("training.signals.SECONDS_BEFORE_A_SECOND_SIGNAL", 0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


# --- Validation -------------------------------------------------------------------------------------------------------


@pytest.fixture
def scores(monkeypatch) -> list[float]:
    """J&F that validations will come to, one after another."""
    scores: list[float] = []
    monkeypatch.setattr(train.Validation, "__call__", lambda self, network, on_frame: scores.pop(0))
    return scores


def with_validation(folder: Path) -> list[str]:
    write_videos(folder / "held_out", ("v",))
    return ["--validation_dataset", "G", "--validation_root", str(folder / "held_out"), "--validation_interval", "2"]


def test_the_real_evaluation_validates(roots, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        assert run(tmp_path, "0", *RANDOM, *roots, *with_validation(tmp_path), "--validation_size", "32") == 0
    metadata = read_checkpoint(tmp_path / "x" / "x_best.pth").metadata
    assert 0 <= metadata["validation_j_and_f"] <= 100
    assert f"validation J&F {metadata['validation_j_and_f']:.1f}" in caplog.text


def test_the_best_network_is_kept_also_after_a_resume(tmp_path, scores):
    command = (tmp_path, "s", *RANDOM, *with_validation(tmp_path), "--resume", "auto")
    best = tmp_path / "x" / "x_best.pth"
    scores += [40.0, 50.0, 45.0]
    assert run(*command, iterations=5) == 0  # validated after 2, 4 and 5
    assert not scores
    assert read_checkpoint(best).metadata["iteration"] == 4
    scores += [49.0, 51.0]
    assert run(*command, "--resume_changed", iterations=8) == 0  # after 6 and 8
    assert not scores
    assert (read_checkpoint(best).metadata["iteration"], read_checkpoint(best).metadata["validation_j_and_f"]) == (
        8,
        51,
    )
    scores += [20.0]  # of something harder: no rival of the others
    assert run(*command, "--resume_changed", "--validation_size", "16", iterations=10) == 0
    assert read_checkpoint(best).metadata["iteration"] == 10
    assert read_checkpoint(best.with_name("x_best_s_00000008.pth")).metadata["validation_j_and_f"] == 51


def test_a_run_killed_after_its_best_network_and_before_its_first_checkpoint_begins_again(
    tmp_path, scores, monkeypatch, capsys
):
    def die(self, checkpoint) -> None:
        raise Killed

    command = (tmp_path, "s", *RANDOM, *with_validation(tmp_path), "--resume", "auto")
    scores += [40.0, 50.0]
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_checkpoint", die)
        with pytest.raises(Killed):
            run(*command, iterations=4)
    best = tmp_path / "x" / "x_best.pth"
    assert [best, best.with_name("x_s_00000004.pth")] == sorted(tmp_path.glob("x/*.pth"))
    assert run(*command, iterations=4) == train.MISTAKE  # the network of its end is there: it was finished once
    best.with_name("x_s_00000004.pth").unlink()
    assert run(*command, iterations=6) == train.MISTAKE  # another run's
    assert capsys.readouterr().err.count("of an earlier run: choose another exp_id") == 2
    scores += [40.0, 50.0]
    assert run(*command, iterations=4) == 0
    assert read_checkpoint(best).metadata["iteration"] == 4


def test_a_validation_that_fails_costs_nothing(tmp_path, monkeypatch, capsys):
    def validate(self, network, on_frame) -> float:
        raise UserError("the disk is gone")

    monkeypatch.setattr(train.Validation, "__call__", validate)
    command = (tmp_path, "s", *RANDOM, *with_validation(tmp_path), "--resume", "auto")
    for done in (2, 3):  # as often as it is tried again
        assert run(*command, iterations=3) == train.FAILED
        assert "the disk is gone" in capsys.readouterr().err
        assert (tmp_path / "x" / f"x_checkpoint_0_{done:08}.pth").exists()
    assert (tmp_path / "x" / "x_s_00000003.pth").exists()


def test_a_validation_does_not_keep_a_run_from_stopping(tmp_path, monkeypatch, caplog):
    def validate(self, network, on_frame) -> float:
        signal.raise_signal(signal.SIGTERM)
        on_frame()
        raise AssertionError("the validation went on")

    monkeypatch.setattr(train.Validation, "__call__", validate)
    assert run(tmp_path, "s", *RANDOM, *with_validation(tmp_path), iterations=9) == 0
    assert "validation after 2 iterations was ended" in caplog.text
    assert (tmp_path / "x" / "x_checkpoint_0_00000003.pth").exists()
    assert not (tmp_path / "x" / "x_best.pth").exists()


# --- Learning ---------------------------------------------------------------------------------------------------------


def test_files_that_cannot_be_used_are_counted_once_a_pass(tmp_path, caplog):
    write_images(tmp_path / "static", ("good", "torn"))
    (tmp_path / "static" / "torn.jpg").write_bytes(b"nothing")
    assert run(tmp_path, "0", *RANDOM, "--static_root", str(tmp_path / "static"), iterations=4) == 0
    told = [record.message for record in caplog.records if "torn.jpg" in record.message]
    assert len(told) == 1
    assert told[0].startswith("stage 0 skipped 1 entries of its data: ")


@pytest.mark.long
@pytest.mark.slow
def test_the_loss_falls_by_a_third(tmp_path, monkeypatch):
    losses: list[float] = []

    monkeypatch.setattr(TrainingLogger, "log_step", lambda self, done, figures, *_: losses.append(figures.loss))
    widths = ["--encoder_width", "16", "--key_dim", "16", "--value_dim", "32", "--sensory_update_dim", "16"]
    widths += ["--decoder_dims", "32", "32", "16"]
    stage = {"batch_size": 8, "iterations": 180, "crop": 96, "num_frames": 2, "max_objects": 1, "lr": 1e-3}
    assert run(tmp_path, "s", *RANDOM, *widths, "--max_gradient_norm", "1", **stage) == 0
    first, last = (sum(part) / len(part) for part in (losses[:10], losses[-20:]))
    assert last < first * 2 / 3
