from __future__ import annotations

import json

import pytest
from helpers import make_record

from dcbench.errors import DcbenchError
from dcbench.store import RECORDS, Cost, Store, cost_beside, latest, read_records


def test_what_is_appended_is_read_back(tmp_path):
    first, second = make_record(key="a", eval_seed=0), make_record(key="b", eval_seed=1)
    store = Store(tmp_path)
    store.append(first)
    store.append(second)
    assert read_records(tmp_path / RECORDS) == [first, second]
    assert Store(tmp_path).records == [first, second]


def find(store, record):
    return store.find(
        record.condense_key, record.evaluation_network, record.protocol, record.budget, record.eval_seed
    )


def test_a_failed_record_does_not_count_as_done(tmp_path):
    failed = make_record(status="failed", accuracy=None, error="RuntimeError: no")
    store = Store(tmp_path)
    store.append(failed)
    assert find(store, failed) is None
    done = make_record()
    store.append(done)
    assert find(store, done) == find(Store(tmp_path), done) == done


@pytest.mark.parametrize(
    "change", [{"budget": "quick"}, {"protocol": "dsa"}, {"eval_seed": 7}, {"condense_key": "f"}]
)
def test_only_the_same_trial_is_found(tmp_path, change):
    store = Store(tmp_path)
    store.append(make_record())
    assert find(store, make_record(**change)) is None


def test_a_torn_last_line_is_dropped_with_a_warning(tmp_path):
    store = Store(tmp_path)
    store.append(make_record(key="a"))
    with open(tmp_path / RECORDS, "ab") as file:
        file.write(make_record(key="b").to_json().encode()[:-20])
    with pytest.warns(UserWarning, match="torn"):
        assert [record.key for record in read_records(tmp_path / RECORDS)] == ["a"]
    store.append(make_record(key="c"))
    assert [record.key for record in read_records(tmp_path / RECORDS)] == ["a", "c"]


def test_a_last_line_that_only_lacks_its_end_is_kept(tmp_path):
    path = tmp_path / RECORDS
    path.write_text(make_record(key="a").to_json())
    assert [record.key for record in read_records(path)] == ["a"]
    Store(tmp_path).append(make_record(key="b"))
    assert [record.key for record in read_records(path)] == ["a", "b"]


@pytest.mark.parametrize("line", ["{}", "nonsense", "[]", json.dumps({"schema": 1})])
def test_a_damaged_line_in_the_middle_is_named(tmp_path, line):
    path = tmp_path / RECORDS
    path.write_text(f"{line}\n{make_record().to_json()}\n")
    with pytest.raises(DcbenchError, match=rf"{RECORDS}, line 1 is not a record"):
        read_records(path)


def test_an_accuracy_must_be_a_fraction(tmp_path):
    fields = json.loads(make_record().to_json()) | {"accuracy": 82.6}
    (tmp_path / RECORDS).write_text(json.dumps(fields) + "\n")
    with pytest.raises(DcbenchError, match="accuracy"):
        read_records(tmp_path / RECORDS)


def test_the_last_successful_record_of_a_key_counts():
    old, new = make_record(key="a", accuracy=0.1), make_record(key="a", accuracy=0.2)
    failed = make_record(key="a", status="failed", accuracy=None)
    assert latest([old, new, failed]) == [new]


COST = Cost(12.5, 1000, "fast", 3, 0.25)


@pytest.fixture
def cost_file(tmp_path, monkeypatch):
    monkeypatch.setattr(Store, "set_path", lambda self, spec: tmp_path / "set.safetensors")
    Store(tmp_path).write_cost(None, COST)
    return tmp_path / "set.cost.json"


def test_what_a_set_took_is_read_back(tmp_path, cost_file):
    assert cost_beside(tmp_path / "set.safetensors") == COST


def test_a_damaged_cost_is_not_known_rather_than_wrong(tmp_path, cost_file):
    data = cost_file.read_bytes()
    found = set()
    for at in range(len(data)):
        for changed in (bytes([data[at] ^ 1]), b""):
            cost_file.write_bytes(data[:at] + changed + data[at + 1 :])
            found.add(cost_beside(tmp_path / "set.safetensors"))
    assert found <= {None, COST}  # blanks may be damaged
    assert None in found


def test_a_cost_of_an_earlier_version_is_read(tmp_path, cost_file):
    cost_file.write_text('{"seconds": 2.5, "peak_memory_bytes": 7, "engine": "plain"}')
    assert cost_beside(tmp_path / "set.safetensors") == Cost(2.5, 7)
