"""The settings of inference, with the published defaults: when frames are stored, how memory is read and consolidated.

Every setting belongs to the strategy that it has an effect on (`inference/strategies/`), so one without effect cannot
be written down. `InferenceConfig.from_settings` takes the published names instead, which eval.py's flags have, too.
"""

from dataclasses import asdict, dataclass, field
from numbers import Integral
from typing import Any, TypedDict, Unpack

from inference.strategies.consolidation import Consolidation, Growth, LocalWindow, WhenFull
from inference.strategies.deep_update import DeepUpdate, Never, OnEveryFrame, OnMemoryFrames
from inference.strategies.insertion import Insertion, RegularInsertion, SparseInsertion
from inference.strategies.prototypes import Centroids, MostUsed, Random
from model.memory_reading import TOP_K
from util.errors import SettingError


class InferenceSettings(TypedDict, total=False):
    """The settings by their published names, and those of the paper's ablations."""

    mem_every: int
    mem_offset: int
    insertion: str
    """regular or sparse."""
    deep_update: str
    """memory_frames, every_frame or never."""
    deep_update_every: int
    top_k: int | None
    when_full: str
    """consolidate or local_window."""
    max_mid_term_frames: int
    min_mid_term_frames: int
    max_long_term_elements: int
    num_prototypes: int
    prototypes: str
    """usage, random or centroids."""
    potentiation: bool
    max_memory_frames: int
    enable_sensory: bool
    enable_working: bool
    enable_long_term: bool


@dataclass(frozen=True)
class WorkingMemoryConfig:
    """How working memory is read, and what happens when it is full.

    Attributes:
        top_k: memory elements that take part in each query's softmax; None: all.
        when_full: consolidation into long-term memory as published, a local window, or growth without bound.

    Raises:
        SettingError: a value out of its range.
    """

    top_k: int | None = TOP_K
    when_full: WhenFull = field(default_factory=Consolidation)

    def __post_init__(self) -> None:
        if self.top_k is not None and self.top_k < 1:
            raise SettingError("top_k", f"must be at least 1, or None for all elements, not {self.top_k}")


@dataclass(frozen=True)
class InferenceConfig:
    """How a video is followed; `InferenceConfig()` is the published configuration.

    Attributes:
        insertion: which frames are stored in working memory.
        deep_update: when the value encoder refreshes the sensory memory; None: the sensory memory stays at zero.
        working: how working memory is read and consolidated; None: nothing is stored, and zeros are read instead.

    Raises:
        SettingError: neither sensory nor working memory is used.
    """

    insertion: Insertion = field(default_factory=RegularInsertion)
    deep_update: DeepUpdate | None = field(default_factory=OnMemoryFrames)
    working: WorkingMemoryConfig | None = field(default_factory=WorkingMemoryConfig)

    def __post_init__(self) -> None:
        if self.deep_update is None and self.working is None:
            reason = "must keep its default, or nothing is remembered,"
            raise SettingError("enable_working", reason, {"enable_sensory": False})

    @property
    def when_full(self) -> WhenFull:
        """What happens when working memory is full."""
        return self.working.when_full if self.working else Growth()

    @classmethod
    def from_settings(cls, **settings: Unpack[InferenceSettings]) -> "InferenceConfig":
        """Choose the strategies that these settings ask for; what is not given has the published value.

        Raises:
            SettingError: a value of another type or out of its range, an unknown strategy, or a setting without effect.
            TypeError: a setting of another name.
        """
        given = _Given(dict(settings))
        insertion: Insertion
        match given.choice("insertion", "regular", "sparse"):
            case "regular":
                insertion = RegularInsertion(**given.numbers("mem_every", "mem_offset"))
            case _:
                insertion = SparseInsertion(**given.numbers("max_memory_frames", "mem_every", "mem_offset"))
        deep_update: DeepUpdate | None = None
        if given.is_on("enable_sensory"):
            match given.choice("deep_update", "memory_frames", "every_frame", "never"):
                case "memory_frames":
                    deep_update = OnMemoryFrames(**given.numbers("deep_update_every"))
                case "every_frame":
                    deep_update = OnEveryFrame()
                case _:
                    deep_update = Never()
        working = None
        if given.is_on("enable_working"):
            working = WorkingMemoryConfig(when_full=given.when_full(), **given.top_k())
        given.refuse_rest()
        return cls(insertion, deep_update, working)

    def settings(self) -> InferenceSettings:
        """Return all settings that have an effect, by name: `from_settings` makes this configuration of them."""
        settings: dict[str, Any] = {"insertion": self.insertion.name, **asdict(self.insertion)}
        if self.deep_update is None:
            settings["enable_sensory"] = False
        else:
            settings |= {"deep_update": self.deep_update.name, **asdict(self.deep_update)}
        if self.working is None:
            settings["enable_working"] = False
            return settings  # type: ignore[return-value]
        settings["top_k"] = self.working.top_k
        match self.working.when_full:
            case Growth():
                settings["enable_long_term"] = False
            case Consolidation() as consolidation:
                settings |= {"when_full": consolidation.name, **asdict(consolidation)}
                settings["prototypes"] = consolidation.prototypes.name
            case other:
                settings |= {"when_full": other.name, **asdict(other)}
        return settings  # type: ignore[return-value]


class _Given:
    """Settings by name, which notes those that are used."""

    def __init__(self, settings: dict[str, Any]) -> None:
        if unknown := settings.keys() - InferenceSettings.__annotations__.keys():
            raise TypeError(f"there is no setting {min(unknown)}")
        self._settings = settings
        self._used: set[str] = set()

    def take(self, *names: str) -> dict[str, Any]:
        """Return the settings with these names that were given."""
        self._used.update(names)
        return {name: self._settings[name] for name in names if name in self._settings}

    def numbers(self, *names: str) -> dict[str, int]:
        """Return the settings with these names that were given, all of which are whole numbers."""
        given = self.take(*names)
        for name, value in given.items():
            if isinstance(value, bool) or not isinstance(value, Integral):
                raise SettingError(name, f"must be a whole number, not {value!r}")
        return {name: int(value) for name, value in given.items()}

    def top_k(self) -> dict[str, int | None]:
        """Return top_k if it was given."""
        return {"top_k": None} if self.take("top_k") == {"top_k": None} else {**self.numbers("top_k")}

    def is_on(self, name: str) -> bool:
        """Return a switch, which is on unless it was given."""
        value = self.take(name).get(name, True)
        if not isinstance(value, bool):
            raise SettingError(name, f"must be True or False, not {value!r}")
        return value

    def choice(self, name: str, default: str, *others: str) -> str:
        """Return the name of a strategy, which is one of those that there are."""
        chosen = self.take(name).get(name, default)
        if chosen not in (default, *others):
            raise SettingError(name, f"must be one of {', '.join((default, *others))}, not {chosen}")
        return str(chosen)

    def when_full(self) -> WhenFull:
        """Return what happens when working memory is full."""
        if not self.is_on("enable_long_term"):
            return Growth()
        if self.choice("when_full", "consolidate", "local_window") == "local_window":
            return LocalWindow(**self.numbers("max_memory_frames"))
        selections: dict[str, type[MostUsed] | type[Random] | type[Centroids]] = {
            "usage": MostUsed,
            "random": Random,
            "centroids": Centroids,
        }
        selection = selections[self.choice("prototypes", "usage", "random", "centroids")]()
        names = ("max_mid_term_frames", "min_mid_term_frames", "num_prototypes", "max_long_term_elements")
        return Consolidation(prototypes=selection, potentiation=self.is_on("potentiation"), **self.numbers(*names))

    def refuse_rest(self) -> None:
        """Raise SettingError for a setting that was given and not used."""
        if idle := [name for name in self._settings if name not in self._used]:
            rest = {name: value for name, value in self._settings.items() if name not in idle}
            choices = {name: value for name, value in rest.items() if isinstance(value, str) or value is False}
            reason = "has no effect" if choices else "has no effect with the published strategies"
            raise SettingError(idle[0], reason, choices)
