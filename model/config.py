"""What distinguishes one XMem network from another: its encoders and widths."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

RESIDUAL_ENCODERS = {
    "resnet18": (False, (2, 2, 2)),
    "resnet34": (False, (3, 4, 6)),
    "resnet50": (True, (3, 4, 6)),
    "resnet101": (True, (3, 4, 23)),
    "resnet152": (True, (3, 8, 36)),
}
"""Residual networks by torchvision's names: bottleneck blocks or basic ones, and how many at strides 4, 8 and 16."""

EFFICIENTNET = "efficientnet_lite0"
ENCODERS = (*RESIDUAL_ENCODERS, EFFICIENTNET)


@dataclass(frozen=True)
class NetworkConfig:
    """Widths (in channels) and encoders of a network; the defaults are the published one.

    Raises:
        ValueError: a width that is not positive, or an unknown encoder.
    """

    key_encoder: str = "resnet50"
    value_encoder: str = "resnet18"
    encoder_width: int = 64
    """Width of residual encoders' first layers; the others are multiples of it. ImageNet weights exist for 64."""
    key_dim: int = 64
    """Cᵏ, the width of keys and selections."""
    value_dim: int = 512
    """Cᵛ, the width of values and of the readout."""
    hidden_dim: int = 64
    """Cʰ, the width of the sensory memory; 0: the network has none."""
    decoder_dims: tuple[int, int, int] = (512, 256, 256)
    """Widths of the decoder's features at strides 16, 8 and 4."""
    sensory_update_dim: int = 256
    """Width to which the decoder's features are projected before they update the sensory memory."""
    use_shrinkage: bool = True
    """Whether the similarity has the shrinkage of memory elements (s of eq. 2); False: it is 1, and not computed."""
    use_selection: bool = True
    """Whether the similarity has the selection of queries (e of eq. 2); False: it is 1, and not computed."""
    single_object: bool = False
    """Stage 0 only: the value encoder has no channel for the other objects' masks."""

    @classmethod
    def from_plain(cls, fields: Mapping[str, Any]) -> "NetworkConfig":
        """Return the configuration with these fields, as read from a file, where tuples have become lists.

        Raises:
            ValueError: as the constructor.
            KeyError: the decoder's widths are not there.
            TypeError: a field that does not exist, or is of another kind.
        """
        fields = {**fields, "decoder_dims": tuple(fields["decoder_dims"])}
        for name, value in fields.items():
            default = getattr(cls, name, value)
            values = value if isinstance(default, tuple) else (value,)
            kind = int if isinstance(default, tuple) else type(default)
            if any(type(each) is not kind for each in values):
                raise TypeError(f"{name} is {value!r}")
        return cls(**fields)

    def __post_init__(self) -> None:
        for name in (self.key_encoder, self.value_encoder):
            if name not in ENCODERS:
                raise ValueError(f"unknown encoder {name!r}: choose from {', '.join(ENCODERS)}")
        if {self.key_encoder, self.value_encoder} == {EFFICIENTNET} and self.encoder_width != type(self).encoder_width:
            raise ValueError(f"encoder_width {self.encoder_width} has no effect: {EFFICIENTNET} has its own widths")
        widths = (self.encoder_width, self.key_dim, self.value_dim, *self.decoder_dims, self.sensory_update_dim)
        if len(self.decoder_dims) != 3 or min(widths) < 1 or self.hidden_dim < 0:
            raise ValueError(f"network widths must be positive (hidden_dim may be 0): {self}")

    @property
    def has_sensory_memory(self) -> bool:
        return self.hidden_dim > 0
