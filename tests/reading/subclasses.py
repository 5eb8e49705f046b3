"""Datasets as users derive them; worker processes import them from here."""

from typing import Any

from arrowstream import StreamingDataset


class WithTransform(StreamingDataset):
    """Changes what an index gives, as most subclasses of mosaicml-streaming's dataset do."""

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return {"id": found["id"], "double": 2 * found["id"]}


class WithItem(StreamingDataset):
    """Changes what one sample is."""

    def get_item(self, sample_id: int) -> dict[str, Any]:
        return {"id": super().get_item(sample_id)["id"], "length": len(super().get_item(sample_id)["text"])}


class WithArguments(StreamingDataset):
    """Has a constructor and an attribute of its own."""

    def __init__(self, *, offset: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.offset = offset

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key)["id"] + self.offset


class WithEpoch(StreamingDataset):
    """Tells the number of the epoch that follows, as its worker knows it."""

    def __getitem__(self, key: Any) -> Any:
        return {"id": super().__getitem__(key)["id"], "following": self.next_epoch}
