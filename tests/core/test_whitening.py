"""ZCA whitening: against its definition, and in an evaluation."""

from __future__ import annotations

import pytest
import torch
from helpers import make_train

from dcbench.core.whitening import WhitenedSplit, Whitening


def test_whitened_training_images_have_no_correlation_left():
    train = make_train(counts=(100, 100, 100), size=(3, 4))
    whitening = Whitening.fit(train, eps=1e-6)
    white = whitening(train.images.float() / 255).flatten(1).double()
    assert torch.allclose(white.mean(0), torch.zeros(12, dtype=torch.float64), atol=1e-5)
    assert torch.allclose(torch.cov(white.T), torch.eye(12, dtype=torch.float64), atol=1e-4)


def test_it_is_the_symmetric_whitening_of_its_definition():
    train = make_train(counts=(30, 20, 10), channels=3, size=(2, 3))
    rows = train.images.flatten(1).double() / 255
    left, scale, _ = torch.linalg.svd(torch.cov(rows.T))
    expected = left @ torch.diag((scale + 0.1) ** -0.5) @ left.T
    fitted = Whitening.fit(train)
    assert torch.allclose(fitted.matrix.double(), expected, atol=1e-5)
    assert torch.allclose(fitted.mean.double(), rows.mean(0), atol=1e-6)


@pytest.mark.parametrize("batch", [7, 2000])
def test_batches_do_not_matter(monkeypatch, batch):
    monkeypatch.setattr("dcbench.core.whitening.BATCH", batch)
    train = make_train()
    split = WhitenedSplit(train.images, train.labels, train.info, Whitening.fit(train))
    whole = split.normalised(slice(None))
    assert torch.allclose(whole[3:5], split.normalised(torch.tensor([3, 4])), atol=1e-6)
    assert whole.shape == train.normalised(slice(None)).shape
    assert torch.equal(whole, split.whitening(train.images.float() / 255))
    assert not torch.allclose(whole, split.whitening(train.normalised(slice(None))), atol=0.1)


def test_the_mean_does_not_depend_on_the_batches(monkeypatch):
    train = make_train(counts=(9, 9, 9))
    whole = Whitening.fit(train)
    monkeypatch.setattr("dcbench.core.whitening.BATCH", 4)
    assert torch.allclose(Whitening.fit(train).matrix, whole.matrix, atol=1e-6)
