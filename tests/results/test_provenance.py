from __future__ import annotations

import inspect
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import pytest
from dcbench_plugins.architectures.convnet import ConvNet
from dcbench_plugins.methods.herding import Herding
from helpers import make_info
from tiny_plugin import Linear

from dcbench.api import FeatureCoreset
from dcbench.plugins import Plugins
from dcbench.results.provenance import packages_behind, source_sha256

OURS = {"dcbench-suite": version("dcbench-suite")}


@pytest.mark.parametrize(
    ("spelling", "others"),
    [("mlp", ()), ("convnet", ()), ("timm:resnet18", ("timm",)), ("torchvision:resnet18", ("torchvision",))],
)
def test_the_packages_behind_a_network_are_those_whose_modules_it_has_and_its_plugins(spelling, others):
    info = make_info(3, (32, 32))
    architecture = Plugins.load().make_architecture(spelling).resolve(info)
    found = packages_behind(type(architecture), architecture.build(info))
    assert found == OURS | {other: version(other) for other in others}
    assert list(found) == sorted(found)


def test_the_code_of_a_class_is_that_of_its_own_bases_too():
    """Herding's file says how to choose; the rest is in that of its base."""
    files = [Path(inspect.getfile(each)) for each in (Herding, FeatureCoreset)]
    own, base = (sha256(file.read_bytes()).hexdigest() for file in files)
    assert source_sha256(Herding) == sha256(f"{own}{base}".encode()).hexdigest()
    assert source_sha256(FeatureCoreset) == base
    assert source_sha256(ConvNet) == sha256(Path(inspect.getfile(ConvNet)).read_bytes()).hexdigest()


def typed(source):
    """Return the class that a text defines in no file, as a cell of a notebook does."""
    names = {"__name__": "typed_in", "Linear": Linear}
    exec(source, names)
    return names["Typed"]


def test_the_source_of_a_class_that_is_in_no_file_is_its_code():
    source = """
RATE = 2
def helper(x): return [x * RATE for _ in range(3)]
class Typed(Linear):
    def build(self, info): return helper(lambda: info)
"""
    digest = source_sha256(typed(source))
    assert digest == source_sha256(typed(source)) != source_sha256(Linear)
    for before, after in (("RATE = 2", "RATE = 3"), ("range(3)", "range(4)"), ("lambda: info", "lambda: 1")):
        assert source_sha256(typed(source.replace(before, after))) != digest


def test_what_was_not_installed_is_behind_nothing_and_its_file_is_known():
    info = make_info(3, (32, 32))
    assert packages_behind(Linear, Linear().build(info)) == {}
    assert len(source_sha256(Linear)) == 64
