"""Where the time of a loader goes."""

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class LoaderStats:
    """What a loader has delivered since it was made, and how long that took.

    Attributes:
        num_samples: Samples that were delivered.
        num_batches: Batches that were delivered.
        num_bytes: Bytes of their tensors.
        elapsed_s: Seconds from the first request of each iteration to its last batch, training included.
        waiting_s: Seconds of those that the training loop waited for data.
        fetch_s: Seconds spent opening shards, waiting for their arrival included; this and what follows is summed over
            all workers, for what was delivered.
        read_s: Seconds spent reading and decoding.
        collate_s: Seconds spent in transforms, in the collate function and in filling shared memory.
    """

    num_samples: int = 0
    num_batches: int = 0
    num_bytes: int = 0
    elapsed_s: float = 0.0
    waiting_s: float = 0.0
    fetch_s: float = 0.0
    read_s: float = 0.0
    collate_s: float = 0.0

    @property
    def samples_per_s(self) -> float:
        """Samples a second, training included."""
        return self.num_samples / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def gb_per_s(self) -> float:
        """Gigabytes (10^9) of tensors a second, training included."""
        return self.num_bytes / self.elapsed_s / 1e9 if self.elapsed_s else 0.0

    @property
    def waiting(self) -> float:
        """The share of the time that the training loop waited for data, in [0, 1]."""
        return self.waiting_s / self.elapsed_s if self.elapsed_s else 0.0

    def __str__(self) -> str:
        return f"{self.samples_per_s:,.0f} samples/s, {self.gb_per_s:.2f} GB/s, {self.waiting:.0%} waiting for data"
