"""A client whose requests are counted."""

from dataclasses import dataclass
from pathlib import Path

from arrowstream.storage.client import Client, Take
from arrowstream.storage.cost import Meter
from arrowstream.storage.entry import Entry


@dataclass(frozen=True, slots=True)
class CountedClient:
    """Makes one request at a time, as its client does, and counts it.

    Attributes:
        client: Who makes the requests.
        meter: Counts them.
    """

    client: Client
    meter: Meter

    @property
    def name(self) -> str:
        """What carries the bytes."""
        return self.client.name

    def size(self, key: str) -> int | None:
        """Tell how many bytes an object has."""
        self.meter.request()
        return self.client.size(key)

    def read(self, key: str) -> bytes | memoryview:
        """Read an object as a whole."""
        self.meter.request()
        return self.meter.answer(self.client.read(key))

    def read_range(self, key: str, start: int, stop: int) -> bytes | memoryview:
        """Ask for a range."""
        self.meter.request()
        return self.meter.answer(self.client.read_range(key, start, stop))

    def send_range(self, key: str, start: int, stop: int, take: Take) -> bytes | memoryview | None:
        """Hand a range to somebody as it arrives."""
        self.meter.request()
        whole = self.client.send_range(key, start, stop, lambda piece: take(self.meter.answer(piece)))
        return whole if whole is None else self.meter.answer(whole)

    def upload(self, path: Path, key: str) -> None:
        """Store a file as an object."""
        self.meter.request()
        self.client.upload(path, key)

    def write(self, key: str, data: bytes) -> None:
        """Store bytes as an object."""
        self.meter.request()
        self.client.write(key, data)

    def entries(self) -> list[Entry]:
        """Find all objects."""
        self.meter.request()
        return self.client.entries()

    def delete(self, key: str) -> None:
        """Delete an object."""
        self.meter.request()
        self.client.delete(key)
