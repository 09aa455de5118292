"""From clicks and boxes on a frame to a mask: the bundled click network, GrabCut, or SAM 2 where it is installed."""

from pathlib import Path
from typing import TYPE_CHECKING

from util.errors import SettingError

if TYPE_CHECKING:  # each takes a while to import
    import torch

    from interactive.segmenters.interface import Segmenter

SEGMENTERS = ("network", "grabcut", "sam2")


def open_segmenter(name: str, file: Path | None, device: "torch.device") -> "Segmenter":
    """Return a segmenter.

    Args:
        name: one of `SEGMENTERS`.
        file: the weights: a click network's file (None: the bundled one) or SAM 2's; GrabCut has none.

    Raises:
        SettingError: there is no such segmenter.
        UserError: the file is missing or damaged, or SAM 2 is not installed.
    """
    if name == "grabcut":
        from interactive.segmenters.grabcut import GrabCut

        return GrabCut()
    if name == "network":
        from interactive.segmenters.click_network import read_click_network
        from interactive.segmenters.network import BUNDLED, NetworkSegmenter

        return NetworkSegmenter(read_click_network(file or BUNDLED, device))
    if name == "sam2":
        from interactive.segmenters.sam2 import open_sam2

        return open_sam2(file, device)
    raise SettingError("segmenter", f"{name}: choose {', '.join(SEGMENTERS)}")
