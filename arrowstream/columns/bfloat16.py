"""Our one Arrow extension type: tensors of bfloat16, which Arrow does not have, as the 16 bits that they are."""

import json
from collections.abc import Sequence
from math import prod

import pyarrow as pa

EXTENSION_NAME = "arrowstream.bfloat16"


class BFloat16Type(pa.ExtensionType):  # type: ignore[misc]
    """Tensors of bfloat16 of one shape, row-major, stored as fixed-size lists of uint16.

    Tools that do not know the type see the lists. The shape is the metadata of the type: ``{"shape": [2, 3]}``.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self._shape = tuple(shape)
        super().__init__(pa.list_(pa.uint16(), prod(self._shape)), EXTENSION_NAME)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of each value."""
        return self._shape

    def __str__(self) -> str:
        return f"extension<{EXTENSION_NAME}[shape={list(self._shape)}]>"

    def __eq__(self, other: object) -> bool:
        # By itself pyarrow compares the storage alone, which (2, 3) and (3, 2) have in common.
        return self._shape == other.shape if isinstance(other, BFloat16Type) else NotImplemented

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((EXTENSION_NAME, self._shape))

    def __arrow_ext_serialize__(self) -> bytes:
        return json.dumps({"shape": self._shape}).encode()

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> "BFloat16Type":
        bfloat16 = cls(json.loads(serialized)["shape"])
        if bfloat16.storage_type != storage_type:
            raise pa.ArrowInvalid(f"{bfloat16} is stored as {bfloat16.storage_type}, not as {storage_type}")
        return bfloat16


def _register() -> None:
    try:
        pa.register_extension_type(BFloat16Type([1]))
    except pa.ArrowKeyError:  # this module was loaded before; a type of the old class would not be an instance of ours
        pa.unregister_extension_type(EXTENSION_NAME)
        pa.register_extension_type(BFloat16Type([1]))


_register()
