"""What a listing says of an object."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """An object that was listed.

    Attributes:
        key: As its storage names it.
        num_bytes: Its length; -1 where the store does not say.
        version: Whatever changes when the object is replaced: an ETag, else a time. Empty where the store says neither.
    """

    key: str
    num_bytes: int
    version: str
