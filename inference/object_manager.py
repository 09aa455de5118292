"""Which objects are followed, which channel each has, and which of them arrived together."""

from collections.abc import Collection, Sequence


class ObjectManager:
    """The objects of one video, shared by the per-frame loop and the memory.

    Channels are in order of arrival, and ascending by label among objects that arrived with the same frame.
    """

    def __init__(self, arrivals: Sequence[Sequence[int]] = ()) -> None:
        self._arrivals = [list(group) for group in arrivals]

    def __len__(self) -> int:
        return len(self.labels)

    def __contains__(self, label: int) -> bool:
        return any(label in group for group in self._arrivals)

    @property
    def labels(self) -> list[int]:
        """The label of each channel; the background has none."""
        return [label for group in self._arrivals for label in group]

    @property
    def arrivals(self) -> list[list[int]]:
        """The labels in groups that arrived together; the longest-standing group comes first."""
        return [list(group) for group in self._arrivals]

    def add(self, labels: Collection[int]) -> list[int]:
        """Start following those of `labels` that are new, and return them in channel order."""
        arrived = sorted(set(labels) - set(self.labels))
        if arrived:
            self._arrivals.append(arrived)
        return arrived

    def forget(self, arrived: Collection[int]) -> None:
        """Undo `add`, which has returned these labels."""
        if arrived:
            self._arrivals.pop()

    def remove(self, labels: Collection[int]) -> None:
        """Stop following `labels`.

        Raises:
            KeyError: a label that is not followed.
        """
        if unknown := sorted(set(labels) - set(self.labels)):
            raise KeyError(f"no such objects: {unknown}; being followed: {self.labels}")
        remaining = [[label for label in group if label not in labels] for group in self._arrivals]
        self._arrivals = [group for group in remaining if group]

    def channels(self, labels: Sequence[int]) -> list[int]:
        """Return the channels of `labels`; the background is not counted."""
        order = self.labels
        return [order.index(label) for label in labels]
