"""What the page asks the session to do, as messages that are checked before anything is done.

Every act is JSON with its name under "do". Coordinates are pixels of the frame.
"""

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from interactive.drawing import MOST_POINTS
from interactive.session import Direction, Session, Until
from util.errors import UserError

Number = Annotated[int, Field(ge=0)]
Label = Annotated[int, Field(ge=1, le=255)]
Coordinate = Annotated[float, Field(ge=-1e5, le=1e5, allow_inf_nan=False)]
Corner = tuple[Coordinate, Coordinate]
Corners = Annotated[list[Corner], Field(max_length=MOST_POINTS)]
SettingName = Literal[
    "mem_every",
    "min_mid_term_frames",
    "max_mid_term_frames",
    "num_prototypes",
    "max_long_term_elements",
    "top_k",
    "size",
]
BoxOfFour = tuple[Coordinate, Coordinate, Coordinate, Coordinate]


class Act(BaseModel):
    """A request of the page to change the session."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def run(self, session: Session) -> dict[str, Any] | None:
        """Carry it out, and return the fields that the answer has beside success."""
        raise NotImplementedError


class AddObject(Act):
    do: Literal["add_object"]
    name: str | None = None

    def run(self, session: Session) -> dict[str, Any]:
        return {"label": session.add_object(self.name)}


class RemoveObject(Act):
    do: Literal["remove_object"]
    label: Label

    def run(self, session: Session) -> None:
        session.remove_object(self.label)


class RenameObject(Act):
    do: Literal["rename_object"]
    label: Label
    name: str

    def run(self, session: Session) -> None:
        session.rename_object(self.label, self.name)


class ColourObject(Act):
    do: Literal["colour_object"]
    label: Label
    colour: Annotated[str, Field(pattern=r"^#[0-9a-f]{6}$")]

    def run(self, session: Session) -> None:
        session.colour_object(self.label, self.colour)


class HideObject(Act):
    do: Literal["hide_object"]
    label: Label
    hidden: bool

    def run(self, session: Session) -> None:
        session.hide_object(self.label, self.hidden)


class LockObject(Act):
    do: Literal["lock_object"]
    label: Label
    locked: bool

    def run(self, session: Session) -> None:
        session.lock_object(self.label, self.locked)


class Stroke(Act):
    do: Literal["stroke"]
    frame: Number
    label: Label
    points: Corners
    radius: Annotated[float, Field(gt=0, le=1000)]
    erase: bool = False

    def run(self, session: Session) -> None:
        session.stroke(self.frame, self.label, self.points, self.radius, self.erase)


class Polygon(Act):
    do: Literal["polygon"]
    frame: Number
    label: Label
    points: Corners
    erase: bool = False

    def run(self, session: Session) -> None:
        session.polygon(self.frame, self.label, self.points, self.erase)


class Rectangle(Act):
    do: Literal["rectangle"]
    frame: Number
    label: Label
    box: BoxOfFour
    erase: bool = False

    def run(self, session: Session) -> None:
        session.rectangle(self.frame, self.label, self.box, self.erase)


class Click(Act):
    do: Literal["click"]
    frame: Number
    label: Label
    x: Coordinate
    y: Coordinate
    positive: bool

    def run(self, session: Session) -> None:
        session.click(self.frame, self.label, self.x, self.y, self.positive)


class Box(Act):
    do: Literal["box"]
    frame: Number
    label: Label
    box: BoxOfFour

    def run(self, session: Session) -> None:
        session.box(self.frame, self.label, self.box)


class Clean(Act):
    do: Literal["clean"]
    frame: Number
    label: Label
    operation: Literal["fill_holes", "drop_islands", "grow", "shrink"]
    pixels: Annotated[int, Field(ge=0, le=10_000_000)] = 0

    def run(self, session: Session) -> None:
        session.clean(self.frame, self.label, self.operation, self.pixels)


class Clear(Act):
    do: Literal["clear"]
    frame: Number
    label: Label | None = None

    def run(self, session: Session) -> None:
        session.clear(self.frame, self.label)


class Copy(Act):
    do: Literal["copy"]
    frame: Number
    source: Annotated[Number, Field(alias="from")]
    label: Label | None = None

    def run(self, session: Session) -> None:
        session.copy(self.frame, self.source, self.label)


class Confirm(Act):
    do: Literal["confirm"]
    frame: Number

    def run(self, session: Session) -> None:
        session.confirm(self.frame)


class Unannotate(Act):
    do: Literal["unannotate"]
    frame: Number

    def run(self, session: Session) -> None:
        session.unannotate(self.frame)


class Permanent(Act):
    do: Literal["permanent"]
    frame: Number
    permanent: bool

    def run(self, session: Session) -> None:
        session.set_permanent(self.frame, self.permanent)


class Mark(Act):
    do: Literal["mark"]
    frame: Number
    marked: bool

    def run(self, session: Session) -> None:
        session.mark(self.frame, self.marked)


class EraseFollowed(Act):
    do: Literal["erase_followed"]
    first: Number
    last: Number

    def run(self, session: Session) -> None:
        session.erase_followed(self.first, self.last)


class Settings(Act):
    do: Literal["settings"]
    settings: dict[SettingName, int]

    def run(self, session: Session) -> None:
        session.change_settings(replace(session.settings, **self.settings))


class UseSegmenter(Act):
    do: Literal["segmenter"]
    name: str

    def run(self, session: Session) -> None:
        session.use_segmenter(self.name)


class Undo(Act):
    do: Literal["undo"]

    def run(self, session: Session) -> dict[str, Any]:
        return {"undone": session.undo()}


class Redo(Act):
    do: Literal["redo"]

    def run(self, session: Session) -> dict[str, Any]:
        return {"redone": session.redo()}


class Follow(Act):
    do: Literal["follow"]
    frame: Number
    direction: Direction
    until: Until = "annotated"

    def run(self, session: Session) -> None:
        session.follow(self.frame, self.direction, self.until)


class Pause(Act):
    do: Literal["pause"]

    def run(self, session: Session) -> None:
        session.pause()


class ClearMemory(Act):
    do: Literal["clear_memory"]

    def run(self, session: Session) -> None:
        session.clear_memory()


AnyAct = Annotated[
    AddObject | RemoveObject | RenameObject | ColourObject | HideObject | LockObject
    | Stroke | Polygon | Rectangle | Click | Box | Clean | Clear | Copy
    | Confirm | Unannotate | Permanent | Mark | EraseFollowed | Settings | UseSegmenter
    | Undo | Redo | Follow | Pause | ClearMemory,
    Field(discriminator="do"),
]  # fmt: skip
ACTS: TypeAdapter[Act] = TypeAdapter(AnyAct)


def parse_act(content: bytes) -> Act:
    """Return the act that a request's body holds.

    Raises:
        UserError: it is none.
    """
    try:
        return ACTS.validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"this cannot be done: {place}: {first['msg']}") from None
