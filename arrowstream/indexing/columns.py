"""What columns files have in common, and what types hold the values of all of them."""

from collections.abc import Sequence
from functools import reduce

import pyarrow as pa

from arrowstream.columns import infer_encoding
from arrowstream.errors import EncodingError
from arrowstream.foreign import declared_encoding, widen
from arrowstream.indexing.describing import DescribedFile
from arrowstream.indexing.files import natural_order


def common_columns(found: Sequence[DescribedFile], wanted: Sequence[str] | None) -> dict[str, str]:
    """Find for each column what holds the values of all files.

    Args:
        found: The files.
        wanted: The columns to declare; None: those that every file has to have.

    Returns:
        Declarations by name, in the order of the first file's columns.

    Raises:
        EncodingError: A column is missing in a file, or no type holds its values in all files.
    """
    if not found:
        return {}
    # One file for each set of columns that occurs.
    kinds = {tuple(each.description.columns.items()): each for each in reversed(found)}
    examples = sorted(kinds.values(), key=lambda each: natural_order(each.entry.key))
    names = list(wanted) if wanted is not None else list(examples[0].description.columns)
    for each in examples:
        columns = each.description.columns
        missing = [name for name in names if name not in columns]
        extra = [name for name in columns if name not in names] if wanted is None else []
        if missing:
            raise EncodingError(
                f"{each.entry.key}: has no column {', '.join(map(repr, missing))}"
                f"{'' if wanted is not None else f', {examples[0].entry.key} has'}; choose columns that all files have"
            )
        if extra:
            raise EncodingError(
                f"{each.entry.key}: has the column {', '.join(map(repr, extra))}, {examples[0].entry.key} has not; "
                f"choose columns that all files have"
            )
    return {name: _common_declaration(name, examples) for name in names}


def _common_declaration(name: str, examples: Sequence[DescribedFile]) -> str:
    declaration = examples[0].description.columns[name]
    for each in examples[1:]:
        other = each.description.columns[name]
        try:
            declaration = _widened(declaration, other)
        except EncodingError as error:
            earlier = ", ".join(
                f"{one.description.columns[name]} in {one.entry.key}" for one in examples[: examples.index(each)][:3]
            )
            raise EncodingError(f"column {name!r} is {earlier}, and {other} in {each.entry.key}: {error}") from error
    return declaration


def _widened(one: str, other: str) -> str:
    if one == other:
        return one
    encodings = [declared_encoding(text) for text in (one, other)]
    for encoding in encodings:
        # Types alone do not say what text of JSON, or bytes of an image, mean.
        if infer_encoding(pa.field("", encoding.arrow_type)).arrow_type != encoding.arrow_type or (
            encoding.name not in {"int", "float", str(encoding.arrow_type)}
            and infer_encoding(pa.field("", encoding.arrow_type)).name != encoding.name
        ):
            raise EncodingError(f"{encoding.name} goes with itself alone")
    return infer_encoding(pa.field("", reduce(widen, (encoding.arrow_type for encoding in encodings)))).name
