"""Mark objects in a video, follow them, correct, and export: a page in the browser, served by this machine.

    python interactive_demo.py --video clip.mp4
    python interactive_demo.py --images FOLDER --workspace DIR

See docs/interactive.md.
"""

import argparse
import importlib.util
import logging
import secrets
import signal
import socket
import sys
import webbrowser
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import torch

from dataset.random_access import FrameAccess, open_frames
from evaluation import networks
from inference.images import PUBLISHED_SIZE
from interactive.document import MOST_OBJECTS, SETTING_NOTES
from interactive.segmenters import SEGMENTERS, open_segmenter
from interactive.session import Session
from interactive.workspace import Workspace
from model.network import XMem
from util.command_line import Parser, run_program
from util.device import choose_device
from util.errors import UserError

if TYPE_CHECKING:
    from interactive.segmenters.interface import Segmenter

PORT, PORTS_TRIED = 8765, 20
TERMINATED = 143  # exit code
LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of this program's flags."""
    parser = Parser(prog="interactive_demo.py", usage="%(prog)s [flags]", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--video", type=Path, help="a video file")
    add("--images", type=Path, help="a folder of frames, instead")
    add("--workspace", type=Path, help="folder in which every step is kept (workspace/NAME of the video)")
    add("--num_objects", type=int, help="objects that a new workspace begins with (1)")
    add("--model", type=Path, help="network file (saves/XMem.pth, or else the bundled saves/XMem-small.pth)")
    add(
        "--size",
        type=int,
        help="shorter side at which frames are followed, until it is set in the page (the network's)",
    )
    add("--segmenter", choices=SEGMENTERS, default="network", help="what turns clicks into masks first (%(default)s)")
    add("--click_model", type=Path, help="network file of --segmenter network (the bundled one)")
    add("--sam2", type=Path, metavar="FILE", help="checkpoint of SAM 2, which then can be chosen (pip install sam2)")
    add("--device", default="auto", help="auto, cuda, cuda:N, mps or cpu (%(default)s)")
    add("--port", type=int, help=f"port of the page ({PORT}, or the next that is free)")
    add("--no_browser", action="store_true", help="print the address, and do not open it")
    return parser


def check_numbers(arguments: argparse.Namespace) -> None:
    """Check --size and --num_objects.

    Raises:
        UserError: one is out of its range.
    """
    size = next(note for note in SETTING_NOTES if note.name == "size")
    for name, least, most in (("size", size.least, size.most), ("num_objects", 0, MOST_OBJECTS)):
        value = getattr(arguments, name)
        if value is not None and not least <= value <= most:
            raise UserError(f"--{name} {value}: from {least} to {most}")


def find_video(arguments: argparse.Namespace) -> tuple[Path, Path]:
    """Return the video, and the folder of the workspace.

    Raises:
        UserError: there is no video, or there are two.
    """
    video, images, workspace = arguments.video, arguments.images, arguments.workspace
    if video is not None and images is not None:
        raise UserError("--video and --images contradict each other: give one of them")
    if video is None and images is None and workspace is not None and (workspace / "images").is_dir():
        images = workspace / "images"  # a workspace of the published program
    source = video or images
    if source is None:
        raise UserError("give --video FILE or --images FOLDER")
    if not source.exists():
        raise UserError(f"{source} does not exist")
    if images is not None and not images.is_dir():
        raise UserError(f"--images {images} is not a folder: a video file goes with --video")
    return source, workspace or Path("workspace") / (source.resolve().name if source.is_dir() else source.stem)


def load_network(model: Path | None, device: torch.device) -> tuple[XMem | None, str | None, int]:
    """Return the network, why there is none, and the size that it is meant for."""
    try:
        file = networks.read_network_file(model or networks.default_network_file())
        network = networks.build_network(file, device).for_inference(device.type == "cuda")
        return network, None, networks.intended_size(file)
    except UserError as error:
        logging.warning("%s: masks can be made, but not followed", error)
        return None, str(error), PUBLISHED_SIZE


def segmenters(arguments: argparse.Namespace, device: torch.device) -> dict[str, Callable[[], "Segmenter"]]:
    """Return what opens each segmenter that can be used here, the one that was asked for first.

    Raises:
        UserError: SAM 2 is asked for without its checkpoint.
    """
    if arguments.segmenter == "sam2" and arguments.sam2 is None:
        raise UserError("--segmenter sam2 needs --sam2 FILE, its checkpoint")
    files = {"network": arguments.click_model, "grabcut": None, "sam2": arguments.sam2}
    names = [name for name in files if name != "sam2" or arguments.sam2 is not None]
    names.sort(key=lambda name: name != arguments.segmenter)
    return {name: partial(open_segmenter, name, files[name], device) for name in names}


def bind(port: int | None) -> socket.socket:
    """Return a socket of this machine alone.

    Raises:
        UserError: the port is in use.
    """
    for number in [port] if port is not None else range(PORT, PORT + PORTS_TRIED):
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", number))
            listening.listen()  # from now on no other program gets this port
            return listening
        except (OSError, OverflowError) as error:
            listening.close()
            reason = getattr(error, "strerror", None) or error
    raise UserError(f"--port {number}: {reason}; give another one")


def require_packages() -> None:
    """Check that what the page needs is installed.

    Raises:
        UserError: it is not.
    """
    missing = [
        name for name in ("pydantic", "starlette", "uvicorn", "websockets") if not importlib.util.find_spec(name)
    ]
    if missing:
        raise UserError(f"the page needs {', '.join(missing)}: pip install -r requirements-gui.txt")


def serve(session: Session, arguments: argparse.Namespace, problem: str | None) -> int:
    """Serve the page until Ctrl-C, and return the exit code.

    Args:
        session: what it shows.
        arguments: the program's.
        problem: why there is no network; None: there is one.

    Raises:
        UserError: the port is in use.
    """
    import uvicorn

    from interactive.exports import Exports
    from interactive.messages import Messages
    from interactive.previews import Previews
    from interactive.server import Server

    for note in session.workspace.notes:
        logging.warning(note)
    with ExitStack() as closing:
        listening = closing.enter_context(bind(arguments.port))
        closing.callback(session.close)
        exports = Exports(session)
        closing.callback(exports.close)
        previews = Previews(session)
        closing.callback(previews.close)
        port, token = listening.getsockname()[1], secrets.token_urlsafe(24)
        address = f"http://127.0.0.1:{port}/?token={token}"
        app = Server(session, previews, exports, Messages(session, exports, problem)).app(
            token, f"xmem-{port}", LOCAL_NAMES
        )
        config = uvicorn.Config(app, log_level="warning", ws="websockets-sansio", timeout_graceful_shutdown=2)

        class Announced(uvicorn.Server):
            """Tells the address once it is answered."""

            async def startup(self, sockets: list[socket.socket] | None = None) -> None:
                await super().startup(sockets)
                kept = f"Ctrl-C ends the program; every step is kept in {session.workspace.folder}"
                print(f"The page: {address}\n{kept}", flush=True)
                if not arguments.no_browser:  # which may wait for the page, or until it is closed
                    Thread(target=webbrowser.open, args=(address,), daemon=True).start()

        Announced(config).run(sockets=[listening])
    return 0


def run(arguments: argparse.Namespace) -> int:
    """Open the video and its workspace, and serve them; returns the exit code.

    Raises:
        UserError: something is missing, or cannot be read.
        SettingError: there is no such device.
    """
    require_packages()
    check_numbers(arguments)
    source, folder = find_video(arguments)
    device = choose_device(arguments.device)
    video: FrameAccess = open_frames(source)
    workspace = Workspace(folder, video)
    try:
        worker = ThreadPoolExecutor(1, thread_name_prefix="network")
        network, problem, size = worker.submit(load_network, arguments.model, device).result()
        size = arguments.size or size
        session = Session(video, workspace, network, segmenters(arguments, device), size, worker)
        if workspace.history().done == 0 and not workspace.document.objects:
            for _ in range(1 if arguments.num_objects is None else arguments.num_objects):
                session.add_object()
        return serve(session, arguments, problem)
    finally:
        workspace.close()  # also where no session has come of it


def main(argv: list[str] | None = None) -> int:
    """Run the program, and return its exit code: 0; 2 if it cannot start; 130 after Ctrl-C, 143 after SIGTERM."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    return run_program("interactive_demo.py", lambda: run(make_parser().parse_args(argv)), "every step is kept")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # in order: what was followed is kept
    sys.exit(main())
