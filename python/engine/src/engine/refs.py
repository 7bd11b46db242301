"""References to objects, and tables from and to the libraries that people use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from engine import errors

_ID = re.compile(r"[0-9a-fA-F]{32}")


@dataclass(frozen=True)
class ObjectRef:
    """What a program keeps of an object: its id and the cluster that it belongs to. It is a value, and holds nothing.

    Attributes:
        id: 16 bytes.
        cluster: the cluster's id. Empty means that of whoever is asked.

    """

    id: bytes
    cluster: str = ""

    def __post_init__(self) -> None:
        if len(self.id) != 16 or self.id == bytes(16):
            raise errors.InvalidArgumentError("an object id has 16 bytes, of which one is not 0", op="make reference", id=self.id.hex())

    @classmethod
    def parse(cls, text: str) -> ObjectRef:
        """Make a reference of its text, "id" or "id@cluster", the id as 32 hexadecimal digits."""
        number, _, cluster = text.partition("@")
        if not _ID.fullmatch(number):
            raise errors.InvalidArgumentError(
                f"{text!r} is not an object reference: expected 32 hexadecimal digits, @, and the cluster's id", op="parse object id"
            )
        return cls(bytes.fromhex(number), cluster)

    def __str__(self) -> str:
        return f"{self.id.hex()}@{self.cluster}" if self.cluster else self.id.hex()


def to_arrow(table: Any) -> pa.Table:
    """Make an Arrow table of a table of pyarrow (also a record batch or reader), pandas, or polars, or of what exports Arrow streams.

    pandas' index is kept as columns if it is not the plain count of rows, as pyarrow does it. Numbers of pandas without nulls and all
    of polars are not copied.

    Raises:
        InvalidArgumentError: for another type, and for a column whose values Arrow cannot hold, which it names.

    """
    if isinstance(table, pa.Table):
        return table
    if isinstance(table, pa.RecordBatch):
        return pa.Table.from_batches([table])
    if isinstance(table, pa.RecordBatchReader):
        return table.read_all()
    module = type(table).__module__.split(".")[0]
    if module == "pandas" and hasattr(table, "columns"):
        return _from_pandas(table)
    if module == "polars" and hasattr(table, "to_arrow") and hasattr(table, "columns"):
        return _from_polars(table)
    if hasattr(table, "__arrow_c_stream__"):
        try:
            return pa.table(table)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise errors.InvalidArgumentError(str(error), op="convert table", id=type(table).__name__) from None
    raise errors.InvalidArgumentError(
        f"{type(table).__name__} is no table",
        op="convert table",
        hint="give a table of pyarrow, pandas, or polars, or what has __arrow_c_stream__",
    )


def _from_pandas(frame: Any) -> pa.Table:
    try:
        return pa.Table.from_pandas(frame)
    except (pa.ArrowException, TypeError, ValueError) as error:
        # pyarrow says which column only in the text of some errors.
        for name in frame.columns:
            try:
                pa.Array.from_pandas(frame[name])
            except (pa.ArrowException, TypeError, ValueError) as column_error:
                reason = str(column_error).splitlines()[0]
                raise errors.InvalidArgumentError(
                    f"its values of type {frame[name].dtype} cannot be held by Arrow: {reason}", op="convert table", id=f"column {name!r}"
                ) from None
        raise errors.InvalidArgumentError(str(error), op="convert table") from None


def _from_polars(frame: Any) -> pa.Table:
    for name, dtype in frame.schema.items():
        # polars exports Python's objects as their addresses, and some of its types under names that Arrow does not know.
        reason = "they are objects of Python" if type(dtype).__name__ == "Object" else ""
        if not reason:
            try:
                pa.array(frame[name][:0].to_arrow())
            except (pa.ArrowException, TypeError, ValueError) as error:
                reason = str(error).splitlines()[0]
        if reason:
            raise errors.InvalidArgumentError(
                f"its values of type {dtype} cannot be held by Arrow: {reason}", op="convert table", id=f"column {name!r}"
            )
    return pa.table(frame.to_arrow())
