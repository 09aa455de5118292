"""Network files: what can be rebuilt from a file alone, and one line on what is wrong with every other file."""

import json
import os
import pickle
import random
import re
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from inference.inference_core import InferenceCore
from model.checkpoint import CheckpointError, config_from_shapes, load_tensors, read_checkpoint, save_network
from model.config import ENCODERS, NetworkConfig
from model.network import XMem
from tests.helpers.reference import PARITY
from tests.helpers.tiny_network import TINY, tiny_network

FRAMES = torch.randn(3, 3, 32, 48, generator=torch.Generator().manual_seed(0))
LABELS = torch.zeros(32, 48, dtype=torch.uint8)
LABELS[4:20, 4:20] = 1
LABELS[10:30, 24:44] = 2


def segment(network: XMem, labels: Tensor = LABELS) -> Tensor:
    """The last frame's probabilities."""
    core = InferenceCore(network)
    for index, frame in enumerate(FRAMES):
        prob = core.step(frame, labels if index == 0 else None)
    return prob


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "network.pth"


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """Names and shapes of a network. Every tensor is a single zero in memory and on disk, so files are small."""
    with torch.device("meta"):
        network = XMem(TINY)
    return {name: torch.zeros((), dtype=t.dtype).expand(t.shape) for name, t in network.state_dict().items()}


def assert_same_weights(network: XMem, weights: dict[str, Tensor]) -> None:
    assert network.state_dict().keys() == weights.keys()
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, weights[name]), name


# ---------------------------------------------------------------------------------------------------------------------
# Files that are networks


@pytest.mark.parametrize(
    "config", [TINY, replace(TINY, hidden_dim=0, sensory_update_dim=256)], ids=["default", "no_sensory"]
)
def test_a_plain_state_dict_is_enough(path, config):
    network = tiny_network(config)
    torch.save(network.state_dict(), path)
    rebuilt = XMem.from_checkpoint(path)
    assert rebuilt.config == config
    assert_same_weights(rebuilt, network.state_dict())
    assert torch.equal(segment(rebuilt), segment(network))


def test_our_own_format(path):
    config = replace(TINY, key_dim=7, key_encoder="resnet34")
    network = tiny_network(config)
    save_network(path, config, network.state_dict(), {"stages": "03", "iterations": 110000})
    checkpoint = read_checkpoint(str(path))
    assert checkpoint.network_config == config
    assert checkpoint.metadata == {"stages": "03", "iterations": 110000}
    rebuilt = XMem.from_checkpoint(str(path), device="cpu")
    assert rebuilt.config == config
    assert_same_weights(rebuilt, network.state_dict())


def test_a_rebuilt_network_is_ready_for_inference(path, weights):
    torch.save(weights, path)
    network = XMem.from_checkpoint(path)
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert {tensor.device.type for tensor in network.state_dict().values()} == {"cpu"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(path, dtype):
    weights = tiny_network().state_dict()
    torch.save({name: t.to(dtype) if t.is_floating_point() else t for name, t in weights.items()}, path)
    network = XMem.from_checkpoint(path)
    assert {tensor.dtype for tensor in network.parameters()} == {torch.float32}
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, weights[name].to(dtype).to(tensor.dtype)), name


@pytest.mark.parametrize("own_format", [False, True])
def test_a_single_object_network_takes_several_objects_and_ignores_the_others(path, own_format):
    config = replace(TINY, single_object=True)
    narrow = tiny_network(config)
    if own_format:
        save_network(path, config, narrow.state_dict())
    else:
        torch.save(narrow.state_dict(), path)
    wide = XMem.from_checkpoint(path)
    assert wide.config == TINY
    assert wide.value_encoder.conv1.weight.shape[1] == 5
    assert not wide.value_encoder.conv1.weight[:, 4].any()
    torch.testing.assert_close(segment(wide), segment(narrow), rtol=0, atol=1e-6)
    one = LABELS * (LABELS == 1)
    torch.testing.assert_close(segment(wide, one), segment(narrow, one), rtol=0, atol=1e-6)
    masks, f16 = torch.rand(1, 3, 32, 48), wide.encode_key(FRAMES[:1])[1].f16
    values = wide.encode_value(FRAMES[:1], f16, None, masks).value
    masks[:, 1:] = 0
    torch.testing.assert_close(wide.encode_value(FRAMES[:1], f16, None, masks).value[:, 0], values[:, 0])


@pytest.mark.parametrize(
    ("variant", "config"),
    [
        ("default", NetworkConfig()),
        ("single_object", NetworkConfig(single_object=True)),
        ("no_sensory", NetworkConfig(hidden_dim=0)),
    ],
)
def test_released_files_are_recognised(variant, config):
    shapes = json.loads((PARITY / "state_dict.json").read_text())[variant]
    released = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    assert config_from_shapes(Path("XMem.pth"), released) == config


@pytest.mark.parametrize("encoder", ENCODERS)
def test_widths_and_encoders_are_read_off_the_shapes(encoder):
    for config in (
        replace(TINY, key_encoder=encoder, key_dim=9, sensory_update_dim=11),
        replace(TINY, value_encoder=encoder, value_dim=48, hidden_dim=5, decoder_dims=(40, 24, 20)),
    ):
        with torch.device("meta"):
            weights = XMem(config).state_dict()
        assert config_from_shapes(Path("XMem.pth"), weights) == config


def test_saving_leaves_an_old_file_alone_until_the_new_one_is_whole(path, weights, monkeypatch):
    save_network(path, TINY, weights)
    before = path.read_bytes()

    def break_off(content: object, file: Path) -> None:
        file.write_bytes(b"half of it")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", break_off)
    with pytest.raises(OSError, match="disk full"):
        save_network(path, TINY, weights)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


# ---------------------------------------------------------------------------------------------------------------------
# Files that are not

ignore_odd_protocols = pytest.mark.filterwarnings("ignore:Detected pickle protocol")


def complaint_about(path: Path) -> str:
    """The error's message, without the file's name; it must be one line that begins with the name."""
    with pytest.raises(CheckpointError) as caught:
        XMem.from_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


def test_missing_files(path):
    assert complaint_about(path).startswith(": no such file")
    assert complaint_about(path.parent).startswith(": no such file")


def test_empty_files(path):
    path.touch()
    assert "damaged or no PyTorch file" in complaint_about(path)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("part", [0.001, 0.5, 0.999])
def test_truncated_files(path, weights, part, zipped):
    torch.save(weights, path, _use_new_zipfile_serialization=zipped)
    os.truncate(path, int(path.stat().st_size * part))
    assert "damaged" in complaint_about(path)


@ignore_odd_protocols
def test_files_that_torch_never_wrote(path):
    """Text and noise of all kinds; the reader of pickles fails on them in many ways."""
    noise = random.Random(0)
    contents = [
        b"1.5 2.5\n",
        b"a few words\n",
        b"{}",
        b"0",
        b".",
        b"<html>\n<p>404</p>\n</html>\n",
        b"\x80\x02.",
        b"(l.",
    ]
    contents += [bytes(noise.choice(b"abcde 0123456789.()[]{}\n") for _ in range(40)) for _ in range(100)]
    contents += [noise.randbytes(noise.randrange(1, 60)) for _ in range(100)]
    contents += [b"\x80\x02" + noise.randbytes(noise.randrange(60)) for _ in range(100)]
    for content in contents:
        path.write_bytes(content)
        assert complaint_about(path)


@ignore_odd_protocols
def test_flipped_bytes_give_a_dictionary_or_one_line(path):
    noise = random.Random(0)
    torch.save({"a": torch.zeros(3), "b": {"c": 1}}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[noise.randrange(len(damaged))] = noise.randrange(256)
        path.write_bytes(damaged)
        with suppress(CheckpointError):
            assert isinstance(load_tensors(path), dict)


class Malice:
    """Unpickled without care, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


@ignore_odd_protocols
@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_files_that_would_run_code(path, weights, write):
    folder = path.parent / "gotcha"
    write({**weights, "extra": Malice(folder)}, path)
    assert "holds more than tensors" in complaint_about(path)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ([torch.zeros(3)], "holds a list, not a state dict"),
        (torch.zeros(3), "holds a Tensor, not a state dict"),
        ({}, "holds no state dict"),
        ({"epoch": 3, "name": "xmem"}, "holds no state dict"),
        ({0: torch.zeros(3)}, "holds no state dict"),
        ({"weight": torch.zeros(3).to_sparse()}, "holds no state dict"),
        ({"weight": torch.zeros(3)}, "key_encoder is no encoder known here"),
    ],
)
def test_content_that_is_no_network(path, content, complaint):
    torch.save(content, path)
    assert complaint in complaint_about(path)


def test_training_checkpoints(path, weights):
    torch.save({"it": 5, "network": weights, "optimizer": {"state": {}, "param_groups": []}}, path)
    assert "a training checkpoint? its network is saved in a file of its own" in complaint_about(path)


def test_missing_names(path, weights):
    for name in weights:
        if not name.endswith(("num_batches_tracked", "bias")):
            continue
        torch.save({other: weights[other] for other in weights if other != name}, path)
        assert complaint_about(path) == f" does not hold an XMem network: it misses {name}"
        break
    for name in ("key_proj.key_proj.weight", "value_encoder.conv1.weight", "decoder.up_8_4.out_conv.conv2.weight"):
        torch.save({other: weights[other] for other in weights if other != name}, path)
        assert complaint_about(path) == f" does not hold an XMem network: it misses {name}"


def test_many_missing_names_are_counted(path, weights):
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith("value_encoder.fuser.attention")}
    torch.save({name: t for name, t in kept.items() if not name.startswith("decoder.fuser.attention")}, path)
    assert re.search(r"it misses (value_encoder|decoder)\.fuser\.attention.* and 6 more$", complaint_about(path))


def test_unexpected_names(path, weights):
    torch.save({**weights, "decoder.extra.weight": torch.zeros(1)}, path)
    assert complaint_about(path) == " does not hold an XMem network: it has unexpected decoder.extra.weight"


@pytest.mark.parametrize("name", ["decoder.pred.weight", "value_encoder.conv1.weight", "key_proj.e_proj.bias"])
def test_wrong_shapes(path, weights, name):
    wrong = torch.cat([weights[name], weights[name], weights[name]], dim=min(1, weights[name].dim() - 1))
    torch.save({**weights, name: wrong}, path)
    shapes = f"{name} {tuple(wrong.shape)} instead of {tuple(weights[name].shape)}"
    assert complaint_about(path) == f" does not hold an XMem network: it has the wrong shape for {shapes}"


def test_a_width_that_cannot_be_told(path, weights):
    torch.save({**weights, "key_proj.key_proj.weight": torch.tensor(1.0)}, path)
    assert "key_proj.key_proj.weight" in complaint_about(path)


def test_several_faults_are_one_line(path, weights):
    faulty = {name: tensor for name, tensor in weights.items() if name != "decoder.pred.bias"}
    torch.save({**faulty, "more": torch.zeros(1), "key_proj.d_proj.bias": torch.zeros(2)}, path)
    complaint = complaint_about(path)
    assert (
        "it misses decoder.pred.bias; it has unexpected more; it has the wrong shape for key_proj.d_proj.bias"
        in complaint
    )


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"format": "xmem-network-99"}, "has the format 'xmem-network-99'; this program reads 'xmem-network-1'"),
        ({"network_config": None}, "damaged network configuration"),
        ({"network_config": "resnet50"}, "damaged network configuration"),
        ({"network_config": {}}, "damaged network configuration"),
        ({"network_config": asdict(TINY) | {"color": "blue"}}, "damaged network configuration"),
        ({"network_config": asdict(TINY) | {"key_dim": -4}}, "damaged network configuration"),
        ({"network_config": asdict(TINY) | {"key_dim": "many"}}, "damaged network configuration"),
        ({"network_config": asdict(TINY) | {"key_dim": True}}, "damaged network configuration: key_dim is True"),
        ({"network_config": asdict(TINY) | {"use_selection": 1}}, "configuration: use_selection is 1"),
        ({"network_config": asdict(TINY) | {"decoder_dims": (1, 2, 3.0)}}, "decoder_dims is (1, 2, 3.0)"),
        ({"network_config": asdict(TINY) | {"decoder_dims": (32, 16)}}, "damaged network configuration"),
        ({"network_config": asdict(TINY) | {"key_encoder": "resnet9"}}, "damaged network configuration"),
        ({"network_config": asdict(TINY) | {"key_dim": 4}}, "has the wrong shape for key_proj.key_proj.weight"),
        ({"state_dict": None}, "holds no state dict"),
        ({"state_dict": {"weight": 3}}, "holds no state dict"),
        ({"metadata": 3}, "damaged metadata"),
    ],
)
def test_damage_in_our_own_format(path, weights, changes, complaint):
    save_network(path, TINY, weights)
    torch.save(torch.load(path, weights_only=True) | changes, path)
    assert complaint in complaint_about(path)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("network_config", "damaged network configuration"), ("state_dict", "holds no state dict")],
)
def test_missing_parts_of_our_own_format(path, weights, name, complaint):
    save_network(path, TINY, weights)
    content = torch.load(path, weights_only=True)
    del content[name]
    torch.save(content, path)
    assert complaint in complaint_about(path)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_named(tmp_path, value):
    network = tiny_network()
    weights = network.state_dict()
    weights["decoder.pred.weight"] = torch.full_like(weights["decoder.pred.weight"], value)
    save_network(tmp_path / "diverged.pth", network.config, weights)
    with pytest.raises(CheckpointError, match=r"not finite \(decoder.pred.weight\): a training that diverged"):
        read_checkpoint(tmp_path / "diverged.pth")
