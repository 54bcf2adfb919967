r"""Measurements in a CSV file, one record per line, so that nothing is measured twice."""

__all__ = ["RecordTable"]

import csv
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from filelock import FileLock

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Record = TypeVar("Record", bound="DataclassInstance")


class RecordTable(Generic[Record]):
    r"""Records of one kind, in a file that is rewritten for each addition.

    Several processes may add to the same file, and all additions are kept.

    Args:
        path: The file, which may be missing.
        kind: The data class of the records, with fields of ``str``, ``int`` and ``float``.
        key: The names of the fields that identify a record.
    """

    def __init__(self, path: Path, kind: type[Record], key: Sequence[str]) -> None:
        self.path, self.kind, self.key = path, kind, tuple(key)
        self.records: dict[tuple[str, ...], Record] = {}
        self._read()

    def _read(self) -> None:
        if not self.path.is_file():
            return
        types = {field.name: _converter(field.type) for field in fields(self.kind)}
        with self.path.open(newline="") as file:
            for line in csv.DictReader(file):
                record = self.kind(**{name: convert(line[name]) for name, convert in types.items()})
                self.records[self.key_of(record)] = record

    def key_of(self, record: Record) -> tuple[str, ...]:
        r"""Returns the key of a record."""
        return tuple(str(getattr(record, name)) for name in self.key)

    def add(self, *records: Record) -> None:
        r"""Adds records, and replaces older ones with the same key."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix(".lock")):
            self._read()
            self.records.update({self.key_of(record): record for record in records})
            temporary = self.path.with_suffix(".partial")
            with temporary.open("w", newline="") as file:
                names = [field.name for field in fields(self.kind)]
                writer = csv.DictWriter(file, names, lineterminator="\n")
                writer.writeheader()
                writer.writerows(asdict(self.records[key]) for key in sorted(self.records))
            temporary.replace(self.path)


def _converter(kind: Any) -> type:
    return {"int": int, "float": float}.get(getattr(kind, "__name__", str(kind)), str)
