"""Options as users type them, and the canonical spelling that records state."""

from __future__ import annotations

from typing import Literal

import pytest

from dcbench.core.component import Component, option
from dcbench.core.method import Method
from dcbench.plugins import Plugins
from dcbench.utils.errors import DcbenchError


class Knobs(Component):
    """Has an option of every type.

    More follows.
    """

    kind = "thing"
    name = "knobs"

    count: int = option(3, "how many", source="a paper, table 1", ge=1)
    rate: float = option(0.1, "how fast", gt=0)
    limit: int | None = option(None, "how far")
    flag: bool = option(False, "whether")
    norm: Literal["none", "batch"] = option("none", "which")
    mode: Literal["1", "2", "true"] = option("1", "how")
    label: str = option("plain", "what")


class NewerKnobs(Knobs):
    """Version two."""

    version = "2"


def every_component():
    for registry in Plugins.load().registries().values():
        for name in registry:
            if registry.origins[name].distribution == "dcbench-suite":
                yield registry.get(name)


def test_nothing_given_means_the_defaults():
    assert Knobs.configure({}) == Knobs()


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("count", "7", 7),
        ("rate", "1e-3", 0.001),
        ("rate", "2", 2.0),
        ("limit", "5", 5),
        ("limit", "none", None),
        ("limit", "None", None),
        ("flag", "true", True),
        ("flag", "True", True),
        ("flag", "0", False),
        ("norm", "batch", "batch"),
        ("norm", "none", "none"),
        ("label", "none", "none"),
        ("label", "12", "12"),
        ("mode", "2", "2"),
        ("mode", "true", "true"),
    ],
)
def test_strings_are_read_by_the_type_of_their_option(key, text, value):
    read = getattr(Knobs.configure({key: text}), key)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(("key", "value"), [("count", 7), ("flag", True), ("limit", None), ("rate", 0.5)])
def test_values_that_are_no_strings_are_taken_as_they_are(key, value):
    assert getattr(Knobs.configure({key: value}), key) == value


def test_an_unknown_option_is_refused_with_the_nearest_name_and_the_list():
    with pytest.raises(DcbenchError) as caught:
        Knobs.configure({"lable": "x"})
    message = str(caught.value)
    assert message.startswith("unknown option of thing knobs 'lable'. Did you mean 'label'?")
    assert "count, flag, label, limit, mode, norm, rate" in message


def test_an_unknown_option_like_no_other_gets_no_suggestion():
    with pytest.raises(DcbenchError, match="unknown option") as caught:
        Knobs.configure({"zzzzzz": "x"})
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("count", "abc"),
        ("count", "1.5"),
        ("count", "0"),
        ("count", "none"),
        ("count", "true"),
        ("rate", "false"),
        ("limit", "true"),
        ("rate", "-1"),
        ("rate", "nan"),
        ("rate", "inf"),
        ("limit", "far"),
        ("flag", "perhaps"),
        ("norm", "layer"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_option_component_and_value(key, text):
    with pytest.raises(DcbenchError, match=f"option '{key}' of thing 'knobs': .*, got ") as caught:
        Knobs.configure({key: text})
    assert text in str(caught.value).lower()


def test_the_choices_are_named_when_a_value_is_not_among_them():
    with pytest.raises(DcbenchError, match="'none' or 'batch', got 'layer'"):
        Knobs.configure({"norm": "layer"})


def test_an_instance_never_changes():
    with pytest.raises(ValueError, match="frozen"):
        Knobs().count = 4


@pytest.mark.parametrize(
    ("thing", "spelling"),
    [
        (Knobs(), "knobs"),
        (Knobs(count=3, norm="none"), "knobs"),
        (Knobs(rate=2.0, norm="batch", flag=True), "knobs:flag=True,norm=batch,rate=2.0"),
        (NewerKnobs(), "knobs@2"),
        (NewerKnobs(flag=True), "knobs@2:flag=True"),
    ],
)
def test_the_canonical_spelling_is_the_name_the_version_and_the_changed_options_sorted(thing, spelling):
    assert str(thing) == spelling


def test_a_default_that_json_spells_otherwise_is_still_a_default():
    class Stages(Component):
        kind = "thing"
        name = "stages"
        widths: tuple[int, ...] = option((16, 32), "of each stage")

    assert str(Stages()) == "stages"
    assert str(Stages(widths=(16,))) == "stages:widths=[16]"


def test_what_the_canonical_spelling_says_can_be_typed():
    thing = Knobs(count=5, rate=1e-7, limit=2, flag=True, norm="batch", label="x y")
    name, _, rest = str(thing).partition(":")
    assert name == "knobs"
    assert Knobs.parse(rest) == thing
    assert Knobs.from_spelling(str(thing)) == thing


def test_a_version_is_read_back_and_another_one_is_refused_with_the_installed_one():
    thing = NewerKnobs(flag=True)
    assert NewerKnobs.from_spelling(str(thing)) == NewerKnobs.from_spelling("knobs:flag=true") == thing
    assert Knobs.from_spelling("knobs@1") == Knobs()
    message = r"thing 'knobs@3:flag=True' is of version 3, and version 2 is installed: .* made with another"
    with pytest.raises(DcbenchError, match=message):
        NewerKnobs.from_spelling("knobs@3:flag=True")


class Filed(Component):
    kind = "thing"
    name = "filed"
    argument = "path"
    path: str = option("", "where it is")
    size: int | None = option(None, "in pixels", ge=1)


@pytest.mark.parametrize(
    ("text", "path", "size"),
    [
        ("a.npz", "a.npz", None),
        ("a.npz,size=8", "a.npz", 8),
        ("C:/a,b/c=d.npz, size=8", "C:/a,b/c=d.npz", 8),
        ("a=b.npz", "a=b.npz", None),
    ],
)
def test_an_argument_is_written_bare_before_the_options(text, path, size):
    thing = Filed.parse(text)
    assert (thing.path, thing.size) == (path, size)
    assert Filed.parse(str(thing).partition(":")[2]) == thing


def test_options_given_twice_are_refused_and_a_last_comma_is_not():
    assert Knobs.parse("count=3,") == Knobs(count=3)
    with pytest.raises(DcbenchError, match="option 'count' is given twice"):
        Knobs.parse("count=3,count=4")


def test_a_missing_argument_and_an_unknown_option_after_it_are_errors():
    for text in ("", "size=8", ","):
        with pytest.raises(DcbenchError, match=r"thing 'filed' needs a path, as in filed:PATH"):
            Filed.parse(text)
    with pytest.raises(DcbenchError, match=r"unknown option of thing filed 'szie'\. Did you mean 'size'"):
        Filed.parse("a.npz,szie=8")


def test_changed_options_are_those_that_differ_from_the_given_default():
    assert Knobs(count=5, rate=0.2).changed_options(Knobs()) == {"count": 5, "rate": 0.2}
    assert Knobs(count=5, limit=9).changed_options(Knobs(limit=9)) == {"count": 5}
    assert Knobs().changed_options(Knobs()) == {}


def test_options_are_described_in_order_of_declaration():
    rows = Knobs.option_rows()
    assert [row["option"] for row in rows] == ["count", "rate", "limit", "flag", "norm", "mode", "label"]
    assert rows[0] == {
        "option": "count",
        "type": "int",
        "default": "3",
        "meaning": "how many",
        "source": "a paper, table 1",
    }
    assert [row["type"] for row in rows] == ["int", "float", "int", "bool", "none | batch", "1 | 2 | true", "str"]
    assert rows[2]["default"] == "by setting"


def test_the_summary_is_the_first_line_of_the_docstring():
    assert Knobs.summary() == "Has an option of every type."


def test_every_first_party_component_has_a_summary_and_describes_every_option():
    components = list(every_component())
    assert {component.kind for component in components} == {"dataset", "network", "method", "measure", "observer"}
    for component in components:
        assert component.summary(), component.name
        undescribed = [row["option"] for row in component.option_rows() if not row["meaning"]]
        assert not undescribed, (component.name, undescribed)


def test_every_first_party_name_is_lower_case_digits_and_underscores():
    for component in every_component():
        assert set(component.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_")


class Grown(Method):
    """A method that got an option later."""

    name = "grown"
    old: int = option(1, "there from the start")
    new: int = option(0, "not there at first", added_later=True)

    def condense(self, task):
        raise NotImplementedError


def test_an_option_added_later_is_left_out_at_its_default():
    assert Grown().model_dump(mode="json") == {"old": 1}
    assert Grown(new=2).model_dump(mode="json") == {"old": 1, "new": 2}
    assert Grown(new=2).changed_options(Grown()) == {"new": 2}
    assert str(Grown()) == "grown"
    assert str(Grown(new=2)) == "grown:new=2"
    assert [row["option"] for row in Grown.option_rows()] == ["old", "new"]
