"""Which objects are followed, and which channel is whose."""

from collections.abc import Collection, Sequence


class ObjectManager:
    """The labels of the objects being followed, in channel order: order of arrival, ascending within a frame."""

    def __init__(self) -> None:
        self._labels: list[int] = []

    def __len__(self) -> int:
        return len(self._labels)

    def __contains__(self, label: int) -> bool:
        return label in self._labels

    @property
    def labels(self) -> list[int]:
        return list(self._labels)

    def add(self, labels: Collection[int]) -> list[int]:
        """Start following those of `labels` that are not followed yet; they are returned, in channel order."""
        arrived = sorted(set(labels) - set(self._labels))
        self._labels.extend(arrived)
        return arrived

    def remove(self, labels: Collection[int]) -> None:
        """Stop following `labels`.

        Raises:
            KeyError: a label that is not followed.
        """
        unknown = sorted(set(labels) - set(self._labels))
        if unknown:
            raise KeyError(f"no such objects: {unknown}; being followed: {self._labels}")
        self._labels = [label for label in self._labels if label not in labels]

    def channels(self, labels: Sequence[int]) -> list[int]:
        """The channels (background not counted) of `labels`."""
        return [self._labels.index(label) for label in labels]

    def restore(self, labels: Sequence[int]) -> None:
        """Take over a saved channel order."""
        self._labels = list(labels)
