"""Exports: whole and checked, run by the loop as PyTorch's network is, and refused where they do not fit."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

import eval as program
import xmem
from evaluation.networks import read_network_file
from export import running
from export.graphs import GraphShapes, build, extent, random_inputs, shapes_of
from export.manifest import MANIFEST, read_export
from export.running import ExportedNetwork, OnnxGraph
from inference.inference_core import InferenceCore
from model.checkpoint import save_network
from model.network import XMem
from scripts import export as program_export
from tests.helpers import REPOSITORY
from tests.helpers.reference import PARITY, network_with_reference_weights, read_clip, reference_network
from tests.helpers.tiny_network import TINY, save_tiny_network, tiny_network
from util.errors import UserError

pytest.importorskip("onnx", reason="ONNX is not installed")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")

TOLERANCE = 1e-3
CPU = torch.device("cpu")
EXAMPLE = REPOSITORY / "examples" / "crossing"
BUNDLED = REPOSITORY / "saves" / "XMem-small.pth"


VARIANTS = {"no_sensory": {"hidden_dim": 0}, "no_scaling": {"use_selection": False, "use_shrinkage": False}}


def export(*exports: list[object]) -> None:
    """Run scripts.export with each list of flags, in one process of its own."""
    flags = json.dumps([[str(each) for each in flags] for flags in exports])
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.helpers.export_all", flags]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def exports(tmp_path_factory) -> Path:
    """A folder with networks and all exports of them that the tests need, made once for all processes of the tests."""
    is_parallel = "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp().parent if is_parallel else tmp_path_factory.mktemp("all")
    root = base / "exports"
    with FileLock(base / "exports.lock"):
        if not root.exists():
            unfinished = base / "unfinished exports"
            unfinished.mkdir()
            write_exports(unfinished)
            unfinished.rename(root)
    return root


def write_exports(root: Path) -> None:
    tiny = save_tiny_network(root / "tiny.pth")
    for name, changes in VARIANTS.items():
        network = network_with_reference_weights(replace(TINY, **changes))
        save_network(root / f"{name}.pth", network.config, network.state_dict())
    reference = reference_network()
    save_network(root / "reference.pth", reference.config, reference.state_dict())
    write_clip(root / "frames", root / "mask.png")
    calibrate = ["--calibrate", root / "frames", "--calibrate_mask", root / "mask.png"]
    of_tiny = {
        "onnx": [],
        "pt2": ["--format", "pt2"],
        "fixed": ["--size", 48, 80, "--objects", 2],
        "half": ["--half"],
        "static": ["--int8", "static", *calibrate],
        "dynamic": ["--int8", "dynamic"],
    }
    export(
        *(["--model", tiny, "--output", root / name, *flags] for name, flags in of_tiny.items()),
        *(["--model", root / f"{name}.pth", "--output", root / name] for name in VARIANTS),
        *(
            ["--model", model, "--output", root / f"{name}-{kind}", "--format", kind]
            for name, model in (("bundled", BUNDLED), ("reference", root / "reference.pth"))
            for kind in ("onnx", "pt2")
        ),
    )


def write_clip(frames: Path, mask: Path) -> None:
    """Six frames of noise, and the label map of an object in the first."""
    frames.mkdir()
    rng = np.random.default_rng(0)
    for time in range(6):
        Image.fromarray(rng.integers(0, 256, (64, 96, 3), np.uint8)).save(frames / f"{time}.png")
    labels = np.zeros((64, 96), np.uint8)
    labels[20:40, 20:50] = 1
    Image.fromarray(labels).save(mask)


# --- As PyTorch's network ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_reference_clips_agree_through_consolidation_and_eviction_and_with_late_objects(kind, exports):
    """The published widths; clip_long_term consolidates often and evicts, and in clip an object comes late."""
    exported = ExportedNetwork(read_export(exports / f"reference-{kind}"), CPU)
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


@pytest.mark.slow
def test_the_bundled_network_gives_the_same_label_maps_of_the_example_clip(exports, tmp_path):
    maps = {}
    for model in (BUNDLED, exports / "bundled-onnx", exports / "bundled-pt2"):
        output = tmp_path / model.name
        flags = ["--dataset", "G", "--generic_path", EXAMPLE, "--size", 160, "--device", "cpu"]
        assert program.main([str(each) for each in (*flags, "--model", model, "--output", output)]) == 0
        maps[model] = np.stack([np.array(Image.open(path)) for path in sorted((output / "crossing").iterdir())])
    plain, *exported = maps.values()
    assert max((plain != each).mean() for each in exported) <= 1e-4


@pytest.mark.parametrize("name", ["bundled-onnx", "reference-onnx", "static", "fixed"])
def test_graphs_pass_the_checker_of_onnx(exports, name):
    import onnx

    files = sorted((exports / name).glob("*.onnx"))
    assert len(files) == 5
    for path in files:
        onnx.checker.check_model(path)


@pytest.mark.parametrize("name", VARIANTS)
def test_networks_without_some_parts(exports, name):
    plain, exported = (xmem.load_network(exports / each, "cpu") for each in (f"{name}.pth", name))
    results = [
        list(xmem.segment_video(each, exports / "frames", exports / "mask.png", -1)) for each in (plain, exported)
    ]
    for ours, theirs in zip(*results, strict=True):
        assert (ours.prob - theirs.prob).abs().max() < TOLERANCE


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
@pytest.mark.parametrize("objects", [1, 2, 3])
def test_any_size_and_number_of_objects(exports, kind, objects):
    """Objects come one after another, and frames are padded to multiples of 16."""
    plain, exported = (xmem.load_network(exports / each, "cpu") for each in ("tiny.pth", kind))
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
    expected = build(XMem.from_checkpoint(exports / "tiny.pth", "cpu"), top_k=30)[graph](**inputs)
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
    plain, exported = (xmem.load_network(exports / each, "cpu") for each in ("tiny.pth", "fixed"))
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
        ((60, 72), 1, "is an export for frames of 80x48, not of 80x64"),
        ((40, 72), 3, "is an export for 2 objects, and there are 3"),
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


@pytest.mark.parametrize(
    ("name", "precision", "most"), [("half", "float16", 0.02), ("static", "int8", 0.3), ("dynamic", "int8", 0.3)]
)
def test_half_precision_and_int8_are_near(exports, name, precision, most):
    assert read_export(exports / name).precision == precision
    networks = [xmem.load_network(exports / each, "cpu") for each in ("tiny.pth", name)]
    results = [list(xmem.segment_video(each, exports / "frames", exports / "mask.png", -1)) for each in networks]
    differences = [(ours.prob - theirs.prob).abs().max().item() for ours, theirs in zip(*results, strict=True)]
    assert 0 < max(differences) < most


# --- Mistakes ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def copied(exports, tmp_path) -> Path:
    return Path(shutil.copytree(exports / "onnx", tmp_path / "copied"))


def change_manifest(folder: Path, **changes: object) -> None:
    content = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(content | changes))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / MANIFEST).unlink(), "is a folder without manifest.json"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "manifest.json is damaged"),
        (lambda folder: (folder / MANIFEST).write_text("[]"), "has the format 'list'"),
        (lambda folder: change_manifest(folder, format="x"), "has the format 'x'"),
        (lambda folder: change_manifest(folder, graphs={}), "it lacks a graph"),
        (lambda folder: change_manifest(folder, size=5), "manifest.json is damaged"),
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
        xmem.load_network(exports / "tiny.pth", "cpu", "cpu")
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
    ],
)
def test_flags_of_exporting_are_checked(tmp_path, capsys, flags, message):
    assert program_export.main(["--model", str(BUNDLED), "--output", str(tmp_path / "x"), *flags]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


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
    assert isinstance(shapes["segment"], GraphShapes)
    assert "selector" not in shapes["segment"].inputs
