"""The server of the page: it shows a session to browsers on this machine, or through a tunnel to it, and to no others.

Whoever has the token, which is in the address that the program prints, may do everything that the session can; others
nothing. It reads and writes through the session alone, so nothing outside the workspace and the video is reachable.
"""

import asyncio
import hmac
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError, validate_call
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from interactive.exports import Exports
from interactive.messages import Messages, encode_runs
from interactive.previews import Previews, jpeg
from interactive.session import Change, Session
from util.errors import UserError

PAGE = Path(__file__).resolve().parent / "page"
LARGEST_ACT, LARGEST_VIEW, LARGEST_IMPORT = 4 * 2**20, 2**16, 64 * 2**20
LARGEST_NUMBER = 10**15
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}
NEVER = {"Cache-Control": "no-store"}
WRONG_TOKEN = (
    "This address needs the token that the program has printed when it started: open the whole address, with "
    "?token=… at its end.\n"
)


class Gate:
    """Lets requests through that have the token and come from this program's own page.

    Args:
        app: what is behind the gate.
        token: what the cookie, or the query of the first visit, has to hold.
        cookie: the cookie's name: another one for every port, since browsers send cookies to all ports of a machine.
        hosts: the names by which the server may be called. A page elsewhere that has its own name lead here (DNS
            rebinding) is refused by them, and one that sends requests here by its Origin.
    """

    def __init__(self, app: ASGIApp, token: str, cookie: str, hosts: frozenset[str]) -> None:
        self._app, self._token, self._cookie, self._hosts = app, token, cookie, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        connection = HTTPConnection(scope)
        host, origin = connection.headers.get("host", ""), connection.headers.get("origin")
        own = (None, f"http://{host}", f"https://{host}")
        is_local = self._is_local(host) and origin in own
        given = connection.query_params.get("token")
        is_known = self._is_token(given) or self._is_token(connection.cookies.get(self._cookie))
        if is_local and is_known and given is None:
            return await self._app(scope, receive, send)
        response: Response
        if is_local and is_known and scope["type"] == "http" and scope["path"] == "/":
            response = RedirectResponse("/", status_code=303, headers=NEVER)  # the token leaves the address line
            response.set_cookie(self._cookie, self._token, httponly=True, samesite="strict")
        else:
            response = PlainTextResponse(WRONG_TOKEN, status_code=403, headers={**HEADERS, **NEVER})
        if scope["type"] == "websocket":
            return await WebSocket(scope, receive, send).close(code=4403)
        await response(scope, receive, send)

    def _is_local(self, host: str) -> bool:
        try:
            return urlsplit(f"//{host}").hostname in self._hosts
        except ValueError:  # brackets that do not close
            return False

    def _is_token(self, given: str | None) -> bool:
        return given is not None and hmac.compare_digest(given.encode(), self._token.encode())


class Server:
    """What the page asks for."""

    def __init__(self, session: Session, previews: Previews, exports: Exports, messages: Messages) -> None:
        self._session, self._previews, self._exports, self._messages = session, previews, exports, messages
        # What the page may ask for, by name: pydantic checks the arguments of each by the method's own annotations.
        methods: list[Callable[..., object]] = [
            session.add_object, session.remove_object, session.rename_object, session.colour_object,
            session.hide_object, session.lock_object, session.stroke, session.polygon, session.rectangle,
            session.clean, session.clear, session.copy, session.click, session.box, session.use_segmenter,
            session.confirm, session.unannotate, session.set_permanent, session.mark, session.erase_followed,
            session.change_settings, session.undo, session.redo, session.follow, session.pause, session.clear_memory,
        ]  # fmt: skip
        acts = {method.__name__: method for method in methods}
        acts |= {"export": exports.start, "remove_export": exports.remove, "store_view": self._store_view}
        self._acts = {name: validate_call(act) for name, act in acts.items()}

    def app(self, token: str, cookie: str, hosts: frozenset[str]) -> ASGIApp:
        """Return the application."""
        routes = [
            Route("/", self._index),
            Route("/api/state", self._state),
            Route("/api/frames/{number:int}.jpg", self._frame),
            Route("/api/previews/{number:int}.jpg", self._preview),
            Route("/api/maps/{number:int}", self._map),
            Route("/api/exports/{name}", self._export),
            Route("/api/acts", self._act, methods=["POST"]),
            Route("/api/import", self._import, methods=["POST"]),
            WebSocketRoute("/api/events", self._events),
            Mount("/page", StaticFiles(directory=PAGE)),
        ]
        handlers = {UserError: _refused, Exception: _failed}
        return Gate(Starlette(routes=routes, exception_handlers=handlers), token, cookie, hosts)

    # --- What is read -------------------------------------------------------------------------------------------------

    async def _index(self, request: Request) -> Response:
        return FileResponse(PAGE / "index.html", headers={**HEADERS, **NEVER})

    async def _state(self, request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self._messages.state), headers=NEVER)

    async def _frame(self, request: Request) -> Response:
        side = request.query_params.get("side", "")
        longer_side = int(side) if side.isascii() and side.isdigit() and 0 < len(side) < 6 else None

        def read() -> bytes:
            return jpeg(self._session.read_frame(request.path_params["number"]), longer_side)

        return await _lasting(read, "image/jpeg")

    async def _preview(self, request: Request) -> Response:
        return await _lasting(lambda: self._previews.get(request.path_params["number"]), "image/jpeg")

    async def _map(self, request: Request) -> Response:
        def read() -> bytes:
            return encode_runs(self._session.workspace.stored_labels(request.path_params["number"]))

        return await _lasting(read, "application/octet-stream")

    async def _export(self, request: Request) -> Response:
        path = await run_in_threadpool(self._exports.file, request.path_params["name"])
        return FileResponse(path, filename=path.name, headers={**HEADERS, **NEVER})

    # --- What is done -------------------------------------------------------------------------------------------------

    async def _act(self, request: Request) -> Response:
        body = await _body(request, LARGEST_ACT)
        return JSONResponse({"result": await run_in_threadpool(self._do, body)})

    def _do(self, body: bytes) -> object:
        """Do what a request asks, a JSON object with its name under "do", and return the result.

        Raises:
            UserError: there is no such act, its arguments are not what its annotations say, or it cannot be done.
        """
        real, whole = _number(float), _number(int)
        try:
            arguments = json.loads(body, parse_int=whole, parse_float=real, parse_constant=real)
            if not isinstance(arguments, dict) or not isinstance(name := arguments.pop("do", None), str):
                raise ValueError
        except (ValueError, RecursionError):
            raise UserError('an act is a JSON object with its name under "do"') from None
        if name not in self._acts:
            raise UserError(f"there is no act {name}")
        try:
            return self._acts[name](**arguments)
        except ValidationError as error:
            first = error.errors()[0]
            raise UserError(f"this cannot be done: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None

    def _store_view(self, view: dict[str, Any]) -> None:
        """Keep the page's own state."""
        try:
            text = json.dumps(view, ensure_ascii=False)
            too_large = len(text.encode()) > LARGEST_VIEW
        except UnicodeEncodeError as error:
            raise UserError(f"the page's own state cannot be kept: {error}") from None
        if too_large:
            raise UserError(f"the page's own state has at most {LARGEST_VIEW} bytes")
        self._session.workspace.store_view(text)

    async def _import(self, request: Request) -> Response:
        number = request.query_params.get("frame", "")
        if not number.isascii() or not number.isdigit() or len(number) > 9:
            raise UserError("say into which frame: ?frame=N")
        content = await _body(request, LARGEST_IMPORT)
        await run_in_threadpool(self._take_label_map, int(number), content)
        return JSONResponse({"result": None})

    def _take_label_map(self, number: int, content: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "label map"
            path.write_bytes(content)
            try:
                self._session.import_label_map(number, path)
            except UserError as error:
                raise UserError(str(error).replace(str(path), "the file")) from None

    # --- What happens -------------------------------------------------------------------------------------------------

    async def _events(self, socket: WebSocket) -> None:
        """Send the state, and then whatever changes in it; what piles up meanwhile becomes one message."""
        await socket.accept()
        waiting: asyncio.Queue[Change] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        stop = self._session.listen(lambda change: loop.call_soon_threadsafe(waiting.put_nowait, change))
        closed = asyncio.ensure_future(_until_closed(socket))
        try:
            state = await run_in_threadpool(self._messages.state)
            await socket.send_text(json.dumps({"type": "state", "state": state}))
            while not closed.done():
                following = asyncio.ensure_future(waiting.get())
                await asyncio.wait({following, closed}, return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    following.cancel()
                    break
                changes = [following.result()]
                while not waiting.empty():
                    changes.append(waiting.get_nowait())
                patch = await run_in_threadpool(self._messages.patch, changes)
                await socket.send_text(json.dumps({"type": "patch", "patch": patch}))
                for notice in [change.notice for change in changes if change.notice is not None]:
                    await socket.send_text(json.dumps({"type": "notice", "level": notice.level, "text": notice.text}))
        except (WebSocketDisconnect, RuntimeError):
            pass  # the browser has gone
        finally:
            stop()
            closed.cancel()


async def _lasting(read: Callable[[], bytes], media_type: str) -> Response:
    """Answer with what never changes, so that browsers need not ask for it again."""
    return Response(await run_in_threadpool(read), media_type=media_type, headers={**HEADERS, **FOREVER})


def _refused(request: Request, error: Exception) -> Response:
    """Answer what cannot be done, or is not there (any more)."""
    status = 400 if request.scope.get("method") == "POST" else 410
    return JSONResponse({"error": str(error)}, status_code=status, headers=NEVER)


def _failed(request: Request, error: Exception) -> Response:
    """Answer what should not happen; the server writes the traceback into its log."""
    return JSONResponse({"error": f"this has failed: {error}; the log has more"}, status_code=500, headers=NEVER)


def _number(kind: type[int] | type[float]) -> Callable[[str], int | float]:
    """Return what reads a number of JSON, but refuses NaN and infinity, and what no pixel, frame or clock comes to."""

    def read(text: str) -> int | float:
        if not abs(value := kind(text)) <= LARGEST_NUMBER:
            raise UserError(f"{text[:20]} is no number that anything here can have")
        return value

    return read


async def _until_closed(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


async def _body(request: Request, limit: int) -> bytes:
    """Return a request's body.

    Raises:
        UserError: it is larger than the limit, or does not come to its end.
    """
    content = bytearray()
    try:
        async for chunk in request.stream():
            content += chunk
            if len(content) > limit:
                raise UserError(f"the request is larger than {limit // 2**20} MiB")
    except ClientDisconnect:
        raise UserError("the browser has gone before it had sent everything") from None
    return bytes(content)
