"""Arrow types without the variants that make no difference to a reader."""

from collections.abc import Callable

import pyarrow as pa


def is_text(arrow_type: pa.DataType) -> bool:
    """Tell whether values of a type are str."""
    return bool(
        pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type) or pa.types.is_string_view(arrow_type)
    )


def is_bytes(arrow_type: pa.DataType) -> bool:
    """Tell whether values of a type are bytes of any length."""
    return bool(
        pa.types.is_binary(arrow_type) or pa.types.is_large_binary(arrow_type) or pa.types.is_binary_view(arrow_type)
    )


def plain_type(arrow_type: pa.DataType) -> pa.DataType:
    """Replace large and view variants of strings and bytes, at any depth, by string and binary."""
    if is_text(arrow_type):
        return pa.string()
    if is_bytes(arrow_type):
        return pa.binary()
    return _map_children(arrow_type, plain_type)


def without_views(arrow_type: pa.DataType) -> pa.DataType:
    """Replace the view variants of strings and bytes, at any depth, by string and binary."""
    if pa.types.is_string_view(arrow_type):
        return pa.string()
    if pa.types.is_binary_view(arrow_type):
        return pa.binary()
    return _map_children(arrow_type, without_views)


def with_wide_dictionaries(arrow_type: pa.DataType) -> pa.DataType:
    """Widen the indices of dictionaries: those of a file's record batches are joined, and narrow ones overflow."""
    arrow_type = _map_children(arrow_type, with_wide_dictionaries)
    if pa.types.is_dictionary(arrow_type) and arrow_type.index_type.bit_width < 32:
        return pa.dictionary(pa.int32(), arrow_type.value_type, ordered=arrow_type.ordered)
    return arrow_type


def _map_children(arrow_type: pa.DataType, change: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    def changed(field: pa.Field) -> pa.Field:
        return field.with_type(change(field.type))

    if pa.types.is_list(arrow_type):
        return pa.list_(changed(arrow_type.value_field))
    if pa.types.is_large_list(arrow_type):
        return pa.large_list(changed(arrow_type.value_field))
    if pa.types.is_fixed_size_list(arrow_type):
        return pa.list_(changed(arrow_type.value_field), arrow_type.list_size)
    if pa.types.is_struct(arrow_type):
        return pa.struct([changed(arrow_type.field(i)) for i in range(arrow_type.num_fields)])
    if pa.types.is_map(arrow_type):
        key, item = changed(arrow_type.key_field), changed(arrow_type.item_field)
        return pa.map_(key, item, keys_sorted=arrow_type.keys_sorted)
    if pa.types.is_dictionary(arrow_type):
        return pa.dictionary(arrow_type.index_type, change(arrow_type.value_type), ordered=arrow_type.ordered)
    return arrow_type
