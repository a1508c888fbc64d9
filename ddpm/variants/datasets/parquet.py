"""Parquet files with a column of encoded pictures, as Hugging Face's datasets are published."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from ddpm.base.errors import UserError
from ddpm.base.variant import shown
from ddpm.sources.archives import ALWAYS_ALLOWED_BYTES, MAX_EXPANSION
from ddpm.sources.packed import Packed, PackedImage, Part, check_size

BUFFER_BYTES = 2**20  # of a column, which is read whole without it
ROWS = 16  # decoded at a time
HUGGING_FACE = b"huggingface"  # key of a file's metadata


class Parquet(Packed):
    """``image`` is the column with the pictures: bytes of any image format, or structs whose ``bytes`` they are. It
    must be given if there are several. ``label`` is the column with the classes, whole numbers or words; by default
    "label", if there is one. Numbers get the names of Hugging Face's ClassLabel, if the file has them.
    """

    image: str | None = None
    label: str | None = None

    suffixes = (".parquet",)

    def part(self, path: Path, name: str) -> Part:
        with _readable(name):
            file = parquet.ParquetFile(path, buffer_size=BUFFER_BYTES, pre_buffer=False)
            schema = file.schema_arrow
            image, label = self._image(schema, name), self._label(schema, name)
        allowed = max(ALWAYS_ALLOWED_BYTES, MAX_EXPANSION * path.stat().st_size)
        return Part(_samples(file, image, label, name, allowed), _class_names(schema, label))

    def _image(self, schema: pa.Schema, name: str) -> str:
        possible = [field.name for field in schema if _column(field) and schema.get_field_index(field.name) >= 0]
        columns = possible if self.image is None else [name for name in possible if name == self.image]
        if len(columns) == 1:
            return columns[0]
        given = "one column" if self.image is None else f"the column {shown(self.image)}"
        raise UserError(
            f"{name}: needs {given} of pictures (data.dataset.parquet.image); those that could be: "
            f"{shown(possible)} of {shown(schema.names)}"
        )

    def _label(self, schema: pa.Schema, name: str) -> str | None:
        column = self.label or "label"
        if self.label is None and column not in schema.names:
            return None
        index = schema.get_field_index(column)  # -1 if it is missing, or twice there
        kind = schema.field(index).type if index >= 0 else pa.null()
        value = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not (pa.types.is_integer(value) or pa.types.is_string(value) or pa.types.is_large_string(value)):
            raise UserError(
                f"{name}: needs one column {shown(column)} of whole numbers or words (data.dataset.parquet.label); "
                f"there are {shown([f'{field.name}: {field.type}' for field in schema])}"
            )
        return column


def _column(field: pa.Field) -> str | None:
    """What to read of a column of pictures; None if it cannot hold any."""
    kind, column = field.type, field.name
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind, column = kind.field("bytes").type, f"{column}.bytes"
    return column if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) else None


def _samples(
    file: parquet.ParquetFile, image: str, label: str | None, name: str, allowed: int
) -> Iterator[PackedImage]:
    """allowed: bytes of pictures in all."""
    columns = [_column(file.schema_arrow.field(image)), *([label] if label else [])]
    row = 0
    with _readable(name):
        for batch in file.iter_batches(ROWS, columns=columns, use_threads=False):
            labels = batch[label].to_pylist() if label else [None] * len(batch)
            for picture, number in zip(batch[image], labels, strict=True):
                value = picture.as_py()
                content = (value["bytes"] if isinstance(value, dict) else value) or b""
                check_size(f"{name}/{row}", len(content))
                allowed -= len(content)
                if allowed < 0:
                    raise UserError(f"{name}: its pictures take over {MAX_EXPANSION} times its size; do not trust it")
                yield PackedImage(f"{name}/{row}", content, number)
                row += 1


def _class_names(schema: pa.Schema, label: str | None) -> tuple[str, ...] | None:
    """Hugging Face's, if the file has them."""
    try:
        names = json.loads(schema.metadata[HUGGING_FACE])["info"]["features"][label]["names"]
    except (LookupError, RecursionError, TypeError, ValueError):
        return None
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


@contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, MemoryError, ValueError) as error:
        raise UserError(f"{name}: truncated or broken Parquet file ({error}); fetch it again") from error
