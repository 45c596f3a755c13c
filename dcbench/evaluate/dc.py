"""The protocol ``dc``, of gradient matching. Other numbers need another name: tables never mix protocols."""

from __future__ import annotations

from dcbench.evaluate.protocol import EvaluationProtocol

DC = EvaluationProtocol(
    name="dc",
    summary="300 epochs of SGD at 0.01, a tenth of that after half of them; augmentation on MNIST only",
    source="Zhao, Mopuri, Bilen, Dataset Condensation with Gradient Matching, ICLR 2021",
    departures=(
        "the authors' code runs 301 and 1,001 epochs, drops the rate after 152 and 502 and the momentum with it, "
        "scales with nearest neighbours and rotates with cubic interpolation where this is bilinear, and "
        "augments for the ConvNet with BatchNorm on every data set"
    ),
    epochs=300,
    augmented_epochs=1000,
    batch_size=256,
    lr=0.01,
    momentum=0.9,
    weight_decay=5e-4,
    decay=0.1,
)
