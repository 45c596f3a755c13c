"""Gradient matching, deliberately naive: written from the papers, in float64."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def naive_layerwise(real, synthetic):
    """Equation 7, an output row at a time."""
    total = 0.0
    for a, b in zip(real, synthetic, strict=True):
        if a.dim() == 1:
            continue
        for row in range(a.shape[0]):
            x, y = a[row].reshape(-1), b[row].reshape(-1)
            total = total + 1 - (x @ y) / (x.norm() * y.norm() + 1e-6)  # a row may be all zeros
    return total


def naive_cosine(real, synthetic):
    x = torch.cat([a.reshape(-1) for a in real])
    y = torch.cat([b.reshape(-1) for b in synthetic])
    return 1 - (x @ y) / (x.norm() * y.norm() + 1e-6)


def naive_squared(real, synthetic):
    return sum(((a - b) ** 2).sum() for a, b in zip(real, synthetic, strict=True))


NAIVE = {"layerwise": naive_layerwise, "cosine": naive_cosine, "squared": naive_squared}


def naive_loss(network, real, synthetic, distance):
    """The matching loss of all classes as one graph."""
    total = torch.zeros((), dtype=torch.float64)
    for label in range(len(real)):
        gradients = []
        for images in (real[label], synthetic[label]):
            logits = network(images)
            loss = -torch.log_softmax(logits, dim=1)[:, label].mean()
            gradients.append(torch.autograd.grad(loss, list(network.parameters()), create_graph=True))
        total = total + NAIVE[distance]([g.detach() for g in gradients[0]], gradients[1])
    return total


def as_they_are(generator, n):
    """Draw nothing, and change no image."""
    return lambda images: images


def naive_condense(method, task, images, draw=as_they_are):
    """Algorithm 1 from these images on, drawing the same random numbers in the same order; one batch per epoch.

    ``draw(generator, n)`` returns what to do to a batch, with one parameter for all its images, or one for each.
    """
    classes, generator = range(task.info.num_classes), task.generator
    velocity = torch.zeros_like(images)
    labels = torch.arange(len(classes)).repeat_interleave(task.ipc)
    for _ in range(method.iterations):
        network = task.new_network().double()
        speeds = [torch.zeros_like(parameter) for parameter in network.parameters()]
        for outer in range(method.outer_loop):
            views = [draw(generator, 1) for _ in classes]
            real = [views[c](task.train.draw(c, method.batch_real, generator).double()) for c in classes]
            leaf = images.clone().requires_grad_()
            synthetic = [views[c](leaf[c * task.ipc : (c + 1) * task.ipc]) for c in classes]
            (gradient,) = torch.autograd.grad(naive_loss(network, real, synthetic, method.distance), leaf)
            velocity = method.momentum_img * velocity + gradient
            images = images - method.lr_img * velocity
            if outer == method.outer_loop - 1:
                break
            for _ in range(method.inner_loop):
                order = torch.randperm(len(images), generator=generator)
                parameters = list(network.parameters())
                loss = F.cross_entropy(network(draw(generator, len(images))(images[order])), labels[order])
                gradients = torch.autograd.grad(loss, parameters)
                with torch.no_grad():
                    for parameter, speed, change in zip(parameters, speeds, gradients, strict=True):
                        speed.mul_(method.momentum_net).add_(change)
                        parameter -= method.lr_net * speed
    return images
