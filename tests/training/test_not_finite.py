"""A loss that is not finite costs one iteration, not the weights; too many in a row stop the run."""

import copy

import pytest
import torch

from model.config import NetworkConfig
from model.network import XMem
from tests.helpers.training_run import Squares, made_up_stage
from tests.helpers.training_steps import made_up_batch
from training.checkpoints import RunFolder
from training.config import OptimisationConfig
from training.step import Stepper
from training.trainer import Saving, StopRequest, Trainer
from util.errors import UserError
from util.processes import Processes


@pytest.fixture
def network() -> XMem:
    torch.manual_seed(0)
    return XMem(NetworkConfig("resnet18", "resnet18", 64, 8, 16, 4, (16, 8, 8), 8)).eval()


def test_a_step_that_is_not_finite_changes_nothing_and_says_so(network):
    stepper = Stepper(network, made_up_stage(batch_size=4, max_objects=2), OptimisationConfig(), Processes())
    assert not stepper.step(made_up_batch(0), 0).skipped
    before = copy.deepcopy(network.state_dict())
    broken = network.decoder.pred.bias
    with torch.no_grad():
        kept = broken.clone()
        broken.fill_(torch.nan)
    report = stepper.step(made_up_batch(1), 1)
    with torch.no_grad():
        broken.copy_(kept)
    assert report.skipped
    assert not report.overflowed
    assert all(torch.equal(before[name], weight) for name, weight in network.state_dict().items())
    assert not stepper.step(made_up_batch(2), 2).skipped
    assert not all(torch.equal(before[name], weight) for name, weight in network.state_dict().items())


def test_twenty_in_a_row_stop_the_run(network, tmp_path):
    with torch.no_grad():
        network.decoder.pred.bias.fill_(torch.inf)
    steps = []

    class Counter:
        def on_stage(self, stage, begin) -> None:
            pass

        def on_step(self, stage, iteration, report, batch, seconds_waited) -> None:
            steps.append(report.skipped)

        def on_network(self, stage, done, network) -> None:
            pass

        def on_validation(self, stage, done, j_and_f) -> None:
            pass

    with StopRequest() as stop:
        trainer = Trainer(
            OptimisationConfig(), Processes(), RunFolder(tmp_path, "x"), Saving(), seed=1, workers=0,
            observer=Counter(), stop=stop, settings={},
        )  # fmt: skip
        with pytest.raises(UserError, match="20 iterations in a row"):
            trainer.train(network, made_up_stage(batch_size=1, iterations=100), 0, lambda _: Squares())
    assert steps == [True] * 20
