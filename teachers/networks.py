"""Build networks by name: small ones of our own, and those of timm and torchvision."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from teachers.errors import RefusedInput, UsageError
from teachers.names import nearest

Shape = tuple[int, int, int]

OURS = {
    "cnn-W-W-W": "3×3 convolution, batch norm, ReLU, max pooling for every width W, then a linear layer",
    "strided-W-W-W": "the same with stride 2 in place of pooling: half the time on a CPU",
    "resnet-D": "He et al.'s CIFAR ResNet of depth D = 6n + 2 (8, 20, 32, 56, 110) for images up to 64 pixels",
    "resnet18-small": "torchvision's ResNet-18 with a 3×3 first convolution and no pooling after it, as for CIFAR",
}

NAME = re.compile(r"((torchvision|timm):)?[A-Za-z0-9_-]{1,80}(\.[a-z0-9_]{1,80})?")  # no hub names, no paths
DEEPEST = 1_202  # He et al.'s deepest ResNet for small images
WIDEST = 2**16


class ConvNet(nn.Sequential):
    """One convolution block per width, each of which halves the image, then a linear layer."""

    def __init__(self, widths: tuple[int, ...], classes: int, shape: Shape, *, strided: bool) -> None:
        channels, height, width = shape
        if min(height, width) < 2 ** len(widths):
            raise RefusedInput(f"images of {height}×{width} pixels cannot be halved {len(widths)} times")
        blocks: list[nn.Module] = []
        for w in widths:
            blocks += [nn.Conv2d(channels, w, 3, 2 if strided else 1, 1, bias=False), nn.BatchNorm2d(w), nn.ReLU()]
            height, width = (-(-height // 2), -(-width // 2)) if strided else (height // 2, width // 2)
            if not strided:
                blocks.append(nn.MaxPool2d(2))
            channels = w
        super().__init__(*blocks, nn.Flatten(), nn.Linear(channels * height * width, classes))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut that pads channels with zeros (option A of He et al. 2016, §4.2)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.extra = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        return torch.relu(y + nn.functional.pad(shortcut, (0, 0, 0, 0, 0, self.extra)))


class ResNet(nn.Module):
    """The three-stage ResNet for small images (He et al. 2016, §4.2)."""

    def __init__(self, depth: int, classes: int, shape: Shape) -> None:
        super().__init__()
        widths = (16, 32, 64)
        self.stem = nn.Sequential(nn.Conv2d(shape[0], 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        blocks, inputs = [], 16
        for stage, outputs in enumerate(widths):
            for i in range((depth - 2) // 6):
                blocks.append(BasicBlock(inputs, outputs, 2 if stage and i == 0 else 1))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(self.stem(x)).mean((2, 3)))
        return logits


class PreprocessedNetwork(nn.Module):
    """A network that takes raw pixels in [0, 1] and normalises them itself, channel by channel.

    `bgr` reverses the channels after they are normalised.
    """

    network: nn.Module
    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], bgr: bool = False) -> None:
        super().__init__()
        self.network = network
        self.bgr = bgr
        self.register_buffer("mean", torch.tensor(mean).reshape(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        normalised = (x - self.mean) / self.std
        logits: Tensor = self.network(normalised.flip(1) if self.bgr else normalised)
        return logits

    def around(self, network: nn.Module) -> PreprocessedNetwork:
        """Return another network with the same preprocessing, on the device of this one."""
        mean, std = (tuple(part.flatten().tolist()) for part in (self.mean, self.std))
        whole = PreprocessedNetwork(network, mean, std, self.bgr)
        whole.mean, whole.std = self.mean, self.std
        return whole


class ReorderedNetwork(nn.Module):
    """A network with its outputs in another order: the i-th output is the inner network's output `order[i]`."""

    order: Tensor

    def __init__(self, network: nn.Module, order: tuple[int, ...]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("order", torch.tensor(order), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits[:, self.order]


def build(name: str, classes: int, shape: Shape) -> nn.Module:
    """Build a network by name with fresh weights; it returns logits (N, classes).

    Raises UsageError, which suggests similar names, if there is none of that name.
    """
    if not NAME.fullmatch(name):
        raise UsageError(
            f"unknown architecture {name[:80]!r}: a name is one of `audit ls students`, of torchvision or of timm, and "
            "nothing is fetched from a hub or a folder; save its state dict and name its architecture"
        )
    if match := re.fullmatch(r"(cnn|strided)((?:-[1-9][0-9]{0,8})+)", name):
        widths = tuple(int(w) for w in match[2][1:].split("-"))
        if max(widths) > WIDEST:
            raise UsageError(f"{name}: a width is at most {WIDEST:,}")
        return ConvNet(widths, classes, shape, strided=match[1] == "strided")
    if match := re.fullmatch(r"resnet-([0-9]{1,9})", name):
        if (depth := int(match[1])) < 8 or depth > DEEPEST or (depth - 2) % 6:
            raise UsageError(
                f"{name}: the depth of a CIFAR ResNet is 6n + 2, such as resnet-8 or resnet-20, and at most {DEEPEST:,}"
            )
        return ResNet(depth, classes, shape)
    if name == "resnet18-small":
        return _resnet18_small(classes, shape)
    try:
        return _from_library(name, classes, shape)
    except NotImplementedError:
        raise
    except (RuntimeError, AssertionError, ValueError, TypeError, IndexError, ZeroDivisionError) as e:
        raise UsageError(f"{name} is not built for images of shape {shape} ({_reason(e)}); give another size") from e


class _Weightless(TorchFunctionMode):
    """Allocate no memory for parameters, but do so for other tensors, with which some networks compute their widths."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func is torch.empty and given.get("device") is None:
            given["device"] = "meta"
        return func(*args, **given)


def weightless(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a network without allocating its weights."""
    try:
        with torch.device("meta"):
            return build()
    except NotImplementedError:
        with _Weightless():
            return build()


def in_timm(name: str) -> bool:
    """Whether the installed timm has a network of this name, which may end in a tag of its weights."""
    import timm

    if not NAME.fullmatch(name) or ":" in name or not timm.is_model(name):
        return False
    return "." not in name or name in timm.list_models(include_tags=True)


def _resnet18_small(classes: int, shape: Shape) -> nn.Module:
    import torchvision.models

    network = torchvision.models.resnet18(weights=None, num_classes=classes)
    network.conv1, network.maxpool = nn.Conv2d(shape[0], 64, 3, 1, 1, bias=False), nn.Identity()
    made: nn.Module = network
    return made


def _from_library(name: str, classes: int, shape: Shape) -> nn.Module:
    import torchvision.models

    library, _, plain = name.rpartition(":")
    if library in ("", "torchvision") and plain in torchvision.models.list_models(module=torchvision.models):
        if shape[0] != 3:
            raise UsageError(f"torchvision's {plain} takes three channels; these images have {shape[0]}")
        return _of_torchvision(plain, classes, shape)
    import timm

    if library in ("", "timm") and in_timm(plain):
        default = timm.models.get_pretrained_cfg(plain)
        resized = default is not None and default.fixed_input_size and shape[1:] != default.input_size[1:]
        sized: dict[str, Any] = {"img_size": shape[1:]} if resized else {}
        created: nn.Module = timm.create_model(plain, pretrained=False, num_classes=classes, in_chans=shape[0], **sized)
        return created
    known = [*OURS, "cnn-4-8-16", "resnet-20", *torchvision.models.list_models(), *timm.list_models()]
    hint = nearest(name, known, most=3, otherwise="see `audit ls students`")
    raise UsageError(f"unknown architecture {name!r}; {hint}")


def _of_torchvision(plain: str, classes: int, shape: Shape) -> nn.Module:
    """Build a network of torchvision without auxiliary heads: only training uses them, with another loss than ours."""
    import torchvision.models

    more: dict[str, Any] = {"image_size": shape[1]} if plain.startswith("vit_") else {}
    if plain in ("googlenet", "inception_v3"):
        more = {"aux_logits": False, "init_weights": True}
    network: nn.Module = torchvision.models.get_model(plain, weights=None, num_classes=classes, **more)
    return network


def try_out(network: nn.Module, name: str, classes: int, shape: Shape) -> None:
    """Pass two images through a network in its present mode.

    Raises UsageError if it does not take images of this shape, or does not return one logit per class.
    """
    try:
        with torch.no_grad():
            given = network(torch.rand(2, *shape))
    except (RuntimeError, AssertionError, ValueError, TypeError, IndexError) as e:
        raise UsageError(
            f"{name} does not take images of shape {shape} ({_reason(e)}); give another architecture"
        ) from e
    if not isinstance(given, Tensor) or given.shape != (2, classes):
        mode = " in training" * network.training
        raise UsageError(f"{name} does not give one logit a class{mode}; give another architecture")


def _reason(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:150] if text else type(error).__name__


def raw_pixels(network: nn.Module, channels: int) -> PreprocessedNetwork:
    """Wrap a network of ours: scale pixels to [-2, 2], the same for all data, so that no data statistics leak in."""
    return PreprocessedNetwork(network, (0.5,) * channels, (0.25,) * channels)
