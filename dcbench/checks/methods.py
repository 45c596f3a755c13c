"""The contract of methods: what they declare, and the list of all checks."""

from __future__ import annotations

from dcbench.checks.check import CheckFailed
from dcbench.checks.components import COMPONENT_CHECKS, class_of
from dcbench.checks.long_work import (
    goes_on_from_a_checkpoint,
    quick_is_quick,
    returns_to_the_cpu,
    tells_its_progress,
)
from dcbench.checks.method_results import (
    condenses,
    depends_on_the_network_as_it_says,
    depends_on_the_seed_as_it_says,
    draws_from_its_generator_alone,
    every_class_gets_its_images,
    images_are_float32_on_the_cpu,
    indices_and_history_fit,
    labels_belong_to_the_images,
    leaves_its_inputs_alone,
    leaves_settings_alone,
    never_sees_the_test_split,
    same_seed_gives_the_same_bytes,
    survives_saving,
)
from dcbench.checks.tryout import Subject, method_class, method_of, tryout_of
from dcbench.utils.errors import DcbenchError

MAY_DEPEND_ON = frozenset({"ipc", "network", "seed"})


def depends_on_is_a_set_of_known_words(subject: Subject) -> None:
    """`depends_on` names nothing but ipc, network and seed."""
    depends_on = class_of(subject).depends_on  # type: ignore[attr-defined]
    if not isinstance(depends_on, frozenset | set) or not depends_on <= MAY_DEPEND_ON:
        raise CheckFailed(
            "a frozenset of 'ipc', 'network' and 'seed', or of some of them",
            repr(depends_on),
            'write depends_on = frozenset({"ipc", "seed"}), say',
        )
    left = method_of(subject).dependencies()
    if not left <= depends_on:
        raise CheckFailed(
            f"from dependencies() no more than depends_on names, {sorted(depends_on)}",
            repr(left),
            "return those of depends_on that the options leave",
        )


def quick_options_are_valid(subject: Subject) -> str | None:
    """`quick` holds options of the method with values that fit."""
    cls = method_class(subject)
    try:
        cls.configure(dict(cls.quick))
    except DcbenchError as error:
        raise CheckFailed("options and values that the method takes", str(error), "correct `quick`") from None
    if cls.model_fields and not cls.quick:
        return "no `quick`: the quick budget, a first look, takes as long as the paper's recipe"
    return None


def given_options_are_kept(subject: Subject) -> None:
    """`resolve` fills in what is missing, and changes no option that was given."""
    method, trial = method_of(subject), tryout_of(subject)
    given = method.model_dump(exclude_unset=True)
    resolved = trial.method
    assert resolved is not None
    for name, value in given.items():
        found = resolved.model_dump()[name]
        if value is not None and found != value:
            raise CheckFailed(
                f"{name}={value!r}, as given, after resolve()",
                f"{name}={found!r}",
                f"fill in options only where they are None; refuse {name}={value!r} with a DcbenchError",
            )


METHOD_CHECKS = (
    *COMPONENT_CHECKS,
    depends_on_is_a_set_of_known_words,
    quick_options_are_valid,
    condenses,
    given_options_are_kept,
    images_are_float32_on_the_cpu,
    labels_belong_to_the_images,
    every_class_gets_its_images,
    indices_and_history_fit,
    survives_saving,
    same_seed_gives_the_same_bytes,
    depends_on_the_seed_as_it_says,
    depends_on_the_network_as_it_says,
    leaves_its_inputs_alone,
    draws_from_its_generator_alone,
    leaves_settings_alone,
    never_sees_the_test_split,
    goes_on_from_a_checkpoint,
    tells_its_progress,
    quick_is_quick,
    returns_to_the_cpu,
)
