"""XMem from Python: load a network, and follow objects through a video.

import xmem
network = xmem.load_network("saves/XMem.pth")
for result in xmem.segment_video(network, "clip.mp4", "first.png"):
    result.labels  # the frame's label map
"""

import importlib
from pathlib import Path

for _name in ("dataset", "evaluation", "export", "inference", "model", "util"):  # names that other programs have, too
    _found = Path(str(importlib.import_module(_name).__file__)).resolve().parent.parent
    if _found != Path(__file__).resolve().parent.parent:
        raise ImportError(f"xmem needs its own package {_name!r}, but {_found / _name} is found first on Python's path")

from dataset.label_map import read_label_map, write_label_map
from inference.images import label_map_of, normalise_image
from inference.inference_core import InferenceConfig, InferenceCore
from util.errors import UserError
from util.painting import overlay_masks
from xmem.video import FrameResult, load_network, segment_video

__all__ = [
    "FrameResult",
    "InferenceConfig",
    "InferenceCore",
    "UserError",
    "label_map_of",
    "load_network",
    "normalise_image",
    "overlay_masks",
    "read_label_map",
    "segment_video",
    "write_label_map",
]
