"""An object by URL -> its bytes, within a time and a size: tried again where that may help."""

from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import SEEK_SET, BufferedIOBase
from random import uniform
from threading import Event, Lock
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from resnet_cli.errors import ExtraError, ImageError, InputError, SettingError
from resnet_cli.files import BLOCK
from resnet_cli.images.files import LARGEST_FILE, check_size
from resnet_cli.remote import TIMEOUT, WEB, explain_error, open_file_system, scheme_of

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Result = TypeVar("Result")

TRIES = 5
FIRST_PAUSE = 0.5  # seconds; each pause is at most twice the one before
LONGEST_PAUSE = 60.0  # seconds, of a listing whose store asks for more
SHARE = 4  # an attempt may be silent for this part of the time that all of them have

SLOWEST = 16384  # bytes a second, by which a large object has more time

PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""Answers of a server that may be another the next time."""

# fmt: off
LASTING = frozenset({
    "InvalidURL", "InvalidUrlClientError", "InvalidUrlRedirectClientError", "NoCredentialsError",
    "NonHttpUrlClientError", "NonHttpUrlRedirectClientError", "ParamValidationError",
    "PartialCredentialsError", "TooManyRedirects",
})
# fmt: on
"""Errors of aiohttp and botocore that stay the same however often one asks."""

PARTIAL = 206  # the answer of a server that sends some of the bytes
WHOLE_ONLY = "its server sends no parts of files: download it first"

STOPPED = "the run was stopped before it came"

LARGE = 16 << 20  # bytes; a larger object is not fetched ahead
LARGE_OBJECT = Lock()
"""Held while a large object is read, so that it is the only one on its way."""


class TooLargeError(Exception):
    """An object has more bytes than may be read now."""


class Connection:
    """Runs requests, and can end all of them at once."""

    def __init__(self) -> None:
        """Begin without a request."""
        self.ended = Event()
        self.running: set[Future[Any]] = set()

    def run(
        self,
        system: "AbstractFileSystem",
        request: Coroutine[Any, Any, Result],
        seconds: float,
    ) -> Result:
        """Run a request on the loop of its file system, and wait.

        Raises:
            TimeoutError: it takes longer than that.
            CancelledError: ``end`` was called.
        """
        import asyncio  # which takes as long to import as a small image to classify

        future = asyncio.run_coroutine_threadsafe(request, system.loop)
        self.running.add(future)
        if self.ended.is_set():
            future.cancel()
        try:
            return future.result(seconds)
        finally:
            future.cancel()
            self.running.discard(future)

    def pause(self, seconds: float) -> None:
        """Wait.

        Raises:
            ImageError: ``end`` was called.
        """
        if self.ended.wait(seconds):
            raise ImageError(STOPPED)

    def end(self) -> None:
        """End what runs now, and all that comes later."""
        self.ended.set()
        for future in list(self.running):
            future.cancel()


class Fetchable:
    """An image in a store or on a server, as the content of an item; it may be fetched ahead.

    Attributes:
        size: bytes, where they are known.
    """

    __slots__ = ()

    size: int | None

    def read(self) -> bytes:
        """Return its bytes, however long that takes.

        Raises:
            ImageError: they do not come, or there are too many.
        """
        raise NotImplementedError

    def fetch(self, connection: Connection, limit: int = LARGEST_FILE) -> bytes:
        """Return its bytes.

        Raises:
            ImageError: they do not come.
            TooLargeError: there are more than ``limit``.
        """
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class RemoteObject(Fetchable):
    """An image by URL, or some of the bytes of another file."""

    url: str = field(repr=False)  # as it is asked for: with what is secret in it
    size: int | None = None  # bytes, where a listing has stated them
    timeout: float = TIMEOUT  # seconds for all attempts together
    start: int | None = None  # of those bytes in the other file; needs their number

    def read(self) -> bytes:
        """Return the bytes, however long that takes.

        Raises:
            ImageError: they do not come, or there are too many.
        """
        if self.size is not None and self.size <= LARGE:
            return self.fetch(Connection())
        with LARGE_OBJECT:
            return self.fetch(Connection())

    def fetch(self, connection: Connection, limit: int = LARGEST_FILE) -> bytes:
        """Return the bytes.

        Raises:
            ImageError: they do not come.
            TooLargeError: there are more than ``limit``.
        """
        if self.size is not None:
            check_size(self.size)
        deadline = monotonic() + self.timeout + (self.size or 0) / SLOWEST
        for attempt in range(1, TRIES + 1):
            try:
                return self.attempt(connection, limit)
            except (ImageError, TooLargeError):
                raise
            except CancelledError:
                raise ImageError(STOPPED) from None
            except (ExtraError, InputError) as error:
                raise ImageError(str(error)) from None
            except Exception as error:
                pause = pause_after(error, attempt)
                last = attempt == TRIES or monotonic() + pause > deadline
                if last or not may_pass(error):
                    times = f", {attempt} times" if attempt > 1 else ""
                    raise ImageError(explain_error(error) + times) from None
            connection.pause(pause)
        raise AssertionError  # the last attempt returns or raises

    def attempt(self, connection: Connection, limit: int) -> bytes:
        """Ask once."""
        system = open_file_system(self.url, timeout=self.timeout / SHARE)
        if scheme_of(self.url) in WEB:
            request = download(system, self.url, self.timeout, limit, self.span)
            data = connection.run(system, request, self.timeout + limit / SLOWEST)
        else:
            data = self.read_stored(system, connection, limit)
        if self.size not in (None, len(data)):
            raise OSError(f"{len(data):,} of {self.size:,} bytes came")
        check_size(len(data))
        return data

    @property
    def span(self) -> tuple[int, int] | None:
        """Return where its bytes begin and end in a file that has others; None for all of it."""
        return None if self.start is None else (self.start, self.start + (self.size or 0))

    def read_stored(
        self, system: "AbstractFileSystem", connection: Connection, limit: int
    ) -> bytes:
        """Read an object of a store whole, once its size is known."""
        path = system._strip_protocol(self.url)
        seconds = self.timeout / SHARE
        size = self.size
        if size is None:
            known = (
                connection.run(system, system._info(path), seconds)
                if system.async_impl
                else system.info(path)
            )
            if known["type"] == "directory":
                raise ImageError("is a folder, not an image")
            size = known["size"] or 0
            check_size(size)
        if size > limit:
            raise TooLargeError
        start, end = self.span or (None, None)
        if not system.async_impl:
            return bytes(system.cat_file(path, start=start, end=end))
        request = system._cat_file(path, start=start, end=end)
        data = bytes(connection.run(system, request, seconds + size / SLOWEST))
        if len(data) != size:
            raise OSError(f"{len(data):,} of {size:,} bytes came")
        return data


class PatientFile(BufferedIOBase):
    """A file by URL whose reads are tried again where that may help."""

    def __init__(self, file: BinaryIO) -> None:
        """Take the file, which knows where it is also after a read has failed."""
        self.file = file

    def read(self, size: int | None = -1, /) -> bytes:
        """Read on."""
        length = -1 if size is None else size
        if not self.file.seekable():  # what has come of a stream would be lost
            return self.file.read(length)
        return ask_again(lambda: self.file.read(length))

    def seek(self, offset: int, whence: int = SEEK_SET, /) -> int:
        """Go to another place."""
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        """Return the place."""
        return self.file.tell()

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return whether the server sends parts of files."""
        return self.file.seekable()

    def close(self) -> None:
        """Close it."""
        self.file.close()
        super().close()


async def download(
    system: Any, url: str, timeout: float, limit: int, span: tuple[int, int] | None
) -> bytes:
    """Download from a web server, in one request.

    aiohttp follows redirects to http and https alone, and takes no credentials to another server.

    Args:
        system: the file system, whose session is used.
        url: of the object.
        timeout: seconds for all of it, more for a large one, and a part of them for silence.
        limit: most bytes.
        span: the first that is wanted and the first that is not; None for all.

    Raises:
        ImageError: there are more bytes than an image has.
        TooLargeError: there are more than ``limit``.
    """
    from aiohttp import ClientTimeout

    silence = timeout / SHARE
    session = await system.set_session()
    begun = monotonic()
    headers = {"Accept-Encoding": "identity"}  # whose size the server can state
    if span is not None:
        headers["Range"] = f"bytes={span[0]}-{span[1] - 1}"
    async with session.get(
        system.encode_url(url),
        timeout=ClientTimeout(total=None, connect=silence, sock_connect=silence, sock_read=silence),
        headers=headers,
    ) as response:
        response.raise_for_status()
        if span is not None and response.status != PARTIAL:
            raise ImageError(WHOLE_ONLY)
        check_limit(response.content_length or 0, limit)
        body = bytearray()
        async for piece in response.content.iter_chunked(BLOCK):
            body += piece
            check_limit(len(body), limit)
            if monotonic() - begun > timeout + len(body) / SLOWEST:
                raise TimeoutError
        return bytes(body)


def check_limit(size: int, limit: int) -> None:
    """Refuse a body that is too large.

    Raises:
        ImageError: for an image.
        TooLargeError: for now.
    """
    if size > LARGEST_FILE:
        raise ImageError(f"has over {LARGEST_FILE:,} bytes, too many for an image")
    if size > limit:
        raise TooLargeError


def ask_again(ask: Callable[[], Result]) -> Result:
    """Return what a store answers, asked again where that may help."""
    for attempt in range(1, TRIES):
        try:
            return ask()
        except Exception as error:
            if not may_pass(error):
                raise
            sleep(min(LONGEST_PAUSE, pause_after(error, attempt)))
    return ask()


def may_pass(error: Exception) -> bool:
    """Return True for an error after which another attempt may succeed."""
    if isinstance(error, FileNotFoundError | PermissionError | ValueError | SettingError):
        return False
    status = status_of(error)
    if status:
        return status in PASSING
    return type(error).__name__ not in LASTING


def status_of(error: BaseException) -> int | None:
    """Return the status of HTTP that an error of aiohttp, or the cause of one of s3fs, states."""
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return status
    metadata = response_of(error).get("ResponseMetadata", {})
    found = metadata.get("HTTPStatusCode")
    return found if isinstance(found, int) else None


def response_of(error: BaseException) -> dict[str, Any]:
    """Return the answer of S3 that an error of s3fs was made of."""
    found = getattr(error.__cause__, "response", None)
    return found if isinstance(found, dict) else {}


def pause_after(error: Exception, attempt: int) -> float:
    """Return the seconds to wait after an attempt: as the server asks, else more each time.

    They vary at random, so that many connections do not come back at once.
    """
    headers = (
        getattr(error, "headers", None)
        or response_of(error).get("ResponseMetadata", {}).get("HTTPHeaders")
        or {}
    )
    asked = headers.get("Retry-After") or headers.get("retry-after")
    own = uniform(0.5, 1) * FIRST_PAUSE * 2 ** (attempt - 1)
    return max(own, read_delay(asked) if asked else 0)


def read_delay(text: str) -> float:
    """Return the seconds that a server asks to wait: a number, or a date."""
    if text.strip().isdecimal():
        return float(text)
    from email.utils import parsedate_to_datetime

    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    zoned = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (zoned - datetime.now(UTC)).total_seconds())
