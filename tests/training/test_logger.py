"""What the logger shows and records; TensorBoard's files are read back with TensorBoard."""

import io
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.helpers.training_run import Squares, made_up_stage, made_up_trainer
from training.checkpoints import RunFolder
from training.clip import draw_choices
from training.config import IntervalConfig, StageConfig
from training.logger import PICTURE_SIDE, PICTURES, TrainingLogger, finite_mean, paint, picture_grid
from training.signals import StopRequest
from training.step import StepFigures, Stepper, TrainingBatch
from util.errors import SettingError

STAGE = replace(made_up_stage(batch_size=2, iterations=10, steps=(6,), lr=1e-3), name="s")
FRAMES, SIDE = 3, 32

CPU = torch.device("cpu")
PREDICTIONS = torch.ones(FRAMES - 1, SIDE, SIDE, dtype=torch.uint8)


@pytest.fixture
def batch() -> TrainingBatch:
    """Two samples; the second is the one to be shown."""
    images = torch.full((2, FRAMES, 3, SIDE, SIDE), 100, dtype=torch.uint8)
    labels = torch.zeros(2, FRAMES, SIDE, SIDE, dtype=torch.uint8)
    labels[1, :, 4:12, 4:12] = 1
    labels[1, :, 16:28, 16:28] = 2
    choices = draw_choices(
        1, 0, range(2), frames=FRAMES, reference_frames=2, objects=2, deep_update_prob=0.2, sensory_dropout=0.0
    )
    return TrainingBatch(images, labels, torch.tensor([1, 2]), choices)


def report(loss: float = 2.0, **changes) -> StepFigures:
    """Of the loss, a quarter each is of either kind in either frame."""
    parts = [loss / 4] * (FRAMES - 1)
    default = StepFigures(
        loss=loss, cross_entropy=parts, dice=parts, gradient_norm=3.0, learning_rate=1e-3, skipped=False,
        overflowed=False,
    )  # fmt: skip
    return replace(default, **changes)


def log(
    folder: Path,
    batch: TrainingBatch,
    reports: dict[int, StepFigures],
    stage: StageConfig = STAGE,
    log_text_interval: int = 2,
    **intervals: int,
) -> None:
    """These iterations, as one start of a run."""
    with TrainingLogger(folder, IntervalConfig(log_text_interval=log_text_interval, **intervals)) as logger:
        logger.start_stage(stage, min(reports), CPU)
        for iteration, each in reports.items():
            rate = stage.learning_rate(iteration, gamma=0.1)
            logger.log_step(iteration + 1, replace(each, learning_rate=rate), seconds=0.5, waited=0.1)
            logger.log_pictures(iteration + 1, batch, PREDICTIONS)


def recorded(folder: Path, stage: str = "s") -> EventAccumulator:
    return EventAccumulator(str(folder / "tensorboard" / f"stage_{stage}"), {"scalars": 0, "images": 0}).Reload()


def curve(folder: Path, tag: str, stage: str = "s") -> dict[int, float]:
    """Value by step; fails where a step is there twice."""
    points = recorded(folder, stage).Scalars(tag)
    assert len({point.step for point in points}) == len(points)
    return {point.step: point.value for point in points}


def steps_of_pictures(folder: Path) -> list[int]:
    return [picture.step for picture in recorded(folder).Images(PICTURES)]


def date_back(folder: Path) -> None:
    """As if what is recorded had been written long ago: TensorBoard takes files by the second in their names."""
    (file,) = (folder / "tensorboard" / "stage_s").glob("events.*")
    file.rename(file.with_name("events.out.tfevents.0000000001.first"))


def test_curves_are_means_over_the_interval(tmp_path, batch):
    log(tmp_path, batch, {i: report(loss=float(i), gradient_norm=2.0 * i) for i in range(10)})
    assert curve(tmp_path, "loss/total") == pytest.approx({2: 0.5, 4: 2.5, 6: 4.5, 8: 6.5, 10: 8.5})
    for part in ("cross entropy", "dice"):
        for frame in (1, 2):
            assert curve(tmp_path, f"loss/{part}, frame {frame}")[10] == pytest.approx(8.5 / 4)
    assert curve(tmp_path, "optimisation/gradient norm")[4] == pytest.approx(5)
    assert curve(tmp_path, "optimisation/learning rate") == pytest.approx(
        {2: 1e-3, 4: 1e-3, 6: 1e-3, 8: 1e-4, 10: 1e-4}
    )
    assert curve(tmp_path, "memory/peak GiB")[2] > 0.05  # PyTorch alone takes more
    assert set(curve(tmp_path, "optimisation/skipped iterations").values()) == {0}


def test_speed_is_that_of_iterations(tmp_path, batch, caplog):
    with caplog.at_level(logging.INFO):
        log(tmp_path, batch, {0: report(), 1: report()})
    assert curve(tmp_path, "speed/seconds an iteration") == pytest.approx({2: 0.5})
    assert curve(tmp_path, "speed/samples per second") == pytest.approx({2: 4})
    assert curve(tmp_path, "speed/seconds waiting for data") == pytest.approx({2: 0.1})
    assert curve(tmp_path, "speed/share waiting for data") == pytest.approx({2: 0.2})
    assert "0.50 s an iteration, 20 % of it waiting for data" in caplog.text


def test_log_lines_and_the_bar_say_how_it_goes(tmp_path, batch, caplog, capsys):
    with caplog.at_level(logging.INFO):
        log(tmp_path, batch, {i: report() for i in range(10)}, log_text_interval=5)
    lines = [line for line in caplog.messages if "loss" in line]
    assert [line.partition(",")[0] for line in lines] == [
        "s 5: loss 1.0000 a frame (cross entropy 0.5000",
        "s 10: loss 1.0000 a frame (cross entropy 0.5000",
    ]
    bar = capsys.readouterr().err
    assert "stage s: 100%" in bar
    assert "10/10" in bar
    assert "loss 1.000 a frame" in bar
    assert "waiting 20%" in bar


def test_a_stage_in_the_middle_is_shown_from_there(tmp_path, batch, capsys):
    log(tmp_path, batch, {i: report() for i in range(4, 6)})
    assert "6/10" in capsys.readouterr().err


def test_a_disk_that_is_full_for_tensorboard_does_not_end_the_run(tmp_path, batch, monkeypatch, caplog):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    for method in ("add_scalar", "add_image", "close", "__init__"):
        (tmp_path / method).mkdir()
        with monkeypatch.context() as patch:
            patch.setattr(f"training.logger.SummaryWriter.{method}", full)
            log(tmp_path / method, batch, {n: report() for n in range(4)})
        assert caplog.text.count("TensorBoard's files cannot be written, and end here: No space left") == 1
        assert (tmp_path / method / "curves.csv").read_text().count("\n") == 3
        caplog.clear()


def test_what_the_last_interval_lacks_is_recorded_at_the_end(tmp_path, batch):
    log(tmp_path, batch, {i: report(loss=float(i)) for i in range(5)})
    assert curve(tmp_path, "loss/total") == pytest.approx({2: 0.5, 4: 2.5, 5: 4})


def test_a_resumed_stage_takes_back_what_came_after_the_checkpoint(tmp_path, batch):
    log(tmp_path, batch, {i: report(loss=1.0) for i in range(8)}, log_image_interval=3)
    assert steps_of_pictures(tmp_path) == [1, 3, 6]
    other = replace(STAGE, name="m")
    log(tmp_path, batch, {i: report(loss=7.0) for i in range(10)}, stage=other)
    date_back(tmp_path)
    log(tmp_path, batch, {i: report(loss=5.0) for i in range(4, 10)}, log_image_interval=3)
    assert curve(tmp_path, "loss/total") == pytest.approx({2: 1, 4: 1, 6: 5, 8: 5, 10: 5})
    assert steps_of_pictures(tmp_path) == [1, 3, 6, 9]
    assert curve(tmp_path, "loss/total", "m") == pytest.approx(dict.fromkeys((2, 4, 6, 8, 10), 7))


def test_what_is_not_finite_is_counted_and_left_out_of_means(tmp_path, batch, caplog):
    lost = report(math.nan, gradient_norm=math.inf, skipped=True)
    reports = {0: report(loss=4.0), 1: lost, 2: lost, 3: lost, 4: report(loss=2.0), 5: report(loss=4.0)}
    with caplog.at_level(logging.INFO):
        log(tmp_path, batch, reports)
    assert curve(tmp_path, "loss/total") == pytest.approx({2: 4, 6: 3})
    assert curve(tmp_path, "optimisation/gradient norm") == pytest.approx({2: 3, 6: 3})
    assert curve(tmp_path, "optimisation/skipped iterations") == {2: 1, 4: 2, 6: 0}
    counts = [line.partition("; ")[2] for line in caplog.messages]
    assert counts == ["1 skipped, not finite", "2 skipped, not finite", ""]


def test_validation_is_recorded(tmp_path, batch, caplog):
    with TrainingLogger(tmp_path, IntervalConfig()) as logger, caplog.at_level(logging.INFO):
        logger.start_stage(STAGE, 0, CPU)
        logger.log_validation(5, 56.78)
        logger.log_validation(10, math.nan)
    assert curve(tmp_path, "validation/J&F") == pytest.approx({5: 56.78})
    assert "s 5: validation J&F 56.8" in caplog.messages


def test_stages_follow_each_other_and_closing_twice_does_no_harm(tmp_path, batch):
    handlers = list(logging.root.handlers)
    logger = TrainingLogger(tmp_path, IntervalConfig())
    for name in ("s", "m"):
        logger.start_stage(replace(STAGE, name=name), 0, CPU)
        logger.log_step(1, report(), seconds=0.5, waited=0.0)
    logger.close()
    logger.close()
    assert logging.root.handlers == handlers
    for name in ("s", "m"):
        assert curve(tmp_path, "loss/total", name) == pytest.approx({1: 2})


def test_log_lines_do_not_go_through_the_bar(tmp_path, batch, monkeypatch):
    console = io.StringIO()
    monkeypatch.setattr("sys.stderr", console)
    handler = logging.StreamHandler(console)
    monkeypatch.setattr(logging.root, "handlers", [handler])
    with TrainingLogger(tmp_path, IntervalConfig()) as logger:
        logger.start_stage(STAGE, 0, CPU)
        logging.getLogger("elsewhere").warning("a line of its own")
    assert "\r" in console.getvalue()
    # What a terminal shows of a line is what comes after its last return.
    assert "a line of its own" in [line.rpartition("\r")[2] for line in console.getvalue().split("\n")]


@pytest.mark.parametrize("interval", ["log_text_interval", "log_image_interval"])
@pytest.mark.parametrize("value", [0, -1])
def test_intervals_are_positive(interval, value):
    with pytest.raises(SettingError, match=f"{interval} must be positive, not {value}"):
        IntervalConfig(**{interval: value})


def test_the_trainer_logs_without_the_time_between_iterations(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("training.trainer.time.perf_counter", lambda: clock[0])

    def takes(seconds: float, function: Callable) -> Callable:
        def slower(*arguments, **more):
            clock[0] += seconds
            return function(*arguments, **more)

        return slower

    monkeypatch.setattr(Stepper, "step", takes(3, Stepper.step))
    monkeypatch.setattr(Squares, "sample", takes(1, Squares.sample))
    monkeypatch.setattr(RunFolder, "write_checkpoint", takes(100, RunFolder.write_checkpoint))
    intervals = IntervalConfig(log_text_interval=1, log_image_interval=2, save_checkpoint_interval=1)
    with StopRequest() as stop, TrainingLogger(tmp_path, intervals) as logger:
        stage = made_up_stage(batch_size=1, iterations=2)
        assert made_up_trainer(tmp_path, stage, stop, logger=logger, intervals=intervals).train()
    assert list(curve(tmp_path, "loss/total")) == [1, 2]
    assert steps_of_pictures(tmp_path) == [1, 2]
    assert curve(tmp_path, "speed/seconds an iteration") == pytest.approx({1: 4, 2: 4})
    assert curve(tmp_path, "speed/share waiting for data") == pytest.approx({1: 0.25, 2: 0.25})


def test_pictures_are_of_the_last_sample(tmp_path, batch):
    log(tmp_path, batch, {0: report()})
    (picture,) = recorded(tmp_path).Images(PICTURES)
    expected = picture_grid(batch.images[1], batch.labels[1], PREDICTIONS)
    shown = Image.open(io.BytesIO(picture.encoded_image_string))
    assert (picture.width, picture.height) == shown.size
    assert shown.tobytes() == expected.permute(1, 2, 0).numpy().tobytes()


def test_rows_are_image_truth_and_prediction_and_columns_are_frames(batch):
    images, labels = batch.images[1].clone(), batch.labels[1]
    images += torch.arange(FRAMES, dtype=torch.uint8)[:, None, None, None]
    predictions = labels[1:].flip(1)
    grid = picture_grid(images, labels, predictions)

    def cell(row: int, column: int) -> torch.Tensor:
        top, left = (2 + (SIDE + 2) * i for i in (row, column))
        return grid[:, top : top + SIDE, left : left + SIDE]

    painted = paint(images, labels)
    for t in range(FRAMES):
        assert torch.equal(cell(0, t), images[t])
        assert torch.equal(cell(1, t), painted[t])
    assert torch.equal(cell(2, 0), painted[0])  # the mask that frame 0 came with
    for t in range(1, FRAMES):
        assert torch.equal(cell(2, t), paint(images[t : t + 1], predictions[t - 1 : t])[0])
    assert grid.shape == (3, 2 + 3 * (SIDE + 2), 2 + FRAMES * (SIDE + 2))


def test_large_pictures_are_made_smaller():
    frames, height, width = 2, 2 * PICTURE_SIDE, 3 * PICTURE_SIDE
    labels = torch.zeros(frames, height, width, dtype=torch.uint8)
    grid = picture_grid(torch.zeros(frames, 3, height, width, dtype=torch.uint8), labels, labels[1:])
    assert grid.shape == (3, 2 + 3 * (PICTURE_SIDE + 2), 2 + frames * (PICTURE_SIDE * 3 // 2 + 2))


def test_means_are_of_what_is_finite():
    assert finite_mean([1.0, math.nan, 3.0, -math.inf]) == 2
    assert math.isnan(finite_mean([math.inf]))
    assert math.isnan(finite_mean([]))
