"""The aggregation core against an independent computation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server_app.strategy.partial_mean import PartialMean

OWNERS = {"front": 0, "one": 1, "two": 2, "three": 3}
clients = st.lists(
    st.tuples(st.integers(1, 3), st.floats(0.5, 500)), min_size=1, max_size=8
)  # (capacity, weight)


def values(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=(3, 2)).astype(np.float32) for name in OWNERS}


def fold(
    coverage: str, cohort: list[tuple[int, float]], order: list[int], shrinkage: float = 0.0
) -> PartialMean:
    mean = PartialMean(coverage, shrinkage)
    for k in order:
        capacity, weight = cohort[k]
        held = {n: v for n, v in values(k + 1).items() if OWNERS[n] <= capacity}
        mean.add(held, weight)
    return mean


def independent(coverage: str, cohort: list[tuple[int, float]], name: str) -> np.ndarray:
    """Equations 1 and 2 in float64, client by client, with the old value for those without."""
    old = values(0)[name].astype(np.float64)
    top, bottom = np.zeros_like(old), 0.0
    for k, (capacity, weight) in enumerate(cohort):
        if capacity >= OWNERS[name]:
            top += weight * values(k + 1)[name]
            bottom += weight
        elif coverage == "cohort":
            top += weight * old
            bottom += weight
    return old if bottom == 0 else top / bottom


@pytest.mark.parametrize("coverage", ["trainers", "cohort"])
@given(cohort=clients)
def test_the_partial_mean_is_what_the_equations_say(coverage, cohort):
    mean = fold(coverage, cohort, list(range(len(cohort))))
    for name, old in values(0).items():
        new = mean.mean(name, old)
        np.testing.assert_allclose(new, independent(coverage, cohort, name), atol=1e-5)
        assert new.dtype == old.dtype


@pytest.mark.parametrize("coverage", ["trainers", "cohort"])
@given(cohort=clients, kappa=st.floats(0, 20))
def test_shrinkage_moves_a_tensor_by_its_share_of_clients(coverage, cohort, kappa):
    mean = fold(coverage, cohort, list(range(len(cohort))), kappa)
    for name, old in values(0).items():
        trainers = sum(capacity >= OWNERS[name] for capacity, _ in cohort)
        clients = trainers if coverage == "trainers" else len(cohort)
        whole = independent(coverage, cohort, name) - old
        wanted = old + (whole * clients / (clients + kappa) if trainers else 0)
        np.testing.assert_allclose(mean.mean(name, old), wanted, atol=1e-5)


def test_shrinkage_contains_both_coverages():
    cohort = [(1, 1.0), (2, 1.0), (3, 1.0), (3, 1.0)]
    order = [0, 1, 2, 3]
    for name, old in values(0).items():
        absent = sum(capacity < OWNERS[name] for capacity, _ in cohort)
        shrunk, over_all = fold("trainers", cohort, order, absent), fold("cohort", cohort, order)
        np.testing.assert_allclose(shrunk.mean(name, old), over_all.mean(name, old), atol=1e-6)


@given(cohort=clients)
def test_over_the_cohort_is_what_sending_everything_back_gives(cohort):
    """The preset naive: clients return what they do not hold unchanged, all are averaged."""
    naive = PartialMean("trainers")
    for k, (capacity, weight) in enumerate(cohort):
        trained, old = values(k + 1), values(0)
        naive.add({n: (trained if OWNERS[n] <= capacity else old)[n] for n in OWNERS}, weight)
    ours = fold("cohort", cohort, list(range(len(cohort))))
    for name, old in values(0).items():
        np.testing.assert_allclose(ours.mean(name, old), naive.mean(name, old), atol=1e-5)


@given(cohort=clients, chance=st.randoms())
def test_the_order_of_replies_does_not_matter(cohort, chance):
    order = list(range(len(cohort)))
    chance.shuffle(order)
    one, other = fold("trainers", cohort, sorted(order)), fold("trainers", cohort, order)
    for name, old in values(0).items():
        np.testing.assert_allclose(one.mean(name, old), other.mean(name, old), atol=1e-6)


@given(cohort=clients)
def test_every_tensor_stays_within_its_trainers_values(cohort):
    mean = fold("trainers", cohort, list(range(len(cohort))))
    for name, old in values(0).items():
        trained = [values(k + 1)[name] for k, (c, _) in enumerate(cohort) if c >= OWNERS[name]]
        hull = np.stack(trained or [old])
        new = mean.mean(name, old)
        assert (new >= hull.min(0) - 1e-6).all() and (new <= hull.max(0) + 1e-6).all()


@pytest.mark.parametrize("coverage", ["trainers", "cohort"])
def test_nobody_at_the_deepest_exit_leaves_it_as_it_is(coverage):
    mean = fold(coverage, [(1, 2.0), (2, 3.0)], [0, 1])
    assert np.array_equal(mean.mean("three", values(0)["three"]), values(0)["three"])


@pytest.mark.parametrize("coverage", ["trainers", "cohort"])
def test_one_client_alone_is_taken_over(coverage):
    mean = fold(coverage, [(3, 7.0)], [0])
    for name, old in values(0).items():
        np.testing.assert_allclose(mean.mean(name, old), values(1)[name], rtol=1e-6)


def test_whole_numbers_stay_whole_and_exact():
    big = 2**40
    mean = PartialMean("trainers")
    mean.add({"steps": np.array(big + 1, dtype=np.int64)}, 1.0)
    mean.add({"steps": np.array(big + 4, dtype=np.int64)}, 2.0)
    new = mean.mean("steps", np.array(0, dtype=np.int64))
    assert new.dtype == np.int64 and new == big + 3


def test_half_precision_is_summed_in_single():
    mean = PartialMean("trainers")
    for _ in range(100):
        mean.add({"x": np.full(2, 1000, dtype=np.float16)}, 50.0)
    np.testing.assert_allclose(mean.mean("x", np.zeros(2, dtype=np.float16)), 1000)
