"""Exports: whole and checked, run by the loop as PyTorch's network is, and refused where they do not fit."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

import eval as program
import xmem
from dataset.label_map import write_label_map
from evaluation.networks import read_network_file
from export import running
from export.graphs import build, extent, random_inputs, shapes_of
from export.manifest import MANIFEST, read_export
from export.quantising import quantise_export, quantise_graph, recorded
from export.running import ExportedNetwork, OnnxGraph
from inference.inference_core import InferenceCore
from model.checkpoint import save_network
from model.network import XMem
from scripts import export as program_export
from tests.helpers import REPOSITORY
from tests.helpers.reference import PARITY, network_with_reference_weights, read_clip, reference_network
from tests.helpers.tiny_network import TINY, tiny_network
from util.errors import UserError
from util.files import sha256_of

pytest.importorskip("onnx", reason="ONNX is not installed")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")

TOLERANCE = 1e-3
CPU = torch.device("cpu")
EXAMPLE = REPOSITORY / "examples" / "crossing"
BUNDLED = REPOSITORY / "saves" / "XMem-small.pth"


def export(*exports: list[object]) -> None:
    """Run scripts.export with each list of flags, in one process of its own."""
    flags = json.dumps([[str(each) for each in flags] for flags in exports])
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.helpers.export_all", flags]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def made_once(name: str, make: Callable[[Path], None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that one of the processes of the tests makes, for all of them."""
    is_parallel = "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp().parent if is_parallel else tmp_path_factory.mktemp(name)
    with FileLock(base / f"{name}.lock"):
        if not (base / name).exists():
            unfinished = base / f"unfinished {name}"
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(base / name)
    return base / name


@pytest.fixture(scope="session")
def exports(tmp_path_factory) -> Path:
    """Exports of the bundled network, and a tiny network without some parts with its own."""
    of_bundled = {
        "onnx": [],
        "pt2": ["--format", "pt2"],
        "half": ["--half"],
        "fixed": ["--size", 48, 80, "--objects", 2],
    }

    calibrated = ["--int8", "static", "--calibrate", EXAMPLE / "JPEGImages/crossing", "--calibrate_frames", 4]
    calibrated += ["--calibrate_mask", EXAMPLE / "Annotations/crossing/00000.png"]

    def make(root: Path) -> None:
        network = network_with_reference_weights(replace(TINY, hidden_dim=0, use_selection=False, use_shrinkage=False))
        save_network(root / "without.pth", network.config, network.state_dict())
        export(
            *(["--model", BUNDLED, "--output", root / name, *flags] for name, flags in of_bundled.items()),
            ["--model", root / "without.pth", "--output", root / "a new folder" / "without"],
            ["--model", root / "without.pth", "--output", root / "static", "--size", 64, 96, *calibrated],
        )

    return made_once("bundled", make, tmp_path_factory)


@pytest.fixture(scope="session")
def of_published_widths(tmp_path_factory) -> Path:
    """Exports of a network with the published widths."""

    def make(root: Path) -> None:
        network = reference_network()
        save_network(root / "reference.pth", network.config, network.state_dict())
        flags = ["--model", root / "reference.pth"]
        export(*([*flags, "--output", root / kind, "--format", kind] for kind in ("onnx", "pt2")))

    return made_once("published", make, tmp_path_factory)


# --- As PyTorch's network ---------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_reference_clips_agree_through_consolidation_and_eviction_and_with_late_objects(kind, of_published_widths):
    """The published widths; clip_long_term consolidates often and evicts, and in clip an object comes late."""
    exported = ExportedNetwork(read_export(of_published_widths / kind), CPU)
    for name in ("clip", "clip_long_term"):
        clip = read_clip(PARITY / f"{name}.npz")
        core = InferenceCore(exported, clip.config)
        last = len(clip.images) - 1
        for time, image in enumerate(clip.images):
            prob = core.step(image, clip.masks.get(time), end=time == last)
            sizes = core.memory.working.size, core.memory.long_term.size
            assert sizes == (clip.work_elements[time], clip.long_elements[time])
            if time in clip.prob:
                assert (prob - clip.prob[time]).abs().max().item() <= TOLERANCE, f"{name}, frame {time}"


def label_maps(model: Path, output: Path, frames: int | None = None) -> np.ndarray:
    """Follow the example clip with a network or an export."""
    network = xmem.load_network(model, "cpu")
    paths = sorted((EXAMPLE / "JPEGImages/crossing").iterdir())[:frames]
    mask = EXAMPLE / "Annotations/crossing/00000.png"
    results = xmem.segment_video(network, (Image.open(path) for path in paths), mask, size=160)
    return np.stack([result.labels.numpy() for result in results])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_the_bundled_network_gives_the_same_label_maps_of_the_example_clip(exports, tmp_path, kind):
    output = tmp_path / "output"
    flags = ["--dataset", "G", "--generic_path", EXAMPLE, "--size", 160, "--device", "cpu", "--output", output]
    assert program.main([str(each) for each in (*flags, "--model", exports / kind)]) == 0
    exported = np.stack([np.array(Image.open(path)) for path in sorted((output / "crossing").iterdir())])
    assert (label_maps(BUNDLED, tmp_path) != exported).mean() <= 1e-4


def test_half_precision_is_near(exports, tmp_path):
    assert read_export(exports / "half").precision == "float16"
    plain, exported = (label_maps(model, tmp_path, frames=8) for model in (BUNDLED, exports / "half"))
    assert 0 < (plain != exported).mean() < 1e-3


def test_int8_with_recorded_ranges_is_near(exports, tmp_path):
    network = xmem.load_network(exports / "onnx", "cpu")
    frames = [Image.open(path) for path in sorted((EXAMPLE / "JPEGImages/crossing").iterdir())[:6]]
    with recorded(network) as calls:
        for _ in xmem.segment_video(network, frames, EXAMPLE / "Annotations/crossing/00000.png", size=240):
            pass
    assert {name: len(each) for name, each in calls.items()} == {"encode_key": 6, "encode_value": 2, "segment": 5}
    quantise_export(read_export(exports / "onnx"), tmp_path / "int8", {"height": 64, "width": 96, "objects": 2}, calls)
    assert read_export(tmp_path / "int8").precision == "int8"
    plain, exported = (label_maps(model, tmp_path, frames=8) for model in (BUNDLED, tmp_path / "int8"))
    assert 0 < (plain != exported).mean() < 1e-2
    whole, quantised = (
        sum(path.stat().st_size for path in each.iterdir()) for each in (exports / "onnx", tmp_path / "int8")
    )
    assert quantised < whole / 3


@pytest.mark.parametrize(
    ("name", "most"),
    [("a new folder/without", 0.05), ("onnx", 0.4)],  # depthwise convolutions, as the bundled network's, lose more
)
def test_dynamic_int8_is_near(exports, tmp_path, name, most):
    made, sizes = read_export(exports / name), {"height": 64, "width": 80}
    quantise_graph(made.file_of("encode_key"), tmp_path / "encode_key.onnx", calls=None)
    inputs = random_inputs(made.shapes["encode_key"], sizes)
    plain, quantised = (
        OnnxGraph(path, made.shapes["encode_key"], "cpu", CPU)(inputs, sizes)["f16"]
        for path in (made.file_of("encode_key"), tmp_path / "encode_key.onnx")
    )
    assert 0 < (plain - quantised).abs().mean() < most * plain.abs().mean()


@pytest.mark.parametrize("name", ["onnx", "fixed", "static", "a new folder/without"])
def test_graphs_pass_the_checker_of_onnx(exports, name):
    check_graphs(exports / name)


@pytest.mark.long
def test_graphs_of_the_published_widths_pass_the_checker(of_published_widths):
    check_graphs(of_published_widths / "onnx")


def check_graphs(folder: Path) -> None:
    import onnx

    files = sorted(folder.glob("*.onnx"))
    assert len(files) == 5
    for path in files:
        onnx.checker.check_model(path)


def test_a_network_without_some_parts(exports):
    plain, exported = (xmem.load_network(exports / each, "cpu") for each in ("without.pth", "a new folder/without"))
    frames = [np.random.default_rng(time).integers(0, 256, (64, 96, 3), np.uint8) for time in range(6)]
    mask = np.zeros((64, 96), np.uint8)
    mask[20:40, 20:50] = 1
    results = [list(xmem.segment_video(each, frames, mask, size=-1)) for each in (plain, exported)]
    for ours, theirs in zip(*results, strict=True):
        assert (ours.prob - theirs.prob).abs().max() < TOLERANCE


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
@pytest.mark.parametrize("objects", [1, 2, 3])
def test_any_size_and_number_of_objects(exports, kind, objects):
    """Objects come one after another, and frames are padded to multiples of 16."""
    plain, exported = (xmem.load_network(exports / each, "cpu") for each in (BUNDLED, kind))
    rng = np.random.default_rng(objects)
    frames = [rng.integers(0, 256, (40 + 8 * objects, 70, 3), np.uint8) for _ in range(8)]
    masks = {}
    for label in range(1, objects + 1):
        mask = np.zeros(frames[0].shape[:2], np.uint8)
        mask[4 * label : 4 * label + 12, 10 * label : 10 * label + 15] = label
        masks[label - 1] = mask
    results = [list(xmem.segment_video(each, frames, masks, size=-1)) for each in (plain, exported)]
    for ours, theirs in zip(*results, strict=True):
        assert ours.objects == theirs.objects
        assert (ours.prob - theirs.prob).abs().max() < TOLERANCE


@pytest.mark.parametrize("graph", ["encode_key", "encode_value", "segment", "read_memory", "potentiate"])
def test_every_graph_is_that_of_the_network(exports, graph):
    made = read_export(exports / "onnx")
    sizes = {"height": 64, "width": 80, "objects": 2, "elements": 50, "candidates": 40, "prototypes": 5}
    inputs = random_inputs(made.shapes[graph], sizes, seed=5)
    expected = build(XMem.from_checkpoint(BUNDLED, "cpu"), top_k=30)[graph](**inputs)
    outputs = OnnxGraph(made.file_of(graph), made.shapes[graph], "cpu", CPU)(inputs, sizes)
    assert list(outputs) == list(made.shapes[graph].outputs)
    for tensor, reference in zip(outputs.values(), expected, strict=True):
        torch.testing.assert_close(tensor, reference, rtol=1e-4, atol=1e-4)


def test_the_read_is_that_of_the_paper(exports):
    """Equations 1 and 2, written out; elements that are not in use do not matter."""
    made, sizes = read_export(exports / "onnx"), {"height": 64, "width": 80, "objects": 1, "elements": 60}
    inputs = random_inputs(made.shapes["read_memory"], sizes, seed=2)
    count = int(inputs["count"])
    outputs = OnnxGraph(made.file_of("read_memory"), made.shapes["read_memory"], "cpu", CPU)(inputs, sizes)
    key, selection = (inputs[name][0].flatten(1).T[:, None] for name in ("key", "selection"))
    memory, shrinkage = inputs["memory_key"][:count], inputs["memory_shrinkage"][:count, 0]
    similarity = -shrinkage * (selection * (memory - key).square()).sum(dim=2) / memory.shape[1] ** 0.5
    largest, elements = similarity.topk(30, dim=1)
    weights = torch.zeros(20, count).scatter(1, elements, torch.softmax(largest, dim=1))
    read = (weights @ inputs["values"][0, :count]).T.unflatten(1, (4, 5))
    torch.testing.assert_close(outputs["readout"][0, 0], read, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(outputs["use"][:count], weights.sum(dim=0), rtol=1e-4, atol=1e-4)
    assert not outputs["use"][count:].any()


# --- Fixed sizes, half precision, INT8 --------------------------------------------------------------------------------


def test_an_export_for_a_size_and_a_number_of_objects(exports):
    plain, exported = (xmem.load_network(exports / each, "cpu") for each in (BUNDLED, "fixed"))
    frames = [np.random.default_rng(time).integers(0, 256, (40, 72, 3), np.uint8) for time in range(7)]
    mask = np.zeros((40, 72), np.uint8)
    mask[10:20, 10:30] = 4
    results = [list(xmem.segment_video(each, frames, mask, size=-1)) for each in (plain, exported)]
    for ours, theirs in zip(*results, strict=True):
        assert (ours.prob - theirs.prob).abs().max() < TOLERANCE, "one object is filled up to two, and masked"
    manifest = json.loads((exports / "fixed" / MANIFEST).read_text())
    assert (manifest["size"], manifest["objects"], manifest["opset"], manifest["stride"]) == ([48, 80], 2, 18, 16)
    assert manifest["elements"] == 10000 + 10 * 15
    assert manifest["graphs"]["segment"]["inputs"]["selector"] == [1, "objects"]
    assert manifest["images"]["mean"] == [0.485, 0.456, 0.406]


@pytest.mark.parametrize(
    ("shape", "labels", "message"),
    [
        ((60, 72), 1, "of 80x48, not of 80x64 (as padded to multiples of 16): export the network with --size 64 80"),
        ((40, 72), 3, "is an export for 2 objects, and there are 3: export the network with --objects 3"),
    ],
)
def test_what_a_fixed_export_does_not_take_is_told_in_a_line(exports, tmp_path, capsys, shape, labels, message):
    frames = tmp_path / "frames"
    frames.mkdir()
    mask = np.zeros(shape, np.uint8)
    for label in range(1, labels + 1):
        mask[5:15, 12 * label : 12 * label + 8] = label
    Image.fromarray(mask).save(tmp_path / "mask.png")
    for time in range(2):
        Image.fromarray(np.zeros((*shape, 3), np.uint8)).save(frames / f"{time}.png")
    flags = [
        "--model",
        exports / "fixed",
        "--video",
        frames,
        "--mask",
        tmp_path / "mask.png",
        "--size",
        -1,
        "--device",
        "cpu",
    ]
    assert program.main([str(each) for each in (*flags, "--output", tmp_path / "output")]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("failed")]
    assert len(errors) == 1
    assert message in errors[0]


# --- Mistakes ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def copied(exports, tmp_path) -> Path:
    return Path(shutil.copytree(exports / "onnx", tmp_path / "copied"))


def change_manifest(folder: Path, **changes: object) -> None:
    content = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(content | changes))


def change_files(folder: Path, more: dict[str, str]) -> None:
    change_manifest(folder, files=json.loads((folder / MANIFEST).read_text())["files"] | more)


def change_network(folder: Path, **changes: object) -> None:
    change_manifest(folder, network=json.loads((folder / MANIFEST).read_text())["network"] | changes)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / MANIFEST).unlink(), "is a folder without manifest.json"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "manifest.json is damaged"),
        (lambda folder: (folder / MANIFEST).write_text("[]"), "has the format 'list'"),
        (lambda folder: change_manifest(folder, format="x"), "has the format 'x'"),
        (lambda folder: change_manifest(folder, graphs={}), "its graphs are not those of its network"),
        (lambda folder: change_manifest(folder, size=5), "manifest.json is damaged"),
        (lambda folder: change_manifest(folder, size=[48, 80, 3]), "its size is not two positive whole numbers"),
        (
            lambda folder: change_manifest(folder, objects=True),
            "its number of objects is not a whole number from 1 to 255",
        ),
        (lambda folder: change_manifest(folder, objects=4), "its graphs are not those of its network"),
        (lambda folder: change_manifest(folder, precision=5), "its format or precision is unknown"),
        (lambda folder: change_manifest(folder, files={}), "it does not know of "),
        (lambda folder: change_files(folder, {"../x": "y"}), "it names a file elsewhere"),
        (lambda folder: change_network(folder, hidden_dim=0), "its graphs are not those of its network"),
        (lambda folder: (folder / MANIFEST).write_text(100_000 * "["), "manifest.json is damaged"),
        (lambda folder: change_manifest(folder, network={"key_dim": 3}), "manifest.json is damaged"),
        (lambda folder: (folder / "segment.onnx").unlink(), "lacks segment.onnx, which its manifest.json names"),
        (lambda folder: (folder / "segment.onnx").write_bytes(b"x"), "is not the file that manifest.json describes"),
        (lambda folder: (folder / "encode_key.onnx.data").write_bytes(b"x"), "encode_key.onnx.data is not the file"),
    ],
)
def test_a_damaged_export_is_refused(copied, damage, message):
    damage(copied)
    with pytest.raises(UserError, match=message):
        read_network_file(copied)


def test_graphs_that_trade_places_are_refused(copied):
    for suffix in ("onnx", "onnx.data"):
        paths = [copied / f"{name}.{suffix}" for name in ("read_memory", "segment")]
        if all(path.exists() for path in paths):
            contents = [path.read_bytes() for path in paths]
            for path, content in zip(paths, reversed(contents), strict=True):
                path.write_bytes(content)
    change_files(copied, {path.name: sha256_of(path) for path in copied.iterdir() if path.name != MANIFEST})
    with pytest.raises(UserError, match="segment"):
        ExportedNetwork(read_export(copied), CPU)


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_mixed_precision_has_no_effect_and_is_refused_where_it_is_asked_for(exports, kind, capsys, tmp_path):
    network = xmem.load_network(exports / kind, "cpu")
    frames = [np.random.default_rng(time).integers(0, 256, (48, 64, 3), np.uint8) for time in range(3)]
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 10:40] = 1
    plain, mixed = (
        [each.prob for each in xmem.segment_video(network, frames, mask, size=-1, mixed_precision=on)]
        for on in (False, True)
    )
    assert all(map(torch.equal, plain, mixed))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        query, _ = network.encode_key(torch.zeros(1, 3, 48, 64))
    assert query.key.dtype == torch.float32
    flags = ["--model", exports / kind, "--dataset", "G", "--generic_path", EXAMPLE, "--device", "cpu", "--amp"]
    assert program.main([str(each) for each in (*flags, "--output", tmp_path / "o")]) == 2
    assert "--amp has no effect on" in capsys.readouterr().err


def test_the_provider_is_a_setting_of_the_run(exports, tmp_path, capsys):
    frames = tmp_path / "frames"
    frames.mkdir()
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(frames / "0.png")
    Image.fromarray(np.eye(48, 64, dtype=np.uint8)).save(tmp_path / "mask.png")
    flags = ["--model", exports / "onnx", "--video", frames, "--mask", tmp_path / "mask.png", "--device", "cpu"]
    flags = [str(each) for each in (*flags, "--output", tmp_path / "output")]
    assert program.main([*flags, "--provider", "cpu"]) == 0
    assert program.main(flags) == 2
    assert "provider" in capsys.readouterr().err


def test_a_provider_that_does_not_start_is_told(exports, monkeypatch):
    runtime = running.import_onnxruntime()
    there = [*running.PROVIDERS.values()]
    monkeypatch.setattr(runtime, "get_available_providers", lambda: there)
    with pytest.raises(UserError, match=r"the provider openvino of ONNX Runtime does not start here|cannot be run by"):
        xmem.load_network(exports / "onnx", "cpu", "openvino")


@pytest.mark.parametrize("file", ["manifest.json", "segment.onnx"])
def test_a_part_of_an_export_is_refused(exports, file):
    with pytest.raises(UserError, match="is a part of an export: give its folder"):
        xmem.load_network(exports / "onnx" / file, "cpu")


def test_an_export_is_no_network_file(exports, tmp_path, capsys):
    assert program_export.main(["--model", str(exports / "onnx"), "--output", str(tmp_path / "x")]) == 2
    assert "no such file, but a folder; exports are run by eval.py" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_told_in_a_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert program_export.main(["--model", str(BUNDLED), "--output", str(tmp_path / "file/x")]) == 2
    assert f"{tmp_path}/file/x cannot be written: " in capsys.readouterr().err


def test_a_missing_onnxruntime_is_told_in_a_line(exports, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    flags = ["--model", exports / "onnx", "--dataset", "G", "--generic_path", EXAMPLE, "--output", tmp_path / "o"]
    assert program.main([str(each) for each in (*flags, "--device", "cpu")]) == 2
    error = capsys.readouterr().err.strip()
    assert error.endswith("need ONNX Runtime, which is not installed: pip install -r requirements-export.txt")
    assert program_export.main(["--output", str(tmp_path / "x")]) == 2
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("provider", "device", "message"),
    [
        ("tensorrt", "cpu", "the provider tensorrt does not go together with the device cpu"),
        ("openvino", "cpu", "the installed ONNX Runtime has no provider openvino, only cpu"),
        ("abacus", "cpu", "there is no provider abacus: choose of cpu, cuda,"),
    ],
)
def test_providers_that_are_not_there_are_refused(exports, provider, device, message):
    if provider == "openvino" and "OpenVINO" in " ".join(running.import_onnxruntime().get_available_providers()):
        pytest.skip("OpenVINO's provider is installed")
    with pytest.raises(UserError, match=message):
        xmem.load_network(exports / "onnx", device, provider)


def test_a_provider_goes_with_an_export(exports):
    with pytest.raises(UserError, match="is no export: a provider goes with the folder"):
        xmem.load_network(BUNDLED, "cpu", "cpu")
    with pytest.raises(UserError, match="is an export for PyTorch, which has no provider cpu"):
        xmem.load_network(exports / "pt2", "cpu", "cpu")


def test_an_operator_that_the_provider_does_not_know_is_told_in_a_line(exports, tmp_path):
    import onnx

    model = onnx.load(exports / "onnx/segment.onnx")
    model.graph.node[0].op_type = "Abacus"
    onnx.save(model, tmp_path / "segment.onnx")
    with pytest.raises(UserError, match=r"segment\.onnx cannot be run by cpu: ") as error:
        OnnxGraph(tmp_path / "segment.onnx", read_export(exports / "onnx").shapes["segment"], "cpu", CPU)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--size", "50", "80"], "--size must be two multiples of 16, not 50 80"),
        (["--objects", "0"], "--objects must be 1 to 255, not 0"),
        (["--int8", "static"], "--int8 static needs --calibrate"),
        (["--calibrate", "x"], "--calibrate goes with --int8 static"),
        (["--int8", "dynamic", "--half"], "--int8 goes with --format onnx and without --half"),
        (["--top_k", "0"], "--top_k must be at least 1, not 0"),
        (["--elements", "500"], "--elements is for exports with --size"),
        (["--calibrate_frames", "5"], "--calibrate_frames goes with --int8 static"),
    ],
)
def test_flags_of_exporting_are_checked(tmp_path, capsys, flags, message):
    assert program_export.main(["--model", str(BUNDLED), "--output", str(tmp_path / "x"), *flags]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_mask_of_another_size_than_the_video_is_told_before_the_export(tmp_path, capsys):
    write_label_map(tmp_path / "mask.png", np.eye(50, 80, dtype=np.uint8))
    flags = ["--int8", "static", "--calibrate", EXAMPLE / "JPEGImages/crossing"]
    flags += ["--calibrate_mask", tmp_path / "mask.png"]
    assert program_export.main([*map(str, ["--model", BUNDLED, "--output", tmp_path / "x", *flags])]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "mask.png is 80x50, the first frame of --calibrate 432x240" in line


def test_a_folder_that_is_there_is_not_overwritten(tmp_path, capsys):
    assert program_export.main(["--model", str(BUNDLED), "--output", str(tmp_path)]) == 2
    assert "is there already" in capsys.readouterr().err


def test_a_graph_that_cannot_be_exported_leaves_nothing(tmp_path, capsys, monkeypatch):
    def fail(*arguments: object, **settings: object) -> None:
        raise RuntimeError("no such operator\nand more")

    monkeypatch.setattr(torch.export, "export", fail)
    assert program_export.main(["--model", str(BUNDLED), "--output", str(tmp_path / "x")]) == 2
    assert "encode_key cannot be exported to onnx here: no such operator" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_shapes_are_evaluated():
    sizes = {"height": 96, "objects": 3}
    assert [extent(each, sizes) for each in (1, "height", "height/16", "objects", "objects+1")] == [1, 96, 6, 3, 4]
    shapes = shapes_of(tiny_network().config, (8, 16, 32), fixed_objects=False)
    assert "selector" not in shapes["segment"].inputs
