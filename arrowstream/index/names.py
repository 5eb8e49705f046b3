"""Names of shards that no index may hold."""

import re
from collections import Counter

from arrowstream.errors import IndexFormatError

# What a shard's name may not be: empty, absolute, with a way out (`..`), a Windows separator, a control character, half
# a surrogate pair (no file system takes it), the index itself, or anything in the private folder. One pass over all
# names at once: a Python call a name takes seconds.
_HOSTILE_NAME = re.compile(
    r"^$|^/|//|/$|\\|[\x00-\x09\x0b-\x1f\ud800-\udfff]|^[A-Za-z]:"
    r"|(?:^|/)\.\.?(?:/|$)|^index\.json$|(?:^|/)\.arrowstream(?:/|$)",
    re.MULTILINE,
)
# Something of this stands in every hostile name, and is found ten times faster.
_SUSPECT_PARTS = ("\n\n", "\n/", "/\n", "//", "\n.", "/.", "\nindex.json\n")
_LONGEST_PART = 255  # of a path, on every file system that we know
_SUSPECT_CHARACTER = re.compile(r"[\\:\x00-\x09\x0b-\x1f\ud800-\udfff]")


def check_names(names: list[str], source: str) -> None:
    """See that every name is that of a file below the dataset's directory, and that none comes twice.

    Args:
        names: Of all shards.
        source: Where the index came from; errors name it.

    Raises:
        IndexFormatError: One is not.
    """
    text = "\n".join(["", *names, ""])
    if (
        any(part in text for part in _SUSPECT_PARTS)
        or _SUSPECT_CHARACTER.search(text) is not None
        or text.count("\n") > len(names) + 1
    ):
        found = next((name for name in names if "\n" in name or _HOSTILE_NAME.search(name) is not None), None)
        if found is not None:
            raise IndexFormatError(
                f"{source}: names the shard {found!r}; a shard is a relative path inside the dataset's directory"
            )
    if (
        names
        and len(longest := max(names, key=len)) > _LONGEST_PART
        and max(map(len, longest.split("/"))) > _LONGEST_PART
    ):
        raise IndexFormatError(f"{source}: names the shard {longest[:80]!r}…, longer than a file's name may be")
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise IndexFormatError(f"{source}: names the shard {twice!r} twice")
