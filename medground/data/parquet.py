"""Streams of records in and out of parquet files: one batch in memory, columns as the values are, nothing dropped."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from medground._io import make_folder
from medground.errors import ConfigError

__all__ = ["GROUP", "GROUP_BYTES", "columns_of", "read_records", "write_records"]

GROUP = 256
"""Rows of a row group that `write_records` writes, at most."""

GROUP_BYTES = 64 << 20
"""Embedded bytes after which it begins another row group."""

_BATCH = 64  # rows decoded at once: with embedded pictures a few hundred would be hundreds of megabytes

_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_PICTURES = pa.list_(_PICTURE)
_LAYOUT = pa.schema(
    [
        ("data_source", pa.string()),
        ("prompt", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("images", _PICTURES),
        ("masks", _PICTURES),
        ("ability", pa.string()),
        ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
        (
            "extra_info",
            pa.struct(
                [
                    ("id", pa.string()),
                    ("supercategory", pa.string()),
                    ("category", pa.string()),
                    ("modality", pa.string()),
                    ("health", pa.bool_()),
                    ("short", pa.string()),
                    ("long", pa.string()),
                    ("think", pa.string()),
                    ("image_size", pa.list_(pa.int64())),
                    ("coordinates", pa.string()),
                    ("group", pa.string()),
                    ("licence", pa.string()),
                    ("source", pa.string()),
                    ("split", pa.string()),
                    ("style", pa.string()),
                    ("template", pa.string()),
                    ("facts", pa.string()),
                    ("other", pa.string()),
                ]
            ),
        ),
    ]
)


def read_records(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a parquet file as dicts; raises ConfigError when it can't be read."""
    try:
        with pq.ParquetFile(file, memory_map=True) as source:
            for batch in source.iter_batches(batch_size=_BATCH):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"{file}: can't be read as parquet ({error}); restore the file") from error


def columns_of(file: Path) -> list[str]:
    """Return the names of a parquet file's columns; raises ConfigError when it can't be read."""
    try:
        return list(pq.read_schema(file, memory_map=True).names)
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"{file}: can't be read as parquet ({error}); restore the file") from error


def write_records(records: Iterable[dict[str, Any]], path: Path) -> int:
    """Write records, one row group at a time, into a file that appears whole or not at all; return how many.

    Columns and fields come in the order of their first appearance; one that a record lacks is null there. Types are
    the layout's where the values don't tell (all null, or empty lists).

    Raises
    ------
    ConfigError
        When the file can't be written, or the values of a column have no type in common.
    """
    home = make_folder(path.parent)
    try:
        with tempfile.TemporaryDirectory(dir=home, prefix=f".{path.name[:40]}.") as folder:
            parts, count = _write_parts(records, Path(folder), path)
            # A column that appears late, or turns out to hold fractions, began a new part: all are written as one now.
            whole = parts[0] if len(parts) == 1 else _joined(parts, Path(folder) / "whole", path)
            with whole.open("rb+") as stream:
                os.fsync(stream.fileno())
            os.replace(whole, path)
    except OSError as error:
        raise ConfigError(f"can't write {path}: {error.strerror or error}; free it or choose another") from error
    return count


def _write_parts(records: Iterable[dict[str, Any]], folder: Path, path: Path) -> tuple[list[Path], int]:
    parts: list[Path] = []
    schema, count = _LAYOUT, 0
    with ExitStack() as stack:
        writer: pq.ParquetWriter | None = None
        for group in _groups(records):
            grown = _schema_of(group, path)
            if writer is not None:
                grown = _unified([schema, grown], path)
            if writer is None or not grown.equals(schema, check_metadata=True):
                stack.pop_all().close()
                schema = grown
                parts.append(folder / str(len(parts)))
                writer = stack.enter_context(pq.ParquetWriter(parts[-1], schema, compression="zstd"))
            writer.write_table(_table(group, schema, path))
            count += len(group)
        if writer is None:  # no rows: a file with the columns and nothing in them
            parts.append(folder / "0")
            stack.enter_context(pq.ParquetWriter(parts[-1], schema))
    return parts, count


def _joined(parts: list[Path], whole: Path, path: Path) -> Path:
    schema = _unified([pq.read_schema(part) for part in parts], path)
    with pq.ParquetWriter(whole, schema, compression="zstd") as writer:
        for group in _groups(record for part in parts for record in read_records(part)):
            writer.write_table(_table(group, schema, path))
    return whole


def _table(group: list[dict[str, Any]], schema: pa.Schema, path: Path) -> pa.Table:
    columns = []
    for field in schema:
        try:
            columns.append(pa.array([record.get(field.name) for record in group], type=field.type))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise ConfigError(_mixed(path, field.name, error)) from error
    return pa.Table.from_arrays(columns, schema=schema)


def _mixed(path: Path, column: str, error: Exception) -> str:
    return f"{path}: column {column}: its values have no type in common ({error}); make them alike, or write two files"


def _groups(records: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    weight = 0
    for record in records:
        group.append(record)
        weight += sum(map(_embedded_bytes, record.values()))
        if len(group) == GROUP or weight > GROUP_BYTES:
            yield group
            group, weight = [], 0
    if group:
        yield group


def _embedded_bytes(value: Any) -> int:
    """Return how many bytes a picture, or a list of them, holds."""
    if isinstance(value, dict):
        value = value.get("bytes")
    elif isinstance(value, list) and value and isinstance(value[0], dict | bytes):
        return sum(map(_embedded_bytes, value))
    return len(value) if isinstance(value, bytes) else 0


# --- types: as the values are, and as the layout has them where the values don't tell --------------------------------


def _schema_of(group: list[dict[str, Any]], path: Path) -> pa.Schema:
    names = list(dict.fromkeys(name for record in group for name in record))
    usual = {field.name: field.type for field in _LAYOUT} | {"image": _PICTURE}
    fields = []
    for name in names:
        try:
            fields.append((name, _filled(_type_of([record.get(name) for record in group]), usual.get(name))))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise ConfigError(_mixed(path, name, error)) from error
    schema = pa.schema(fields)
    decoded: dict[str, Any] = {}
    for field in schema:
        pictures = [record.get(field.name) for record in group]
        if field.type == _PICTURE and all(each and each["bytes"] for each in pictures):
            decoded[field.name] = {"_type": "Image"}
        elif field.type == _PICTURES and all(each["bytes"] for several in pictures for each in several or ()):
            decoded[field.name] = {"feature": {"_type": "Image"}, "_type": "List"}
    if not decoded.keys() & {"image", "images"}:
        return schema
    # `datasets` decodes columns that are told to be images; it couldn't if they were paths relative to this file.
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": decoded}})})


def _type_of(values: list[Any]) -> pa.DataType:
    """Return the Arrow type of values, a struct's fields in the order in which they come: Arrow would sort them."""
    there = [value for value in values if value is not None]
    if there and all(isinstance(value, dict) for value in there):
        names = dict.fromkeys(name for value in there for name in value)
        if not names:
            raise ValueError("structs without fields, which parquet can't hold")
        return pa.struct([(name, _type_of([value.get(name) for value in there])) for name in names])
    if there and all(isinstance(value, list) for value in there):
        return pa.list_(_type_of([each for value in there for each in value]))
    return pa.infer_type(there)


def _filled(found: pa.DataType, usual: pa.DataType | None) -> pa.DataType:
    """Return a type with its unknown parts (all values None, lists empty) as the layout has them."""
    if usual is None:
        return found
    if pa.types.is_null(found):
        return usual
    if pa.types.is_list(found) and pa.types.is_list(usual):
        return pa.list_(_filled(found.value_type, usual.value_type))
    if pa.types.is_struct(found) and pa.types.is_struct(usual):
        known = {field.name: field.type for field in usual}
        return pa.struct([(field.name, _filled(field.type, known.get(field.name))) for field in found])
    return found


def _unified(schemas: list[pa.Schema], path: Path) -> pa.Schema:
    metadata = schemas[0].metadata if all(each.metadata == schemas[0].metadata for each in schemas) else None
    bare = [each.remove_metadata() for each in schemas]
    try:
        return pa.unify_schemas(bare, promote_options="permissive").with_metadata(metadata)
    except pa.ArrowException as error:
        raise ConfigError(
            f"{path}: the values of a column have no type in common ({error}); make them alike, or write two files"
        ) from error
