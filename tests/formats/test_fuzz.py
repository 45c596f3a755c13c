"""Whatever is read, from a file or the command line, is just what was written or one message that names it.

`DCBENCH_FUZZ=5000 pytest -o faulthandler_timeout=0 tests/formats/test_fuzz.py` tries so many examples of each,
other ones every time. Without it hundreds are tried with `--slow`, else a tenth of them, the same ones always.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import warnings
from functools import partial

import depth
import numpy as np
import pytest
import tomli_w
import torch
from click.testing import CliRunner
from dcbench_plugins.datasets.folder import Folder
from dcbench_plugins.datasets.npz import Npz
from helpers import make_info, make_record, make_set, make_split, make_train
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save as save_tensors

from dcbench.cli import main
from dcbench.core.component import Component
from dcbench.core.condensed_set import CondensedSet
from dcbench.core.loaded_dataset import LoadedDataset, load_dataset
from dcbench.core.spec import CondenseSpec
from dcbench.formats.conversion import to_condensed
from dcbench.formats.foreign import Statement, read_foreign
from dcbench.plugins import Plugins
from dcbench.results.checked_set import read_checked_set
from dcbench.results.records import Record
from dcbench.results.set_file import load_set, save_set, without_images
from dcbench.results.set_header import content_sha256
from dcbench.results.store import read_records
from dcbench.results.stored_pixels import stored_pixels
from dcbench.results.submission import CARD, read_submission
from dcbench.suites.file import load_suite
from dcbench.utils.errors import DcbenchError

MANY = int(os.environ.get("DCBENCH_FUZZ", "0"))


def fuzz(examples):
    """Settings that try so many examples, a tenth without ``--slow``, or as many as the environment says."""
    return settings(
        max_examples=MANY or (examples if depth.SLOW else examples // 10),
        derandomize=not MANY,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


# Damage


@st.composite
def damaged(draw, whole):
    """Bytes with something flipped, cut off, left out, written twice or overwritten; seldom bytes of no origin."""
    kind = draw(st.sampled_from(["flip", "flip", "flips", "cut", "out", "twice", "over", "noise"]))
    if kind == "noise" or not whole:
        return draw(st.binary(max_size=200))
    data, length = bytearray(whole), len(whole)
    places = st.integers(0, length - 1)
    start = draw(places)
    end = draw(st.integers(start, min(length, start + 64)))
    if kind in ("flip", "flips"):
        for _ in range(1 if kind == "flip" else draw(st.integers(2, 6))):
            data[draw(places)] ^= draw(st.integers(1, 255))
    elif kind == "cut":
        del data[start:]
    elif kind == "out":
        del data[start:end]
    elif kind == "twice":
        data[start:start] = data[start:end]
    else:
        data[start:end] = draw(st.binary(min_size=end - start, max_size=end - start))
    return bytes(data)


def outcome(read, path):
    """What reading gives, or None for a message, which names the file. Anything else that is raised fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PIL's of strange images, and that a last line is torn
        try:
            return read(path)
        except DcbenchError as error:
            text = str(error)
    assert str(path) in text, text
    return None


# Condensed sets, ours

TRAIN = make_train((4, 7, 5), size=(2, 2))
INFO = TRAIN.info
DATA_OF_TRAIN = LoadedDataset(INFO, *[make_split((4, 7, 5), size=(2, 2))] * 2)
SPEC = CondenseSpec(
    dataset=INFO.name,
    dataset_sha256=INFO.sha256,
    method="fuzz",
    method_version="1",
    options={"lr": 0.1, "name": "a"},
    ipc=1,
    matching_network="convnet",
    seed=0,
)
HEADER = {
    "condense_key": SPEC.key(),
    "spec": SPEC.model_dump(mode="json"),
    "track": "hard-label",
    "classes": list(INFO.class_names),
    "normalisation": {"mean": list(INFO.mean), "std": list(INFO.std), "zca": False},
    "train_size": len(TRAIN),
    "origin": {
        "distribution": "d",
        "version": "1",
        "source_sha256": "f" * 64,
        "changed_options": ["lr"],
        "seeded": True,
    },
}


class Around:
    """As much of a data as reading a set takes."""

    info, train = INFO, TRAIN


def kept(path):
    with path.open("rb") as file:
        return file.read()


def as_bytes(tmp_path, condensed, header=HEADER):
    save_set(tmp_path / "whole", condensed, {**header, "set_sha256": condensed.sha256()})
    return kept(tmp_path / "whole")


def everything(path):
    """All that is read of a file of ours."""
    condensed, header = load_set(path, TRAIN)
    history = {name: curve.tolist() for name, curve in condensed.history.items()}
    indices = None if condensed.indices is None else condensed.indices.tolist()
    return repr((condensed.sha256(), condensed.zca, history, indices, header))


def picture(path):
    found = stored_pixels(path, 2)
    return found if isinstance(found, str) else [each.tolist() for each in found]


SETS = {
    "hard": make_set(size=(2, 2), history={"loss": torch.tensor([0.5, 0.25])}),
    "soft": make_set(size=(2, 2), labels=torch.softmax(torch.arange(9.0).view(3, 3), dim=1)),
    "coreset": CondensedSet.select(TRAIN, torch.tensor([3, 1, 2])),
    "whole": CondensedSet.select(TRAIN, torch.arange(len(TRAIN))),
}


@pytest.fixture(scope="module")
def wholes(tmp_path_factory):
    return {name: as_bytes(tmp_path_factory.mktemp(name), condensed) for name, condensed in SETS.items()}


@fuzz(400)
@given(data=st.data(), name=st.sampled_from(sorted(SETS)))
def test_a_damaged_set_of_ours_is_what_it_was_or_refused(tmp_path, wholes, data, name):
    path = tmp_path / "set.safetensors"
    path.write_bytes(wholes[name])
    read, seen, without = everything(path), picture(path), without_images(path)
    path.write_bytes(data.draw(damaged(wholes[name])))
    assert outcome(everything, path) in (None, read)
    assert outcome(picture, path) in (None, seen)
    again = outcome(without_images, path)
    if again is not None and again != without:  # the header may be spelt in another way
        path.write_bytes(without)
        expected = everything(path)
        path.write_bytes(again)
        assert everything(path) == expected


STRANGE_TEXT = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["\x00", "\x1b[31m", "\u202e", "../../x", "</script>", "a\nb", "ſ", "٣", "NaN", "\udcff"]),
)
STRANGE_NUMBERS = st.one_of(
    st.sampled_from([0, -1, 2**31, 2**63, 2**64, 10**12, 10**400, -(10**400)]),
    st.integers(-3, 300),
    st.floats(allow_nan=True, allow_infinity=True),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), STRANGE_NUMBERS, STRANGE_TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(STRANGE_TEXT, inner, max_size=4)),
    max_leaves=8,
)


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@st.composite
def forged_headers(draw):
    """A good header in which something else stands in one place or more."""
    header = json.loads(json.dumps(HEADER))
    for _ in range(draw(st.integers(1, 3))):
        within = draw(st.sampled_from([header, header["spec"], header["normalisation"], header["origin"]]))
        if not isinstance(within, dict):
            continue
        name = draw(st.one_of(st.sampled_from(sorted(within) or ["a"]), STRANGE_TEXT))
        value = draw(st.one_of(JSON, st.sampled_from([200, 600, 900]).map(nested)))
        if draw(st.integers(0, 5)) == 0:
            within.pop(name, None)
        else:
            within[name] = value
        for part in ("spec", "normalisation", "origin"):
            header.setdefault(part, {})
    return header


TYPES = [
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
    torch.complex64,
    torch.float8_e4m3fn,
    torch.uint16,
]
SHAPES = st.one_of(
    st.sampled_from(
        [(3, 1, 2, 2), (3,), (3, 3), (3, 1), (0,), (0, 1, 2, 2), (3, 1, 0, 2), (), (16,), (3, 2, 2, 1)]
    ),
    st.lists(st.integers(0, 4), max_size=5).map(tuple),
)


@st.composite
def tensors(draw):
    """A tensor of any type and shape, of values that few expect."""
    kind, shape = draw(st.sampled_from(TYPES)), draw(SHAPES)
    fill = draw(st.sampled_from([0.0, 1.0, 2.0, 0.5, -1.0, 255.0, 1e30, math.nan, math.inf]))
    if draw(st.booleans()):
        return (torch.arange(math.prod(shape)) % 3).reshape(shape).to(kind)
    if not kind.is_floating_point and not math.isfinite(fill):
        fill = 3.0
    return torch.full(shape, fill).to(kind)


@fuzz(300)
@given(
    header=st.one_of(st.just(HEADER), forged_headers()),
    changes=st.dictionaries(
        st.sampled_from(["images", "labels", "indices", "history.loss", "x"]), tensors(), max_size=3
    ),
    left_out=st.sets(st.sampled_from(["images", "labels"]), max_size=1),
    name=st.sampled_from(sorted(SETS)),
)
def test_a_forged_set_of_ours_is_a_set_or_refused(tmp_path, header, changes, left_out, name):
    condensed = SETS[name]
    parts = {"images": condensed.images, "labels": condensed.labels, "history.loss": torch.ones(2)}
    parts |= {"indices": condensed.indices} if condensed.indices is not None else {}
    parts = {key: each for key, each in (parts | changes).items() if key not in left_out}
    stated = {**header, "format": "dcbench-set/2"}
    if {"images", "labels"} <= parts.keys():
        try:
            stated["set_sha256"] = CondensedSet(parts["images"], parts["labels"]).sha256()
        except TypeError:
            stated["set_sha256"] = "f" * 64
    unknown = (torch.bfloat16, torch.float8_e4m3fn)  # to numpy, so such a file is refused whatever it states
    known = {key: each.numpy() for key, each in parts.items() if each.dtype not in unknown}
    stated["content_sha256"] = content_sha256(stated, known)
    path = tmp_path / "set.safetensors"
    parts = {key: each.clone() for key, each in parts.items()}
    path.write_bytes(save_tensors(parts, metadata={"dcbench": json.dumps(stated)}))
    own = outcome(lambda path: read_checked_set(path, Around), path)
    if own is not None:
        assert own.condensed.images.shape[1:] == (1, 2, 2)
        assert own.condensed.images.dtype == torch.float32
        assert bool(torch.isfinite(own.condensed.images).all())
        assert own.spec.key() == stated["condense_key"]
    outcome(lambda path: stored_pixels(path, 2), path)
    outcome(without_images, path)


# Condensed sets made elsewhere

IMAGES = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(3)


def torch_file(content, zipped=True):
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


def npz_file(save, **arrays):
    stream = io.BytesIO()
    save(stream, **arrays)
    return stream.getvalue()


STATED = {"data": [[IMAGES, LABELS]], "accs_all_exps": {"ConvNet": [np.float64(0.5)]}}
WITH_CHECKSUMS = {
    "a.pt": torch_file(STATED),
    "b.pt": torch_file((IMAGES, LABELS)),
    "c.npz": npz_file(np.savez, images=IMAGES.numpy(), labels=LABELS.numpy()),
    "d.npz": npz_file(np.savez_compressed, images=IMAGES.numpy(), labels=LABELS.numpy()),
    "g.pt": torch_file({"data": [*IMAGES], "target": [0, 1, 2], "lr": torch.tensor(0.02), "epochs": 3}),
    "h.npz": npz_file(np.savez, x_train=IMAGES.numpy(), y_train=LABELS.numpy(), lr=np.float32(0.02)),
    "alone.pt": torch_file(IMAGES),
}
WITHOUT = {
    "e.pt": torch_file((IMAGES, LABELS), zipped=False),
    "f.safetensors": save_tensors({"images": IMAGES, "labels": LABELS}),
}


SAID = [
    *(Statement(pixels=pixels) for pixels in ("raw", "normalised", "zca", None)),
    Statement(pixels="raw", labels_are="logits", grey=True),
    Statement(mean=(0.4,), std=(0.3,), labels_are="classes", brings={"lr": 0.1}),
]


def foreign(path):
    """All that is read of a file, and what becomes of it whatever is said of it."""
    file = read_foreign(path, INFO, Statement(labels="in-order") if path.name.startswith("alone") else None)
    for each in file.sets:
        for said in SAID:
            convert = partial(to_condensed, each, DATA_OF_TRAIN, said)
            condensed = outcome(convert, path)
            assert condensed is None or bool(torch.isfinite(condensed.images).all())
    labels = [None if each.labels is None else each.labels.tolist() for each in file.sets]
    return repr(([(each.images.tolist(), each.pixels, each.lr) for each in file.sets], labels, file.unused))


@fuzz(400)
@given(data=st.data(), name=st.sampled_from(sorted(WITH_CHECKSUMS)))
def test_a_damaged_foreign_file_with_checksums_is_what_it_was_or_refused(tmp_path, data, name):
    path = tmp_path / name
    path.write_bytes(WITH_CHECKSUMS[name])
    read = foreign(path)
    path.write_bytes(data.draw(damaged(WITH_CHECKSUMS[name])))
    assert outcome(foreign, path) in (None, read)


@fuzz(240)
@given(data=st.data(), name=st.sampled_from(sorted(WITHOUT)))
def test_a_damaged_foreign_file_without_checksums_is_a_set_or_refused(tmp_path, data, name):
    path = tmp_path / name
    path.write_bytes(data.draw(damaged(WITHOUT[name])))
    outcome(foreign, path)


VIEWS = [
    lambda tensor: tensor,
    lambda tensor: tensor.expand(5, *tensor.shape),
    lambda tensor: tensor.flatten()[::2],
    torch._neg_view,
    lambda tensor: tensor.to_sparse(),
    lambda tensor: tensor.to("meta"),
    torch.nn.Parameter,
]


@st.composite
def viewed(draw):
    tensor, view = draw(tensors()), draw(st.sampled_from(VIEWS))
    try:
        return view(tensor)
    except (RuntimeError, NotImplementedError):  # not every type has every view
        return tensor


CONTENTS = st.recursive(
    st.one_of(viewed(), st.just(IMAGES), st.just(LABELS), st.none(), STRANGE_NUMBERS, st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(
            st.sampled_from(
                ["data", "images", "labels", "x", "y", "accs_all_exps", "syn_imgs", "target", "lr", 3, (1,)]
            ),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=5,
)


@fuzz(300)
@given(
    content=st.one_of(
        CONTENTS,
        st.tuples(viewed(), viewed()),
        st.lists(st.tuples(viewed(), viewed(), st.one_of(STRANGE_NUMBERS, viewed())), max_size=3),
        st.lists(st.tuples(viewed(), STRANGE_NUMBERS), max_size=3),
        st.fixed_dictionaries({"images": viewed(), "labels": viewed(), "lr": st.one_of(viewed(), CONTENTS)}),
        st.fixed_dictionaries(
            {"data": st.lists(st.tuples(viewed(), viewed()), max_size=3), "accs_all_exps": CONTENTS}
        ),
        st.fixed_dictionaries(
            {
                "data": st.just([(IMAGES, LABELS)]),
                "accs_all_exps": st.dictionaries(
                    st.one_of(st.text(max_size=3), st.integers()),
                    st.lists(STRANGE_NUMBERS, max_size=3),
                    max_size=2,
                ),
            }
        ),
    ),
    zipped=st.booleans(),
)
def test_a_torch_file_of_anything_is_a_set_or_refused(tmp_path, content, zipped):
    path = tmp_path / "set.pt"
    path.write_bytes(torch_file(content, zipped))
    outcome(foreign, path)


@fuzz(160)
@given(images=tensors(), labels=tensors(), kind=st.sampled_from(["npz", "safetensors"]))
def test_arrays_of_anything_are_a_set_or_refused(tmp_path, images, labels, kind):
    path = tmp_path / f"set.{kind}"
    if kind == "safetensors":
        path.write_bytes(save_tensors({"images": images, "labels": labels}))
    else:
        try:
            path.write_bytes(npz_file(np.savez, images=images.numpy(), labels=labels.numpy()))
        except TypeError:  # numpy has not all of torch's types
            assume(False)
    outcome(foreign, path)


# Data sets of a user's own

PIXELS = np.random.default_rng(0).integers(256, size=(4, 5, 6), dtype=np.uint8)
CLASSES = np.array([0, 1, 0, 1])
DATA = {
    "stored": npz_file(
        np.savez, train_images=PIXELS, train_labels=CLASSES, test_images=PIXELS, test_labels=CLASSES
    ),
    "packed": npz_file(
        np.savez_compressed,
        train_images=PIXELS,
        train_labels=CLASSES,
        test_images=PIXELS,
        test_labels=CLASSES,
        class_names=np.array(["a", "b"]),
    ),
}


def npz_data(path):
    return hashed(Npz(path=str(path)))


def hashed(dataset):
    data = load_dataset(dataset, None)
    return data.info.sha256, data.info.class_names


@fuzz(400)
@given(data=st.data(), name=st.sampled_from(sorted(DATA)))
def test_a_damaged_npz_data_set_is_what_it_was_or_refused(tmp_path, data, name):
    path = tmp_path / "x.npz"
    path.write_bytes(DATA[name])
    read = npz_data(path)
    path.write_bytes(data.draw(damaged(DATA[name])))
    found = outcome(npz_data, path)
    # The directory of a zip says what is in it: names of classes may be lost with theirs.
    assert found in (None, read) or (found[0] == read[0] and found[1] == ("0", "1"))


def image_file(kind):
    stream = io.BytesIO()
    Image.fromarray(PIXELS[0]).save(stream, kind)
    return stream.getvalue()


PICTURES = {kind: image_file(kind) for kind in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")}


@fuzz(300)
@given(data=st.data(), kind=st.sampled_from(["PNG", "PNG", *sorted(PICTURES)]), size=st.sampled_from([None, "4"]))
def test_a_damaged_image_is_refused_or_what_it_was_where_it_has_a_checksum(tmp_path, data, kind, size):
    for which in ("train", "test"):
        (tmp_path / which / "a").mkdir(parents=True, exist_ok=True)
        (tmp_path / which / "a" / "0.png").write_bytes(PICTURES[kind])
    read = hashed(Folder(path=str(tmp_path), size=size, channels=1))
    (tmp_path / "train" / "a" / "0.png").write_bytes(data.draw(damaged(PICTURES[kind])))
    found = outcome(lambda path: hashed(Folder(path=str(path), size=size, channels=1)), tmp_path)
    assert kind != "PNG" or found in (None, read)
    info = make_info(size=PIXELS.shape[1:], class_names=("a",))
    condensed = outcome(lambda path: read_foreign(path, info, Statement(grey=True)), tmp_path / "train")
    assert condensed is None or condensed.sets[0].images.shape == (1, 1, 5, 6)


# Cards

GOOD_CARD = {
    "title": "A title",
    "submitted_by": ["Me"],
    "commands": ["dcbench run"],
    "notes": [],
    "methods": [{"name": "m", "paper_url": "https://example.org", "track": "hard-label"}],
}
TOML = st.recursive(
    st.one_of(st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=6)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=6,
)


def card_of(folder):
    return read_submission(folder).card


def check_card(folder, content):
    folder.mkdir(exist_ok=True)
    (folder / "records.jsonl").touch()
    (folder / CARD).write_bytes(content)
    card = outcome(card_of, folder)
    if card is None:
        return
    texts = [card.title, *card.submitted_by, *card.commands, *card.notes]
    for method in card.methods:
        texts += [method.name, method.title, *method.authors, method.paper, method.paper_url, method.code_url]
        for link in (method.paper_url, method.code_url):
            assert not link or link.startswith(("http://", "https://"))
    assert not [text for text in texts if any(ord(c) < 32 or ord(c) == 127 for c in text) or len(text) > 500]
    (folder / CARD).write_text(card.to_toml(), encoding="utf-8")
    assert card_of(folder) == card


@fuzz(300)
@given(content=damaged(tomli_w.dumps(GOOD_CARD).encode()))
def test_a_damaged_card_is_a_card_or_refused(tmp_path, content):
    check_card(tmp_path / "mine", content)


@fuzz(200)
@given(
    changes=st.dictionaries(st.one_of(st.sampled_from(sorted(GOOD_CARD)), st.text(max_size=4)), TOML, max_size=2),
    method=st.dictionaries(st.sampled_from(["name", "title", "authors", "code_url", "x"]), TOML, max_size=2),
)
def test_a_forged_card_is_a_card_or_refused(tmp_path, changes, method):
    card = {**GOOD_CARD, "methods": [GOOD_CARD["methods"][0] | method], **changes}
    try:
        content = tomli_w.dumps(card).encode()
    except (ValueError, UnicodeEncodeError):
        assume(False)
    check_card(tmp_path / "mine", content)


# Suites

SUITE = """title = "A table"
source = "Somebody, 2020"
datasets = ["mnist"]
methods = ["random", "whole"]
ipcs = [1, 10]
networks = ["convnet"]
eval_networks = ["convnet"]
sets = 5
evals = 20
protocol = "dc"
options = { "gradmatch.momentum_net" = 0.5 }
published = "numbers.csv"
"""
NUMBERS = """dataset,ipc,method,matching_network,evaluation_network,mean,std,n_sets,n_evals,checked
mnist,1,random,,convnet,64.9,3.5,5,20,paper
mnist,all,whole,,convnet,99.6,,,5,recalled
"""


def suite_files(folder, suite=None, numbers=None):
    (folder / "suite.toml").write_bytes(SUITE.encode() if suite is None else suite)
    (folder / "numbers.csv").write_bytes(NUMBERS.encode() if numbers is None else numbers)
    return folder


def published(folder):
    return load_suite(folder / "suite.toml").published


@fuzz(300)
@given(content=damaged(SUITE.encode()))
def test_a_damaged_suite_is_a_suite_or_refused(tmp_path, content):
    outcome(published, suite_files(tmp_path, suite=content))


@fuzz(160)
@given(
    key=st.text(max_size=5),
    value=TOML,
    place=st.sampled_from(["title", "ipcs", "sets", "options", "published", ""]),
)
def test_a_forged_suite_is_a_suite_or_refused(tmp_path, key, value, place):
    lines = [line for line in SUITE.splitlines() if not (place and line.startswith(place))]
    try:
        text = tomli_w.dumps({place or key: value})
    except ValueError:
        assume(False)
    outcome(published, suite_files(tmp_path, suite="\n".join([*lines, text]).encode("utf-8", "replace")))


def check_numbers(folder, content):
    found = outcome(published, suite_files(folder, numbers=content))
    if found is None:
        return
    # Read once more, by nothing of ours.
    lines = [line for line in csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=None)) if line]
    assert len(found) == len(lines) - 1
    place = lines[0].index("mean")
    for number, line in zip(found, lines[1:], strict=True):
        assert number.mean == pytest.approx(float(line[place]) / 100, abs=1e-6)
        assert 0 <= number.mean <= 1


@fuzz(400)
@given(content=damaged(NUMBERS.encode()))
def test_damaged_numbers_are_those_of_the_file_or_refused(tmp_path, content):
    check_numbers(tmp_path, content)


@fuzz(200)
@given(values=st.lists(st.one_of(STRANGE_TEXT, STRANGE_NUMBERS.map(str)), min_size=10, max_size=11))
def test_forged_numbers_are_those_of_the_file_or_refused(tmp_path, values):
    good = ["mnist", "1", "random", "", "convnet", "64.9", "3.5", "5", "20", "paper"]
    for index in range(0, len(values), 3):
        good[index % 10] = values[index]
    stream = io.StringIO()
    csv.writer(stream).writerow(good)
    header = NUMBERS.splitlines()[0]
    check_numbers(tmp_path, f"{header}\n{stream.getvalue()}".encode("utf-8", "replace"))


# Records

RECORDS = [
    make_record(eval_seed=seed, accuracy=seed / 4, options={"lr": 0.1, "nested": {"a": [1]}}) for seed in (1, 2)
]
LINES = "".join(record.to_json() + "\n" for record in RECORDS).encode()


def check_records(path, content, strict=True):
    path.write_bytes(content)
    found = outcome(partial(read_records, strict=strict), path)
    for record in found or ():
        assert isinstance(record, Record)
        if record.status == "ok":
            assert 0 <= record.accuracy <= 1
        # As texts: options may have numbers that are not equal to themselves.
        assert Record.from_json(record.to_json()).to_json() == record.to_json()
    return found or []


@fuzz(400)
@given(content=damaged(LINES), strict=st.booleans())
def test_damaged_records_are_what_they_were_or_refused(tmp_path, content, strict):
    assert all(record in RECORDS for record in check_records(tmp_path / "records.jsonl", content, strict))


@fuzz(300)
@given(
    changes=st.dictionaries(
        st.one_of(st.sampled_from(sorted(json.loads(LINES.splitlines()[0])))), JSON, max_size=3
    )
)
def test_forged_records_are_records_or_refused(tmp_path, changes):
    line = json.dumps(json.loads(LINES.splitlines()[0]) | changes)
    check_records(tmp_path / "records.jsonl", f"{line}\n".encode())


# The command line

LOADED = Plugins.load()
NAMES = sorted([*LOADED.datasets, *LOADED.architectures, *LOADED.methods])
OPTIONS = sorted(
    {
        name
        for registry in LOADED.registries().values()
        for each in registry.items.values()
        for name in each.model_fields
    }
)
VALUES = st.one_of(
    STRANGE_NUMBERS.map(lambda number: str(number) if abs(number) < 10**40 or number != number else "9" * 5000),
    STRANGE_TEXT,
    st.sampled_from(
        ["", "none", "null", "true", "[1]", "{}", "[" * 5000, "1e999", "-0", "0x10", "1_000", "instance"]
    ),
)
PAIRS = st.builds("{}={}".format, st.one_of(st.sampled_from(OPTIONS), STRANGE_TEXT), VALUES)
SPELLINGS = st.one_of(
    st.builds("{}:{}".format, st.sampled_from(NAMES), st.lists(PAIRS, max_size=3).map(",".join)),
    st.builds("{}{}".format, st.sampled_from(NAMES), STRANGE_TEXT),
    st.builds("{}:{}".format, st.sampled_from(NAMES), STRANGE_TEXT),
    STRANGE_TEXT,
)


@fuzz(600)
@given(text=SPELLINGS)
def test_a_spelling_is_a_component_or_refused(text):
    for make in (LOADED.make_dataset, LOADED.make_architecture):
        try:
            component = make(text)
        except DcbenchError:
            continue
        assert isinstance(component, Component)
        assert make(str(component)) == component


@fuzz(400)
@given(options=st.dictionaries(st.one_of(st.sampled_from(OPTIONS), STRANGE_TEXT), VALUES, max_size=3))
def test_options_make_a_method_or_are_refused(options):
    for name in LOADED.methods:
        try:
            method = LOADED.method_class(name).configure(options)
        except DcbenchError:
            continue
        assert type(method).model_validate_json(method.model_dump_json()) == method


@fuzz(60)
@given(
    options=st.lists(PAIRS, max_size=2),
    spellings=st.lists(
        st.tuples(st.sampled_from(["-d", "-m", "--network", "--eval-network"]), SPELLINGS), max_size=2
    ),
)
def test_a_command_line_is_carried_out_or_refused_with_exit_code_2(tmp_path, monkeypatch, options, spellings):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DCBENCH_DATA", str(tmp_path / "none"))
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", lambda *_: pytest.fail("a download"))
    line = ["run", "--dry-run", "--results", str(tmp_path / "results")]
    for option in options:
        line += ["-o", option]
    for name, text in spellings:
        line += [name, text]
    result = CliRunner().invoke(main, line)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in (0, 2)
    assert "Traceback" not in result.output
