"""CTC and the exits' weights."""

import itertools

import pytest
import torch

from efmodel.loss import IGNORED, combine, ctc, exit_weights


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


def test_exit_weights():
    assert exit_weights("mean", 4) == [0.25] * 4
    assert exit_weights("sum", 3) == [1, 1, 1]
    assert exit_weights("last", 3) == [0, 0, 1]
    assert exit_weights("weighted", 3) == pytest.approx([1 / 6, 2 / 6, 3 / 6])
    with pytest.raises(ValueError, match="exit-loss: found 'most'"):
        exit_weights("most", 3)


def test_combine_weighs_each_exit():
    assert combine(torch.tensor([1.0, 2.0, 6.0]), "mean").item() == pytest.approx(3.0)
    assert combine(torch.tensor([1.0, 2.0, 6.0]), "last").item() == pytest.approx(6.0)
