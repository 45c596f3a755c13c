"""What a file claims and does not have is refused in a message, and takes no memory: all readers, in a process
that may take no more than half a gigabyte beyond what it has once everything is imported."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import make_set
from PIL import Image

from dcbench.results.set_file import FIRST_FORMAT

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="counts the memory that a process has as Linux does"
)

HUGE = 10**12
MORE_THAN_ALLOWED = 640 * 2**20

READ = """
import json, os, resource, sys
from pathlib import Path
import torch
from dcbench_plugins.datasets.folder import Folder
from dcbench_plugins.datasets.npz import Npz
from helpers import make_info, make_train
from dcbench.core.condensed_set import load_set
from dcbench.core.dataset import load_dataset
from dcbench.utils.errors import DcbenchError
from dcbench.formats.foreign import read_foreign
from dcbench.results.submission import read_submission
from dcbench.suites.file import load_suite

train = make_train(size=(64, 64))
readers = {
    "own": lambda path: load_set(path, train),
    "foreign": lambda path: read_foreign(path, make_info()),
    "npz": lambda path: load_dataset(Npz(path=str(path)), None),
    "folder": lambda path: load_dataset(Folder(path=str(path)), None),
    "submission": read_submission,
    "suite": load_suite,
}


def outcome(reader, path):
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 2**29
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        torch.empty(600 * 2**20, dtype=torch.uint8)
        return "the limit is none", 0
    except RuntimeError:
        pass
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        readers[reader](Path(path))
    except DcbenchError as error:
        return str(error), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    except BaseException as error:
        return f"raised {error!r}", 0
    return "it was read", 0


good, cases = json.loads(sys.stdin.read())
for reader, path in good:  # what is imported when it is first needed is not what is measured
    readers[reader](Path(path))
for name, (reader, path) in cases.items():
    sys.stdout.flush()
    if os.fork() == 0:
        print(json.dumps([name, *outcome(reader, path)]), flush=True)
        os._exit(0)
    os.wait()
"""


def safetensors(path, shapes, metadata=None):
    """A file whose header claims these shapes of float32, with no numbers behind it."""
    header, offset = {"__metadata__": metadata} if metadata else {}, 0
    for name, shape in shapes.items():
        size = 4 * int(np.prod(shape, dtype=object))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    return path


def npy(shape, descr="|u1", length=None):
    """The head of a .npy file; of version 2.0, with a header of so many bytes, where a length is given."""
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode() + b"\n"
    if length is None:
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", length) + text


def bomb(path, members, zeros):
    """A zip of members, the first followed by so many zeros, packed."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, head in members.items():
            with archive.open(name, "w", force_zip64=True) as stream:
                stream.write(head)
                for _ in range(zeros // 2**24):
                    stream.write(bytes(2**24))
            zeros = 0
    return path


def torch_claim(path, zipped):
    """A file of torch's whose tensor and its storage claim a trillion numbers."""
    torch.save([torch.zeros(64).reshape(64, 1, 1), torch.zeros(64)], path, _use_new_zipfile_serialization=zipped)
    small, large = b"K@", b"\x8a\x06" + HUGE.to_bytes(6, "little")
    if not zipped:
        path.write_bytes(path.read_bytes().replace(small, large))
        return path
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data.replace(small, large) if name.endswith("data.pkl") else data)
    return path


class Made:
    """What a pickle makes of a function that reading allows."""

    def __init__(self, function, *arguments):
        self.made = function, arguments

    def __reduce__(self):
        return self.made


def made(path, function, *arguments):
    torch.save([Made(function, *arguments), torch.zeros(1)], path)
    return path


def view(shape, stride):
    storage = torch.storage.TypedStorage(
        wrap_storage=torch.zeros(64).untyped_storage(), dtype=torch.float32, _internal=True
    )
    return torch._utils._rebuild_tensor_v2, storage, 0, shape, stride, False, {}


def torch_bomb(path):
    torch.save([torch.zeros(64, 1, 1), torch.zeros(64)], path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    data = next(name for name in members if name.endswith("data/0"))
    return bomb(path, {data: members.pop(data)} | members, MORE_THAN_ALLOWED)


def png(path, width, height):
    """A PNG whose header claims this size."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(99)))
        + chunk(b"IEND", b"")
    )


def folder(path, width, height):
    for which in ("train", "test"):
        (path / which / "a").mkdir(parents=True)
        png(path / which / "a" / "0.png", width, height)
    return path


def classes(path, width, height):
    (path / "0").mkdir(parents=True)
    png(path / "0" / "0.png", width, height)
    return path


def hollow(path):
    """A file of ten gigabytes without anything in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(10 * 2**30)
    return path


def submission(path):
    path.mkdir()
    (path / "records.jsonl").touch()
    hollow(path / "card.toml")
    return path


def suite(path):
    path.mkdir()
    hollow(path / "numbers.csv")
    return write_suite(path / "suite.toml", 'published = "numbers.csv"')


def write_suite(path, more=""):
    path.write_text(
        'title = "a"\nsource = "b"\ndatasets = ["x"]\nmethods = ["x"]\nipcs = [1]\nnetworks = ["x"]\n'
        f'eval_networks = ["x"]\nsets = 1\nevals = 1\nprotocol = "dc"\n{more}\n'
    )
    return path


def npz_members(shape):
    labels = npy((2,)) + bytes(2)
    return {
        "train_images.npy": npy(shape),
        "train_labels.npy": npy(shape[:1]),
        "test_images.npy": npy((2, 8, 8)) + bytes(128),
        "test_labels.npy": labels,
    }


def own(path):
    header = {"format": FIRST_FORMAT, "set_sha256": make_set().sha256()}
    return safetensors(path, {"images": (HUGE, 1, 8, 8), "labels": (HUGE,)}, {"dcbench": json.dumps(header)})


def many_indices(path):
    """Indices of a few bytes each, for which there would be images of 16 kilobytes each."""
    from safetensors.torch import save_file

    header = {"format": FIRST_FORMAT, "set_sha256": make_set().sha256()}
    tensors = {"indices": torch.zeros(10**6).long(), "labels": torch.zeros(10**6).long()}
    save_file(tensors, path, {"dcbench": json.dumps(header)})
    return path


PACKED = MORE_THAN_ALLOWED
CASES = {
    "our safetensors": ("own", "x.safetensors", own),
    "our indices": ("own", "x.safetensors", many_indices),
    "safetensors": (
        "foreign",
        "x.safetensors",
        lambda p: safetensors(p, {"images": (HUGE, 1, 8), "labels": (HUGE,)}),
    ),
    "npz": (
        "foreign",
        "x.npz",
        lambda p: bomb(p, {"images.npy": npy((HUGE, 8, 8)), "labels.npy": npy((HUGE,))}, 0),
    ),
    "npz bomb": ("foreign", "x.npz", lambda p: bomb(p, {"images.npy": npy((PACKED, 1, 1))}, PACKED)),
    "npz bomb of a header": (
        "foreign",
        "x.npz",
        lambda p: bomb(p, {"images.npy": npy((1,), length=PACKED)}, PACKED),
    ),
    "pt": ("foreign", "x.pt", lambda p: torch_claim(p, zipped=True)),
    "pt of old": ("foreign", "x.pt", lambda p: torch_claim(p, zipped=False)),
    "pt bomb": ("foreign", "x.pt", torch_bomb),
    "pt that repeats a number": ("foreign", "x.pt", lambda p: made(p, *view((HUGE, 1, 1), (0, 0, 0)))),
    "pt that goes on": ("foreign", "x.pt", lambda p: made(p, *view((HUGE, 1, 1), (1, 1, 1)))),
    "pt that makes a tensor": ("foreign", "x.pt", lambda p: made(p, torch.Tensor, HUGE, 1, 1)),
    "folder of a set": ("foreign", "x", lambda p: classes(p, 10**6, 10**6)),
    "folder of a set, less": ("foreign", "x", lambda p: classes(p, 9000, 9000)),
    "npz data": ("npz", "x.npz", lambda p: bomb(p, npz_members((HUGE, 8, 8)), 0)),
    "npz data bomb": ("npz", "x.npz", lambda p: bomb(p, npz_members((PACKED, 1, 1)), PACKED)),
    "folder": ("folder", "x", lambda p: folder(p, 10**6, 10**6)),
    "folder, less": ("folder", "x", lambda p: folder(p, 9000, 9000)),
    "card": ("submission", "x", submission),
    "suite": ("suite", "x.toml", hollow),
    "numbers": ("suite", "x", suite),
}


def good(path):
    """A file of each kind that is as it should be, with its reader."""
    path.mkdir()
    torch.save([torch.zeros(1, 1, 8, 8), torch.zeros(1)], path / "x.pt")
    images, labels = np.zeros((2, 8, 8), np.uint8), np.arange(2)
    np.savez(path / "x.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    np.savez(path / "set.npz", images=images, labels=labels)
    for which in ("train", "test"):
        (path / "folder" / which / "a").mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(path / "folder" / which / "a" / "0.png")
    write_suite(path / "suite.toml")
    names = {"x.pt": "foreign", "set.npz": "foreign", "x.npz": "npz", "folder": "folder", "suite.toml": "suite"}
    return [(reader, str(path / name)) for name, reader in names.items()]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What each case's file gives: a message, and by how many bytes the process has grown, by the case."""
    folder, cases = tmp_path_factory.mktemp("claims"), {}
    for number, (case, (reader, name, make)) in enumerate(CASES.items()):
        (folder / str(number)).mkdir()
        cases[case] = reader, str(make(folder / str(number) / name))
    done = subprocess.run(
        [sys.executable, "-c", READ],
        input=json.dumps([good(folder / "good"), cases]),
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(Path(__file__).parents[1] / "support"), "OMP_NUM_THREADS": "1", "PATH": ""},
    )
    found = {case: (message, grown) for case, message, grown in map(json.loads, done.stdout.splitlines())}
    return {case: (*found[case], cases[case][1]) for case in cases}


@pytest.mark.parametrize("case", CASES)
def test_what_is_claimed_takes_no_memory(case, outcomes):
    message, grown, path = outcomes[case]
    assert str(Path(path).parent) in message
    assert grown < 100 * 2**20, message
