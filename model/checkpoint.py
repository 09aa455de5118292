"""Network files: the published program's plain state dicts and our own format, told apart and rebuilt from the file.

Our format is a dictionary `{format, network_config, state_dict, metadata}`; `metadata` says where the weights come
from. Published files are state dicts; widths and variant are read off their shapes.
"""

import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from model.config import EFFICIENTNET, RESIDUAL_ENCODERS, NetworkConfig
from util.errors import UserError, first_few
from util.files import atomic_path

FORMAT = "xmem-network-1"

STEM = "efficientnet.stem.weight"


class CheckpointError(UserError):
    """A network file that cannot be used; the message names the file and what is wrong with it."""


@dataclass(frozen=True)
class Checkpoint:
    """A network file's content, with single-object weights already widened."""

    path: Path
    network_config: NetworkConfig
    state_dict: Mapping[str, Tensor]
    metadata: Mapping[str, Any]

    def check_against(self, expected: Mapping[str, Tensor]) -> None:
        """Compare names and shapes with those of the rebuilt network.

        Raises:
            CheckpointError: a name is missing, unexpected, or has another shape.
        """
        missing = [name for name in expected if name not in self.state_dict]
        unexpected = [name for name in self.state_dict if name not in expected]
        misshapen = [
            f"{name} {tuple(self.state_dict[name].shape)} instead of {tuple(tensor.shape)}"
            for name, tensor in expected.items()
            if name in self.state_dict and self.state_dict[name].shape != tensor.shape
        ]
        faults = [
            f"{kind} {first_few(names, 6)}"
            for kind, names in (
                ("misses", missing),
                ("has unexpected", unexpected),
                ("has the wrong shape for", misshapen),
            )
            if names
        ]
        if faults:
            raise CheckpointError(f"{self.path} does not hold an XMem network: it {'; it '.join(faults)}")


def save_network(
    path: Path | str, config: NetworkConfig, state_dict: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None
) -> None:
    """Write a network file of our format, whole or not at all. `metadata` holds plain values only."""
    content = {
        "format": FORMAT,
        "network_config": asdict(config),
        "state_dict": dict(state_dict),
        "metadata": dict(metadata or {}),
    }
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read a network file of either kind onto the CPU.

    Raises:
        CheckpointError: the file is missing, damaged, or no network.
    """
    path = Path(path)
    content = load_tensors(path)
    of_our_format = "format" in content
    if of_our_format and content["format"] != FORMAT:
        raise CheckpointError(f"{path} has the format {content['format']!r}; this program reads {FORMAT!r}")
    state_dict = content.get("state_dict") if of_our_format else content
    if not is_state_dict(state_dict):
        training = " (a training checkpoint? its network is saved in a file of its own)" if "network" in content else ""
        raise CheckpointError(f"{path} is not a network file: it holds no state dict{training}")
    if of_our_format:
        try:
            config = NetworkConfig.from_plain(content["network_config"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} has a damaged network configuration: {first_line(error)}") from error
        metadata = content.get("metadata", {})
        if not isinstance(metadata, Mapping):
            raise CheckpointError(f"{path} has damaged metadata: it is no dictionary, but {type(metadata).__name__}")
    else:
        config, metadata = config_from_shapes(path, state_dict), {}
    if bad := [name for name, tensor in state_dict.items() if not torch.isfinite(tensor).all()]:
        raise CheckpointError(
            f"{path} holds weights that are not finite ({first_few(bad, 3)}): a training that diverged"
        )
    if config.single_object and first_weight_name("value_encoder.", config.value_encoder) in state_dict:
        config, state_dict = widen_single_object(config, state_dict)
    return Checkpoint(path, config, state_dict, metadata)


def is_state_dict(content: Any) -> TypeGuard[dict[str, Tensor]]:
    """Whether this is a dictionary of dense tensors by name, and not an empty one."""
    return (
        isinstance(content, dict)
        and len(content) > 0
        and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in content.items())
        and all(tensor.layout == torch.strided for tensor in content.values())
    )


def load_tensors(path: Path) -> dict[Any, Any]:
    """A dictionary from a PyTorch file, without running any code that the file may carry.

    Raises:
        CheckpointError: as `read_checkpoint`.
    """
    if path.is_dir():
        raise CheckpointError(f"{path}: no such file, but a folder; exports are run by eval.py and xmem.load_network")
    if not path.is_file():
        raise CheckpointError(
            f"{path}: no such file; python -m scripts.download_models downloads the published networks"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} is no network file: it is damaged, or holds more than tensors") from error
    except Exception as error:  # whatever the unpickler stumbled over: it has no error of its own for damaged files
        raise CheckpointError(f"{path} is damaged or no PyTorch file: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a network file: it holds a {type(content).__name__}, not a state dict")
    return content


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def config_from_shapes(path: Path, state_dict: Mapping[str, Tensor]) -> NetworkConfig:
    """The configuration of a plain state dict, from the names and shapes in it.

    Raises:
        CheckpointError: a name that tells a width is missing, or the encoder is unknown.
    """

    def width(name: str, dim: int = 0) -> int:
        if name not in state_dict or state_dict[name].dim() <= dim:
            raise CheckpointError(f"{path} does not hold an XMem network: it misses {name}")
        return state_dict[name].shape[dim]

    def encoder(prefix: str) -> str:
        if f"{prefix}.{STEM}" in state_dict:
            return EFFICIENTNET
        bottleneck = f"{prefix}.layer2.0.conv3.weight" in state_dict
        counts = tuple(
            len({name.split(".")[2] for name in state_dict if name.startswith(f"{prefix}.{layer}.")})
            for layer in ("layer2", "layer3")
        )
        for name, (has_bottlenecks, blocks) in RESIDUAL_ENCODERS.items():
            if (bottleneck, counts) == (has_bottlenecks, blocks[1:]):
                return name
        raise CheckpointError(f"{path} does not hold an XMem network: {prefix} is no encoder known here")

    sensory = "decoder.hidden_update.transform.weight" in state_dict
    encoders = {name: encoder(name) for name in ("key_encoder", "value_encoder")}
    first_layers = [first_weight_name(f"{prefix}.", name) for prefix, name in encoders.items()]
    residual = [name for name in first_layers if not name.endswith(STEM)]
    return NetworkConfig(
        key_encoder=encoders["key_encoder"],
        value_encoder=encoders["value_encoder"],
        encoder_width=width(residual[0]) if residual else NetworkConfig.encoder_width,
        key_dim=width("key_proj.key_proj.weight"),
        value_dim=width("value_encoder.fuser.block2.conv2.weight"),
        hidden_dim=width("decoder.hidden_update.transform.weight") // 3 if sensory else 0,
        decoder_dims=(
            width("decoder.fuser.block2.conv2.weight"),
            width("decoder.up_16_8.out_conv.conv2.weight"),
            width("decoder.up_8_4.out_conv.conv2.weight"),
        ),
        sensory_update_dim=width("decoder.hidden_update.g16_conv.weight") if sensory else 256,
        single_object=width(first_layers[1], dim=1) == 4,
    )


def first_weight_name(prefix: str, encoder: str) -> str:
    """Return the name of the weights that an encoder's input meets first."""
    return prefix + (STEM if encoder == EFFICIENTNET else "conv1.weight")


def widen_single_object(
    config: NetworkConfig, state_dict: Mapping[str, Tensor]
) -> tuple[NetworkConfig, dict[str, Tensor]]:
    """A stage-0 network with a fifth input channel, all zeros: it takes several objects and ignores the others."""
    name = first_weight_name("value_encoder.", config.value_encoder)
    weight = state_dict[name]
    widened = {**state_dict, name: torch.cat([weight, torch.zeros_like(weight[:, :1])], dim=1)}
    return replace(config, single_object=False), widened
