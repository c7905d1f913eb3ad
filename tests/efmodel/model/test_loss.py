"""CTC and the exits' weights."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Categorical, kl_divergence

from efmodel.exit_weights import EXIT_WEIGHTS, exit_weights
from efmodel.model.loss import IGNORED, combine, ctc, exits_loss, self_distillation


def brute_force_ctc(logits: torch.Tensor, labels: list[int]) -> float:
    """-log of the summed probability of every path that collapses to the labels."""
    probabilities = torch.softmax(logits.double(), -1)
    total = 0.0
    for path in itertools.product(range(logits.shape[1]), repeat=logits.shape[0]):
        collapsed = [k for k, _ in itertools.groupby(path) if k != 0]
        if collapsed == labels:
            total += float(torch.stack([probabilities[t, k] for t, k in enumerate(path)]).prod())
    return -torch.log(torch.tensor(total)).item()


def test_ctc_is_the_sum_over_paths_over_own_frames_only():
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 3)
    labels = torch.tensor([[1, 1], [2, IGNORED]])
    lengths = torch.tensor([5, 3])  # the second utterance's last two frames are padding
    expected = (
        brute_force_ctc(logits[0], [1, 1]) / 2 + brute_force_ctc(logits[1, :3], [2]) / 1
    ) / 2
    assert ctc(logits, lengths, labels, blank=0).item() == pytest.approx(expected, abs=1e-5)


def test_a_text_too_long_for_its_audio_gives_no_infinity():
    logits = torch.randn(1, 2, 3, requires_grad=True)
    loss = ctc(logits, torch.tensor([2]), torch.tensor([[1, 1, 2]]), blank=0)
    loss.backward()
    assert loss.item() == 0 and torch.isfinite(logits.grad).all()


@given(
    kind=st.sampled_from(list(EXIT_WEIGHTS)), num_exits=st.integers(1, 24), progress=st.floats(0, 1)
)
def test_weights_are_shares_and_none_is_negative(kind, num_exits, progress):
    weights = exit_weights(kind, num_exits, progress)
    assert len(weights) == num_exits
    assert all(math.isfinite(weight) and weight >= 0 for weight in weights)
    assert sum(weights) == pytest.approx(num_exits if kind == "sum" else 1)
    if kind != "last":
        assert all(weight > 0 for weight in weights)  # no exit stands still


def test_exit_weights():
    assert exit_weights("mean", 4) == [0.25] * 4
    assert exit_weights("sum", 3) == [1, 1, 1]
    assert exit_weights("last", 3) == [0, 0, 1]
    assert exit_weights("linear", 3) == pytest.approx([1 / 6, 2 / 6, 3 / 6])
    assert exit_weights("inverse", 3) == pytest.approx([6 / 11, 3 / 11, 2 / 11])
    with pytest.raises(ValueError, match="exit-loss: found 'most'"):
        exit_weights("most", 3)


def test_deepening_shifts_weight_from_the_shallowest_to_the_deepest_exit():
    rounds = [exit_weights("deepening", 4, progress) for progress in (0, 0.25, 0.5, 0.75, 1)]
    assert rounds[0] == exit_weights("inverse", 4) and rounds[-1] == exit_weights("linear", 4)
    shallowest, deepest = [r[0] for r in rounds], [r[-1] for r in rounds]
    assert shallowest == sorted(shallowest, reverse=True) and deepest == sorted(deepest)


def test_self_distillation_is_the_kl_divergence_over_own_frames_only():
    torch.manual_seed(0)
    logits = [torch.randn(2, 5, 3, requires_grad=True) for _ in range(3)]
    lengths = torch.tensor([5, 2])
    expected = 0.0
    for student in logits[:2]:
        for row, frames in enumerate(lengths.tolist()):
            pairs = [
                kl_divergence(Categorical(logits=t), Categorical(logits=s))
                for t, s in zip(logits[2][row, :frames], student[row, :frames], strict=True)
            ]
            expected += torch.stack(pairs).mean() / 2 / 2  # of two students, of two utterances
    found = self_distillation(logits, lengths)
    torch.testing.assert_close(found, expected)
    found.backward()
    assert logits[2].grad is None  # the teacher is not pulled to its pupils
    assert logits[0].grad[1, :2].abs().sum() > 0 and logits[0].grad[1, 2:].abs().sum() == 0


def test_one_exit_has_nobody_to_learn_from():
    assert self_distillation([torch.randn(2, 5, 3)], torch.tensor([5, 2])).item() == 0


def test_the_exits_loss_is_the_weighted_losses_and_the_distillation():
    torch.manual_seed(0)
    logits, lengths = [torch.randn(2, 5, 3) for _ in range(2)], torch.tensor([5, 2])
    exits = (torch.tensor([1.0, 4.0]), logits, lengths)
    assert exits_loss(*exits, "linear").item() == pytest.approx(3.0)
    assert exits_loss(*exits, "deepening", progress=0.0).item() == pytest.approx(2.0)
    distance = self_distillation(logits, lengths).item()
    assert distance > 0
    both = exits_loss(*exits, "linear", distill=0.5).item()
    assert both == pytest.approx(3.0 + 0.5 * distance)


def test_combine_weighs_each_exit():
    assert combine(torch.tensor([1.0, 2.0, 6.0]), "mean").item() == pytest.approx(3.0)
    assert combine(torch.tensor([1.0, 2.0, 6.0]), "last").item() == pytest.approx(6.0)
    assert combine(torch.tensor([2.0, 1.0]), "deepening", 0.0).item() == pytest.approx(5 / 3)
