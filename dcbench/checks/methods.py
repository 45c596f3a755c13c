"""The contract of methods: what they declare, and the list of all checks."""

from __future__ import annotations

from dcbench.checks import method_conduct as conduct
from dcbench.checks import method_results as results
from dcbench.checks.check import CheckFailed
from dcbench.checks.components import COMPONENT_CHECKS, class_of
from dcbench.checks.tryout import Subject, depends, method_of, usable
from dcbench.utils.errors import DcbenchError

MAY_DEPEND_ON = frozenset({"ipc", "network", "seed"})


def depends_on_is_a_set_of_known_words(subject: Subject) -> None:
    """`depends_on` names nothing but ipc, network and seed; `dependencies` returns some of those it names."""
    declared, returned = set(class_of(subject).depends_on), set(depends(subject))
    if not returned <= declared <= MAY_DEPEND_ON:
        found = f"depends_on is {sorted(declared)}, and dependencies() returns {sorted(returned)}"
        raise CheckFailed(found, 'write depends_on = frozenset({"ipc", "seed"}), for example')


def quick_options_are_valid(subject: Subject) -> str | None:
    """`quick` holds options of the method with values that fit."""
    cls = class_of(subject)
    try:
        cls.configure(dict(cls.quick))
    except DcbenchError as error:
        raise CheckFailed(str(error), "correct `quick`") from None
    if cls.model_fields and not cls.quick:
        return "no `quick`: the quick budget, a first look, takes as long as the paper's recipe"
    return None


def given_options_are_kept(subject: Subject) -> None:
    """`resolve` fills in missing options, and does not change given ones."""
    resolved = usable(subject).method.model_dump()
    for name, value in method_of(subject).model_dump(exclude_unset=True).items():
        if value is not None and resolved[name] != value:
            advice = "fill in options only where they are None; refuse a value with a DcbenchError"
            raise CheckFailed(f"{name}={resolved[name]!r} after resolve(), {name}={value!r} given", advice)


METHOD_CHECKS = (
    *COMPONENT_CHECKS,
    depends_on_is_a_set_of_known_words,
    quick_options_are_valid,
    results.condenses,
    given_options_are_kept,
    results.returns_a_usable_set,
    results.every_class_gets_its_images,
    results.same_seed_gives_the_same_bytes,
    results.depends_on_the_seed_as_it_says,
    results.depends_on_the_network_as_it_says,
    conduct.leaves_its_inputs_alone,
    conduct.draws_from_its_generator_alone,
    conduct.leaves_settings_alone,
    conduct.never_sees_the_test_split,
    conduct.goes_on_from_a_checkpoint,
    conduct.tells_its_progress,
    results.returns_to_the_cpu,
)
