"""Bytes of objects, near or far: the one package that knows fsspec and obstore.

A :class:`Storage` is a URL and four settings, so it pickles as it is. What a process needs to reach a remote (a client
with its connections) belongs to the process and is made at the first request; a forked child makes its own.

Four promises hold for every request to a remote: it ends within its deadline, it is repeated only where this may
help, what it raises is one of the classes in :mod:`arrowstream.errors` and names the URL, and the bytes that all
requests of a process have in flight stay below one bound.

In the order in which a request passes them:

* :mod:`arrowstream.storage.storage`: the one class that everybody else uses.
* :mod:`arrowstream.storage.directory`: objects that are files of this machine.
* :mod:`arrowstream.storage.ranged_file`: an object as a file that is read by ranges.
* :mod:`arrowstream.storage.remote`: objects behind a URL; ranges, attempts.
* :mod:`arrowstream.storage.ordered_file`: what arrives in any order, looked at in its own.
* :mod:`arrowstream.storage.in_flight`: the bound on bytes.
* :mod:`arrowstream.storage.counted` and ``cost``: how many requests there were, and of how many bytes.
* :mod:`arrowstream.storage.client`: what is asked of a store, and who is asked.
* :mod:`arrowstream.storage.places`: where a URL leads; what the environment adds.
* :mod:`arrowstream.storage.obstore_client`, with ``obstore_options`` and ``obstore_library``: the fast one.
* :mod:`arrowstream.storage.fsspec_client`: the one for all else.
* :mod:`arrowstream.storage.failures`: what went wrong, in our words.
* :mod:`arrowstream.storage.urls`: URLs and keys.
"""

from arrowstream.storage.cost import Cost
from arrowstream.storage.entry import Entry
from arrowstream.storage.ranged_file import RangedFile
from arrowstream.storage.storage import Storage

__all__ = ["Cost", "Entry", "RangedFile", "Storage"]
