"""Every table and figure of the paper on tiny clips: runs, records, the report, and the program."""

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from reproduction import runs as runs_module
from reproduction import variants as v
from reproduction.plan import Budget, Run, plan
from reproduction.profiles import CannotRunError, ProfileDataSet
from reproduction.report import make_report
from reproduction.runs import Runner
from reproduction.tables import NAMES, TABLES
from scripts import reproduce
from tests.helpers.benchmarks import write_mose2, write_vost
from tests.helpers.layouts import write_frames, write_masks
from tests.helpers.reproduction_setup import FRAMES, make_runner, tiny_profile, write_davis
from tests.helpers.tiny_network import save_tiny_network
from util.errors import UserError
from util.files import sha256_of, sole_user

LATER = {"VOST": "VOST", "MOSE2": "MOSEv2"}


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
    runner.carry_out(plan(NAMES, runner.profile, runner.mixed))
    remarks = runner.output / "remarks.md"
    remarks.write_text("Somebody has looked at this.")
    make_report(NAMES, runner, runner.output, remarks)
    return runner


@pytest.fixture
def tables(everything) -> dict[str, dict[str, dict[str, dict]]]:
    """Table → row → column → cell, as in the JSON files."""
    files = (everything.output / "results").glob("*.json")
    return {path.stem: json.loads(path.read_text())["cells"] for path in files}


def settings(cell: dict) -> dict:
    return cell["records"][0]["config"]["inference"]


# --- The report -------------------------------------------------------------------------------------------------------


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
            for column, cell in rows[row.title].items():
                if row.variant is not None and (row.data_set is None or column.endswith(f" {row.data_set}")):
                    assert cell["here"] or cell["absent"], (name, row.title, column)


def test_the_reason_is_given_for_what_is_missing(tables):
    assert tables["table4"]["All memory stores"]["G Y18"]["absent"] == "data: the profile tiny has no Y18"
    missing = tables["table5"]["With neither"]["J&F D17"]["absent"]
    assert missing == "weights: XMem-tiny-scaling-neither.pth, looked for beside XMem-tiny.pth"
    assert "mixed precision" in tables["speed"]["XMem"]["Mixed precision, one object"]["absent"]


def test_later_benchmarks_have_their_own_scores(model, tmp_path):
    write_vost(tmp_path / "VOST")
    write_mose2(tmp_path / "MOSEv2")
    runner = make_runner(model, tmp_path, tmp_path / "reproduce")
    sets = {name: ProfileDataSet(name, name, name, folder, size=32) for name, folder in LATER.items()}
    runner.profile = replace(runner.profile, data_sets=sets)
    runner.carry_out(plan(["vost", "mose2"], runner.profile, runner.mixed))
    make_report(["vost", "mose2"], runner, runner.output)
    vost, mose2 = (
        json.loads((runner.output / f"results/{name}.json").read_text())["cells"] for name in ("vost", "mose2")
    )
    summary = json.loads((runner.output / "runs/VOST/xmem/summary.json").read_text())
    assert vost["XMem"]["J_tr VOST"]["here"]["mean"] == pytest.approx(100 * summary["scores"]["global"]["J_tr"])
    assert vost["DeAOT-L and RMem"]["J_tr VOST"]["published"]["mean"] == 40.4
    assert vost["XMem"]["J_tr VOST10"]["absent"].startswith("data: the profile tiny has no VOST10")
    assert mose2["XMem"]["J&Ḟ MOSE2"]["absent"] == "scored by a server, which takes runs/MOSE2/xmem.zip"


def test_the_page_says_first_what_the_figures_are_of(everything, model):
    page = (everything.output / "results.md").read_text()
    assert page.startswith("# Results\n\n**Nothing of this means anything. The network was trained on dog: ")
    assert "Somebody has looked at this." in page
    assert sha256_of(model) in page
    assert str(model.parent) not in page


def test_variants_are_run_as_they_are_named(tables):
    strategies = tables["table7"]
    assert settings(strategies["Consolidation"]["J&F L3x"])["num_prototypes"] == 128
    eager = settings(strategies["Eager compression"]["J&F L3x"])
    assert (eager["min_mid_term_frames"], eager["max_mid_term_frames"], eager["num_prototypes"]) == (1, 2, 64)
    assert eager["prototypes"] == "random"
    assert settings(strategies["Local window"]["J&F L3x"])["max_memory_frames"] == 3
    assert settings(tables["table6"]["K-means centroid P=64"]["J&F L3x"])["prototypes"] == "centroids"
    offsets = [run["config"]["inference"]["mem_offset"] for run in strategies["Consolidation"]["J&F L3x"]["records"]]
    assert offsets == [0, 1]  # r is 2
    assert tables["multiscale"]["Several sizes"]["J&F D16"]["records"][0]["config"]["other_sizes"] == [24]
    assert tables["multiscale"]["One size, and mirrored"]["J&F D16"]["records"][0]["config"]["flip_too"]


def test_memory_is_counted_beside_the_rows(tables):
    """Of 12 frames 0, 2, … 10 are stored. T_max is 3 and T_min 1: full with the third, and every other after it."""
    rows = tables["table7"]
    counted = {title: cells["Consolidations a video L3x"]["here"]["values"][0] for title, cells in rows.items()}
    assert counted == {
        "Consolidation": 2,
        "Eager compression": 5,
        "Sparse insertion": 0,
        "Local window": 0,
    }
    elements = {title: cells["Memory elements at the end L3x"]["here"]["values"][0] for title, cells in rows.items()}
    assert elements["Local window"] == elements["Sparse insertion"] == 3 * 2  # frames of 1 × 2 elements
    assert elements["Consolidation"] == 6 * 2  # P is more than there are candidates: nothing is lost


def test_differences_are_of_what_is_shown(tables):
    rows = tables["table1"]
    xmem = rows["XMem"]
    assert xmem["Δ J&F"]["here"]["mean"] == xmem["J&F L3x"]["here"]["mean"] - xmem["J&F L1x"]["here"]["mean"]
    assert rows["STM"]["Δ J&F"]["published"]["mean"] == pytest.approx(75.3 - 80.6)


def test_a_row_is_the_same_run_wherever_it_stands(tables):
    cells = tables["table1"]["XMem"]["J&F L3x"], tables["table6"]["With potentiation"]["J&F L3x"]
    assert cells[0]["records"] == cells[1]["records"]


# --- Resuming ---------------------------------------------------------------------------------------------------------


def test_finished_runs_are_not_repeated(everything, model, data_root, tmp_path, monkeypatch):
    monkeypatch.setattr(runs_module, "evaluate", None)
    monkeypatch.setattr(runs_module, "trace_video", None)
    again = make_runner(model, data_root, everything.output)
    again.carry_out(plan(NAMES, again.profile, again.mixed))
    pages = [make_report(["table7", "table8"], each, tmp_path).read_text() for each in (everything, again)]
    assert pages[0] == pages[1]


@pytest.fixture
def runner(model, data_root, tmp_path) -> Runner:
    return make_runner(model, data_root, tmp_path)


@pytest.fixture
def run(runner) -> Run:
    """The first run of table 8."""
    return plan(["table8"], runner.profile, mixed=False)[0]


def test_an_interrupted_run_resumes_with_the_next_video(runner, run, model, data_root, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(runs_module, "write_text_atomically", interrupt)
        with pytest.raises(KeyboardInterrupt):
            runner.carry_out([run])
    label_map = runner.output / run.name / "dog" / "00001.png"
    written = label_map.stat().st_mtime_ns
    make_runner(model, data_root, runner.output).carry_out([run])
    assert runner.record(run).frames == FRAMES
    assert label_map.stat().st_mtime_ns == written


def interrupt(*_, **__):
    raise KeyboardInterrupt


def test_runs_with_other_settings_are_refused_and_replaced_when_asked_for(runner, run, data_root, tmp_path):
    runner.carry_out([run])
    before = runner.record(run)
    other = make_runner(save_tiny_network(tmp_path / "XMem-other.pth", seed=1), data_root, runner.output)
    assert other.record(run) is None
    with pytest.raises(UserError, match=r"other settings: .*weights_sha256"):
        other.carry_out([run])
    assert runner.record(run) == before
    other.overwrite = True
    other.carry_out([run])
    assert other.record(run).config["weights_sha256"] != before.config["weights_sha256"]


def test_with_overwrite_an_unfinished_run_with_the_same_settings_is_resumed(runner, run):
    runner.carry_out([run])
    runner.record_file(run).unlink()
    label_map = runner.output / run.name / "dog" / "00001.png"
    written = label_map.stat().st_mtime_ns
    runner.overwrite = True
    runner.carry_out([run])
    assert label_map.stat().st_mtime_ns == written


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_was_made_without_graphs_stands(runner, run, overwrite):
    runner.carry_out([run])
    label_map = runner.output / run.name / "dog" / "00001.png"
    written = label_map.stat().st_mtime_ns
    record, begun = runner.record_file(run), runner.output / run.name / "config.json"
    for path in (record, begun):
        content = path.read_text()
        assert '"cuda_graphs": true' in content
        path.write_text(content.replace('"cuda_graphs": true', '"cuda_graphs": false'))
    assert runner.record(run) is not None
    record.unlink()  # as if it had been interrupted
    runner.overwrite = overwrite
    runner.carry_out([run])
    assert label_map.stat().st_mtime_ns == written


def test_a_trace_is_replaced_when_asked_for_and_repeated_after_a_failure(runner, model, tmp_path):
    frame = tmp_path / "trace_of_its_own" / "JPEGImages" / "dog" / "00003.jpg"
    write_frames(frame.parent, range(6), (32, 48))
    write_masks(tmp_path / "trace_of_its_own" / "Annotations" / "dog", range(6), (32, 48))
    run = Run(v.XMEM, ProfileDataSet("trace", "a trace", "G", "trace_of_its_own", size=32), traced=True)
    whole = frame.read_bytes()
    frame.write_bytes(b"no image")
    runner.data_root = tmp_path
    runner.carry_out([run])
    assert runner.trace(run) is None
    assert "00003.jpg" in runner.absent[run.name]
    frame.write_bytes(whole)
    runner.carry_out([run])
    assert runner.trace(run).ended_by == "the video ends after 6 frames"  # 8 are wanted
    other = make_runner(save_tiny_network(tmp_path / "XMem-other.pth", seed=1), tmp_path, runner.output)
    with pytest.raises(UserError, match=r"xmem\.json was made with other settings: weights"):
        other.carry_out([run])
    other.overwrite = True
    other.carry_out([run])
    assert other.trace(run) is not None


def test_a_trace_is_repeated_if_it_is_too_short_or_has_other_settings(everything):
    run = Run(v.XMEM, everything.profile.data_sets["trace"], traced=True)
    assert len(everything.trace(run).seconds) == everything.profile.traced_frames
    longer = replace(everything, profile=replace(everything.profile, traced_frames=9))
    assert longer.trace(run) is None
    assert everything.trace(replace(run, data_set=replace(run.data_set, size=64))) is None


def test_a_run_that_another_process_is_at_is_left_to_it(runner, run):
    lock = runner.output / ".locks" / run.name.replace("/", "-")
    lock.mkdir(parents=True)
    with sole_user(lock):
        runner.carry_out([run])
    assert runner.record(run) is None
    assert runner.absent[run.name] == "not run yet: another process is at it"


# --- The budget -------------------------------------------------------------------------------------------------------


def test_a_budget_is_spent_in_order_and_what_does_not_fit_in_says_so(model, data_root, tmp_path):
    now = [0.0]
    runner = make_runner(model, data_root, tmp_path, Budget(10.0, clock=lambda: now[0]))
    runs = plan(["table8"], runner.profile, False)
    runner.budget.spent("DAVIS/2016", frames=1, seconds=55.0)  # so five would take 4.6 minutes
    now[0] = 240
    runner.carry_out(runs[:1])
    now[0] = 400
    runner.budget.spent("DAVIS/2016", frames=1, seconds=400.0)
    runner.carry_out(runs[1:2])
    now[0] = 601
    runner.carry_out(runs[2:])
    assert [runner.record(run) is not None for run in runs] == [True, False, False]
    assert runner.absent[runs[1].name].startswith("not run: it would take 1")
    assert runner.absent[runs[1].name].endswith("and 3 were left of the budget")
    assert runner.absent[runs[2].name] == "not run: the budget was spent"
    make_report(["table8"], runner, tmp_path)
    assert "not run: the budget was spent" in (tmp_path / "results.md").read_text()


def test_a_budget_counts_what_is_done_now_and_makes_no_videos_when_it_is_spent(model, data_root, tmp_path, monkeypatch):
    now = [0.0]
    runner = make_runner(model, data_root, tmp_path, Budget(10.0, clock=lambda: now[0]))
    run = plan(["table8"], runner.profile, False)[0]
    frames = []
    monkeypatch.setattr(runner.budget, "spent", lambda kind, count, seconds: frames.append(count))
    runner.carry_out([run])
    runner.record_file(run).unlink()  # as if interrupted
    runner.carry_out([run])
    assert frames[0] > frames[1] == 0
    runner.record_file(run).unlink()
    now[0] = 601
    monkeypatch.setattr(type(run.data_set), "open", None)
    runner.carry_out([run])
    assert runner.absent[run.name] == "not run: the budget was spent"


# --- Failures ---------------------------------------------------------------------------------------------------------


def test_a_video_that_fails_leaves_its_cell_empty(model, tmp_path):
    data_root = write_davis(tmp_path / "data")
    (data_root / "DAVIS/2016/JPEGImages/480p/dog/00003.jpg").write_bytes(b"not an image")
    runner = make_runner(model, data_root, tmp_path / "output")
    runner.carry_out(plan(["table8"], runner.profile, False))
    make_report(["table8"], runner, tmp_path / "output")
    table = json.loads((tmp_path / "output/results/table8.json").read_text())
    cell = table["cells"]["Every r-th frame"]["J&F D17"]
    assert cell["here"] is None
    assert cell["absent"].startswith("failed: dog: ")


def test_missing_data_are_named_and_nothing_is_made_of_them(model, tmp_path):
    runner = make_runner(model, tmp_path / "nowhere", tmp_path / "output")
    runner.carry_out(plan(["table7", "table8"], runner.profile, False))
    assert {*runner.absent.values()} == {
        "data: DAVIS 2016, looked for in DAVIS/2016 below the data root",
        "data: a made-up DAVIS 2016, looked for in DAVIS/2016 below the data root",
    }
    assert list((tmp_path / "output").rglob("*.jpg")) == []
    make_report(["table7", "table8"], runner, tmp_path / "output")


def test_a_damaged_record_is_named(runner, run):
    runner.record_file(run).parent.mkdir(parents=True)
    runner.record_file(run).write_text("{}")
    with pytest.raises(UserError, match=r"xmem\.json is damaged"):
        runner.record(run)


def test_other_networks_lie_beside_the_one_that_is_named(runner, tmp_path):
    runner.model, beside = tmp_path / "XMem.pth", save_tiny_network(tmp_path / "XMem-s012.pth")
    assert runner.network_file("s012") == beside
    with pytest.raises(CannotRunError, match=r"XMem-s2\.pth"):
        runner.network_file("s2")


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
        (["all", "--remarks", "nowhere.md"], "nowhere.md does not exist"),
        (["all", "--model", "nowhere.pth"], "nowhere.pth: no such file"),
        (["all", "--speed"], "--help lists the flags"),
    ],
)
def test_mistakes_are_reported_in_one_line(flags, message, capsys, tmp_path):
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
