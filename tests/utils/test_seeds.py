"""Seeds depend on what is computed, and global generators are left as they were."""

from __future__ import annotations

import pytest
import torch

from dcbench.utils.seeds import derive_seed, draw_seed, new_generator, seeded_globals

CPU = torch.device("cpu")


def test_a_seed_is_pinned():
    # A changed derivation would change every result ever recorded.
    assert derive_seed("evaluate", "key", 0, None) == 8637918524131470821


@pytest.mark.parametrize(
    "other", [("a",), ("a", 2), ("b", 1), (1, "a"), ("a", "1"), ("a", None), ("a1",), ("a", 1, None)]
)
def test_a_seed_depends_on_every_part_its_type_and_the_order(other):
    assert derive_seed(*other) != derive_seed("a", 1)


def test_seeds_have_63_bits():
    seeds = [derive_seed(number) for number in range(200)]
    assert len(set(seeds)) == 200
    assert 2**62 < max(seeds) < 2**63
    assert min(seeds) >= 0


def test_generators_of_the_same_parts_draw_the_same():
    first, second, other = (torch.rand(5, generator=new_generator("x", n)) for n in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_a_new_generator_does_not_depend_on_the_global_one():
    torch.manual_seed(1)
    first = torch.rand(5, generator=new_generator("x"))
    torch.manual_seed(2)
    assert torch.equal(first, torch.rand(5, generator=new_generator("x")))


def test_drawn_seeds_come_from_the_generator_and_differ():
    generator, again = new_generator("x"), new_generator("x")
    seeds = [draw_seed(generator) for _ in range(100)]
    assert len(set(seeds)) == 100
    assert 2**61 < max(seeds) < 2**62
    assert seeds == [draw_seed(again) for _ in range(100)]


def test_seeded_globals_make_global_draws_repeatable():
    def draw(seed):
        with seeded_globals(seed, CPU):
            return torch.rand(5)

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_seeded_globals_put_the_global_generator_back():
    before = torch.get_rng_state()
    with seeded_globals(1, CPU):
        torch.rand(5)
    assert torch.equal(torch.get_rng_state(), before)


def test_seeded_globals_put_the_global_generator_back_after_an_error():
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="shape"), seeded_globals(1, CPU):
        torch.rand(5).view(4)
    assert torch.equal(torch.get_rng_state(), before)
