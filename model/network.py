"""XMem's network: what it does with one frame. Which frames it sees, and what is remembered, is not decided here."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from model.aggregation import Aggregated, soft_aggregation
from model.checkpoint import Checkpoint, read_checkpoint
from model.config import NetworkConfig
from model.convolution import FEWEST_CHANNELS, fold_batch_norms, use_winograd
from model.decoder import Decoder
from model.efficientnet_lite import InvertedBottleneck
from model.encoders import ImageFeatures, KeyEncoder, KeyProjection, QueryKey, ValueEncoder
from model.memory_reading import affinity, memory_rows, query_rows, readout, rows_of, similarity
from util.device import half_precision, send

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
"""Images enter the network as RGB in [0, 1], normalised with these statistics of ImageNet."""

STRIDE = 16
"""Image pixels per position of a key, in both directions; image sizes must be multiples of it."""


def normalise_images(
    rgb: UInt8[Tensor, "*batch 3 height width"], dtype: torch.dtype = torch.float32
) -> Float[Tensor, "*batch 3 height width"]:
    """8-bit RGB images as the network takes them: scaled to [0, 1], then by ImageNet's mean and deviation."""
    offset, scale = _normalisation(dtype, rgb.device)
    return torch.addcmul(offset, rgb.to(dtype), scale)


@cache  # so that they are not sent to the device with every frame
def _normalisation(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the offset and the scale that map 8-bit images to normalised ones, both of shape 3×1×1."""
    with torch.inference_mode(False):  # they are for training, too
        mean, std = (torch.tensor(each, dtype=torch.float64)[:, None, None] for each in (IMAGE_MEAN, IMAGE_STD))
        return send((-mean / std).to(dtype), device), send((1 / (255 * std)).to(dtype), device)


class Value(NamedTuple):
    """The value encoder's output, and the sensory memory, refreshed if it was a deep update."""

    value: Float[Tensor, "batch objects value_dim height width"]
    hidden: Float[Tensor, "batch objects hidden_dim height width"] | None


class Segmentation(NamedTuple):
    """A frame's probabilities and their logits, background first, and the sensory memory after it."""

    prob: Float[Tensor, "batch channels height width"]
    logits: Float[Tensor, "batch channels height width"]
    hidden: Float[Tensor, "batch objects hidden_dim height/16 width/16"] | None


class XMem(nn.Module):
    """The network of Cheng & Schwing (ECCV 2022). `XMem()` has the published sizes.

    The names in its state dict are those of the published checkpoints. Tensors that depend on an object have the object
    dimension right after the batch: B×K×C×h×w.
    """

    def __init__(self, config: NetworkConfig | None = None) -> None:
        super().__init__()
        self.is_prepared = False
        self.config = config or NetworkConfig()
        self.key_encoder = KeyEncoder(self.config)
        encoder_dims = self.key_encoder.dims
        self.value_encoder = ValueEncoder(self.config, key_encoder_dim=encoder_dims[2])
        self.key_proj = KeyProjection(encoder_dims[2], self.config)
        self.decoder = Decoder(self.config, encoder_dims)

    @classmethod
    def from_checkpoint(cls, file: Path | str | Checkpoint, device: torch.device | str | None = None) -> "XMem":
        """The network in a file (its path, or what was read of it), ready for inference, built from the file alone.

        Single-object (stage 0) files become multi-object networks that ignore the other objects' masks.

        Raises:
            CheckpointError: the file is missing, damaged, no checkpoint, or misses or adds names.
        """
        checkpoint = file if isinstance(file, Checkpoint) else read_checkpoint(file)
        with torch.device("meta"):  # no time goes into random weights that are replaced at once
            network = cls(checkpoint.network_config)
        checkpoint.check_against(network.state_dict())
        network.load_state_dict(checkpoint.state_dict, assign=True)
        return network.float().to(device).eval().requires_grad_(False)

    has_fixed_precision = False
    """Whether mixed precision has no effect: True for exported networks."""

    @property
    def device(self) -> torch.device:
        """The device of its parameters."""
        return next(self.parameters()).device

    def folded(self) -> "XMem":
        """Return the same network in evaluation mode with batch norms folded into the convolutions before them.

        What does not change shares its memory with this network, which stays as it is.
        """
        with torch.device("meta"):
            network = XMem(self.config)
        network.load_state_dict(self.state_dict(), assign=True)
        network.eval().requires_grad_(False)
        fold_batch_norms(network)
        return network

    def for_inference(self, mixed_precision: bool = False) -> "XMem":
        """Return the same network prepared for inference: a frame takes less time, and results differ by rounding.

        Batch norms are folded into the convolutions before them, and convolutions that have one input or one sum are
        joined. On a CPU 3×3 convolutions are Winograd's, and objects are encoded and decoded one at a time. What does
        not change shares its memory with this network, which stays as it is.

        Args:
            mixed_precision: the network will be used under autocast alone: weights are cast once, not in every frame.
        """
        if self.is_prepared:
            return self
        device = self.device
        prepared = self.folded()
        prepared.key_proj.join()
        if prepared.decoder.hidden_update is not None:
            prepared.decoder.hidden_update.join()
        if device.type == "cpu":
            use_winograd(prepared.value_encoder, prepared.key_proj, prepared.decoder)
            prepared.value_encoder.objects_at_once = 1
            if min(self.config.decoder_dims) >= FEWEST_CHANNELS:  # else there is too little to do for one object
                prepared.decoder.objects_at_once = 1
            for encoder in (prepared.key_encoder, prepared.value_encoder):
                encoder.channels_last = True
            value_encoder = prepared.value_encoder
            for module in (prepared.key_encoder, value_encoder.efficientnet or value_encoder.conv1):
                module.to(memory_format=torch.channels_last)
            for block in prepared.modules():
                if isinstance(block, InvertedBottleneck):
                    block.in_strips = True
        if mixed_precision:
            prepared.to(half_precision(device))
        prepared.is_prepared = True
        return prepared

    def encode_key(self, image: Float[Tensor, "batch 3 height width"]) -> tuple[QueryKey, ImageFeatures]:
        """Key, shrinkage and selection of frames, and the features the decoder needs. Normalised images."""
        features = self.key_encoder(image)
        return self.key_proj(features.f16), features

    def encode_value(
        self,
        image: Float[Tensor, "batch 3 height width"],
        f16: Float[Tensor, "batch dim16 height/16 width/16"],
        hidden: Float[Tensor, "batch objects hidden_dim height/16 width/16"] | None,
        masks: Float[Tensor, "batch objects height width"],
        deep_update: bool = True,
    ) -> Value:
        """Return the values of frames with their objects' masks (probabilities), and the sensory memory.

        With `deep_update` that is the one after the deep update, otherwise `hidden` unchanged.
        """
        value = self.value_encoder(image, f16, masks)
        if deep_update and hidden is not None:
            assert self.value_encoder.hidden_reinforce is not None
            hidden = self.value_encoder.hidden_reinforce(value, hidden)
        return Value(value, hidden)

    def read_memory(
        self,
        query: QueryKey,
        memory: QueryKey,
        values: Float[Tensor, "batch objects value_dim elements"],
    ) -> Float[Tensor, "batch objects value_dim height width"]:
        """Eq. 1 and 2 with the softmax over all memory elements, as in training.

        `memory` holds keys and shrinkage of T stored frames side by side, in any spatial arrangement whose flattening
        has as many elements as `values`.
        """
        memory_key, query_key = rows_of(memory.key), rows_of(query.key)
        origin = memory_key.detach().mean(dim=1, keepdim=True)
        rows = similarity(
            query_rows(query_key - origin, rows_of(query.selection)),
            memory_rows(memory_key - origin, rows_of(memory.shrinkage)),
        )
        read = readout(affinity(rows).unsqueeze(1), values.transpose(-1, -2))
        return read.transpose(-1, -2).unflatten(-1, query.key.shape[-2:])

    def segment(
        self,
        features: ImageFeatures,
        readout: Float[Tensor, "batch objects value_dim height width"],
        hidden: Float[Tensor, "batch objects hidden_dim height width"] | None,
        update_hidden: bool = True,
        selector: Float[Tensor, "batch objects"] | None = None,
    ) -> Segmentation:
        """Masks of all objects. `selector` is 0 for filler objects of a training batch, 1 for real ones."""
        decoded = self.decoder(features, readout, hidden, update_hidden)
        prob = torch.sigmoid(decoded.logits.to(torch.promote_types(decoded.logits.dtype, torch.float32)))
        if selector is not None:
            prob = prob * selector[:, :, None, None]
        aggregated: Aggregated = soft_aggregation(prob)
        return Segmentation(aggregated.prob, aggregated.logits, decoded.hidden)
