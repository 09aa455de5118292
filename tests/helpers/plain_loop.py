"""What eval.py should write, from nothing but the network's loop over images; and readers of what it wrote."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from inference.config import InferenceConfig
from inference.inference_core import InferenceCore
from model.network import normalise_images
from tests.helpers.tiny_network import tiny_network


def plain_loop(
    images: list[np.ndarray],
    masks: dict[int, np.ndarray],
    size: int = -1,
    flip: bool = False,
    output_size: tuple[int, int] | None = None,
    name: str = "a",
    **config,
) -> list[tuple[np.ndarray, np.ndarray, list[int]]]:
    """(probabilities, labels, objects) of every frame from the first mask on, with nothing but the network's loop."""
    core = InferenceCore(tiny_network().for_inference(), InferenceConfig.from_settings(**config))
    core.reset(name, len(images))
    results = []
    for index in range(min(masks), len(images)):
        rgb = images[index]
        image = normalise_images(torch.from_numpy(rgb).permute(2, 0, 1))
        height, width = rgb.shape[:2]
        short, long = min(height, width), max(height, width)
        inner = (height, width)
        if size > 0:
            inner = (size, int(size * long / short)) if height <= width else (int(size * long / short), size)
        image = F.interpolate(image[None], inner, mode="bilinear", align_corners=False)[0]
        mask = objects = None
        if index in masks:
            objects = [label for label in np.unique(masks[index]).tolist() if label > 0]
            one_hot = torch.from_numpy(np.stack([masks[index] == label for label in objects])).float()
            mask = F.interpolate(one_hot[None], inner, mode="nearest")[0]
        if flip:
            image, mask = image.flip(2), None if mask is None else mask.flip(2)
        prob = core.step(image, mask, objects, end=index == len(images) - 1)
        if flip:
            prob = prob.flip(2)
        prob = F.interpolate(prob[None], output_size or (height, width), mode="bilinear", align_corners=False)[0]
        labels = np.array([0, *core.objects], np.uint8)[prob.argmax(dim=0).numpy()]
        results.append((prob.numpy(), labels, core.objects))
    return results


def read_frames(folder: Path, limit: int | None = None) -> list[np.ndarray]:
    return [np.array(Image.open(path).convert("RGB")) for path in sorted(folder.glob("*.jpg"))[:limit]]


def read_mask(path: Path) -> np.ndarray:
    return np.array(Image.open(path))


def names_in(folder: Path, pattern: str = "*.png") -> list[str]:
    return sorted(path.stem for path in folder.glob(pattern))


def equal(folder: Path, names: list[str], expected: list[tuple[np.ndarray, np.ndarray, list[int]]]) -> bool:
    assert names_in(folder) == names
    return all(
        np.array_equal(read_mask(folder / f"{name}.png"), labels)
        for name, (_, labels, _) in zip(names, expected, strict=True)
    )
