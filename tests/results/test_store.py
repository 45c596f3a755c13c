from __future__ import annotations

import itertools
import json
import warnings

import pytest
from helpers import make_record
from hypothesis import given
from hypothesis import strategies as st

from dcbench.leaderboard.scores import find_records
from dcbench.results.artefacts import Cost, cost_beside, write_cost_beside
from dcbench.results.records import RECORD_SCHEMA, Record, sealed
from dcbench.results.store import RECORDS, Store, latest, read_records
from dcbench.utils.errors import DcbenchError, NewerFormat


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
    (tmp_path / RECORDS).write_text(sealed(fields) + "\n")
    with pytest.raises(DcbenchError, match="accuracy"):
        read_records(tmp_path / RECORDS)


def test_the_last_successful_record_of_a_key_counts():
    old, new = make_record(key="a", accuracy=0.1), make_record(key="a", accuracy=0.2)
    failed = make_record(key="a", status="failed", accuracy=None)
    assert latest([old, new, failed]) == [new]


def test_which_record_of_a_trial_counts_does_not_depend_on_their_order():
    records = [
        make_record(key=key, accuracy=accuracy, eval_seed=seed, condense_key="c", started_at=f"2025-01-0{day}")
        for key, accuracy, seed, day in (("a", 0.1, 0, 2), ("b", 0.2, 0, 2), ("b", 0.3, 0, 1), ("c", 0.4, 1, 1))
    ]
    found = latest(records)
    assert [record.accuracy for record in found] == [0.4, 0.2]
    assert all(latest(order) == found for order in itertools.permutations(records))


def test_a_record_says_what_was_condensed_and_evaluated():
    record = make_record(condense_seed=3, eval_seed=4, ipc=None, options={"lr": 0.1})
    condensed, evaluated = record.condense_spec(), record.evaluation_spec()
    assert (condensed.seed, condensed.ipc, condensed.options) == (3, None, {"lr": 0.1})
    assert (evaluated.seed, evaluated.set_sha256) == (4, record.set_sha256)


@pytest.mark.parametrize("lines", [0, 1, 200])
@pytest.mark.parametrize("end", [b"", b"\n", b'{"schema"', b"?" * 10_000])
def test_only_a_torn_last_line_is_lost_by_appending(tmp_path, lines, end):
    path = tmp_path / RECORDS
    whole = "".join(make_record(eval_seed=seed).to_json() + "\n" for seed in range(lines)).encode()
    path.write_bytes(whole + end)
    record = make_record(eval_seed=1000)
    with warnings.catch_warnings(record=True):
        Store(tmp_path).append(record)
    assert path.read_bytes() == whole + (b"\n" if end == b"\n" else b"") + record.to_json().encode() + b"\n"


# Several runs append to the same file


def lines_of(*records):
    return "".join(record.to_json() + "\n" for record in records).encode()


def trials(count, **fields):
    return [make_record(eval_seed=seed, **fields) for seed in range(count)]


def test_what_others_have_appended_is_read(tmp_path):
    records, stores = trials(6), [Store(tmp_path), Store(tmp_path)]
    for number, record in enumerate(records):
        stores[number % 2].append(record)
    for store in stores * 2:
        store.refresh()
        assert store.records == records
        assert all(find(store, record) == record for record in records)


def test_a_file_that_has_not_changed_is_not_read_again(tmp_path, monkeypatch):
    store = Store(tmp_path)
    for record in trials(3):
        store.append(record)
    monkeypatch.setattr(Record, "from_json", lambda _: pytest.fail("read again"))
    store.refresh()
    store.append(make_record(eval_seed=3))
    store.refresh()
    assert store.records == trials(4)


def test_only_what_others_have_appended_is_read_on(tmp_path, monkeypatch):
    """Two runs append in turns: neither reads all records for each record of the other."""
    ours, theirs, read = Store(tmp_path), Store(tmp_path), []
    original = Record.from_json
    monkeypatch.setattr(Record, "from_json", lambda line: read.append(line) or original(line))
    records = trials(8)
    for mine, other in zip(records[::2], records[1::2], strict=True):
        ours.append(mine)
        theirs.append(other)
    ours.refresh()
    assert ours.records == theirs.records == records
    assert len(read) == len(records)


@pytest.mark.filterwarnings("ignore:.*torn")
def test_a_line_that_is_being_written_is_read_when_it_is_whole(tmp_path):
    first, second = trials(2)
    store, line = Store(tmp_path), lines_of(second)
    store.append(first)
    for start, end in ((0, 1), (1, 40), (40, len(line))):
        store.refresh()
        assert store.records == [first]
        with open(tmp_path / RECORDS, "ab") as file:
            file.write(line[start:end])
    store.refresh()
    assert store.records == [first, second]


def test_a_damaged_line_before_one_that_is_being_written_is_named(tmp_path):
    (record,) = trials(1)
    store = Store(tmp_path)
    store.append(record)
    with open(tmp_path / RECORDS, "ab") as file:
        file.write(b"damaged\n" + lines_of(record)[:40])
    with pytest.warns(UserWarning, match="left out damaged lines 2, 3;"):
        store.refresh()


@pytest.mark.parametrize("count", [0, 2, 4])
def test_another_file_in_the_place_of_the_records_is_read_anew(tmp_path, count):
    store = Store(tmp_path)
    for record in trials(3, accuracy=0.25):
        store.append(record)
    others = trials(count, accuracy=0.5)
    (tmp_path / "aside").write_bytes(lines_of(*others))
    (tmp_path / "aside").replace(tmp_path / RECORDS)
    store.refresh()
    assert store.records == others
    assert [find(store, record) for record in trials(4)] == [*others, None, None, None, None][:4]


def test_records_that_are_gone_count_no_more(tmp_path):
    store, record = Store(tmp_path), make_record()
    store.append(record)
    (tmp_path / RECORDS).unlink()
    store.refresh()
    assert store.records == []
    assert find(store, record) is None
    store.append(record)
    assert Store(tmp_path).records == store.records == [record]


@given(
    st.lists(st.tuples(st.sampled_from(["append", "tear", "refresh"]), st.integers(0, 1)), max_size=12), st.data()
)
def test_whatever_runs_do_in_turns_all_read_the_same(tmp_path_factory, steps, data):
    """Runs append, die while they append, and refresh, in any order."""
    folder = tmp_path_factory.mktemp("results")
    stores = [Store(folder), Store(folder)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed, (step, who) in enumerate(steps):
            record = make_record(eval_seed=seed % 3, accuracy=seed / 16, started_at=f"{seed % 2}")
            if step == "append":
                stores[who].append(record)
            elif step == "refresh":
                stores[who].refresh()
            elif not (folder / RECORDS).exists() or (folder / RECORDS).read_bytes().endswith(b"\n"):
                line = lines_of(record)
                with open(folder / RECORDS, "ab") as file:
                    file.write(line[: data.draw(st.integers(0, len(line)))])
        for store in stores:
            store.refresh()
        afresh = Store(folder)
    for store in stores:
        assert store.records == afresh.records
        assert all(find(store, record) == find(afresh, record) for record in trials(3))


@given(st.permutations(range(5)))
def test_trials_of_a_set_that_was_made_again_with_other_bytes_count_no_more(tmp_path_factory, order):
    first = [make_record(eval_seed=seed, set_sha256="a" * 64, started_at=f"1{seed}") for seed in range(3)]
    second = [make_record(eval_seed=seed, set_sha256="b" * 64, started_at=f"2{seed}") for seed in range(2)]
    shuffled = [(first + second)[place] for place in order]
    assert latest(shuffled) == second
    store = Store(tmp_path_factory.mktemp("results"))
    for record in shuffled:
        store.append(record)
    assert [find(store, record) for record in trials(3)] == [*second, None]


def test_of_what_is_left_over_only_dcbench_s_own_files_are_cleared(tmp_path, monkeypatch):
    monkeypatch.setattr("dcbench.utils.files.LEFT_OVER_SECONDS", -1.0)
    ours = [tmp_path / "sets" / ".a.png.0a1b2c3_.tmp", tmp_path / "checkpoints" / ".b.safetensors.abcdefgh.tmp"]
    others = [
        tmp_path / ".a.png.0a1b2c3_.tmp",
        tmp_path / "sets" / ".mine.tmp",
        tmp_path / "sets" / "deeper" / ".a.png.0a1b2c3_.tmp",
        tmp_path / ".git" / ".index.0a1b2c3_.tmp",
    ]
    for path in ours + others:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "sets" / ".folder.0a1b2c3_.tmp").mkdir()
    (tmp_path / "sets" / ".link.0a1b2c3_.tmp").symlink_to(tmp_path)
    store = Store(tmp_path)
    store.clear_left_over()
    assert not any(path.exists() for path in ours)
    assert all(path.exists() for path in others)


COST = Cost(12.5, 1000, "fast", 3, 0.25)


@pytest.fixture
def cost_file(tmp_path):
    write_cost_beside(tmp_path / "set.safetensors", COST)
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


# Damage: a line that is not as it was written counts for nothing, and costs no other


def leniently(path):
    """Read the records of results, with what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return read_records(path, strict=False), [str(each.message) for each in caught]


DAMAGE = {
    "another number": lambda line: line.replace(b'"accuracy": 0.25', b'"accuracy": 0.75'),
    "another schema": lambda line: line.replace(b'"schema": 8', b'"schema": 2'),
    "no checksum": lambda line: json.dumps({**json.loads(line), "checksum": None}).encode(),
    "another record's checksum": lambda line: json.dumps({**json.loads(line), "checksum": "0" * 16}).encode(),
    "cut short": lambda line: line[:40],
    "an empty object": lambda line: b"{}",
    "garbage": lambda line: bytes(range(128, 256)) * 20,
    "invalid UTF-8": lambda line: line.replace(b"made_up", b"made_\xff\xfe"),
    "NUL bytes": lambda line: b"\0" * 4096,
    "a NUL byte within": lambda line: line.replace(b"made_up", b"made\0up"),
    "deep nesting": lambda line: b'{"options": ' + b"[" * 100_000,
    "deep nesting, closed": lambda line: b'{"options": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a huge number": lambda line: line.replace(b'"ipc": 1', b'"ipc": ' + b"9" * 10_000),
    "an infinite number": lambda line: line.replace(b'"accuracy": 0.25', b'"accuracy": 1e999'),
    "not a number": lambda line: line.replace(b'"accuracy": 0.25', b'"accuracy": NaN'),
    "two records on a line": lambda line: line + line,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_line_of_results_is_left_out_and_named(tmp_path, damage):
    records = [make_record(eval_seed=seed, accuracy=0.25) for seed in range(3)]
    lines = [record.to_json().encode() for record in records]
    damaged = DAMAGE[damage](lines[1])
    assert damaged != lines[1]
    written = b"\n".join((lines[0], damaged, lines[2], b""))
    (tmp_path / RECORDS).write_bytes(written)
    found, said = leniently(tmp_path / RECORDS)
    assert found == [records[0], records[2]]
    assert said == [f"{tmp_path / RECORDS}: left out damaged line 2; those trials are done again."]
    with pytest.warns(UserWarning, match="line 2"):
        assert Store(tmp_path).records == find_records(tmp_path) == found
    assert (tmp_path / RECORDS).read_bytes() == written
    with pytest.raises(DcbenchError, match=f"{RECORDS}, line 2 is not a record: "):
        read_records(tmp_path / RECORDS)


def test_many_damaged_lines_are_one_warning(tmp_path):
    (tmp_path / RECORDS).write_text("?\n" * 30 + make_record().to_json() + "\n" + make_record().to_json()[:9])
    found, (said,) = leniently(tmp_path / RECORDS)
    assert found == [make_record()]
    assert "left out damaged lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …;" in said


def test_no_flipped_byte_makes_another_record(tmp_path):
    """Each byte of a small file becomes each of some others: a record is as it was, or is left out and named."""
    short = {"key": "k", "condense_key": "c", "set_sha256": "s", "dataset_sha256": "d", "source_sha256": "f"}
    records = [make_record(accuracy=0.1 * seed, eval_seed=seed, **short) for seed in (1, 2)]
    whole = "".join(record.to_json() + "\n" for record in records).encode()
    path = tmp_path / RECORDS
    for place, byte in enumerate(whole):
        for other in {byte ^ (1 << place % 8), *b"\n9"} - {byte}:
            path.write_bytes(whole[:place] + bytes([other]) + whole[place + 1 :])
            found, said = leniently(path)
            assert all(record in records for record in found), (place, other)
            assert len(said) == (found != records), (place, other)
            # What is found is the other line, but where their common end was hit.
            assert len(found) >= (0 if byte == 0x0A else 1), (place, other)


@given(st.data())
def test_any_other_bytes_in_a_line_make_no_other_record(data):
    record = make_record(accuracy=0.125)
    line = record.to_json().encode()
    start = data.draw(st.integers(0, len(line)))
    end = data.draw(st.integers(start, min(len(line), start + 20)))
    changed = line[:start] + data.draw(st.binary(max_size=20)) + line[end:]
    try:
        found = Record.from_json(changed)
    except ValueError:
        return
    assert found == record


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), values, max_size=4))
def test_what_is_written_is_read_whatever_the_options(options):
    record = make_record(options=options, key="a", condense_key="b", set_sha256="c")
    assert Record.from_json(record.to_json()) == record


def of_a_newer_dcbench(record, **fields):
    return sealed({**record.model_dump(by_alias=True), "schema": RECORD_SCHEMA + 1, "news": 1, **fields}).encode()


@pytest.mark.parametrize("strict", [False, True])
def test_a_line_of_a_newer_dcbench_is_no_damage_and_such_results_are_not_opened(tmp_path, strict):
    store = Store(tmp_path)
    store.append(make_record())
    line = of_a_newer_dcbench(make_record(eval_seed=1))
    with open(tmp_path / RECORDS, "ab") as file:
        file.write(line + b"\n")
    before = (tmp_path / RECORDS).read_bytes()
    message = r"records\.jsonl, line 2, is of a newer dcbench: upgrade this one, or use other results\."
    with pytest.raises(NewerFormat, match=message):
        read_records(tmp_path / RECORDS, strict)
    for open_it in (store.refresh, lambda: Store(tmp_path)):
        with pytest.raises(NewerFormat, match=message):
            open_it()
    assert (tmp_path / RECORDS).read_bytes() == before


def test_a_damaged_line_that_claims_to_be_of_a_newer_dcbench_is_damaged(tmp_path):
    line = of_a_newer_dcbench(make_record()).replace(b'"news": 1', b'"news": 2')
    (tmp_path / RECORDS).write_bytes(line + b"\n")
    with pytest.warns(UserWarning, match="left out damaged line 1;"):
        assert read_records(tmp_path / RECORDS, strict=False) == []


@pytest.mark.parametrize("schema", [1, 2])
def test_lines_of_old_have_no_checksum_and_stay_as_they_are(schema):
    line = json.dumps({**fields_of_old(), "schema": schema}, sort_keys=True)
    assert Record.from_json(line).to_json() == line
    assert "checksum" not in line


def test_lines_that_know_no_sources_stay_as_they_are():
    line = sealed({**fields_of_old(), "schema": 3})
    assert Record.from_json(line).to_json() == line
    assert Record.from_json(line).sources == {}


def fields_of_old():
    later = {"augmentation", "brings", "networks_seconds", "packages", "recipe", "sources", "teacher"}
    later |= {"balanced_accuracy", "diverged", "measure", "main", "unit", "lower_is_better", "scores", "steps"}
    return make_record().model_dump(by_alias=True, exclude=later)


FACTS = {"network": "linear", "recipe": "30 epochs", "sha256": "ab" * 32, "held_out_accuracy": 0.9, "bytes": 12}


@pytest.mark.parametrize(
    "teacher", [{"sha256": "x"}, FACTS | {"held_out_accuracy": 2}, FACTS | {"bytes": "many"}, FACTS | {"more": 1}]
)
def test_a_teacher_without_its_facts_makes_no_record(teacher):
    line = sealed({**make_record().model_dump(by_alias=True), "teacher": teacher})
    with pytest.raises(ValueError, match=r"^teacher"):
        Record.from_json(line)
    assert Record.from_json(make_record(teacher=FACTS).to_json()).teacher == FACTS
