"""Tasks and teachers that take no time to make."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from teachers.task import Augment, Pool, Task, known

HALF = ((0.5,), (0.5,))  # a normalisation: mean and standard deviation
SCALE = 15.0  # of the logits: answers are sure, yet not saturated


def tiny_task(n: int = 90, k: int = 3) -> Task:
    rng = np.random.default_rng(0)

    def pool(n: int) -> Pool:
        labels = np.arange(n) % k
        images = rng.integers(0, 90, (n, 1, 8, 8)) + 70 * labels[:, None, None, None]
        return Pool(images.astype(np.uint8), labels.astype(np.int64), Augment(1))

    return Task("tiny", tuple("abc"[:k]), pool(n), pool(30), pool(60))


def linear(task: Task) -> nn.Sequential:
    """Fit the digits by ridge regression."""
    x = torch.from_numpy(task.train.images).double().flatten(1) / 255
    x = torch.cat([x, torch.ones(len(x), 1)], 1)
    assert task.train.labels is not None
    y = F.one_hot(torch.from_numpy(task.train.labels), 10).double() - 0.1
    weights = (torch.linalg.solve(x.T @ x + torch.eye(65), x.T @ y).T * 12).float()
    linear = nn.Linear(64, 10)
    linear.weight.data, linear.bias.data = weights[:, :-1].contiguous(), weights[:, -1].contiguous()
    return nn.Sequential(nn.Flatten(), linear).eval()


class Fragile(nn.Module):
    """Let no input through that is larger than what the network was taught on."""

    def __init__(self, most: float) -> None:
        super().__init__()
        self.most = 1.5 * most  # dropout makes pixels larger

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x.abs().amax((1, 2, 3), keepdim=True) > self.most, torch.nan, x)


def fragile(task: Task, mean: tuple[float, ...], std: tuple[float, ...], scale: float = SCALE) -> nn.Module:
    """Fit a linear classifier of normalised pixels by ridge regression on one-hot labels."""
    x = (torch.from_numpy(task.train.images).double().flatten(1) / 255 - mean[0]) / std[0]
    x = torch.cat([x, torch.ones(len(x), 1)], 1)
    y = nn.functional.one_hot(torch.from_numpy(known(task.train)), len(task.classes)).double()
    weights = torch.linalg.solve(x.T @ x + 1e-2 * torch.eye(x.shape[1]), x.T @ y).T.float() * scale
    linear = nn.Linear(x.shape[1] - 1, len(task.classes))
    linear.weight.data, linear.bias.data = weights[:, :-1].contiguous(), weights[:, -1].contiguous()
    return nn.Sequential(Fragile(max(mean[0], 1 - mean[0]) / std[0]), nn.Flatten(), linear)
