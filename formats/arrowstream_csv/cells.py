"""What a cell of text can hold."""

import pyarrow as pa

from arrowstream.text_rows import holds_plainly


def holds(kind: pa.DataType) -> bool:
    """Tell whether values of a type can be written as a cell and read back as they were."""
    return bool(
        holds_plainly(kind) or pa.types.is_date32(kind) or pa.types.is_timestamp(kind) or pa.types.is_decimal128(kind)
    )


def refusal(schema: pa.Schema) -> str | None:
    """Name the first column that text cannot hold; None where it holds them all."""
    for field in schema:
        if not holds(field.type):
            return (
                f"column {field.name!r}: text holds no {field.type}, only numbers of 32 or 64 bits, bool, text, json, "
                f"dates, timestamps and decimals; write it as mds or parquet"
            )
    return None
