r"""The tables of the benchmarks: what was measured is kept, whoever adds to it."""

import math
from dataclasses import dataclass

import pytest
from joblib import Parallel, delayed

from benchmarks.records import RecordTable


@dataclass(frozen=True)
class Measurement:
    name: str
    seed: int
    value: float


def table(path):
    return RecordTable(path, Measurement, ("name", "seed"))


def test_records_come_back_as_they_were(tmp_path):
    path = tmp_path / "folder" / "table.csv"
    assert table(path).records == {}
    one, other = Measurement("a, b", 1, 0.1), Measurement("a, b", 0, math.inf)
    table(path).add(one, other)
    assert list(table(path).records.values()) == [other, one]
    assert path.read_text() == 'name,seed,value\n"a, b",0,inf\n"a, b",1,0.1\n'
    table(path).add(Measurement("a, b", 1, 0.2))
    assert table(path).records["a, b", "1"].value == 0.2
    assert len(table(path).records) == 2
    table(path).add(Measurement("nothing", 0, math.nan))
    assert math.isnan(table(path).records["nothing", "0"].value)


def add_some(path, name):
    own = table(path)
    for seed in range(20):
        own.add(Measurement(name, seed, seed / 10))


def test_processes_keep_what_others_have_added(tmp_path):
    path = tmp_path / "table.csv"
    Parallel(n_jobs=3)(delayed(add_some)(path, name) for name in "abc")
    assert sorted(table(path).records) == sorted((name, str(seed)) for name in "abc" for seed in range(20))


def test_a_table_of_other_columns_is_not_taken_for_one(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("name,seed\na,1\n")
    with pytest.raises(KeyError, match="value"):
        table(path)
