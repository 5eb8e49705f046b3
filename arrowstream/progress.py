"""Progress bars for work that takes a person's time."""

from types import TracebackType
from typing import Self

from tqdm.auto import tqdm


class Progress:
    """A bar on standard error, or nothing at all when it is not shown."""

    def __init__(self, description: str, *, total: int | None, unit: str, shown: bool, is_bytes: bool = False) -> None:
        self._bar = tqdm(
            desc=description,
            total=total,
            unit=unit,
            unit_scale=True,
            unit_divisor=1024 if is_bytes else 1000,
            disable=not shown,
            dynamic_ncols=True,
        )

    def advance(self, amount: int) -> None:
        """Move the bar forward."""
        self._bar.update(amount)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
