"""The protocol ``soft``: that of siamese augmentation, for sets whose labels are stored with them."""

from __future__ import annotations

from dataclasses import replace

from dcbench.evaluate.dsa import DSA

SOFT = replace(
    DSA,
    name="soft",
    soft_labels=True,
    summary="as dsa, on the soft labels that are stored with the set",
    details=(
        "the loss is the cross-entropy with the stored probabilities or, for logits, with their softmax at the "
        "set's temperature. Hard labels count as probabilities of 0 and 1, so random images with hard labels are "
        "the floor; random images with soft labels (random_soft) say what the labels alone are worth. What counts "
        "is the accuracy after the last epoch"
    ),
    source="Zhao, Bilen, ICML 2021; with soft labels, Qin, Deng, Alvarez-Melis, A Label is Worth a Thousand "
    "Images in Dataset Distillation, NeurIPS 2024",
    departures=(
        "as dsa; Qin et al. train for 3,000 epochs, multiply the rate by 0.3 at each quarter, whiten CIFAR-10, "
        "and report the best of the accuracies on the test split at every 200th epoch"
    ),
)
