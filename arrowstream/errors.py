"""What can go wrong, one class a cause.

Every error derives from :class:`ArrowStreamError` and from the builtin that a caller would expect::

    ArrowStreamError
    ├── IndexFormatError        (ValueError)         index.json is missing a field, hostile, or of an unknown version
    ├── UnknownFormatError      (LookupError)        no installed plugin reads this format
    ├── UnknownEncodingError    (TypeError)          a column names an encoding that does not exist
    ├── EncodingError           (TypeError)          a value does not fit the encoding of its column
    ├── MissingColumnError      (KeyError)           a sample or batch lacks a column
    ├── BatchSizeError          (TypeError)          a batch does not tell how many samples it has
    ├── WorkerDiedError         (RuntimeError)       a loader's worker process was killed, or ended by itself
    ├── SharedOutTwiceError     (RuntimeError)       a trainer shares out again what each rank reads of its own
    ├── StateMismatchError      (ValueError)         a checkpoint belongs to another order of samples
    ├── UnsafeTypeError         (ValueError)         a column would run code on reading (pickle)
    ├── MissingDependencyError  (ImportError)        an extra has to be installed
    ├── DirectoryInUseError     (FileExistsError)    a writer was pointed at a directory that holds files
    ├── CacheLimitError         (ValueError)         cache_limit is less than what is needed at once
    ├── UnwritableError         (OSError)            a directory or disk that does not take our files
    ├── StorageError            (OSError)            a remote failed
    │   ├── RemoteNotFoundError (FileNotFoundError)  the object or the bucket does not exist
    │   ├── RemoteAccessError   (PermissionError)    credentials are missing or refused
    │   ├── RemoteTimeoutError  (TimeoutError)       no answer within the deadline
    │   ├── RemoteThrottledError                     the store asks for fewer requests, and goes on asking
    │   └── RemoteLengthError                        an object is longer or shorter than it has to be
    └── ShardError              (RuntimeError)       a shard cannot be read
        ├── CorruptShardError                        its bytes are not those that were written
        └── MissingShardError   (FileNotFoundError)  the index names it, the directory does not hold it
"""


class ArrowStreamError(Exception):
    """The root of all errors that arrowstream raises on purpose."""


class IndexFormatError(ArrowStreamError, ValueError):
    """An index does not say what an index must say."""


class UnknownFormatError(ArrowStreamError, LookupError):
    """No installed plugin reads the format that an index names."""


class UnknownEncodingError(ArrowStreamError, TypeError):
    """A column names an encoding that does not exist."""


class EncodingError(ArrowStreamError, TypeError):
    """A value does not fit the encoding of its column."""


class MissingColumnError(ArrowStreamError, KeyError):
    """A sample, a batch or a dataset lacks a column."""

    # KeyError would show the repr of its message.
    __str__ = Exception.__str__


class BatchSizeError(ArrowStreamError, TypeError):
    """A batch does not tell how many samples it has."""


class WorkerDiedError(ArrowStreamError, RuntimeError):
    """A worker process of a loader was killed, or ended by itself."""


class SharedOutTwiceError(ArrowStreamError, RuntimeError):
    """A trainer shares out over the ranks what each of them reads of its own."""


class StateMismatchError(ArrowStreamError, ValueError):
    """A checkpoint belongs to another order of samples, or is none."""


class UnsafeTypeError(ArrowStreamError, ValueError):
    """Reading a column would run code that came with the data."""


class MissingDependencyError(ArrowStreamError, ImportError):
    """An optional package is needed and not installed."""


class DirectoryInUseError(ArrowStreamError, FileExistsError):
    """A writer was pointed at a directory that already holds files."""


class CacheLimitError(ArrowStreamError, ValueError):
    """A cache may hold less than what is needed at once."""


class UnwritableError(ArrowStreamError, OSError):
    """A directory or a disk does not take the files that have to be written."""


class StorageError(ArrowStreamError, OSError):
    """A remote failed in a way that retrying did not mend."""


class RemoteNotFoundError(StorageError, FileNotFoundError):
    """The remote has no such object."""


class RemoteAccessError(StorageError, PermissionError):
    """The remote refused the credentials, or wants some."""


class RemoteTimeoutError(StorageError, TimeoutError):
    """The remote did not answer within the deadline."""


class RemoteThrottledError(StorageError):
    """The remote asks for fewer requests, and went on asking until the deadline."""


class RemoteLengthError(StorageError):
    """An object of the remote is longer or shorter than it has to be."""


class ShardError(ArrowStreamError, RuntimeError):
    """A shard cannot be read."""


class CorruptShardError(ShardError):
    """The bytes of a shard are not those that were written."""


class MissingShardError(ShardError, FileNotFoundError):
    """The index names a shard that its directory does not hold."""
