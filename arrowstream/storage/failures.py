"""What went wrong, found out from the errors of many clients and said in our words."""

import contextlib
import email.utils
import errno
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from arrowstream.errors import (
    RemoteAccessError,
    RemoteLengthError,
    RemoteNotFoundError,
    RemoteThrottledError,
    RemoteTimeoutError,
    StorageError,
    UnwritableError,
)

Cause = Literal["missing", "refused", "late", "throttled", "beyond", "passing", "lasting"]
MAY_PASS: tuple[Cause, ...] = ("late", "throttled", "passing")
THROTTLED_CODES = ("SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests")
CREDENTIAL_ERRORS = {  # botocore, Google, Azure
    *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound"),
    *("DefaultCredentialsError", "RefreshError", "ClientAuthenticationError"),
}
LASTING_ERRORS = (
    *(ValueError, TypeError, LookupError, AttributeError, NotImplementedError, ImportError),
    *(IsADirectoryError, NotADirectoryError, FileExistsError),
)
LASTING_NAMES = {"ParamValidationError"}  # botocore, on the name of a bucket


class AnswerError(OSError):
    """What a server answered, for clients that put it into text alone.

    Attributes:
        status: HTTP's.
        code: The store's own word; "" if it said none.
    """

    def __init__(self, text: str, *, status: int, code: str) -> None:
        super().__init__(text)
        self.status = status
        self.code = code


class ShortAnswerError(OSError):
    """An answer ended early, and its server took it for complete."""


def why(error: BaseException) -> Cause:
    """Find out why a request failed, from the error and what caused it; clients hide one behind the other."""
    chain = list(_chain(error))
    status = next((status for status in map(_http_status, chain) if status is not None), None)
    names = {type(each).__name__ for each in chain}
    if "ClientPayloadError" in names:  # aiohttp's, of an answer cut short; it counts as status 400 there
        return "passing"
    if status == 429 or store_code(error) in THROTTLED_CODES or (status == 503 and retry_after_s(error) is not None):
        return "throttled"
    if status in (408, 504) or any(
        isinstance(each, TimeoutError) or type(each).__name__.endswith(("TimeoutError", "Timeout")) for each in chain
    ):
        return "late"
    if (
        status in (401, 403, 407)
        or names & CREDENTIAL_ERRORS
        or any(isinstance(each, PermissionError) for each in chain)
    ):
        return "refused"
    if status is not None:
        known: dict[int, Cause] = {404: "missing", 410: "missing", 416: "beyond", 501: "lasting"}
        return known.get(status, "passing" if status >= 500 else "lasting")
    root = chain[-1]
    is_network = type(root).__module__.startswith("aiohttp") or (
        isinstance(root, OSError) and not isinstance(root, FileNotFoundError)
    )
    # fsspec says "not found" over HTTP also where it did not get as far as asking.
    if not is_network and any(isinstance(each, FileNotFoundError) for each in chain):
        return "missing"
    return "lasting" if isinstance(root, LASTING_ERRORS) or names & LASTING_NAMES else "passing"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _http_status(error: BaseException) -> int | None:
    """Read the status of the answer that an error stands for, whichever client raised it."""
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):  # botocore
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:  # aiohttp, Google, Azure, then what wraps a response
        names = ("status", "code", "status_code")
        found = next(
            (v for each in (error, response) for n in names if isinstance(v := getattr(each, n, None), int)), None
        )
    return found if isinstance(found, int) and 300 <= found < 600 else None


def retry_after_s(error: BaseException) -> float | None:
    """Read for how many seconds the store wants to be left alone; None where it, or the client, does not say.

    botocore, aiohttp, Azure and OCI hand on the header ``Retry-After``; obstore and gcsfs hide it.
    """
    for each in _chain(error):
        response = getattr(each, "response", None)
        if isinstance(response, Mapping):
            headers = response.get("ResponseMetadata", {}).get("HTTPHeaders")
        else:
            headers = getattr(response, "headers", None) or getattr(each, "headers", None)
        if not isinstance(headers, Mapping):
            continue
        said = next((value for name, value in headers.items() if str(name).lower() == "retry-after"), None)
        if said is not None:
            return _seconds_of(str(said))
    return None


def _seconds_of(said: str) -> float | None:
    """Read the value of ``Retry-After``: a number of seconds, or a date (RFC 9110, 10.2.3)."""
    if said.strip().isdecimal():
        return float(said)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - time.time())
    except ValueError:
        return None


def store_code(error: BaseException | None) -> str | None:
    """Read S3's own word for what is wrong."""
    for each in _chain(error):
        if isinstance(each, AnswerError):
            return each.code
        response = getattr(each, "response", None)
        if isinstance(response, Mapping):
            return str(response.get("Error", {}).get("Code", ""))
    return None


def translated(error: Exception, cause: Cause, what: str) -> Exception:
    """Say it in our words: one class a cause, with the way out."""
    if isinstance(error, StorageError):
        return error
    # The innermost says most; but not obstore's, which ends with a dump of Rust's values.
    root = [each for each in _chain(error) if not type(each).__module__.startswith("obstore")][-1]
    said = f"{type(root).__name__}: {' '.join(str(root).split())}".removesuffix(": ")
    if cause == "missing":
        missing = "bucket" if store_code(error) == "NoSuchBucket" else "object"
        return RemoteNotFoundError(f"{what}: the {missing} does not exist; check the URL")
    if cause == "refused":
        return RemoteAccessError(
            f"{what}: access refused ({said}); give credentials in options= or in the environment, check that they "
            "allow this, and that the clock is right"
        )
    if cause == "late":
        return RemoteTimeoutError(
            f"{what}: no answer in time ({said}); check that the store is reachable, or raise timeout_s"
        )
    if cause == "throttled":
        return RemoteThrottledError(
            f"{what}: {said}; the store asks for fewer requests, use fewer workers, fetch less ahead or raise timeout_s"
        )
    hint = "; check that the store is reachable, or raise attempts" if cause == "passing" else ""
    return StorageError(f"{what}: {said}{hint}")


def wrong_length(url: str, size: int, expected: str) -> RemoteLengthError:
    """Say that an object is not as long as it has to be."""
    return RemoteLengthError(
        f"{url}: holds {size} bytes, expected {expected}; it was replaced or not uploaded completely: upload it again"
    )


def unwritable(path: Path, error: OSError) -> UnwritableError:
    """Say that a file cannot be written, and what to do."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    way_out = "free some space or choose another disk" if full else "choose a directory that may be written"
    return UnwritableError(error.errno, f"{path}: cannot be written ({error.strerror or error}); {way_out}")


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Translate what goes wrong when a file is read."""
    try:
        yield
    except StorageError:
        raise  # an OSError too, and says it already
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RemoteNotFoundError(f"{path}: does not exist; check the path") from error
    except PermissionError as error:
        raise RemoteAccessError(f"{path}: may not be read ({error.strerror}); change its permissions") from error
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from error


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Translate what goes wrong when a file is written."""
    try:
        yield
    except (StorageError, UnwritableError):
        raise
    except OSError as error:
        raise unwritable(path, error) from error


def must_be_readable(path: Path) -> None:
    """Raise the builtin error for a source that cannot be read, before a target is touched or blamed."""
    with path.open("rb"):
        pass
