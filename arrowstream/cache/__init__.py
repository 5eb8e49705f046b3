"""The cache: directories of whole Arrow IPC files, within a limit, shared by everybody on this machine."""

from arrowstream.cache.contents import CachedFile, collect, list_cache
from arrowstream.cache.names import cached_name, has_ranges, wrapping
from arrowstream.cache.room import Room
from arrowstream.cache.shards import ShardCache

__all__ = ["CachedFile", "Room", "ShardCache", "cached_name", "collect", "has_ranges", "list_cache", "wrapping"]
