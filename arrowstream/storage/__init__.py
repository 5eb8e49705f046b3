"""Bytes of objects, near or far: the one package that knows fsspec.

A :class:`Storage` is a URL and four settings, so it pickles as it is. What a process needs to reach a remote (a file
system with its connections) belongs to the process and is made at the first request; a forked child makes its own.

Three promises hold for every request to a remote: it ends within its deadline, it is repeated only where repeating may
help, and what it raises is one of the classes in :mod:`arrowstream.errors` and names the URL.

* :mod:`arrowstream.storage.directory`: objects that are files of this machine.
* :mod:`arrowstream.storage.remote`: objects behind a URL; requests, ranges, attempts.
* :mod:`arrowstream.storage.file_systems`: fsspec's clients, one a process, and their deadlines.
* :mod:`arrowstream.storage.ranged_file`: an object as a file that is read by ranges.
* :mod:`arrowstream.storage.failures`: what went wrong, in our words.
* :mod:`arrowstream.storage.urls`: URLs and keys.
"""

from arrowstream.storage.entry import Entry
from arrowstream.storage.ranged_file import RangedFile
from arrowstream.storage.storage import Storage

__all__ = ["Entry", "RangedFile", "Storage"]
