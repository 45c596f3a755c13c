"""RDED: which crops are chosen, found by brute force, and how they become images."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from dcbench_plugins.architectures.convnet import ConvNet
from dcbench_plugins.methods.rded import RDED, _tiled
from helpers import make_info, make_split, make_task

from dcbench.api import teacher_recipe
from dcbench.core.condensed_set import check_set
from dcbench.core.loaded_dataset import LoadedDataset
from dcbench.core.method import Setting
from dcbench.utils.errors import DcbenchError

NETWORK = ConvNet(width=4, depth=1)
COUNTS = (9, 9, 8)


def data_of(size):
    info = make_info(3, size)
    return LoadedDataset(info, make_split(COUNTS, 3, size), make_split(COUNTS, 3, size, seed=1))


def resolved(data, ipc, **options):
    return RDED(**options).resolve(Setting(data.info, COUNTS, ipc, "convnet"))


def by_hand(data, task, method, teacher, factor):
    """For every class: all crops one by one, each shown to the teacher alone, and the best by sorting a list."""
    (height, width), generator, images = data.info.size, task.generator, []
    for label in range(3):
        best = []
        for index in data.train.draw_indices(label, method.images_per_class, generator).tolist():
            image, candidates = data.train.normalised(torch.tensor([index])), []
            draws = torch.rand(method.crops, 3, dtype=torch.float64, generator=generator)
            for u, v, w in draws.tolist():
                side = round(math.sqrt((0.08 + 0.92 * u) * height * width))
                side = min(side, height, width)
                top, left = math.floor(v * (height - side + 1)), math.floor(w * (width - side + 1))
                crop = image[:, :, top : top + side, left : left + side]
                crop = F.interpolate(crop, (height // factor, width // factor), mode="bilinear", antialias=True)
                canvas = torch.zeros(1, 3, height, width)
                y, x = (height - height // factor) // 2, (width - width // factor) // 2
                canvas[:, :, y : y + height // factor, x : x + width // factor] = crop
                with torch.no_grad():
                    loss = -teacher(canvas).log_softmax(dim=1)[0, label].item()
                candidates.append((loss, crop[0]))
            best.append(min(candidates, key=lambda each: each[0]))
        ranked = [crop for _, crop in sorted(best, key=lambda each: each[0])]
        for number in range(task.ipc):
            image = torch.zeros(3, height, width)
            for place, (row, column) in enumerate(itertools.product(range(factor), repeat=2)):
                h, w = height // factor, width // factor
                tile = ranked[place * task.ipc + number]
                image[:, row * h : (row + 1) * h, column * w : (column + 1) * w] = tile
            images.append(image)
    return torch.stack(images)


@pytest.mark.parametrize(("size", "factor", "ipc"), [((12, 8), 1, 3), ((8, 8), 2, 2), ((34, 40), None, 1)])
def test_the_choice_is_that_of_brute_force(size, factor, ipc, tmp_path):
    data = data_of(size)
    method = resolved(data, ipc, factor=factor, images_per_class=8, crops=3, teacher_epochs=2)
    condensed = method.condense(make_task(data, NETWORK, ipc=ipc, folder=tmp_path))
    check_set(condensed, data.train, ipc)
    assert condensed.labels.tolist() == sorted([0, 1, 2] * ipc)
    assert condensed.factor == 1  # networks are trained on the tiled images as they are
    task = make_task(data, NETWORK, ipc=ipc, folder=tmp_path)
    (teacher,) = task.trained_networks(teacher_recipe(data.info, 2))
    expected = by_hand(data, task, method, teacher.network(), factor or 2)
    torch.testing.assert_close(condensed.images, expected)


def test_the_factor_is_1_up_to_32_pixels_and_2_above():
    assert resolved(data_of((32, 32)), 1).factor == 1
    assert resolved(data_of((34, 32)), 1).factor == 2
    assert resolved(data_of((34, 32)), 8, factor=1).factor == 1


def test_tiles_go_row_by_row():
    crops = torch.arange(8.0).view(8, 1, 1, 1)
    assert _tiled(crops, 2).flatten(1).tolist() == [[0, 2, 4, 6], [1, 3, 5, 7]]


@pytest.mark.parametrize(
    ("size", "ipc", "options", "message"),
    [
        (
            (8, 8),
            9,
            {},
            r"rded needs 9 images of each class .* at factor 1, .* 'class 2' it has 8",
        ),
        ((8, 8), 3, {"factor": 2}, r"rded needs 12 images .* it has 8 to choose from\."),
        ((8, 8), 3, {"images_per_class": 2}, r"rded needs 3 images .* it has 2 to choose from\."),
        ((33, 40), 1, {}, r"rded: factor 2 does not divide images of 33x40 pixels\."),
    ],
)
def test_what_it_cannot_serve_is_refused(size, ipc, options, message):
    with pytest.raises(DcbenchError, match=message):
        resolved(data_of(size), ipc, **options)
