"""The moving average of the weights, and the encoders' own learning rate."""

import copy

import pytest
import torch

from model.network import XMem
from tests.helpers.training_run import made_up_network, made_up_stage
from tests.helpers.training_steps import made_up_batch
from training.config import OptimisationConfig
from training.step import Stepper, encoder_parameters
from util.errors import SettingError
from util.processes import Processes

DECAY = 0.15
"""Less than that of any early iteration, (1 + n) / (10 + n), but the first."""

BEFORE_STRIDE_16 = ("key_encoder.", "value_encoder.conv", "value_encoder.bn", "value_encoder.layer")


def stepper(network: XMem | None = None, **optimisation: float) -> Stepper:
    return Stepper(
        network or made_up_network(),
        stage=made_up_stage(batch_size=4, max_objects=2),
        optimisation=OptimisationConfig(**optimisation),
        processes=Processes(),
    )


def weights(network: XMem) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}


def test_the_average_moves_behind_the_weights_and_is_what_has_been_learned():
    averaging = stepper(average_decay=DECAY)
    average = weights(averaging.network)
    for iteration in range(3):
        averaging.step(made_up_batch(iteration), iteration)
        decay = min(DECAY, (1 + iteration) / (10 + iteration))
        now = weights(averaging.network)
        average = {name: decay * before + (1 - decay) * now[name] for name, before in average.items()}
    trained = weights(averaging.network)
    torch.testing.assert_close(weights(averaging.result()), average)
    assert not torch.equal(trained["decoder.pred.weight"], average["decoder.pred.weight"])
    torch.testing.assert_close(weights(averaging.network), trained, rtol=0, atol=0)
    averaging.finish()
    torch.testing.assert_close(weights(averaging.network), average)


def test_averaging_does_not_change_how_the_weights_move():
    with_average, without = stepper(average_decay=0.9), stepper()
    for each in (with_average, without):
        for iteration in range(2):
            each.step(made_up_batch(iteration), iteration)
    torch.testing.assert_close(weights(with_average.network), weights(without.network), rtol=0, atol=0)
    assert without.result() is without.network


def test_a_resumed_average_goes_on_as_if_nothing_was():
    straight, stopped = stepper(average_decay=0.9), stepper(average_decay=0.9)
    for iteration in range(2):
        straight.step(made_up_batch(iteration), iteration)
    stopped.step(made_up_batch(0), 0)
    resumed = stepper(average_decay=0.9)
    resumed.load_state(copy.deepcopy(stopped.state()))
    resumed.step(made_up_batch(1), 1)
    torch.testing.assert_close(weights(resumed.result()), weights(straight.result()), rtol=0, atol=0)


def test_an_average_that_is_wanted_later_begins_with_the_weights_of_then():
    plain, averaging = stepper(), stepper(average_decay=0.9)
    plain.step(made_up_batch(0), 0)
    averaging.load_state(copy.deepcopy(plain.state()))
    torch.testing.assert_close(weights(averaging.result()), weights(plain.network), rtol=0, atol=0)


def test_encoders_may_learn_more_slowly():
    network = made_up_network()
    before = weights(network)
    encoders = {id(parameter) for parameter in encoder_parameters(network)}
    stepper(network, encoder_lr_factor=1e-6, weight_decay=0.0).step(made_up_batch(0), 0)
    moved = {True: 0.0, False: 0.0}
    for name, parameter in network.named_parameters():
        of_encoder = id(parameter) in encoders
        moved[of_encoder] = max(moved[of_encoder], (parameter - before[name]).abs().max().item())
        assert of_encoder == name.startswith(BEFORE_STRIDE_16)
    rate = made_up_stage().lr
    assert moved[False] == pytest.approx(rate, rel=0.01)  # the length of Adam's first step
    assert 0 < moved[True] < 1e-4 * rate


@pytest.mark.parametrize(
    ("field", "value"), [("average_decay", 0.0), ("average_decay", 1.0), ("encoder_lr_factor", 0.0)]
)
def test_values_out_of_range(field, value):
    with pytest.raises(SettingError, match=field):
        OptimisationConfig(**{field: value})
