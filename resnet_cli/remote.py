"""Files by URL: opened through fsspec, downloaded once, and named without what is secret.

Credentials come from the environment, as each file system of fsspec finds them.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from urllib.parse import parse_qsl, urlencode

from resnet_cli.cache import Cache, user_cache
from resnet_cli.errors import ExtraError, InputError, describe
from resnet_cli.text import escape_unprintable

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

EXTRA = {"http": "aiohttp", "https": "aiohttp", "s3": "s3fs", "s3a": "s3fs"}
"""Schemes that the extra ``remote`` brings, and the package of each."""

WEB = ("http", "https")

TIMEOUT = 60.0  # seconds

ANY_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://\S*")
NESTED_USER = re.compile(r"(?<=://)[^/\s]*@")  # of another URL within a URL
CHAIN = re.compile(r"::(?=[A-Za-z][A-Za-z0-9+.-]+://)")  # between the parts of a chained URL

INNER = ("zip", "tar", "file", "local", "memory", "abfs", "abfss", "az", "adl", "hf")
"""Schemes in which an @ stands before no server: names in archives, containers of Azure."""

QUERY = "#query="  # in place of a query, before its digest: no server ever sees what follows a #
DIGITS = 12  # of that digest, in hexadecimal

# fmt: off
SIGNATURE = re.compile(
    r"x-(?:amz|goog|oss|obs|cos|ms)-.*|awsaccesskeyid|googleaccessid|key-pair-id|signature|sig|"
    r"expires|policy|se|sp|sr|sv|st|spr|sip|ske|skoid|sks|skt|sktid|skv|"
    r"(?:access_?|auth_?|sas_?)?token|api_?key|password|secret|jwt|hmac",
    re.IGNORECASE,
)
# fmt: on
"""Parameters of a query that sign a request or allow it: others tomorrow for the same image."""


def scheme_of(url: str) -> str:
    """Return the scheme of a URL in lower case."""
    return url.partition("://")[0].lower()


def redact_url(url: str) -> str:
    """Return a URL as results and messages name it: without user, password, token and query.

    The query of a web address may be all that tells two images apart, so that a digest of it
    stays, without what only signs the request.
    """
    return "::".join(map(redact_part, CHAIN.split(url)))


def redact_part(url: str) -> str:
    """Redact one part of a chained URL."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    kind = scheme.lower()
    query = ""
    if kind in WEB:
        rest, _, query = rest.partition("#")[0].partition("?")
        rest = NESTED_USER.sub("", rest)
    server, slash, place = rest.partition("/")
    if kind not in INNER:
        server = server.rpartition("@")[2]
    return f"{scheme}://{server}{slash}{place}{digest_query(query)}"


def digest_query(query: str) -> str:
    """Return what stands for a query: nothing, where it only signs the request."""
    telling = [
        pair
        for pair in parse_qsl(query, keep_blank_values=True)
        if not SIGNATURE.fullmatch(pair[0])
    ]
    if not telling:
        return ""
    return QUERY + sha256(urlencode(telling).encode(errors="replace")).hexdigest()[:DIGITS]


def redact_text(text: str) -> str:
    """Redact every URL in a text, such as the message of a library."""
    return ANY_URL.sub(lambda found: redact_url(found[0]), text)


def redact_argument(argument: str) -> str:
    """Redact the URL in an argument of a command, which may hold blanks."""
    found = ANY_URL.search(argument)
    if found is None:
        return argument
    return argument[: found.start()] + redact_url(argument[found.start() :])


@contextmanager
def needing_packages(url: str) -> Iterator[None]:
    """Turn a missing package into one line.

    Raises:
        ExtraError: it belongs to the extra ``remote``.
        InputError: it is that of another file system, or there is none for the scheme.
    """
    try:
        yield
    except ImportError as error:
        if scheme_of(url) in EXTRA or error.name == "fsspec":
            raise ExtraError(f"reading {redact_url(url)}", "remote") from None
        raise InputError(f"cannot read {redact_url(url)}: {error}") from None
    except ValueError as error:  # fsspec: no such protocol
        raise InputError(f"cannot read {redact_url(url)}: {redact_text(str(error))}") from None


def open_file_system(url: str, *, timeout: float = TIMEOUT) -> "AbstractFileSystem":
    """Return the file system of a URL, the same one for the same server or bucket.

    Its methods take the URL itself.

    Raises:
        ExtraError: a package is missing.
        InputError: there is no file system for it.
    """
    with needing_packages(url):
        server = "" if scheme_of(url) in WEB else url.partition("://")[2].partition("/")[0]
        return shared_file_system(f"{scheme_of(url)}://{server}", timeout)


@cache
def shared_file_system(root: str, timeout: float) -> "AbstractFileSystem":
    """Make a file system, with pauses and repetitions left to the caller."""
    from fsspec.core import url_to_fs

    scheme = scheme_of(root)
    if scheme in EXTRA:
        import_module(EXTRA[scheme])
    options: dict[str, Any] = {"use_listings_cache": False}
    if scheme in WEB:
        options["client_kwargs"] = {"trust_env": True}  # HTTPS_PROXY and its like
    elif scheme in EXTRA:
        seconds = {"connect_timeout": timeout, "read_timeout": timeout}
        once = {"max_attempts": 1, "mode": "standard"}
        options["config_kwargs"] = {**seconds, "retries": once, "max_pool_connections": 128}
        options["max_concurrency"] = 1  # a request an object
    system, _ = url_to_fs(root, **options)
    if scheme in EXTRA:
        system.retries = 1
    return cast("AbstractFileSystem", system)


def open_binary(url: str, *, timeout: float = TIMEOUT) -> BinaryIO:
    """Open a file by URL, in blocks as they are asked for; seekable where the server can.

    Raises:
        ExtraError: a package is missing.
        InputError: it cannot be opened.
    """
    system = open_file_system(url, timeout=timeout)
    try:
        return cast(BinaryIO, system.open(url, "rb"))
    except Exception as error:
        raise InputError(f"cannot open {redact_url(url)}: {explain_error(error)}") from None


def fetch_file(url: str, *, timeout: float = TIMEOUT) -> Path:
    """Download a file once, to the user's cache, and return where it is.

    It is downloaded again when its size, its ETag or its time has changed, and each time from a
    server that states none of these.

    Raises:
        ExtraError: a package is missing.
        InputError: it cannot be downloaded.
    """
    system = open_file_system(url, timeout=timeout)
    try:
        info = system.info(url)
    except Exception as error:
        raise InputError(f"cannot download {redact_url(url)}: {explain_error(error)}") from None
    size, version = info.get("size"), version_of(info)
    key = {"url": redact_url(url), "bytes": size, "version": version}

    def download(path: Path) -> None:
        try:
            system.get_file(url, str(path))  # as it comes: not every server gives ranges
        except Exception as error:
            raise InputError(f"cannot download {redact_url(url)}: {explain_error(error)}") from None
        found = path.stat().st_size
        if size not in (None, found):
            raise InputError(
                f"cannot download {redact_url(url)}: {found:,} of {size:,} bytes came: try again"
            )

    kept = user_cache() if version or size else Cache(None)
    return kept.fetch(key, download, name=name_download(url))


def name_download(url: str) -> str:
    """Return the last name in a URL, which keeps its suffix."""
    name = redact_url(url).partition("#")[0].rstrip("/").rpartition("/")[2]
    return re.sub(r"[^\w.-]", "_", name)[-100:].lstrip(".") or "file"


VERSIONS = (
    "ETag", "etag", "md5Hash", "content_hash", "mtime", "LastModified", "last_modified",
    "Last-Modified", "updated",
)  # fmt: skip
"""What file systems call the version of a file, the best first."""


def version_of(info: dict[str, Any]) -> str:
    """Return the version that a file system states of a file; nothing where it states none."""
    return next((str(info[name]).strip('"') for name in VERSIONS if info.get(name)), "")


ERRORS = {
    "NonHttpUrlRedirectClientError": "it leads to an address that is not http, which is not "
    "followed",
    "TooManyRedirects": "it leads from one address to another without an end",
    "NoCredentialsError": "there are no credentials for it: set AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or FSSPEC_S3_ANON=true for a public bucket",
}
"""Errors of aiohttp and botocore: what is said of them."""


def explain_error(error: BaseException) -> str:
    """Say in a few words why a file by URL cannot be read, without what is secret in it."""
    match error:
        case FileNotFoundError():
            cause = error.__cause__
            by_store = cause is None or hasattr(cause, "response")
            return (
                "there is nothing by that name"
                if by_store or cause is None
                else explain_error(cause)
            )
        case PermissionError():
            return f"the store refuses it ({safe_words(error).partition(': ')[2]})"
    status = getattr(error, "status", None)
    if isinstance(status, int) and status:
        return f"the server answers {status}{status_words(status)}"
    if words := ERRORS.get(type(error).__name__):
        return words
    if isinstance(error, TimeoutError):
        return "the server does not answer"
    return safe_words(error)


def safe_words(error: BaseException) -> str:
    """Return the words of a library or a server, without URLs and control characters."""
    return escape_unprintable(redact_text(describe(error)))


def status_words(status: int) -> str:
    """Return the meaning of a status of HTTP; a server's own words may be anything."""
    from http import HTTPStatus

    try:
        return f" ({HTTPStatus(status).phrase})"
    except ValueError:
        return ""
