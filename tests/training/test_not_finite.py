"""A loss that is not finite costs one iteration, not the weights; too many in a row stop the run."""

import copy

import pytest
import torch

from model.network import XMem
from tests.helpers.training_run import Printer, made_up_network, made_up_stage, made_up_trainer
from tests.helpers.training_steps import made_up_batch
from training.config import IntervalConfig, OptimisationConfig
from training.signals import StopRequest
from training.step import Stepper
from util.errors import UserError
from util.processes import Processes


@pytest.fixture
def network() -> XMem:
    return made_up_network()


def test_a_step_that_is_not_finite_changes_nothing_and_says_so(network):
    stepper = Stepper(
        network,
        stage=made_up_stage(batch_size=4, max_objects=2),
        optimisation=OptimisationConfig(),
        processes=Processes(),
    )
    assert not stepper.step(made_up_batch(0), 0).figures().skipped
    before = copy.deepcopy(network.state_dict())
    broken = network.decoder.pred.bias
    with torch.no_grad():
        kept = broken.clone()
        broken.fill_(torch.nan)
    report = stepper.step(made_up_batch(1), 1).figures()
    with torch.no_grad():
        broken.copy_(kept)
    assert report.skipped
    assert not report.overflowed
    assert all(torch.equal(before[name], weight) for name, weight in network.state_dict().items())
    assert not stepper.step(made_up_batch(2), 2).figures().skipped
    assert not all(torch.equal(before[name], weight) for name, weight in network.state_dict().items())


def test_twenty_in_a_row_stop_the_run(network, tmp_path):
    with torch.no_grad():
        network.decoder.pred.bias.fill_(torch.inf)
    steps = []

    class Counter(Printer):
        def log_step(self, done, figures, seconds, waited) -> None:
            steps.append(figures.skipped)

    with StopRequest() as stop:
        trainer = made_up_trainer(
            tmp_path, made_up_stage(batch_size=1, iterations=100), stop, network=network,
            logger=Counter(tmp_path, IntervalConfig()),
        )  # fmt: skip
        with pytest.raises(UserError, match="20 iterations in a row"):
            trainer.train()
    assert steps == [True] * 20
