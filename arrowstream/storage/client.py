"""What is asked of a store, and who is asked: obstore where it does as well, fsspec for all else."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from arrowstream.storage import fsspec_client, obstore_client, obstore_library, obstore_options
from arrowstream.storage.entry import Entry
from arrowstream.storage.places import Place, place_of

#: Is given the bytes of an answer in their order; must not keep them.
Take = Callable[[bytes | memoryview], None]
CHOICES = ("obstore", "fsspec")
_log = logging.getLogger(__name__)


class Client(Protocol):
    """One attempt at a request, with a deadline; what it raises is the library's own error, for ``failures.why``."""

    @property
    def name(self) -> str:
        """What carries the bytes."""

    def size(self, key: str) -> int | None:
        """Tell how many bytes an object has; None where the server does not say."""

    def read(self, key: str) -> bytes | memoryview:
        """Read an object as a whole."""

    def read_range(self, key: str, start: int, stop: int) -> bytes | memoryview:
        """Ask for a range; the answer is shorter at the object's end, and the whole object from some servers."""

    def send_range(self, key: str, start: int, stop: int, take: Take) -> bytes | memoryview | None:
        """Hand a range to somebody as it arrives, in pieces; less of it at the object's end.

        What ``take`` raises is raised as it is, or as the error of a request.

        Returns:
            Nothing; or the whole object, where the server sent that in place of a range: then nothing was handed on.
        """

    def upload(self, path: Path, key: str) -> None:
        """Store a file as an object, in several parts where it is large and the store has that."""

    def write(self, key: str, data: bytes) -> None:
        """Store bytes as an object."""

    def entries(self) -> list[Entry]:
        """Find all objects, in any order."""

    def delete(self, key: str) -> None:
        """Delete an object."""


def client_for(url: str, options: Mapping[str, object], timeout_s: float) -> Client:
    """Choose who reaches a URL.

    Args:
        url: Of any protocol.
        options: fsspec's, and ``client``: "obstore" or "fsspec" to have it so; absent to let us choose.
        timeout_s: Deadline of one request.

    Raises:
        ValueError: ``client`` is something else, or asks for obstore where it cannot be used; or nobody knows the
            URL's protocol.
        MissingDependencyError: The protocol's package is not installed.
    """
    rest = dict(options)
    wanted = rest.pop("client", None)
    if wanted not in (None, *CHOICES):
        raise ValueError(f"{url}: client is {wanted!r}, expected one of {', '.join(CHOICES)}")
    place = place_of(url, rest)
    if obstore_options.nobody_signs(place):
        # As mosaicml-streaming does: public buckets are read without credentials. Others refuse, and say so.
        _log.warning(
            "%s: no credentials were found, so requests are not signed, which public buckets allow; give credentials "
            "in options= or in the environment, or anon=True to be told no more",
            url,
        )
        place = replace(place, options={**place.options, "anon": True})
    if wanted == "fsspec":
        return _fsspec_client(place, timeout_s, "chosen by client=")
    settings = _obstore_settings(place)
    if isinstance(settings, obstore_options.Settings):
        return obstore_client.ObstoreClient(place, settings, timeout_s)
    if wanted == "obstore":
        raise ValueError(f"{url}: client='obstore' cannot be used: {settings}")
    return _fsspec_client(place, timeout_s, settings)


def _fsspec_client(place: Place, timeout_s: float, because: str) -> Client:
    fsspec_client.file_system_class(place)  # what is not installed is no failure of a request
    return fsspec_client.FsspecClient(place, timeout_s, because)


def _obstore_settings(place: Place) -> "obstore_options.Settings | str":
    """Say how obstore would reach a place, or why it cannot."""
    if place.protocol not in obstore_options.KINDS:
        return f"obstore is not used for {place.protocol}://"
    return obstore_library.unusable_because() or obstore_options.translated(place)
