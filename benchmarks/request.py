"""What the harness asks of a peer's process."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One task of one peer, as it crosses from the harness into the peer's process."""

    task: str
    variant: str
    options: Mapping[str, object] = field(default_factory=dict)  # the variant's, see ``tasks.TASKS``
    way: str  # one of ``Peer.tasks[task]``
    rows_dir: str
    data_dir: str  # the peer's own dataset, made by the task ``prepare``
    scratch_dir: str  # empty, for what the task writes
    batch_size: int
    shard_bytes: int
    is_first: bool  # of this entrant: whether what it reads is to be checked

    @property
    def data(self) -> Path:
        return Path(self.data_dir)

    @property
    def has_jpeg(self) -> bool:
        """Whether the rows are JPEG files, to be decoded."""
        return Path(self.rows_dir).name == "jpeg"

    def at(self, data: Path) -> "Request":
        """The same request about another dataset directory."""
        return replace(self, data_dir=str(data))

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Request":
        return cls(**json.loads(text))
