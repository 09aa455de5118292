"""Every table and figure of the paper on tiny clips: what is run, what is recorded, what is reported."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch.distributed as dist
from PIL import Image

from evaluation.work_queue import WorkQueue
from reproduction import runner as runner_module
from reproduction import variants as v
from reproduction.assembly import make_report
from reproduction.data_sets import DataSet, MissingError
from reproduction.planning import NAMES, Budget, tasks_of
from reproduction.runner import Runner
from reproduction.runs import Run
from reproduction.tables import TABLES
from scripts import reproduce
from tests.helpers.layouts import write_frames, write_masks
from tests.helpers.reproduction_setup import FRAMES, make_runner, tiny_profile, write_davis
from tests.helpers.tiny_network import save_tiny_network
from util.errors import UserError


@pytest.fixture(scope="module")
def data_root(tmp_path_factory) -> Path:
    return write_davis(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_tiny_network(tmp_path_factory.mktemp("network") / "XMem-tiny.pth", metadata={"videos_seen": ["dog"]})


@pytest.fixture(scope="module")
def everything(model, data_root, tmp_path_factory) -> Runner:
    """All tables, run once; the report lies in the output folder."""
    runner = make_runner(model, data_root, tmp_path_factory.mktemp("reproduce"))
    runner.do(tasks_of(NAMES, runner.profile, runner.mixed))
    make_report(NAMES, runner, runner.output, remarks="Somebody has looked at this.")
    return runner


@pytest.fixture
def tables(everything) -> dict[str, dict[str, dict[str, dict]]]:
    """Table → row → column → cell, as in the JSON files."""
    files = sorted((everything.output / "results").glob("*.json"))
    contents = [json.loads(path.read_text()) for path in files]
    return {
        content["table"]: {row["title"]: {cell["column"]: cell for cell in row["cells"]} for row in content["rows"]}
        for content in contents
    }


def settings(cell: dict) -> dict:
    return cell["runs"][0]["config"]["inference"]


# --- What is made -----------------------------------------------------------------------------------------------------


def test_every_table_and_figure_is_there(everything, tables):
    parts, page = everything.output / "results", (everything.output / "results.md").read_text()
    assert tables.keys() == TABLES.keys()
    for name in NAMES:
        text = (parts / f"{name}.md").read_text()
        assert text.splitlines()[0].startswith("## ")
        assert text.splitlines()[0] in page.splitlines()
    for figure in ("figure1", "figure7", "speed"):
        with Image.open(parts / f"{figure}.png") as image:
            assert min(image.size) > 300
        assert ElementTree.parse(parts / f"{figure}.svg").getroot().tag.endswith("svg")
        assert f"(results/{figure}.png)" in page


def test_every_row_has_a_figure_or_says_why_not(tables):
    for name, rows in tables.items():
        assert [*rows] == [row.title for row in TABLES[name].rows]
        for row in TABLES[name].rows:
            for cell in rows[row.title].values():
                fits = row.data_sets is None or any(cell["column"].endswith(f" {which}") for which in row.data_sets)
                if row.variant is not None and fits:
                    assert cell["here"] or cell["absent"], (name, row.title, cell["column"])


def test_what_is_missing_is_told(tables):
    assert tables["table4"]["All memory stores"]["G Y18"]["absent"] == "data: the profile tiny has no Y18"
    missing = tables["table5"]["With neither"]["J&F D17"]["absent"]
    assert missing == "weights: XMem-tiny-scaling-neither.pth, looked for beside XMem-tiny.pth"
    assert "mixed precision" in tables["speed"]["XMem"]["Mixed precision, one object"]["absent"]


def test_the_page_says_first_what_the_figures_are_of(everything, model):
    page = (everything.output / "results.md").read_text()
    assert page.startswith("# Results\n\n**Nothing of this means anything. The network was trained on dog: ")
    assert "Somebody has looked at this." in page
    assert everything.networks.checksum("") in page
    assert str(model.parent) not in page


def test_variants_are_run_as_they_are_named(tables):
    strategies = tables["table7"]
    assert settings(strategies["Consolidation"]["J&F L3x"])["num_prototypes"] == 128
    eager = settings(strategies["Eager compression"]["J&F L3x"])
    assert (eager["min_mid_term_frames"], eager["max_mid_term_frames"], eager["num_prototypes"]) == (1, 2, 64)
    assert eager["prototypes"] == "random"
    assert settings(strategies["Local window"]["J&F L3x"])["max_memory_frames"] == 3
    assert settings(tables["table6"]["K-means centroid P=64"]["J&F L3x"])["prototypes"] == "centroids"
    assert tables["multiscale"]["Several sizes"]["J&F D16"]["runs"][0]["config"]["other_sizes"] == [48]
    assert tables["multiscale"]["One size, and mirrored"]["J&F D16"]["runs"][0]["config"]["flip_too"]


def test_memory_is_counted_beside_the_rows(tables):
    """Of 15 frames 0, 2, … 12 are stored. T_max is 3 and T_min 1: full with the third, and every other after it."""
    rows = tables["table7"]
    counted = {title: cells["Consolidations a video L3x"]["here"]["greatest"] for title, cells in rows.items()}
    assert counted == {
        "Consolidation": 3,
        "Consolidation, P=12": 3,
        "Eager compression": 6,
        "Eager compression as strong as with P=12": 6,
        "Sparse insertion": 0,
        "Local window": 0,
    }
    elements = {title: cells["Memory elements at the end L3x"]["here"]["greatest"] for title, cells in rows.items()}
    assert elements["Local window"] == elements["Sparse insertion"] == 3 * 2 * 3  # frames of 2 × 3 elements
    assert elements["Consolidation"] == 7 * 6  # P is more than there are candidates: nothing is lost


def test_only_headline_rows_have_several_offsets(tables):
    rows = tables["table7"]
    assert len(rows["Consolidation"]["J&F L3x"]["here"]["values"]) == 2  # r is 2
    assert len(rows["Eager compression"]["J&F L3x"]["here"]["values"]) == 1
    assert [run["config"]["inference"]["mem_offset"] for run in rows["Consolidation"]["J&F L3x"]["runs"]] == [0, 1]


def test_differences_are_of_what_is_shown(tables):
    rows = tables["table1"]
    xmem = rows["XMem"]
    assert xmem["Δ J&F"]["here"]["mean"] == xmem["J&F L3x"]["here"]["mean"] - xmem["J&F L1x"]["here"]["mean"]
    assert rows["STM"]["Δ J&F"]["published"]["mean"] == pytest.approx(75.3 - 80.6)


def test_a_row_is_the_same_run_wherever_it_stands(tables):
    cells = tables["table1"]["XMem"]["J&F L3x"], tables["table6"]["With potentiation"]["J&F L3x"]
    assert cells[0]["runs"] == cells[1]["runs"]


# --- Going on ---------------------------------------------------------------------------------------------------------


def test_what_is_done_is_not_done_again(everything, model, data_root, monkeypatch):
    before = (everything.output / "results.md").read_text()
    monkeypatch.setattr(runner_module, "evaluate", None)
    monkeypatch.setattr(runner_module, "trace", None)
    again = make_runner(model, data_root, everything.output)
    again.do(tasks_of(NAMES, again.profile, again.mixed))
    make_report(NAMES, again, again.output, remarks="Somebody has looked at this.")
    assert (everything.output / "results.md").read_text() == before


@pytest.fixture
def runner(model, data_root, tmp_path) -> Runner:
    return make_runner(model, data_root, tmp_path)


def test_an_interrupted_run_goes_on_by_videos(runner, model, data_root, monkeypatch):
    tasks = tasks_of(["table8"], runner.profile, False)[:1]
    with monkeypatch.context() as patch:
        patch.setattr(runner_module, "write_record", interrupt)
        with pytest.raises(KeyboardInterrupt):
            runner.do(tasks)
    label_map = runner.output / "runs" / tasks[0].run.folder / "dog" / "00001.png"
    written = label_map.stat().st_mtime_ns
    make_runner(model, data_root, runner.output).do(tasks)
    assert runner.record(tasks[0].run).frames == FRAMES
    assert label_map.stat().st_mtime_ns == written


def interrupt(*_, **__):
    raise KeyboardInterrupt


def test_other_settings_are_refused_and_replaced_when_asked_for(runner, data_root, tmp_path, capsys):
    tasks = tasks_of(["table8"], runner.profile, False)[:1]
    runner.do(tasks)
    before = runner.record(tasks[0].run)
    other = make_runner(save_tiny_network(tmp_path / "XMem-other.pth", seed=1), data_root, runner.output)
    assert other.record(tasks[0].run) is None
    with pytest.raises(UserError, match=r"other settings: .*weights_sha256"):
        other.do(tasks)
    assert runner.record(tasks[0].run) == before
    other.overwrite = True
    other.do(tasks)
    assert other.record(tasks[0].run).config["weights_sha256"] != before.config["weights_sha256"]


def test_a_trace_is_replaced_when_asked_for_and_made_again_after_what_can_be_mended(runner, data_root, tmp_path):
    (task,) = [task for task in tasks_of(["figure1"], runner.profile, False) if task.run.variant == v.XMEM]
    frame = tmp_path / "trace_of_its_own" / "JPEGImages" / "dog" / "00003.jpg"
    write_frames(frame.parent, range(6), (32, 48))
    write_masks(tmp_path / "trace_of_its_own" / "Annotations" / "dog", range(6), (32, 48))
    task = replace(task, run=replace(task.run, data_set=DataSet("trace", "a trace", "G", "trace_of_its_own", size=32)))
    whole = frame.read_bytes()
    frame.write_bytes(b"no image")
    runner.data_root = tmp_path
    runner.do([task])
    assert runner.trace(task.run) is None
    assert "00003.jpg" in runner.absent[task.name]
    frame.write_bytes(whole)
    runner.do([task])
    assert runner.trace(task.run).ended_by == "the video ends after 6 frames"  # 8 are wanted
    other = make_runner(save_tiny_network(tmp_path / "XMem-other.pth", seed=1), tmp_path, runner.output)
    with pytest.raises(UserError, match=r"xmem\.json was made with other settings: weights XMem-tiny"):
        other.do([task])
    other.overwrite = True
    other.do([task])
    assert other.trace(task.run) is not None


def test_processes_share_the_videos(model, data_root, tmp_path):
    store = dist.HashStore()

    def work(rank: int) -> Runner:
        runner = make_runner(model, data_root, tmp_path, sharing=WorkQueue(store, rank, world_size=2, local_rank=rank))
        runner.do(tasks_of(["table8", "figure1"], runner.profile, False))
        return runner

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(work, range(2))
    for task in tasks_of(["table8"], first.profile, False):
        assert first.record(task.run).videos == 1
    assert first.trace(Run(v.XMEM, first.profile.data_sets["trace"])) is not None
    assert second.absent == {}


# --- The budget -------------------------------------------------------------------------------------------------------


def test_what_matters_comes_first():
    names = [task.name for task in tasks_of(NAMES, tiny_profile(), False)]
    place = {name: index for index, name in enumerate(names)}
    assert len(place) == len(names)
    assert place["runs/long_3x/xmem"] < place["runs/long_3x/eager_compression"] < place["runs/long_3x/random_64"]
    assert place["runs/long_3x/xmem"] < place["runs/long_3x/xmem_offset_1"] < place["runs/long_3x/random_128"]
    assert place["traces/no_long_term"] < place["runs/long_3x/random_128"]


def test_on_a_gpu_speed_is_measured_in_full_precision_apart():
    def names(mixed):
        return {task.name for task in tasks_of(["table8"], tiny_profile(), mixed)}

    assert names(mixed=True) - names(mixed=False) == {
        "runs/davis/xmem_full_precision",
        "runs/davis/deep_update_every_frame_full_precision",
        "runs/davis/deep_update_never_full_precision",
    }


def test_a_budget_is_spent_in_order_and_what_it_does_not_suffice_for_is_told(model, data_root, tmp_path):
    now = [0.0]
    runner = make_runner(model, data_root, tmp_path, Budget(10.0, clock=lambda: now[0]))
    tasks = tasks_of(["table8"], runner.profile, False)
    runner.budget.spent("DAVIS/2016", frames=1, seconds=55.0)  # so five would take 4.6 minutes
    now[0] = 240
    runner.do(tasks[:1])
    now[0] = 400
    runner.budget.spent("DAVIS/2016", frames=1, seconds=400.0)
    runner.do(tasks[1:2])
    now[0] = 601
    runner.do(tasks[2:])
    done = [runner.record(task.run) is not None for task in tasks]
    assert done == [True, False, False]
    assert runner.absent[tasks[1].name].startswith("not run: it would take 1")
    assert runner.absent[tasks[1].name].endswith("and 3 were left of --budget")
    assert runner.absent[tasks[2].name] == "not run: the time of --budget was spent"
    make_report(["table8"], runner, tmp_path)
    assert "not run: the time of --budget was spent" in (tmp_path / "results.md").read_text()


# --- Failures ---------------------------------------------------------------------------------------------------------


def test_a_video_that_fails_leaves_its_cell_empty(model, tmp_path):
    data_root = write_davis(tmp_path / "data")
    (data_root / "DAVIS/2016/JPEGImages/480p/dog/00003.jpg").write_bytes(b"not an image")
    runner = make_runner(model, data_root, tmp_path / "output")
    runner.do(tasks_of(["table8"], runner.profile, False))
    make_report(["table8"], runner, tmp_path / "output")
    (row, *_) = json.loads((tmp_path / "output/results/table8.json").read_text())["rows"]
    (cell,) = (cell for cell in row["cells"] if cell["column"] == "J&F D17")
    assert cell["here"] is None
    assert cell["absent"].startswith("failed: dog: ")


def test_data_that_are_not_there_are_named_and_nothing_is_made_of_them(model, tmp_path):
    runner = make_runner(model, tmp_path / "nowhere", tmp_path / "output")
    runner.do(tasks_of(["table7", "table8"], runner.profile, False))
    assert {*runner.absent.values()} == {
        "data: DAVIS 2016, looked for in DAVIS/2016 below --data-root",
        "data: a made-up DAVIS 2016, looked for in DAVIS/2016 below --data-root",
    }
    assert list((tmp_path / "output").rglob("*.jpg")) == []
    make_report(["table7", "table8"], runner, tmp_path / "output")


def test_a_damaged_record_is_named(runner):
    run = tasks_of(["table8"], runner.profile, False)[0].run
    runner.record_file(run).parent.mkdir(parents=True)
    runner.record_file(run).write_text("{}")
    with pytest.raises(UserError, match=r"xmem\.json is damaged"):
        runner.record(run)


def test_networks_beside_the_one_that_is_named(runner):
    with pytest.raises(MissingError, match=r"XMem-tiny-s012\.pth"):
        runner.networks.file("s012")
    save_tiny_network(runner.networks.model.with_name("XMem-tiny-s012.pth"))
    try:
        assert runner.networks.file("s012").name == "XMem-tiny-s012.pth"
    finally:
        runner.networks.model.with_name("XMem-tiny-s012.pth").unlink()


# --- The program ------------------------------------------------------------------------------------------------------


def test_the_program(model, data_root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reproduce, "choose_profile", lambda name, model: tiny_profile())
    flags = ["--model", str(model), "--data-root", str(data_root), "--output", str(tmp_path / "o"), "--device", "cpu"]
    assert reproduce.main(["table8", *flags, "--plan"]) == 0
    assert not (tmp_path / "o").exists()
    assert capsys.readouterr().out.splitlines()[0] == "0  runs/davis/xmem"
    assert reproduce.main(["table8", *flags, "--report", str(tmp_path / "docs")]) == 0
    assert (tmp_path / "docs" / "results" / "table8.json").is_file()
    assert capsys.readouterr().out.strip() == f"Report: {tmp_path / 'docs' / 'results.md'}"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["table9"], "there is no table9: choose of table1"),
        (["all", "--budget", "0"], "--budget must be more than 0"),
        (["all", "--remarks", "nowhere.md"], "--remarks nowhere.md: no such file"),
        (["all", "--model", "nowhere.pth"], "nowhere.pth: no such file"),
        (["all", "--speed"], "--help lists the flags"),
    ],
)
def test_mistakes_are_told_in_one_line(flags, message, capsys, tmp_path):
    assert reproduce.main([*flags, "--output", str(tmp_path / "o")]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not (tmp_path / "o").exists()


def test_without_matplotlib_the_program_says_so_before_anything_else(monkeypatch, capsys, model, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    assert reproduce.main(["table8", "--model", str(model), "--output", str(tmp_path / "o")]) == 2
    assert capsys.readouterr().err.strip().endswith("pip install matplotlib")


def test_networks_for_small_frames_are_measured_on_small_data_sets(tmp_path):
    small = save_tiny_network(tmp_path / "small.pth", metadata={"size": 192})
    assert reproduce.choose_profile(None, small).data_sets["D16"].size == 192
    assert reproduce.choose_profile("paper", small).name == "paper"
    assert reproduce.choose_profile(None, save_tiny_network(tmp_path / "full.pth")).name == "paper"
