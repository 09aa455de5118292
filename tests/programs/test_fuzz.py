"""Damaged and odd inputs of every kind: no traceback, nothing written elsewhere, no half result that counts as whole.

Each test makes small valid inputs, changes one thing in a copy of them, and runs the program in this process, or what
reads the file where a run would add nothing. Hypothesis chooses the changes, the same ones each time, 500 in all.

Files of PyTorch have checksums, so that damaged bytes are refused as a whole. What was tampered with behind them is
refused or read here, but what it then does in a run is not looked at for checkpoints of training and saved memories.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO, TextIOWrapper
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

import eval as evaluation
import train
from dataset.label_map import read_label_map
from dataset.video_file import VideoFile
from evaluation.overlay_video import overlay_video
from inference.config import InferenceConfig
from inference.inference_core import InferenceCore
from model.checkpoint import read_checkpoint
from model.network import XMem
from scripts import merge_multi_scale, prepare_data, score
from tests.helpers.layouts import label_map, write_frames, write_masks, write_text, youtube_meta
from tests.helpers.tiny_network import save_tiny_network, tiny_network
from tests.helpers.training_layouts import TINY_NETWORK, tiny_stage, write_videos
from training.checkpoints import TrainingCheckpoint
from util.errors import UserError

SIZE, FRAMES = (32, 48), range(3)

pytestmark = pytest.mark.slow


def examples(count: int) -> settings:
    """Settings for a test of so many changes. They follow from the test itself, so that every run is the same."""
    return settings(
        max_examples=count,
        derandomize=True,
        phases=[Phase.generate],  # changes are small as they are, and a smaller one would take many runs
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


# --- What is changed --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Damage:
    """Bytes of a file replaced by others: so many from a place on, given as a share of the file."""

    place: float
    length: int
    by: bytes

    def to(self, content: bytes) -> bytes:
        begin = int(self.place * len(content))
        return content[:begin] + self.by + content[begin + self.length :]


damages = st.builds(
    Damage,
    place=st.floats(0, 1),
    length=st.one_of(st.integers(0, 8), st.just(1 << 30)),
    by=st.one_of(st.binary(max_size=8), st.just(bytes(64))),
)
plain_values = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8), st.just([]), st.just({}),
    st.lists(st.integers(), max_size=3), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)  # fmt: skip
REMOVED = object()


def children(value: Any) -> dict[Any, Any]:
    """What a nested value holds, by key or index."""
    return dict(value.items() if isinstance(value, dict) else enumerate(value)) if is_nested(value) else {}


def is_nested(value: Any) -> bool:
    return isinstance(value, dict | list | tuple)


def change(data: st.DataObject, value: Any, values: st.SearchStrategy[Any] = plain_values, depth: int = 0) -> Any:
    """A copy of a nested value in which something is another, or missing."""
    if not (inner := children(value)) or (depth and data.draw(st.booleans(), "here")):
        new = data.draw(st.one_of(values, st.just(REMOVED)) if depth else values, "new")
        return new(value) if callable(new) else new
    key = data.draw(st.sampled_from(list(inner)), "in")
    inner[key] = change(data, inner[key], values, depth + 1)
    if inner[key] is REMOVED:
        del inner[key]
    return inner if isinstance(value, dict) else type(value)(inner.values())


def change_json(data: st.DataObject, path: Path) -> None:
    """Change a JSON file: a value in it, or its bytes."""
    content = path.read_bytes()
    if data.draw(st.booleans(), "as JSON"):
        path.write_text(json.dumps(change(data, json.loads(content))))
    else:
        path.write_bytes(data.draw(damages).to(content))


def change_bytes(data: st.DataObject, *paths: Path) -> None:
    """Change the bytes of one of these files."""
    path = data.draw(st.sampled_from(sorted(paths)), "file")
    path.write_bytes(data.draw(damages).to(path.read_bytes()))


# --- What holds whatever is changed -----------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes | None]:
    """The bytes of all files below a folder, and None for each folder."""
    return {os.fspath(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@contextmanager
def copy_of(template: Path) -> Iterator[Path]:
    """A copy of a folder, in a folder of its own."""
    with TemporaryDirectory(dir=template.parent) as folder:
        yield Path(shutil.copytree(template, Path(folder) / template.name))


def run(main: Callable[[list[str]], int], folder: Path, *arguments: object, output: Path) -> int:
    """Run a program: it ends with one of its codes and, unless with 0, says why; it changes nothing but its output."""
    before = contents(folder.parent)
    printed = TextIOWrapper(BytesIO(), "utf-8", write_through=True)  # strict, as a terminal's is
    told = TextIOWrapper(BytesIO(), "utf-8", "backslashreplace", write_through=True)
    with redirect_stdout(printed), redirect_stderr(told):
        code = main([str(argument) for argument in arguments])
    assert code in (0, 1, 2)
    assert code == 0 or printed.tell() or told.tell()
    inside = os.fspath(output)
    after = contents(folder.parent)
    changed = [path for path in {*before, *after} if before.get(path, 0) != after.get(path, 0)]
    assert [path for path in changed if not path.startswith(inside)] == []
    return code


def evaluate(folder: Path, *flags: object, frames: str | None = None) -> int:
    """Run eval.py on what lies in a folder, and check what it reports as finished.

    Args:
        frames: the folder of the videos' folders of frames, if there is one for each.
    """
    output = folder.parent / "output"
    flags = ("--model", folder.parents[1] / "tiny.pth", "--device", "cpu", "--output", output, *flags)
    code = run(evaluation.main, folder, *flags, output=output)
    if code != 2:
        summary = json.loads((output / "summary.json").read_text())
        records = {path.stem: json.loads(path.read_text()) for path in (output / ".finished").glob("*.json")}
        finished = records.keys() - summary["failures"].keys()
        assert (summary["failures"] == {}) == (code == 0)
        assert summary["videos"] == len(finished)
        assert [path for path in output.rglob(".*") if path.name not in (".finished", ".zipped")] == []
        if frames is not None and code == 0:
            assert finished == {path.name for path in (folder / frames).iterdir() if not path.name.startswith(".")}
        for name in finished:
            label_maps = [path for path in output.rglob("*.png") if path.parent.name == name]
            assert len(label_maps) == records[name]["label_maps"] > 0
            sizes = {read_label_map(path).labels.shape for path in label_maps}
            if frames is not None:
                images = [path for path in (folder / frames / name).iterdir() if not path.name.startswith(".")]
                assert len(label_maps) == len(images)
                with Image.open(images[0]) as frame:
                    assert sizes == {frame.size[::-1]}
    return code


# --- Data sets --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the inputs lie, each in a folder of its own, and a network."""
    place = tmp_path_factory.mktemp("fuzz")
    save_tiny_network(place / "tiny.pth")
    return place


@pytest.fixture(scope="module")
def own(place: Path) -> Path:
    """Own videos: two of three frames, with a label map for each."""
    write_own(place / "own", "a", "b")
    return place / "own"


def write_own(root: Path, *names: str) -> None:
    for number, name in enumerate(names):
        write_frames(root / "JPEGImages" / name, FRAMES, SIZE, seed=number)
        write_masks(root / "Annotations" / name, FRAMES, SIZE, labels=(1, 2))


def evaluate_own(folder: Path, *flags: object) -> int:
    return evaluate(folder, "--dataset", "G", "--size", "-1", "--generic_path", folder, *flags, frames="JPEGImages")


@examples(45)
@given(data=st.data())
def test_bytes_of_frames_and_label_maps(own, data):
    with copy_of(own) as folder:
        change_bytes(data, *folder.glob("JPEGImages/a/*"), *folder.glob("Annotations/a/*"))
        evaluate_own(folder)


sides = st.one_of(st.integers(1, 70), st.sampled_from([1, 2, 15, 16, 17, 400]))


@examples(30)
@given(frame=st.tuples(sides, sides), mask=st.none() | st.tuples(sides, sides), size=st.sampled_from([-1, 16, 33]))
def test_sizes(place, frame, mask, size):
    (place / "empty").mkdir(exist_ok=True)
    with copy_of(place / "empty") as folder:
        write_frames(folder / "JPEGImages/a", range(2), frame)
        write_masks(folder / "Annotations/a", range(1), mask or frame)
        evaluate_own(folder, "--size", size)


names = st.one_of(
    st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=20),
    st.sampled_from(["-x", "--output", " ", "a\nb", "%s{}", "config.json", "Annotations", "summary.json", ".hidden"]),
    st.sampled_from(["..png", "a.jpg", "[ab]*", "x" * 200, "x" * 240, "~", "\x1b[31m", "CON", "1" * 30, "²", "٣"]),
    st.binary(min_size=1, max_size=5).map(
        lambda name: os.fsdecode(name.replace(b"/", b"").replace(b"\0", b"") or b"x")
    ),
)


@examples(30)
@given(name=names, what=st.sampled_from(["video", "frame", "mask"]), flags=st.sampled_from([[], ["--save_scores"]]))
def test_names(own, name, what, flags):
    assume(name not in (".", "..", "b", "00000", "00001"))
    with copy_of(own) as folder:
        try:
            if what == "video":
                for kind in ("JPEGImages", "Annotations"):
                    (folder / kind / "a").rename(folder / kind / name)
            else:
                (folder / "Annotations/a/00002.png").rename(folder / f"Annotations/a/{name}.png")
                if what == "frame":
                    (folder / "JPEGImages/a/00002.jpg").rename(folder / f"JPEGImages/a/{name}.jpg")
        except OSError:  # no name for a file here
            assume(False)
        evaluate_own(folder, *flags)


@pytest.fixture(scope="module")
def youtube(place: Path) -> Path:
    for name in ("a", "b"):
        write_frames(place / "youtube/all_frames/valid_all_frames/JPEGImages" / name, FRAMES, SIZE)
        write_masks(place / "youtube/valid/Annotations" / name, range(1), SIZE, (1, 2))
    saved = {"1": ["00000", "00002"], "2": ["00000"]}
    write_text(place / "youtube/valid/meta.json", youtube_meta({"a": saved, "b": saved}))
    return place / "youtube"


@examples(60)
@given(data=st.data())
def test_meta_json(youtube, data):
    with copy_of(youtube) as folder:
        change_json(data, folder / "valid/meta.json")
        if prepare(folder, "Y19", "--y19_path", folder) == 0:
            evaluate(folder, "--dataset", "Y19", "--y19_path", folder, "--size", 32)


def prepare(folder: Path, *arguments: object) -> int:
    return run(prepare_data.main, folder, "check", *arguments, output=folder.parent / "output")


@pytest.fixture(scope="module")
def davis(place: Path) -> Path:
    for name in ("a", "b"):
        write_frames(place / "davis/trainval/JPEGImages/480p" / name, FRAMES, SIZE)
        write_masks(place / "davis/trainval/Annotations/480p" / name, FRAMES, SIZE, (1, 2))
    write_text(place / "davis/trainval/ImageSets/2017/val.txt", "a\nb\n")
    return place / "davis"


@examples(40)
@given(damage=damages)
def test_lists_of_videos(davis, damage):
    with copy_of(davis) as folder:
        listed = folder / "trainval/ImageSets/2017/val.txt"
        listed.write_bytes(damage.to(listed.read_bytes()))
        if prepare(folder, "D17", "--d17_path", folder) == 0:
            evaluate(folder, "--dataset", "D17", "--d17_path", folder, "--size", 32)


# --- Video files ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip(place: Path) -> Path:
    (place / "clip").mkdir()
    generator = np.random.default_rng(0)
    with overlay_video(place / "clip/clip.mp4", Fraction(24)) as write:
        for _ in range(4):
            write(generator.integers(0, 256, (*SIZE, 3), np.uint8), label_map(SIZE))
    Image.fromarray(label_map(SIZE)).save(place / "clip/mask.png")
    return place / "clip"


@examples(65)
@given(damage=damages, whole_run=st.integers(0, 3).map(lambda number: number == 3))
def test_bytes_of_video_files(clip, damage, whole_run):
    with copy_of(clip) as folder:
        path = folder / "clip.mp4"
        path.write_bytes(damage.to(path.read_bytes()))
        if whole_run:
            evaluate(folder, "--video", path, "--mask", folder / "mask.png", "--size", "-1")
        else:
            with suppress(UserError):
                assert len(list(VideoFile(path))) <= 4


# --- What a run has left ----------------------------------------------------------------------------------------------

LEFT = ("--dataset", "G", "--size", "-1", "--generic_path", "data", "--model", "tiny.pth", "--device", "cpu")


@pytest.fixture(scope="module")
def left(own: Path, place: Path) -> Path:
    """Own videos, a network, and what two runs have made of them, all named from their folder."""
    shutil.copytree(own, place / "left/data")
    shutil.copy(place / "tiny.pth", place / "left")
    with chdir(place / "left"):
        for output, flags in {"one": [], "two": ["--flip"]}.items():
            assert evaluation.main([*LEFT, "--save_scores", "--output", output, *flags]) == 0
    return place / "left"


@examples(35)
@given(data=st.data(), flags=st.sampled_from([[], [], ["--overwrite"], ["--benchmark"]]))
def test_records_of_a_run(left, data, flags):
    with copy_of(left) as folder, chdir(folder):
        records = [folder / "one" / name for name in ("config.json", ".finished/a.json", "summary.json")]
        change_json(data, data.draw(st.sampled_from(records), "record"))
        if data.draw(st.booleans(), "remove a label map"):
            (folder / "one/Annotations/b/00001.png").unlink()
        code = run(evaluation.main, folder, *LEFT, "--save_scores", "--output", "one", *flags, output=folder / "one")
        assert code != 1
        assert code == 2 or len(list((folder / "one/Annotations").glob("[ab]/0000[012].png"))) == 6


@examples(25)
@given(data=st.data())
def test_merging_damaged_probabilities(left, data):
    with copy_of(left) as folder, chdir(folder):
        if data.draw(st.booleans(), "a record"):
            change_json(data, folder / "one/config.json")
        else:
            change_bytes(data, *folder.glob("one/Scores/a/*"), *folder.glob("two/Annotations/a/*"))
        if run(merge_multi_scale.main, folder, "merged", "one", "two", output=folder / "merged") == 0:
            assert len(list((folder / "merged/Annotations").glob("[ab]/0000[012].png"))) == 6


@examples(25)
@given(data=st.data(), flags=st.sampled_from([[], ["--all_objects"], ["--binary"], ["--all_frames"]]))
def test_scoring_damaged_label_maps(left, data, flags):
    with copy_of(left) as folder, chdir(folder):
        change_bytes(data, *folder.glob("one/Annotations/a/*"), *folder.glob("data/Annotations/a/*"))
        flags = ["--threads", "1", "--json", "scores.json", *flags]
        words = ["--gt", "data/Annotations", "--pred", "one/Annotations", *flags]
        if run(score.main, folder, *words, output=folder / "scores.json") == 0:
            assert json.loads((folder / "scores.json").read_text())["sequences"].keys() == {"a", "b"}


# --- PyTorch files ----------------------------------------------------------------------------------------------------

tensors = st.sampled_from(
    [
        torch.zeros(()),
        torch.zeros(0),
        torch.zeros(3),
        torch.full((2, 2), torch.nan),
        torch.zeros(2, 3, dtype=torch.long),
    ]
)
changes_of_tensors = st.sampled_from(
    [
        lambda value: value[:-1] if isinstance(value, torch.Tensor) and value.dim() else value,
        lambda value: value.unsqueeze(0) if isinstance(value, torch.Tensor) else [value],
        lambda value: value.double() if isinstance(value, torch.Tensor) else str(value),
        lambda value: value * float("nan") if isinstance(value, torch.Tensor) else -1,
    ]
)


def change_torch_file(data: st.DataObject, path: Path) -> bool:
    """Change a PyTorch file: something that it holds, or its bytes, which the file has checksums of."""
    if is_tampered := data.draw(st.booleans(), "what it holds"):
        content = torch.load(path, weights_only=True)
        torch.save(change(data, content, st.one_of(plain_values, tensors, changes_of_tensors)), path)
    else:
        change_bytes(data, path)
    return is_tampered


@pytest.fixture(scope="module")
def network(place: Path) -> Path:
    (place / "network").mkdir()
    shutil.copy(place / "tiny.pth", place / "network")
    return place / "network"


@examples(60)
@given(data=st.data())
def test_network_files(network, data):
    with copy_of(network) as folder:
        change_torch_file(data, folder / "tiny.pth")
        with suppress(UserError):
            XMem.from_checkpoint(read_checkpoint(folder / "tiny.pth"))


@pytest.fixture(scope="module")
def training(place: Path) -> Path:
    """A run that has one iteration left to do."""
    write_videos(place / "training/own")
    with chdir(place / "training"):
        assert train.main([*TRAINING, *tiny_stage("m", iterations=1)]) == 0
        checkpoint = torch.load("saves/x/x_checkpoint_0_00000001.pth")
        checkpoint["settings"]["config"]["stages"]["0 (m)"]["iterations"] = 2
        torch.save(checkpoint, "saves/x/x_checkpoint_0_00000001.pth")
        Path("saves/x/x_m_00000001.pth").unlink()
    return place / "training"


TRAINING = [
    *("--stages", "m", "--exp_id", "x", "--output", "saves", "--resume", "auto", "--videos_root", "own"),
    *("--num_workers", "0", "--device", "cpu", "--no_pretrained", *TINY_NETWORK),
]  # fmt: skip


@examples(30)
@given(data=st.data())
def test_training_checkpoints(training, data):
    with copy_of(training) as folder, chdir(folder):
        if change_torch_file(data, path := folder / "saves/x/x_checkpoint_0_00000001.pth"):
            with suppress(UserError):
                TrainingCheckpoint.read(path)
        elif run(train.main, folder, *TRAINING, *tiny_stage("m"), output=folder / "saves") == 0:
            assert TrainingCheckpoint.read(folder / "saves/x/x_checkpoint_0_00000002.pth").iteration == 2


@pytest.fixture(scope="module")
def memory(place: Path) -> Path:
    core = InferenceCore(tiny_network(), MEMORY)
    for index in range(12):
        core.step(torch.zeros(3, *SIZE), label_map(SIZE, (1, 2)) if index == 0 else None)
    assert core.memory.counts.consolidations
    (place / "memory").mkdir()
    core.save_memory(place / "memory/memory.pth")
    return place / "memory"


MEMORY = InferenceConfig.from_settings(
    mem_every=1, min_mid_term_frames=2, max_mid_term_frames=4, num_prototypes=2, max_long_term_elements=4
)


@examples(55)
@given(data=st.data())
def test_saved_memories(memory, data):
    with copy_of(memory) as folder:
        is_tampered = change_torch_file(data, folder / "memory.pth")
        core = InferenceCore(tiny_network(), MEMORY)
        with suppress(UserError):
            core.load_memory(folder / "memory.pth")
            if not is_tampered:
                core.step(torch.zeros(3, *SIZE))
