"""Downloads that go on where they were interrupted, and leave a file whole or absent."""

import http.client
import logging
import os
import ssl
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from util.errors import UserError
from util.files import write_text_atomically

logger = logging.getLogger(__name__)

CHUNK = 2**16
LONGEST_WAIT = 60.0

TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
RANGE_NOT_SATISFIABLE = 416
# Reasons for a failed connection that another attempt will not remove. Those of files are for file:// addresses.
LASTING_REASONS = (str, ssl.SSLCertVerificationError, FileNotFoundError, IsADirectoryError, PermissionError)

OnProgress = Callable[[int, int | None], None]


class DownloadError(UserError):
    """What was asked for cannot be had from this address."""


class UnreachableError(DownloadError):
    """The server itself cannot be reached."""


class _BrokenOffError(Exception):
    """An attempt that failed for a reason that may pass; `reached`: the server answered."""

    def __init__(self, reason: object, reached: bool = True) -> None:
        super().__init__(getattr(reason, "strerror", None) or str(reason) or type(reason).__name__)
        self.reached = reached


def download(
    url: str,
    target: Path,
    *,
    check: Callable[[Path], None] | None = None,
    on_progress: OnProgress | None = None,
    attempts: int = 5,
    first_wait: float = 1.0,
    timeout: float = 30.0,
) -> None:
    """Fetch `url` (http, https or file) to `target`.

    What has arrived lies in `{target}.partial`. An interrupted download goes on from there, in this call or a later
    one, if the server can send a part of a file and says that the file is still the same; else it starts over. Two of
    the same target at once would mix what they receive: see `util.locking`.

    Args:
        check: called with the complete file before it becomes `target`; raises UserError to refuse it. A refused file
            is removed.
        on_progress: called with the bytes that are there and those of the whole file (None: the server does not say).
        attempts: that bring nothing new, one after another, until it is given up; at least 1.
        first_wait: seconds before the second of them; doubled each time, up to a minute.
        timeout: seconds without an answer.

    Raises:
        UserError: `target` exists already, or cannot be written; whatever `check` raises.
        UnreachableError: there is no connection to the server.
        DownloadError: the server does not have the file, or keeps breaking off.
    """
    _refuse_existing(target)
    partial = target.with_name(f"{target.name}.partial")
    # Which version of the file `partial` is a part of, as the server named it.
    version = target.with_name(f"{target.name}.version.partial")
    try:
        with partial.open("ab") as file:
            furthest, fruitless = file.tell(), 0
            while True:
                try:
                    _receive(url, file, version, timeout, on_progress or (lambda received, total: None))
                    break
                except _BrokenOffError as error:
                    fruitless = 0 if file.tell() > furthest else fruitless + 1
                    furthest = max(furthest, file.tell())
                    if fruitless >= attempts:
                        raise (DownloadError if error.reached else UnreachableError)(f"{url}: {error}") from error
                    wait = min(first_wait * 2 ** max(fruitless - 1, 0), LONGEST_WAIT)
                    logger.warning("%s: %s; trying again in %.0f s", url, error, wait)
                    time.sleep(wait)
        if check is not None:
            _check_or_remove(partial, version, check)
        _refuse_existing(target)
        os.replace(partial, target)
        version.unlink(missing_ok=True)
    except OSError as error:  # the network's own were dealt with above
        raise UserError(f"{partial} cannot be written: {error.strerror or error}") from error
    finally:
        if partial.is_file() and partial.stat().st_size == 0:  # nothing came of it
            partial.unlink()


def _refuse_existing(target: Path) -> None:
    if target.exists():
        raise UserError(f"{target} exists, and is not overwritten: move it away to download it again")


def _check_or_remove(partial: Path, version: Path, check: Callable[[Path], None]) -> None:
    try:
        check(partial)
    except UserError:
        partial.unlink(missing_ok=True)  # going on from here would bring the same again
        version.unlink(missing_ok=True)
        raise


def _receive(url: str, file: IO[bytes], version: Path, timeout: float, on_progress: OnProgress) -> None:
    """One attempt to append to `file` what it lacks.

    Raises:
        _BrokenOffError: it lacks something still.
        DownloadError: as `download`.
    """
    offset = file.tell()
    headers = {"User-Agent": "xmem"}
    if offset and version.is_file():
        # "From here on if it is still that version, else all of it."
        headers |= {"Range": f"bytes={offset}-", "If-Range": version.read_text(encoding="utf-8")}
    try:
        response = _open(url, headers, timeout)
    except HTTPError as error:
        error.close()
        if error.code != RANGE_NOT_SATISFIABLE:
            raise _of_status(url, error) from error
        if error.headers.get("Content-Range") == f"bytes */{offset}":
            return  # it was complete, and only not yet renamed
        _start_over(file)
        raise _BrokenOffError("the server cannot go on from what is there") from error

    with closing(response):
        if response.status != http.client.PARTIAL_CONTENT:
            _start_over(file)
            _remember_version(version, response.headers)
        elif not (response.headers.get("Content-Range") or "").startswith(f"bytes {offset}-"):
            _start_over(file)
            raise _BrokenOffError("the server sent another part than the one asked for")
        length = response.headers.get("Content-Length")
        total = None if length is None else file.tell() + int(length)
        on_progress(file.tell(), total)
        while chunk := _read(response):
            file.write(chunk)
            on_progress(file.tell(), total)
    if total is not None and file.tell() != total:
        raise _BrokenOffError(f"the connection broke off after {file.tell()} of {total} bytes")


def _open(url: str, headers: dict[str, str], timeout: float) -> Any:
    """The server's answer, redirections followed.

    Raises:
        HTTPError: it is not the file.
        _BrokenOffError, DownloadError: there is none.
    """
    try:
        return urlopen(Request(url, headers=headers), timeout=timeout)
    except HTTPError:
        raise
    except URLError as error:
        if isinstance(error.reason, LASTING_REASONS):
            raise DownloadError(f"{url}: {error.reason}") from error
        raise _BrokenOffError(error.reason, reached=False) from error
    except (ValueError, http.client.InvalidURL) as error:
        raise DownloadError(f"{url} is not an address: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOffError(error) from error


def _of_status(url: str, error: HTTPError) -> Exception:
    answer = f"the server answers {error.code} {error.reason}"
    return _BrokenOffError(answer) if error.code in TRANSIENT_STATUS else DownloadError(f"{url}: {answer}")


def _read(response: Any) -> bytes:
    try:
        return response.read(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOffError(error) from error


def _start_over(file: IO[bytes]) -> None:
    file.seek(0)
    file.truncate()


def _remember_version(version: Path, headers: Any) -> None:
    """Write down what identifies the file's content, as HTTP's If-Range takes it: a weak ETag is not good enough."""
    tag = headers.get("ETag") or ""
    name = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")
    if name:
        write_text_atomically(version, name)
    else:
        version.unlink(missing_ok=True)
