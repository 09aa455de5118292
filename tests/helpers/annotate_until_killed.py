"""Annotates and follows without end, and says after every step that it is kept: run as a program, to be killed."""

import random
import sys
import zlib
from contextlib import suppress
from pathlib import Path

from tests.helpers.annotated_video import annotate, open_session, picture_of
from tests.helpers.tiny_network import tiny_network
from util.errors import UserError

if __name__ == "__main__":
    folder, seed = Path(sys.argv[1]), int(sys.argv[2])
    session = open_session(folder / "video", folder / "workspace", tiny_network().for_inference())
    choice = random.Random(seed)
    print("open", flush=True)
    while True:
        number = choice.randrange(session.video.count)
        match choice.randrange(5):
            case 0:
                annotate(session, number)
            case 1:
                session.stroke(number, 1, [(choice.random() * 60, choice.random() * 40)], 5)
            case 2 if session.workspace.history().done > 3:  # what made the objects
                session.undo()
            case 3:
                session.redo()
            case 4:
                with suppress(UserError):  # nothing may be annotated at the moment
                    session.follow(number, "forward" if number < 6 else "backward", "end")
                continue  # nothing is promised of it until it is paused
        labels = b"".join(picture_of(session).values())
        print("kept", session.workspace.history().done, zlib.crc32(labels), flush=True)
