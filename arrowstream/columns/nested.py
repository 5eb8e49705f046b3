"""Arrow's nested lists as dense arrays: what a DataFrame gives for a column of arrays."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from arrowstream.columns.arrays import Element
from arrowstream.columns.buffers import AnyArray, fixed_width
from arrowstream.errors import EncodingError


def is_list(arrow_type: pa.DataType) -> bool:
    """Tell whether a type is a list of some kind, of which the values can be laid end to end."""
    return bool(
        pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type) or pa.types.is_fixed_size_list(arrow_type)
    )


def dense_rows(array: pa.Array, element: Element, shape: tuple[int, ...]) -> AnyArray:
    """Lay out the rows of nested lists that are not null.

    Args:
        array: Lists as deep as the shape, or flat row-major lists.
        element: What the innermost values must be.
        shape: The lengths that the lists must have, outermost first.

    Returns:
        The rows, (rows that are not null, *shape), in the stored dtype.

    Raises:
        EncodingError: The lists have other lengths or elements, or nulls inside.
    """
    level = array.drop_null()
    rows = len(level)
    for size in shape if _depth(array.type) == len(shape) else (int(np.prod(shape)),):
        if not is_list(level.type):
            raise EncodingError(f"expected lists of shape {shape}, got a column of {array.type}")
        wrong = pc.not_equal(pc.list_value_length(level), size)
        if pc.any(wrong).as_py():
            length = len(level[pc.index(wrong, True).as_py()])
            raise EncodingError(f"expected lists of shape {shape}, got one of length {length} where {size} is expected")
        level = level.flatten()
    return elements(level, element).reshape(rows, *shape)


def elements(leaves: pa.Array, element: Element) -> AnyArray:
    """View the innermost values of lists in the stored dtype.

    Raises:
        EncodingError: They are of another type, or some are missing.
    """
    if leaves.null_count:
        raise EncodingError(f"expected arrays of {element.name}, got {leaves.null_count} nulls inside of lists")
    if element.name == "bool" and pa.types.is_boolean(leaves.type):
        leaves = leaves.cast(pa.uint8())
    if leaves.type != element.arrow_type:
        raise EncodingError(f"expected arrays of {element.name}, got lists of {leaves.type}; cast them first")
    return fixed_width(leaves, element.stored)


def _depth(arrow_type: pa.DataType) -> int:
    return 1 + _depth(arrow_type.value_type) if is_list(arrow_type) else 0
