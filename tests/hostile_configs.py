"""Configurations and cards that strangers may write, to read what the user did not give, or to take what he has not."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from teachers import networks

CLASSES, SHAPE, ARCH = 4, (3, 16, 16), "strided-4-8"
EVIL = "evil.pth"  # a pickle that leaves a marker, beside the configuration
HUB = "hf-hub:stranger/model"

TIMM: dict[str, Any] = {"model_type": "timm_wrapper", "architecture": "resnet10t", "num_classes": CLASSES}
RESNET: dict[str, Any] = {
    "model_type": "resnet",
    "architectures": ["ResNetForImageClassification"],
    "embedding_size": 4,
    "hidden_sizes": [4, 8],
    "depths": [1, 1],
    "layer_type": "basic",
    "id2label": {str(i): str(i) for i in range(CLASSES)},
}
CLIP: dict[str, Any] = {"model_type": "clip", "num_labels": CLASSES}


def refused() -> dict[str, dict[str, Any]]:
    """Return configurations that are refused with a sentence."""
    names = (
        HUB,
        "hf_hub:a/b",
        "local-dir:.",
        "timm:resnet10t",
        "file:///etc",
        "https://x/y",
        "../resnet10t",
        "resnet10t.x/y",
    )
    more = ("/resnet10t", "resnet10t\0", "", " resnet10t", "resnet10t.hf-hub:a/b", "no_such_network", "x" * 100_000)
    arguments: dict[str, object] = {
        "checkpoint_path": EVIL,
        "pretrained": True,
        "pretrained_cfg": {"file": EVIL},
        "pretrained_cfg_overlay": {"hf_hub_id": "a/b"},
        "cache_dir": "/",
        "features_only": True,
        "scriptable": True,
        "act_layer": "os.system",
        "img_size": 2**40,
        "depth": float("inf"),
        "global_pool": HUB,
    }
    values: dict[str, dict[str, Any]] = {
        "a width of a million million": {"embedding_size": 10**12},
        "a width that is no number": {"embedding_size": "8; import os"},
        "NaN for a width": {"embedding_size": float("nan")},
        "an activation that is a path": {"hidden_act": EVIL},
        "an activation of the hub": {"hidden_act": "kernels-community/activation"},
        "a kind of layer that is none": {"layer_type": "../basic"},
        "a list of a million": {"depths": [1] * 1_000_000},
        "lists in lists": {"depths": [[[[[[1]]]]]]},
        "an object for a list": {"depths": {"0": 1}},
        "a billion classes": {"id2label": {}, "num_labels": 10**9},
        "minus one class": {"id2label": {}, "num_labels": -1},
        "classes by a word": {"id2label": {}, "num_labels": "4"},
        "sixteen gigabytes": {"embedding_size": 2**16, "hidden_sizes": [2**16, 2**16]},
        "a million layers": {"depths": [2**20, 2**20]},
        "a language model": {"model_type": "llama"},
        "several models": {"model_type": "shieldgemma2"},
        "a model with a backbone": {"model_type": "upernet", "backbone": "resnet50", "use_pretrained_backbone": True},
        "a type that is a path": {"model_type": "../resnet"},
        "a type of the hub": {"model_type": HUB},
    }
    return {
        **{f"timm named {name[:40]!r}": TIMM | {"architecture": name} for name in (*names, *more)},
        "timm named by a list": TIMM | {"architecture": ["resnet10t"]},
        **{f"timm given {name}": TIMM | {"model_args": {name: value}} for name, value in arguments.items()},
        "timm given a list": TIMM | {"model_args": [EVIL]},
        **{name: RESNET | value for name, value in values.items()},
        "a vision part that is a path": CLIP | {"vision_config": EVIL},
        "a vision part of a gigabyte's width": CLIP | {"vision_config": {"hidden_size": 2**30}},
        "a vision part by a word": CLIP | {"vision_config_dict": {"hidden_act": HUB}},
    }


def harmless() -> dict[str, dict[str, Any]]:
    """Return configurations whose harm is passed over: the network loads, and answers as it would without."""
    nothing: dict[str, Any] = {
        "a pretrained configuration": {
            "pretrained_cfg": {"file": EVIL, "url": "http://127.0.0.1:9/x", "hf_hub_id": "a/b"}
        },
        "a path of its own": {"_name_or_path": HUB},
        "attention of the hub": {"_attn_implementation": "kernels-community/flash-attn", "attn_implementation": HUB},
        "kernels": {"use_kernels": True, "kernel_config": {"a": HUB}, "fusion_config": {"patch_embeddings": True}},
        "trust": {"trust_remote_code": True, "custom_pipelines": {"x": {"impl": "evil.P"}}},
        "weights by another name": {"transformers_weights": EVIL, "adapter_kwargs": {"_adapter_model_path": EVIL}},
        "a backbone to fetch": {"backbone": "resnet50", "use_pretrained_backbone": True, "use_timm_backbone": True},
        "a type of numbers": {"dtype": "evil", "torch_dtype": "float16"},
        "other answers": {"return_dict": False, "output_hidden_states": True, "problem_type": HUB},
        "a stranger's method": {"__class__": "os.system", "from_pretrained": EVIL, "self": 1, "kwargs": {"a": 1}},
        "a place for code": {"code_revision": HUB, "base_model_name_or_path": HUB, "tokenizer_class": "evil.T"},
    }
    return {f"{kind}, {name}": {**base, **more} for name, more in nothing.items() for kind, base in KINDS.items()}


KINDS = {"resnet": RESNET, "timm": TIMM}


def card(**other: object) -> str:
    """Return the text of a card, with other values in some of its fields."""
    told: dict[str, object] = {
        "architecture": ARCH,
        "classes": [str(i) for i in range(CLASSES)],
        "shape": SHAPE,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "data": "digits",
        "task_digest": "0",
        "method": "plain",
    }
    return json.dumps(told | other)


def cards() -> dict[str, str]:
    """Return cards that are refused before anything is built."""
    fields: dict[str, dict[str, object]] = {
        "of a hub": {"architecture": f"timm:{HUB}"},
        "of a folder": {"architecture": "timm:local-dir:."},
        "of a file": {"architecture": "file:///etc/passwd"},
        "of a long name": {"architecture": "a" * 1_000_000},
        "of a network that is none": {"architecture": "timm:no_such_network"},
        "of eight gigabytes": {"architecture": "timm:vit_gigantic_patch14_clip_224"},
        "of a convolution of a gigabyte": {"architecture": "cnn-60000-60000"},
        "of a width of many digits": {"architecture": "cnn-" + "9" * 60},
        "of a million layers": {"architecture": "resnet-6000002"},
        "of a tag that is none": {"architecture": "timm:resnet10t.nothing"},
        "taught as noisy": {"method": "noisy"},
        "taught as the truth": {"method": "smoothed-truth"},
        "taught as a placebo": {"method": "placebo"},
        "taught in a way that is none": {"method": "x" * 100_000},
        "without classes": {"classes": []},
        "with one class twice": {"classes": ["a", "a", "b", "c"]},
        "with a million classes": {"classes": [str(i) for i in range(200_000)]},
        "with a class of a megabyte": {"classes": ["a" * 2**20, "b", "c", "d"]},
        "of images of a terabyte": {"shape": [3, 10**6, 10**6]},
        "of images of no size": {"shape": [3, 0, -1]},
        "of images of two sizes": {"shape": [3, 16]},
        "with a mean that is none": {"mean": [float("nan")] * 3},
        "with no spread": {"std": [0.0] * 3},
        "with an endless spread": {"std": [float("inf")] * 3},
        "with a thousand means": {"mean": [0.5] * 1_000},
        "in BGR without colours": {"shape": [1, 16, 16], "mean": [0.5], "std": [0.5], "bgr": True},
        "of data with a zero byte": {"data": "a\0b"},
        "of data by a long name": {"data": "x" * 5_000},
        "behind a guard that is none": {"guard": "os.system"},
        "behind a guard without its tensors": {"guard": "apgp"},
        "behind a long guard": {"guard": "round:1+" * 10_000},
        "with a field too many": {"auto_map": {"A": "evil.A"}},
        "with a million settings": {"settings": {str(i): 1.0 for i in range(10_000)}},
        "with a seed that is a word": {"seed": "__import__('os')"},
        "of no size": {"size": 0},
    }
    return {
        **{name: card(**other) for name, other in fields.items()},
        "deep": '{"settings": ' + "[" * 100_000,
        "a list": "[]",
        "no JSON": "{",
        "nothing": "",
        "of one number": "1e999",
    }


def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(networks.build(ARCH, CLASSES, SHAPE).state_dict())


def with_card(text: str, path: Path) -> Path:
    """Write weights with a card in their header."""
    save_file(weights(), path, metadata={"distill_audit": text})
    return path
