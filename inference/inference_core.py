"""The per-frame loop: a frame goes in, perhaps with masks; probabilities of every object come out (section 3).

`InferenceCore.step` decides whether a frame is stored, by the strategy in `inference/strategies/insertion.py`.

core = InferenceCore(network, InferenceConfig())
prob = core.step(first_image, first_label_map)
for image in images:
    prob = core.step(image)
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from jaxtyping import Float
from torch import Tensor

from inference.config import InferenceConfig
from inference.images import Padding
from inference.inputs import check_image, read_masks
from inference.memory_manager import MemoryManager
from inference.object_manager import ObjectManager
from model.aggregation import soft_aggregation
from model.encoders import ImageFeatures
from model.network import STRIDE, XMem
from util.device import is_out_of_memory
from util.errors import UserError
from util.files import atomic_path, writing
from util.provenance import differences
from util.torch_files import read_torch_file

__all__ = ["InferenceConfig", "InferenceCore"]

MEMORY_FORMAT = "xmem-memory-2"

logger = logging.getLogger(__name__)


class InferenceCore:
    """Follows objects through one video, on the device of the network's parameters; `reset` starts the next video.

    Mixed precision is the caller's `torch.autocast`.
    """

    def __init__(self, network: XMem, config: InferenceConfig | None = None) -> None:
        self.network = network.eval()
        self.config = config or InferenceConfig()
        self.reset()

    def reset(self, video_name: str = "", video_length: int | None = None) -> None:
        """Forget everything: the next frame is the first of a new video.

        Args:
            video_name: the video's name. With the frame's time it seeds the random choices of some strategies; the
                published ones make none.
            video_length: the number of frames, which sparse insertion has to know.
        """
        self._video_name, self._video_length = video_name, video_length
        self._restart(ObjectManager())

    def _restart(self, objects: ObjectManager) -> None:
        self._objects = objects
        self.memory = MemoryManager(self.config, objects, self.network.config.hidden_dim)
        self._time = 0  # frames since the first annotated one, which is 0; frozen frames are not counted
        self._last_memory_time: int | None = None
        self._last_deep_update_time: int | None = None
        self._image_size: tuple[int, int] | None = None
        self._ended = False

    @property
    def objects(self) -> list[int]:
        """The labels being followed, in channel order: in order of arrival, and ascending within a frame."""
        return self._objects.labels

    @torch.no_grad()
    def step(
        self,
        image: Any,  # checked inside, with messages for users
        mask: Any = None,
        objects: Sequence[int] | None = None,
        end: bool = False,
        memorize: bool = True,
        permanent: bool = False,
    ) -> Float[Tensor, "channels height width"]:
        """Segment the next frame.

        Args:
            image: RGB, a float tensor of 3×H×W on the network's device, normalised with the statistics in
                `model.network`. Values are checked in the first frame, and in every frame on a CPU.
            mask: an integer label map (H×W), or soft masks in [0, 1] (K×H×W), one for each of `objects`; a tensor or an
                array. New labels are new objects; masks of known objects correct them. Objects without a mask are
                segmented.
            objects: the labels that `mask` defines; by default those that occur in it. Label 0 is "unknown".
            end: this is the last frame; nothing is prepared for a next one, and only `reset` may follow.
            memorize: False freezes the memory: it is read, but stores nothing, counts no usage, and its clocks stand
                still; the sensory memory is updated by the decoder alone.
            permanent: store this frame, never consolidate it, and do not count it in T_min and T_max.

        Returns:
            Probabilities of background and objects, (1 + K)×H×W, in the order of `self.objects`. Before any object
            was given everything is background.

        Raises:
            ValueError: an image or mask of another kind than described; sizes, labels or arguments that do not fit
                together; a frame after the last; sparse insertion without the video's length.
        """
        if self._ended:
            raise ValueError("the frame before was the last (end=True): reset() begins a new video")
        image = check_image(image, check_values=self._image_size is None or image.device.type == "cpu")
        given = read_masks(mask, objects, image.shape[-2:], image.device)
        if not memorize and (permanent or (given and any(label not in self._objects for label in given.objects))):
            raise ValueError("memorize=False stores nothing: no new objects and no permanent frame with it")
        if self._image_size not in (None, tuple(image.shape[-2:])):
            raise ValueError(f"frames of one video have one size: {self._image_size}, now {tuple(image.shape[-2:])}")
        image_size_before, self._image_size = self._image_size, tuple(image.shape[-2:])
        if not self.objects and given is None:
            self._ended = end
            return image.new_ones(1, *image.shape[-2:])

        is_memory_frame = memorize and (permanent or ((given is not None or self._memory_is_due()) and not end))
        deep_update = self.config.deep_update
        is_deep_update = (
            deep_update is not None
            and (is_memory_frame or (memorize and not end))
            and deep_update.is_due(self._time, self._last_deep_update_time, is_memory_frame)
        )
        replaces_decoders = deep_update is not None and is_deep_update and deep_update.replaces_decoders
        is_decoder_update = deep_update is not None and not end and not replaces_decoders

        height, width = image.shape[-2:]
        padding = Padding.to_multiple(height, width, STRIDE)
        padded = padding.pad(image).unsqueeze(0)
        known, hidden = self.objects, self.memory.sensory.hidden
        arrived: list[int] = []
        prob: Tensor
        try:
            query, features = self.network.encode_key(padded)
            predicted: Tensor | None = None
            if known and not (given and set(known) <= set(given.objects)):
                predicted = self._segment(query.key[0], query.selection[0], features, memorize, is_decoder_update)
            if given is None:
                assert predicted is not None  # there are objects, and none of them has a mask
                prob = predicted
            else:
                arrived = self._objects.add(given.objects)
                self.memory.sensory.add_objects(len(arrived), like=query.key)
                masks = padding.pad(given.masks.to(image))  # in its precision, and on its device
                prob = self._take_masks(predicted, known, given.objects, masks)
            if is_memory_frame or is_deep_update:
                encoded = self.network.encode_value(
                    padded, features.f16, self.memory.sensory.hidden, prob[1:].unsqueeze(0), is_deep_update
                )
        except BaseException:  # out of memory, say: the same frame can be given again
            self._objects.forget(arrived)
            self.memory.sensory.hidden = hidden
            self._image_size = image_size_before
            raise
        if is_memory_frame:
            seed = crc32(f"{self._video_name} {self._time}".encode(errors="surrogateescape"))
            key, shrinkage, selection = (feature[0] for feature in query)
            self.memory.insert(key, shrinkage, selection, encoded.value[0], arrived, permanent, seed)
            self._last_memory_time = self._time
        if is_deep_update:
            self.memory.sensory.hidden = encoded.hidden
            self._last_deep_update_time = self._time
        if memorize:
            self._time += 1
        self._ended = end
        return padding.crop(prob)

    def remember(self, image: Any, mask: Any, objects: Sequence[int] | None = None) -> None:
        """Store a frame from anywhere in the video as a permanent memory frame, without advancing in the video.

        Afterwards the counts of frames and the sensory memory are as before. The frame is never consolidated, and does
        not count in T_min and T_max. Objects without a mask are segmented in it.

        Args:
            image: as in `step`.
            mask: as in `step`.
            objects: as in `step`.

        Raises:
            ValueError: as in `step`.
        """
        sensory, known = self.memory.sensory, len(self.objects)
        hidden = sensory.hidden
        clocks = self._time, self._last_memory_time, self._last_deep_update_time
        if hidden is not None:
            sensory.hidden = torch.zeros_like(hidden)  # what was seen just before does not come before this frame
        try:
            self.step(image, mask, objects, permanent=True)
        finally:
            time, last_memory, last_deep_update = clocks
            self._time = time  # and a frame that was remembered before the first one stands for its memory frame
            self._last_memory_time = time if last_memory is None else last_memory
            self._last_deep_update_time = time if last_deep_update is None else last_deep_update
            if sensory.hidden is not None:
                restored = torch.zeros_like(sensory.hidden)
                if hidden is not None:
                    restored[:, :known] = hidden
                sensory.hidden = restored

    def delete_objects(self, objects: Any) -> None:
        """Stop following objects and forget them. One that comes back later is a new object.

        The count of frames goes on even without any object left; `reset` begins anew.

        Args:
            objects: their labels: a sequence, an iterator, a tensor or an array.

        Raises:
            KeyError: a label that is not followed.
        """
        self.memory.delete_objects([int(label) for label in objects])

    def _memory_is_due(self) -> bool:
        return self._last_memory_time is not None and self.config.insertion.is_due(
            self._time, self._last_memory_time, self._video_length
        )

    def _segment(
        self,
        key: Float[Tensor, "key_dim h w"],
        selection: Float[Tensor, "key_dim h w"],
        features: ImageFeatures,
        count_usage: bool,
        update_hidden: bool,
    ) -> Float[Tensor, "channels height width"]:
        """Read the memory and decode: probabilities of the objects known so far, background first."""
        if self.config.working is not None:
            readout = self.memory.read(key, selection, count_usage).unsqueeze(0)
        else:
            readout = key.new_zeros(1, len(self.objects), self.network.config.value_dim, *key.shape[1:])
        readout = readout.to(features.f16.dtype)  # values may have been stored in another precision than this frame's
        segmentation = self.network.segment(features, readout, self.memory.sensory.hidden, update_hidden)
        if update_hidden:
            self.memory.sensory.hidden = segmentation.hidden
        return segmentation.prob[0]

    def _take_masks(
        self,
        prob: Float[Tensor, "channels height width"] | None,
        known: list[int],
        given: list[int],
        masks: Float[Tensor, "masks height width"],
    ) -> Float[Tensor, "all_channels height width"]:
        """Replace predictions by the given masks; clear other objects' predictions where these masks are certain."""
        merged = masks.new_zeros(len(self._objects), *masks.shape[-2:])
        if prob is not None:
            merged[: len(known)] = prob[1:]
            merged[:, (masks > 0.5).any(dim=0)] = 0
        merged[self._objects.channels(given)] = masks
        return soft_aggregation(merged).prob

    def save_memory(self, path: Path | str) -> None:
        """Write all that is remembered to a file, whole or not at all; `load_memory` continues from it.

        Raises:
            UserError: it cannot be written.
        """
        content = {
            "format": MEMORY_FORMAT,
            "settings": self.config.settings(),
            "network": asdict(self.network.config),
            "objects": self._objects.arrivals,
            "memory": self.memory.state(),
            "time": self._time,
            "last_memory_time": self._last_memory_time,
            "last_deep_update_time": self._last_deep_update_time,
            "image_size": self._image_size,
            "ended": self._ended,
            "video_name": self._video_name,
            "video_length": self._video_length,
        }
        with writing(path, by_torch=True), atomic_path(path) as temporary:
            torch.save(content, temporary)

    def load_memory(self, path: Path | str) -> None:
        """Continue where `save_memory` was called; what this core remembers is forgotten.

        Raises:
            UserError: the file is missing, damaged, no memory, or that of another network; this core is as before.
        """
        device = self.network.device
        content = read_torch_file(Path(path), MEMORY_FORMAT, "a saved memory", map_location=device)
        before = dict(vars(self))
        try:
            self._restore(path, content)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            vars(self).update(before)
            if is_out_of_memory(error):
                raise
            raise UserError(f"{path} is damaged, or of another version of this program") from error

    def _restore(self, path: Path | str, content: Mapping[str, Any]) -> None:
        if content["network"] != asdict(self.network.config):
            raise UserError(f"{path} is the memory of a network with other widths: {content['network']}")
        settings = content["settings"]
        stored = content["memory"]["working"]["shared"].keys()
        if content["objects"] and self.config.working is not None and not settings.get("enable_working", True):
            raise UserError(f"{path} was saved without working memory (enable_working): there is nothing to read in it")
        if stored and not stored >= set(self.memory.when_full.columns):
            raise UserError(f"{path} was saved by a memory without consolidation: it cannot be consolidated")
        if changed := differences(settings, self.config.settings()):
            logger.warning("%s was saved with other settings: %s", path, "; ".join(changed))
        self._video_name, self._video_length = content["video_name"], content["video_length"]
        self._restart(ObjectManager(content["objects"]))
        self.memory.restore(content["memory"])
        sensory = self.memory.sensory
        if self.config.deep_update is None and sensory.hidden is not None:  # it stays at zero (enable_sensory)
            sensory.hidden = torch.zeros_like(sensory.hidden)
        self._time = content["time"]
        self._last_memory_time = content["last_memory_time"]
        self._last_deep_update_time = content["last_deep_update_time"]
        self._image_size = content["image_size"]
        self._ended = content["ended"]
