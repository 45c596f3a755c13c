"""Random images with soft labels: whose labels, of which images, and what chooses the teacher's epoch."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from dcbench_plugins.architectures.convnet import ConvNet
from dcbench_plugins.methods import random_soft
from dcbench_plugins.methods.random_soft import RandomSoft
from helpers import make_task

from dcbench.core.condensed_set import check_set
from dcbench.core.method import Setting
from dcbench.utils.errors import DcbenchError

NETWORK = ConvNet(width=4, depth=1)
METHOD = {"epochs": 5, "lr": 0.1, "student_epochs": 4, "batch_size": 8}


def setting(data, ipc):
    counts = tuple(len(members) for members in data.train.class_indices)
    return Setting(data.info, counts, ipc, "convnet")


@pytest.fixture
def condense(tiny, tmp_path):
    def go(ipc=2, **changes):
        method = RandomSoft(**(METHOD | changes)).resolve(setting(tiny, ipc))
        task = make_task(tiny, NETWORK, ipc=ipc, folder=tmp_path)
        made, asked = [], task.networks

        def note(*words):
            made.extend(asked(*words))
            return tuple(made[-1:])

        return method.condense(dataclasses.replace(task, networks=note)), made[-1]

    return go


def positions(train, images):
    """Where images stand in the training split."""
    pixels = train.normalised(slice(None))
    return [int((pixels == image).flatten(1).all(dim=1).nonzero()[0]) for image in images]


@pytest.mark.parametrize(("epochs", "grid"), [(1, [1]), (2, [1, 2]), (8, [1, 2, 4, 8]), (11, [1, 2, 4, 8, 11])])
def test_the_teacher_may_stop_after_powers_of_two(epochs, grid):
    assert RandomSoft(epochs=epochs).grid == grid


def test_the_teacher_of_few_images_has_more_epochs(tiny):
    assert RandomSoft().resolve(setting(tiny, 1)).epochs == 512  # of one step
    assert RandomSoft(batch_size=2).resolve(setting(tiny, 1)).epochs == 32  # of 21
    assert RandomSoft(epochs=3).resolve(setting(tiny, 1)).epochs == 3


def test_labels_are_the_probabilities_that_the_chosen_teacher_gives_real_images(condense, tiny):
    condensed, teacher = condense()
    check_set(condensed, tiny.train, ipc=2)
    assert condensed.track == "soft-label"
    chosen = positions(tiny.train, condensed.images)
    assert tiny.train.labels[chosen].tolist() == [0, 0, 1, 1, 2, 2]
    assert len(set(chosen)) == 6
    assert teacher.epochs == (1, 2, 4, 5)
    best = int(condensed.history["held_out_accuracy"].argmax())
    with torch.no_grad():
        expected = teacher.network(teacher.epochs[best])(condensed.images).softmax(dim=1)
    torch.testing.assert_close(condensed.labels, expected)


def test_no_image_is_of_the_part_that_is_held_out(condense, tiny):
    condensed, teacher = condense(ipc=5)  # of class c, all that are left
    assert teacher.held_out_accuracy.keys() == {1, 2, 4, 5}
    assert len(teacher.held_out) == 5  # two of 20 twice, one of 6
    assert not {*positions(tiny.train, condensed.images)} & {*teacher.held_out.tolist()}


def test_the_network_that_is_best_on_the_held_out_images_chooses(condense, tiny, monkeypatch):
    """For every epoch: networks are tested on the held-out images alone, and the best, wherever it is, decides."""
    tested = []

    def say(network, split):
        tested.append(split.images)
        return float(len(tested) % 4 == best)

    monkeypatch.setattr(random_soft, "accuracy", say)
    labels = []
    for best in (1, 2, 3, 0):  # noqa: B007  # 1: the first of four
        condensed, teacher = condense()
        labels.append(condensed.labels)
        tested.clear()
    with torch.no_grad():
        for number, epoch in enumerate(teacher.epochs):
            expected = teacher.network(epoch)(condensed.images).softmax(dim=1)
            torch.testing.assert_close(labels[number], expected)
    condense()
    assert len(tested) == 4
    assert all(torch.equal(images, tiny.train.images[teacher.held_out]) for images in tested)


def test_the_labels_that_are_tried_decide(condense, monkeypatch):
    """A network that is trained on the labels of no teacher at all does worse: the comparison is a real one."""
    condensed, _ = condense(student_epochs=60)
    true = random_soft._labels
    monkeypatch.setattr(
        random_soft,
        "_labels",
        lambda *words: true(*words) if words[2] == 5 else torch.full((6, 3), 1 / 3),
    )
    other, teacher = condense(student_epochs=60)
    assert int(other.history["held_out_accuracy"].argmax()) == 3
    with torch.no_grad():
        torch.testing.assert_close(other.labels, teacher.network(5)(other.images).softmax(dim=1))
    assert not torch.equal(condensed.history["held_out_accuracy"], other.history["held_out_accuracy"])


def test_more_images_than_are_not_held_out_are_refused(tiny):
    RandomSoft().resolve(setting(tiny, 5))
    with pytest.raises(DcbenchError, match=r"ipc 6 is more than .* of class 'c', 5 training images are"):
        RandomSoft().resolve(setting(tiny, 6))


def test_it_goes_on_from_a_checkpoint_with_the_same_bytes(tiny, tmp_path):
    method = RandomSoft(**METHOD).resolve(setting(tiny, 2))

    class Kept:
        state = None

        def load(self):
            if Kept.state is None:
                return None
            state, generator = Kept.state
            task.generator.set_state(generator)
            return state

        def offer(self, state):
            Kept.state = ({name: each.clone() for name, each in state().items()}, task.generator.get_state())
            if int(Kept.state[0]["done"]) == 2 and not resumed:
                raise KeyboardInterrupt

    resumed = False
    task = make_task(tiny, NETWORK, checkpoint=Kept(), folder=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        method.condense(task)
    resumed = True
    task = make_task(tiny, NETWORK, checkpoint=Kept(), folder=tmp_path)
    condensed = method.condense(task)
    expected = method.condense(make_task(tiny, NETWORK, folder=tmp_path))
    assert condensed.sha256() == expected.sha256()
    for name, curve in expected.history.items():
        assert torch.equal(condensed.history[name], curve)
