"""What JSON can hold."""

import pyarrow as pa

from arrowstream.columns import Encoding
from arrowstream.text_rows import holds_plainly


def holds(encoding: Encoding) -> bool:
    """Tell whether values of an encoding can be written as JSON and read back as they were."""
    return _holds(encoding.arrow_type) and encoding.name not in ("str_float", "str_decimal")


def _holds(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _holds(kind.value_type)
    if pa.types.is_struct(kind):
        return all(_holds(field.type) for field in kind)
    return holds_plainly(kind) or bool(pa.types.is_null(kind))
