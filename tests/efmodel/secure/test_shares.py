"""Shamir's secret sharing."""

import random

from hypothesis import given
from hypothesis import strategies as st

from efmodel.secure import shares
from efmodel.secure.keys import agree, public_key


@given(st.integers(0, shares.PRIME - 1), st.integers(1, 12), st.integers(0, 12), st.randoms())
def test_any_threshold_shares_give_the_secret(number, threshold, further, chance: random.Random):
    secret = number.to_bytes(32, "little")
    points = list(range(1, threshold + further + 1))
    dealt = dict(zip(points, shares.split(secret, threshold, points), strict=True))
    chosen = chance.sample(points, threshold)
    factors = shares.lagrange(chosen)
    assert shares.combine({point: dealt[point] for point in chosen}, factors) == secret


def test_one_share_fewer_gives_something_else_each_time():
    secret = shares.new_secret()
    factors = shares.lagrange([1, 2])
    found = set()
    for _ in range(5):
        dealt = dict(zip((1, 2, 3), shares.split(secret, 3, [1, 2, 3]), strict=True))
        found.add(shares.combine({point: dealt[point] for point in (1, 2)}, factors))
    assert len(found) == 5 and secret not in found


def test_a_secret_serves_as_a_private_key_and_two_agree():
    ours, theirs = shares.new_secret(), shares.new_secret()
    assert agree(ours, public_key(theirs)) == agree(theirs, public_key(ours))
    assert agree(ours, public_key(theirs)) != agree(ours, public_key(shares.new_secret()))


def test_digests_recognise_each_share_of_a_bundle():
    bundle = shares.new_secret() + shares.new_secret()
    first, second = shares.unpack(bundle)
    assert shares.digests(bundle) == shares.digests(first) + shares.digests(second)
