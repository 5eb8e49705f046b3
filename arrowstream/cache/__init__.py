"""The cache: directories of whole Arrow IPC files, within a limit, shared by everybody on this machine."""

from arrowstream.cache.names import cached_name, has_ranges, wrapping
from arrowstream.cache.room import Room
from arrowstream.cache.shards import ShardCache

__all__ = ["Room", "ShardCache", "cached_name", "has_ranges", "wrapping"]
