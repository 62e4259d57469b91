"""Build Hugging Face image classifiers from an untrusted configuration, of which only numbers and known words are used.

Neither transformers nor timm reads the folder: they get a class name, named values, and tensors.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook

from teachers import networks
from teachers.errors import RefusedInput

TIMM = "timm_wrapper"
INSIDE = "timm_model."  # prefix of the tensor names of such a network


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Model types in transformers whose image classifier takes pixels only; those in PAIRED have sizes in vision_config.
TYPES = _names(
    """beit bit convnext convnextv2 cvt data2vec-vision deit dinat dinov2 dinov2_with_registers donut-swin
    efficientformer efficientnet focalnet hgnet_v2 hiera ijepa imagegpt levit mobilenet_v1 mobilenet_v2 mobilevit
    mobilevitv2 nat perceiver poolformer pp_lcnet pvt pvt_v2 regnet resnet segformer swiftformer swin swinv2 textnet
    van vit vit_msn"""
)
PAIRED = {
    "clip": "CLIPVisionConfig",
    "metaclip_2": "MetaClip2VisionConfig",
    "siglip": "SiglipVisionConfig",
    "siglip2": "Siglip2VisionConfig",
}
# Arguments that timm's create_model may get; none of them names a file or URL.
ARGUMENTS = _names(
    """attn_drop_rate class_token depth depths dims drop_path_rate drop_rate dynamic_img_pad dynamic_img_size embed_dim
    embed_dims global_pool head_hidden_size img_size in_chans init_values mlp_ratio num_heads num_reg_tokens
    output_stride patch_size pos_drop_rate pre_norm proj_drop_rate qkv_bias qk_norm reg_tokens strict_img_size
    window_size"""
)
# Kinds of layers, padding and pooling; names of activations come from transformers' table.
WORDS = _names(
    """SAME VALID avg avgmax basic bottleneck catavgmax dw_bn kv linear map max mean preactivation q same token valid x
    y"""
) | {""}
# Settings of a class that do not shape a classifier: a backbone's outputs, and those read separately.
OTHERS = _names("""_out_features _out_indices kwargs num_labels out_features out_indices text_config vision_config""")
MOST_CLASSES = 100_000
MOST = 2**20  # for a length, a width or a count
LONGEST = 512  # values in a list
DEEP = 4  # nested lists, at most
MOST_MODULES = 10_000
ROOM = 2**24  # values that a network may have beyond the file's: tables computed while it is built


@dataclass(frozen=True)
class Plan:
    """The network to build: its type, its number of classes, and its sizes."""

    kind: str
    classes: int
    sizes: Mapping[str, Any]
    named: tuple[str, ...] = ()  # the classes of transformers that the configuration names


def plan(config: Mapping[str, Any]) -> Plan:
    """Return the network that a configuration describes.

    Raises RefusedInput, whose message continues a sentence that begins with the folder's name, for a type that is no
    known image classifier and for a value that is neither a number within limits nor a known word.
    """
    kind = config["model_type"]
    if kind == TIMM:
        return _of_timm(config)
    if kind not in TYPES and kind not in PAIRED:
        raise RefusedInput(
            f"is of the type {kind[:80]!r}, not an image classifier that this tool knows; export it to ONNX"
        )
    named = tuple(str(name)[:80] for name in config.get("architectures") or ())
    return Plan(kind, _classes(config), _own(kind, config), named)


def network(wanted: Plan, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Build a classifier and load tensors into it.

    Raises RefusedInput, whose message continues a sentence that begins with the folder's name, if tensors are missing.
    """
    build = _timm_builder(wanted) if wanted.kind == TIMM else _builder(wanted)
    held = sum(t.numel() for t in tensors.values())
    with _few_modules():
        empty = networks.weightless(build)
    _same_shapes(empty, {name.removeprefix(INSIDE): t for name, t in tensors.items()})
    needed = sum(t.numel() for t in (*empty.parameters(), *empty.buffers()))
    if needed > held + ROOM:
        raise RefusedInput(f"describes a network of {needed:,} values but holds {held:,}; give all of its weights")
    missing: list[str]
    if wanted.kind == TIMM:
        made = build()
        told = made.load_state_dict({name.removeprefix(INSIDE): t for name, t in tensors.items()}, strict=False)
        missing = list(told.missing_keys)
    else:
        # The name None keeps from_pretrained from looking for files; it also translates tensor names of old versions.
        made, loaded = type(empty).from_pretrained(  # type: ignore[attr-defined]
            None, config=empty.config, state_dict=dict(tensors), dtype=torch.float32, output_loading_info=True
        )
        missing = list(loaded["missing_keys"])
    if missing:
        raise RefusedInput(f"lacks {len(missing)} of its weights (first: {min(missing)}); give all of them")
    return made


def _same_shapes(empty: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    for name, wanted in empty.state_dict().items():
        if name in tensors and tensors[name].shape != wanted.shape:
            raise RefusedInput(
                f"has {name} of shape {tuple(tensors[name].shape)}, and its configuration describes one of "
                f"{tuple(wanted.shape)}; give the folder as save_pretrained wrote it"
            )


@contextmanager
def _few_modules() -> Iterator[None]:
    """Stop building a network with too many modules: even without weights, a million layers take minutes."""
    made = 0

    def count(*_: object) -> None:
        nonlocal made
        made += 1
        if made > MOST_MODULES:
            raise RefusedInput(f"describes a network of more than {MOST_MODULES:,} modules; give another")

    hook = register_module_module_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def _of_timm(config: Mapping[str, Any]) -> Plan:
    name = config.get("architecture")
    if not isinstance(name, str) or not networks.in_timm(name):
        raise RefusedInput(f"names {str(name)[:80]!r}, not an architecture of the installed timm")
    given = config.get("model_args") or {}
    if not isinstance(given, Mapping):
        raise RefusedInput("has model_args that are not an object; save it again")
    if odd := sorted(given.keys() - ARGUMENTS):
        raise RefusedInput(f"gives {odd[0][:80]!r} to its network (model_args); export it to ONNX")
    return Plan(TIMM, _classes(config), {"architecture": name, **{n: _value(n, v) for n, v in given.items()}})


def _classes(config: Mapping[str, Any]) -> int:
    names = config.get("id2label") or config.get("label_names")
    named = len(names) if isinstance(names, (Mapping, list)) else 0
    said = [config[key] for key in ("num_labels", "num_classes") if config.get(key) is not None]
    count = named or (said[0] if said else 2)  # 2 is the default of transformers
    if type(count) is not int or not 1 <= count <= MOST_CLASSES:
        raise RefusedInput(f"has {str(count)[:80]} classes; a classifier here has 1 to {MOST_CLASSES:,}")
    return count


def _own(kind: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes in a configuration, by the names that its class uses."""
    import transformers

    if kind not in PAIRED:
        return _sizes(transformers.CONFIG_MAPPING[kind], config) if kind in transformers.CONFIG_MAPPING else {}
    seen: dict[str, Any] = {}
    for key in ("vision_config", "vision_config_dict"):
        part = config.get(key) or {}
        if not isinstance(part, Mapping):
            raise RefusedInput(f"has a {key} that is not an object; save it again")
        seen |= part
    return {"vision_config": _sizes(getattr(transformers, PAIRED[kind]), seen)}


def _sizes(kind: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that this configuration class adds; those common to all classes do not shape a network."""
    import transformers

    common = inspect.signature(transformers.PretrainedConfig.__init__).parameters.keys()
    own = inspect.signature(kind.__init__).parameters.keys() | kind.attribute_map.keys()
    return {name: _value(name, config[name]) for name in sorted((own - common - OTHERS) & config.keys())}


def _value(name: str, value: object, depth: int = 0) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)) and math.isfinite(value) and abs(value) <= MOST:
        return value
    if isinstance(value, str) and (value in WORDS or value in _activations()):
        return value
    if isinstance(value, list) and len(value) <= LONGEST and depth < DEEP:
        return [_value(name, part, depth + 1) for part in value]
    raise RefusedInput(
        f"says {name}: {str(value)[:60]!r}, which is neither a number up to {MOST:,}, a list of such, nor a word that "
        "is known here; export it to ONNX"
    )


def _activations() -> frozenset[str]:
    from transformers.activations import ACT2FN

    return frozenset(ACT2FN)


def _builder(wanted: Plan) -> Callable[[], nn.Module]:
    """Return a function that builds a classifier of transformers."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as CLASSES

    if wanted.kind not in CLASSES:
        version = transformers.__version__
        raise RefusedInput(f"is of the type {wanted.kind!r}, not an image classifier of transformers {version}")
    offered = CLASSES[wanted.kind]
    names = (offered,) if isinstance(offered, str) else tuple(offered)
    name = next((named for named in wanted.named if named in names), names[0])
    config = transformers.CONFIG_MAPPING[wanted.kind](**wanted.sizes, num_labels=wanted.classes)
    kind = getattr(transformers, name)
    return lambda: kind(config)


def _timm_builder(wanted: Plan) -> Callable[[], nn.Module]:
    import timm

    sizes = dict(wanted.sizes)
    name = sizes.pop("architecture")
    return lambda: timm.create_model(name, pretrained=False, num_classes=wanted.classes, **sizes)
