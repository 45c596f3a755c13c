from __future__ import annotations

from importlib.metadata import version

import pytest
from helpers import make_info
from tiny_plugin import Linear

from dcbench.plugins import Plugins
from dcbench.provenance import packages_behind, source_sha256

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


def test_what_was_not_installed_is_behind_nothing_and_its_file_is_known():
    info = make_info(3, (32, 32))
    assert packages_behind(Linear, Linear().build(info)) == {}
    assert len(source_sha256(Linear)) == 64
