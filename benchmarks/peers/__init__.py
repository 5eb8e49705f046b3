"""The peers: one module each, holding one ``Peer`` that runs as a process of its own in an environment of its own."""

from importlib import import_module

from benchmarks.peers.base import Peer

# In the order of the tables. A name is a module beside this one, whose class ``Peer`` is the peer.
PEER_NAMES = ("arrowstream", "mosaic", "litdata", "memmap", "queue", "arrow_ipc")


def get_peer(name: str) -> Peer:
    """The peer of that name. The library that it measures is imported only when one of its tasks runs."""
    if name not in PEER_NAMES:
        raise ValueError(f"no peer is named {name!r}; there are: {', '.join(PEER_NAMES)}")
    return import_module(f"benchmarks.peers.{name}").Peer()
