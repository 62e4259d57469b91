"""What strangers write beside weights: nothing of it reaches a constructor but numbers, and words known here."""

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hostile
import hostile_configs as corpus
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from audit.cache.store import Cache
from teachers import intake, networks
from teachers.errors import AuditError, RefusedInput, UsageError
from teachers.http.address import Service
from teachers.intake import onnx_files
from teachers.intake.architecture import guess
from teachers.targets.spec import TeacherSpec
from teachers.targets.target import fingerprint, open_file, open_task

K, SHAPE = corpus.CLASSES, corpus.SHAPE


@pytest.fixture(autouse=True)
def _watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let nothing reach a network, and no payload leave its marker."""

    connected = socket.socket.connect

    def connect(of: socket.socket, address: Any) -> None:
        assert of.family == socket.AF_UNIX, f"a connection to {address}"  # of our own processes
        connected(of, address)

    def named(*_: object) -> None:
        raise AssertionError("a host was looked up")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", named)
    monkeypatch.chdir(tmp_path)
    (tmp_path / corpus.EVIL).write_bytes(hostile.torch_bytes(hostile.payloads()["os.system"]))
    yield
    assert not (tmp_path / hostile.MARKER).exists()


@pytest.fixture
def hf() -> Any:
    return pytest.importorskip("transformers", reason="the extra [hf] is not installed")


def tensors_of(config: dict[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of the network that a plain configuration describes."""
    import timm
    import transformers

    torch.manual_seed(0)
    if config["model_type"] == "timm_wrapper":
        return dict(timm.create_model(config["architecture"], num_classes=K).state_dict())
    kind = transformers.CONFIG_MAPPING[config["model_type"]]
    sizes = {key: value for key, value in config.items() if key not in ("model_type", "architectures")}
    return dict(transformers.ResNetForImageClassification(kind(**sizes)).state_dict())


class TestConfigurations:
    """config.json of a Hugging Face folder."""

    @pytest.mark.parametrize("name", corpus.refused())
    def test_what_is_no_number_in_bounds_and_no_known_word_is_refused(self, name: str, hf: Any) -> None:
        from teachers.intake import classifiers

        with pytest.raises(
            RefusedInput, match=r"; .*(export|save|give)|not an architecture of the installed timm|not an image cl|1 to"
        ):
            classifiers.network(classifiers.plan(corpus.refused()[name]), {"w": torch.ones(1)})

    @pytest.mark.parametrize("name", corpus.harmless())
    def test_what_names_a_place_is_passed_over(self, name: str, hf: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        import timm

        from teachers.intake import classifiers

        told: list[dict[str, Any]] = []
        create = timm.create_model

        def spy(name: str, **options: Any) -> nn.Module:
            told.append(options)
            return create(name, **options)

        base = corpus.KINDS[name.partition(",")[0]]
        held, images = tensors_of(base), torch.rand(2, 3, 32, 32)
        plain = classifiers.network(classifiers.plan(base), held).eval()
        monkeypatch.setattr(timm, "create_model", spy)
        network = classifiers.network(classifiers.plan(corpus.harmless()[name]), held).eval()
        with torch.no_grad():
            answers = [one if isinstance(one, Tensor) else one.logits for one in (network(images), plain(images))]
        assert torch.equal(*answers)
        assert all(set(options) == {"pretrained", "num_classes"} and not options["pretrained"] for options in told)

    def test_numbers_of_a_timm_network_reach_it(self, hf: Any) -> None:
        import timm

        from teachers.intake import classifiers

        sizes = {"img_size": 32, "depth": 1, "embed_dim": 24, "num_heads": 2, "global_pool": "avg"}
        config = {**corpus.TIMM, "architecture": "vit_tiny_patch16_224", "model_args": sizes}
        original = timm.create_model("vit_tiny_patch16_224", num_classes=K, **sizes).eval()
        held = {f"timm_model.{name}": t for name, t in original.state_dict().items()}
        images = torch.rand(2, 3, 32, 32)
        network = classifiers.network(classifiers.plan(config), held).eval()
        with torch.no_grad():
            assert torch.equal(network(images), original(images))

    @pytest.mark.parametrize("missing", [False, True])
    def test_a_network_gets_all_of_its_tensors_or_none(self, missing: bool, hf: Any) -> None:
        from teachers.intake import classifiers

        held = tensors_of(corpus.RESNET)
        if missing:
            held.pop("classifier.1.weight")
            with pytest.raises(RefusedInput, match=r"lacks 1 of its weights \(first: classifier\.1\.weight\)"):
                classifiers.network(classifiers.plan(corpus.RESNET), held)
        else:
            found = classifiers.network(classifiers.plan(corpus.RESNET), held).state_dict()
            assert all(torch.equal(found[name], t) for name, t in held.items())

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            ({"vision_config": {"deep": [{"auto_map": {"A": "evil.A"}}]}}, "brings code of its own"),
            ({"quantization_config": {"quant_method": "evil"}}, "is quantised"),
        ],
    )
    def test_code_and_quantisation_are_refused_where_they_stand(self, more: dict[str, Any], words: str) -> None:
        folder = written({**corpus.RESNET, **more})
        with pytest.raises(RefusedInput, match=words):
            intake.open_weights(folder)

    def test_a_folder_of_timm_is_told_no_name_of_a_hub(self) -> None:
        with pytest.raises(RefusedInput, match="--arch timm:resnet10t"):
            intake.open_weights(written({"architecture": "resnet10t"}))
        with pytest.raises(RefusedInput, match=r"its --arch \('hf-hub:stranger/model' is none that is known here\)"):
            intake.open_weights(written({"architecture": corpus.HUB}))

    def test_an_adapter_beside_the_weights_is_not_looked_at(self, hf: Any) -> None:
        folder = written(corpus.RESNET)
        before = answers(folder)
        for name in ("adapter_config.json", "tokenizer_config.json", "generation_config.json"):
            (folder / name).write_text(json.dumps({"base_model_name_or_path": corpus.HUB, "auto_map": {"A": "e.A"}}))
        (folder / "modeling.py").write_text(f"open({hostile.MARKER!r}, 'w')")
        assert torch.equal(answers(folder), before)

    @pytest.mark.parametrize("std", [0, -1, float("nan"), 1e300, 10**400])
    def test_a_spread_that_is_none_is_not_stated(self, std: float) -> None:
        folder = written(corpus.RESNET)
        (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5], "image_std": [std]}))
        assert intake.open_weights(folder).normalize is None


def written(config: dict[str, Any]) -> Path:
    """Write a folder with the tensors of the small ResNet."""
    from safetensors.torch import save_file

    pytest.importorskip("transformers", reason="the extra [hf] is not installed")
    folder = Path("folder")
    folder.mkdir(exist_ok=True)
    save_file(tensors_of(corpus.RESNET), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def answers(path: Path, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    teacher = intake.assemble(intake.open_weights(path, trust=True), "", K, shape, "none")
    images = torch.rand(5, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found: Tensor = teacher.here.eval()(images)
    return found


VISION = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SQUARE = {**VISION, "image_size": 32, "patch_size": 8}
STAGES = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 40, 64]}
WINDOWS = {"image_size": 32, "patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
PERCEIVER = {"num_latents": 4, "d_latents": 16, "d_model": 16, "num_self_attends_per_block": 1, "image_size": 32}
LEVIT = {"image_size": 32, "hidden_sizes": [16, 32, 48], "num_attention_heads": [1, 2, 3], "depths": [1, 1, 1]}
OFFERED: dict[str, dict[str, Any]] = {
    "beit": {**SQUARE, "use_relative_position_bias": True},
    "bit": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "num_groups": 4, "global_padding": "same"},
    "clip": {"vision_config": SQUARE},
    "convnext": {"num_stages": 2, "hidden_sizes": [8, 16], "depths": [1, 1]},
    "convnextv2": {"num_stages": 2, "hidden_sizes": [8, 16], "depths": [1, 1]},
    "cvt": {},
    "data2vec-vision": SQUARE,
    "deit": SQUARE,
    "dinov2": SQUARE,
    "dinov2_with_registers": SQUARE,
    "donut-swin": WINDOWS,
    "efficientnet": {"image_size": 32, "width_coefficient": 0.25, "depth_coefficient": 0.3, "hidden_dim": 320},
    "focalnet": {"image_size": 32, "embed_dim": 8, "hidden_sizes": [16, 16], "depths": [1, 1], "focal_levels": [1, 1]},
    "ijepa": SQUARE,
    "levit": {**LEVIT, "key_dim": [8, 8, 8]},
    "mobilenet_v1": {"depth_multiplier": 0.25, "image_size": 32},
    "mobilenet_v2": {"depth_multiplier": 0.25, "image_size": 32},
    "mobilevit": {"image_size": 32, "hidden_sizes": [16, 24, 32], "num_attention_heads": 2},
    "perceiver": {**PERCEIVER, "num_self_attention_heads": 2, "num_cross_attention_heads": 1},
    "poolformer": {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16]},
    "pvt": {**STAGES, "image_size": 32},
    "pvt_v2": STAGES,
    "regnet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "groups_width": 4},
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
    "segformer": STAGES,
    "siglip": {"vision_config": SQUARE},
    "swiftformer": {"depths": [1, 1, 1, 1], "embed_dims": [8, 8, 16, 16]},
    "swin": {**WINDOWS, "hidden_act": "gelu_new"},
    "swinv2": WINDOWS,
    "timm_wrapper": {"architecture": "resnet10t"},
    "vit": SQUARE,
    "vit_msn": SQUARE,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", OFFERED)
def test_every_classifier_of_transformers_answers_as_its_own_loader_has_it(kind: str, hf: Any, tmp_path: Path) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as CLASSES

    from teachers.intake import classifiers
    from teachers.intake.readers import in_folder

    hf.logging.disable_progress_bar()
    names = CLASSES[kind] if not isinstance(CLASSES[kind], str) else (CLASSES[kind],)
    for name in names:
        torch.manual_seed(0)
        made = getattr(hf, name)(hf.CONFIG_MAPPING[kind](**OFFERED[kind], num_labels=K))
        with torch.no_grad():
            for parameter in made.parameters():  # away from what a constructor would give
                parameter.add_(0.02 * torch.randn_like(parameter))
        folder = tmp_path / name
        made.save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        own = getattr(hf, name).from_pretrained(folder).eval()
        network, images = (
            classifiers.network(classifiers.plan(config), in_folder(folder)).eval(),
            torch.rand(2, 3, 32, 32),
        )
        with torch.no_grad():
            found, wanted = network(images), own(images).logits
        assert torch.allclose(found if isinstance(found, Tensor) else found.logits, wanted, atol=1e-6)


def by_its_card(path: Path) -> intake.Teacher:
    opened = intake.open_weights(path)
    card = opened.card
    assert card is not None
    return intake.assemble(opened, card.architecture, len(card.classes), card.shape, card.normalize)


class TestCards:
    """What a checkpoint says of itself."""

    @pytest.mark.parametrize("name", corpus.cards())
    def test_a_card_is_checked_before_anything_is_built(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        sizes: list[int] = []
        build = networks.build

        def spy(name: str, classes: int, shape: networks.Shape) -> nn.Module:
            network = build(name, classes, shape)
            sizes.append(sum(p.numel() for p in network.parameters() if not p.is_meta))
            return network

        monkeypatch.setattr(networks, "build", spy)
        path = corpus.with_card(corpus.cards()[name], Path("m.safetensors"))
        with pytest.raises(AuditError) as refusal:
            by_its_card(path)
        assert "\n" not in str(refusal.value)
        assert len(str(refusal.value)) < 2_000
        assert sum(sizes) <= 10_000

    def test_a_good_card_opens(self) -> None:
        assert by_its_card(corpus.with_card(corpus.card(), Path("m.safetensors"))).mean == (0.5, 0.5, 0.5)

    @pytest.mark.parametrize("field", ["method", "architecture"])
    def test_a_refusal_names_the_field_and_the_way_out(self, field: str) -> None:
        path = corpus.with_card(corpus.card(**{field: "../noisy"}), Path("m.safetensors"))
        with pytest.raises(
            RefusedInput, match=rf"does not fit: {field}: '\.\./noisy' is not .*; give its state dict alone"
        ):
            intake.open_weights(path)

    def test_only_what_is_built_in_is_synthetic(self, kept: Path) -> None:
        """A checkpoint may be called what it likes: its fingerprint is its tensors', and chance is checked."""
        task, _ = open_task(TeacherSpec("demo", "digits"), Cache(kept))
        prints = []
        for seed in range(2):
            torch.manual_seed(seed)
            network = networks.raw_pixels(networks.build("strided-4-8", 10, task.shape), 1)
            teacher = intake.Teacher("noisy", "same", network, "noisy", "noisy", (0.5,), (0.25,))
            prints.append(fingerprint(teacher))
        assert len(set(prints)) == 2
        assert not teacher.synthetic

    def test_data_that_a_card_names_are_told(self, kept: Path) -> None:
        corpus.with_card(corpus.card(data="/data/mine"), Path("m.safetensors"))
        lines: list[str] = []
        for data in (None, "/data/another"):
            with pytest.raises(AuditError, match=data or "/data/mine"):
                open_task(TeacherSpec("m.safetensors", data=data), Cache(kept), lines.append)
        assert lines == ["data: /data/mine, which m.safetensors names"]


@pytest.mark.parametrize(
    "name",
    [corpus.HUB, f"timm:{corpus.HUB}", "timm:local-dir:.", "torchvision:../x", "timm:resnet10t.x/y", "a" * 10_000],
)
def test_an_architecture_is_never_looked_for_in_a_hub_or_a_folder(name: str) -> None:
    with pytest.raises(UsageError, match="nothing is fetched from a hub or a folder"):
        networks.build(name, K, SHAPE)


def test_a_network_that_cannot_be_built_for_images_says_so() -> None:
    with pytest.raises(UsageError, match=r"vit_b_16 is not built for images of shape \(3, 20, 20\)"):
        networks.build("vit_b_16", K, (3, 20, 20))


class TestAuxiliaryHeads:
    """GoogLeNet and Inception, as trained and as deployed."""

    @pytest.fixture
    def images(self) -> Tensor:
        return torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))

    @pytest.mark.parametrize("heads", [False, True])
    @pytest.mark.parametrize(
        "name", ["googlenet", "inception_v3", pytest.param("timm:inception_v3", marks=pytest.mark.slow)]
    )
    def test_they_load_with_and_without_and_answer_in_evaluation(self, name: str, heads: bool, images: Tensor) -> None:
        import timm
        import torchvision.models

        plain = name.rpartition(":")[2]
        torch.manual_seed(0)
        if name == plain:
            network = torchvision.models.get_model(plain, num_classes=K, aux_logits=heads, init_weights=False)
        else:
            network = timm.create_model(plain, num_classes=K, aux_logits=heads)
        torch.save({f"module.{key}": t for key, t in network.state_dict().items()}, "m.pt")
        opened = intake.open_weights(Path("m.pt"))
        assert guess(opened.tensors).candidates[0].name == f"torchvision:{plain}"
        teacher = intake.assemble(opened, name, K, (3, 96, 96), "none")
        if name == plain:
            with torch.no_grad():
                assert torch.allclose(teacher.here.eval()(images), network.eval()(images), atol=1e-5)
        assert not any("aux" in key.lower() for key in teacher.here.state_dict())


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize("precision", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("program", ["traced", "frozen", "exported"])
def test_a_program_gets_images_in_its_precision(precision: torch.dtype, program: str) -> None:
    torch.manual_seed(0)
    network = networks.build(corpus.ARCH, K, SHAPE).eval()
    wanted_of = network.to(torch.float64)
    images = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = wanted_of(images.double()).float()
    network, path = network.to(precision), Path("m.pt")
    example = torch.rand(2, *SHAPE).to(precision)
    if program == "exported":
        with path.open("wb") as f:
            torch.export.save(torch.export.export(network, (example,)), f)
    else:
        traced = torch.jit.trace(network, example, check_trace=False)
        (torch.jit.freeze(traced) if program == "frozen" else traced).save(str(path))
    assert (answers(path) - wanted).abs().max() < 0.05


class Choosy(nn.Module):
    """Looks at how many images it is given."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.flatten(1)[:, :K]
        return y if len(x) <= 3 else y * torch.nan


class TestOutputs:
    """Programs of several outputs."""

    class Two(nn.Module):
        """Answers twice: by a dictionary of names, or one after the other."""

        def __init__(self, names: tuple[str, ...], sign: float) -> None:
            super().__init__()
            self.body, self.names, self.sign = networks.build(corpus.ARCH, K, SHAPE), names, sign

        def forward(self, x: Tensor) -> dict[str, Tensor] | tuple[Tensor, Tensor]:
            y = self.body(x)
            return dict(zip(self.names, (self.sign * y, y), strict=True)) if self.names else (self.sign * y, y)

    def saved(self, names: tuple[str, ...], sign: float) -> Path:
        torch.manual_seed(0)
        torch.save(self.Two(names, sign).eval(), "m.pt")
        return Path("m.pt")

    def opened(self, path: Path) -> intake.Teacher:
        return intake.assemble(intake.open_weights(path, trust=True), "", K, SHAPE, "none")

    def test_the_one_that_is_taken_is_told_with_the_others(self) -> None:
        teacher = self.opened(self.saved((), 2.0))
        assert teacher.taken == ""
        teacher.here.eval()(torch.rand(2, *SHAPE))
        assert teacher.taken == "output 0 is used; left out: 1"

    def test_logits_are_taken_by_their_name(self) -> None:
        teacher = self.opened(self.saved(("other", "logits"), -1.0))
        teacher.here.eval()(torch.rand(2, *SHAPE))
        assert teacher.taken == "output logits is used; left out: other"

    def test_two_that_name_other_classes_are_refused_by_name(self) -> None:
        with pytest.raises(RefusedInput, match=r"2 outputs of 4 numbers that name other classes \(a, b\)"):
            self.opened(self.saved(("a", "b"), -1.0))

    def test_the_one_that_the_user_names_is_taken_and_is_part_of_who_the_teacher_is(self) -> None:
        weights = intake.open_weights(self.saved(("a", "b"), -1.0), trust=True)
        x, found = torch.rand(8, *SHAPE), {}
        for output in ("a", "b"):
            teacher = intake.assemble(replace(weights, output=output), "", K, SHAPE, "none")
            found[fingerprint(teacher)] = teacher.here.eval()(x)
        one, other = found.values()
        assert torch.equal(one, -other)
        with pytest.raises(RefusedInput, match=r"no output 'c'; --output names one of a, b"):
            intake.assemble(replace(weights, output="c"), "", K, SHAPE, "none")

    def test_tensors_have_no_outputs_to_choose_from(self) -> None:
        save_file(networks.build(corpus.ARCH, K, SHAPE).state_dict(), "m.safetensors")
        with pytest.raises(UsageError, match=r"--output a: m.safetensors holds tensors, whose network has one"):
            open_file(TeacherSpec("m.safetensors", service=Service(output="a")))


@pytest.mark.parametrize("container", ["torch", "pickle"])
def test_a_module_of_a_script_or_of_a_missing_package_names_its_class_and_the_way_out(
    container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pickle
    import sys
    import types

    for module, words in (
        ("__main__", r"its class Net was in the script that saved it"),
        ("nets_of_a_stranger", r"its class nets_of_a_stranger\.Net is in the package nets_of_a_stranger, which"),
        ("json", r"its class Net is not in the json found here"),
    ):
        home = sys.modules.get(module) or types.ModuleType(module)
        kind = type("Net", (nn.Linear,), {"__module__": module})
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, module, home)
            patched.setattr(home, "Net", kind, raising=False)
            if container == "torch":
                torch.save(kind(2, 2), "m.pt")
            else:
                Path("m.pt").write_bytes(pickle.dumps(kind(2, 2)))
        with pytest.raises(RefusedInput, match=rf"{words}.*save model\.state_dict\(\).*PYTHONPATH"):
            intake.open_weights(Path("m.pt"), trust=True)


@pytest.mark.skipif(not hostile.has("onnx"), reason="the extra [onnx] is not installed")
class TestOnnx:
    """What a graph names."""

    @pytest.mark.parametrize(
        "location", ["*/_ORT_MEM_ADDR_/*", "*/_ORT_NATIVE_ENDIAN_MEM_ADDR_/*", "../x", "/etc/passwd", "a/../x", "", "."]
    )
    @pytest.mark.parametrize("there", [False, True])
    def test_external_data_are_a_plain_file_of_its_folder(self, location: str, there: bool) -> None:
        import onnx

        if there and location.startswith("*"):  # such a folder may come with the file
            Path(location).parent.mkdir(parents=True)
            Path(location).write_bytes(bytes(2560))
        model = hostile.onnx_model()
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        Path("m.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(RefusedInput, match=r"in one piece|outside the folder"):
            onnx_files.check(Path("m.onnx"))

    def test_a_place_that_is_said_twice_is_refused(self) -> None:
        import onnx

        Path("x.bin").write_bytes(bytes(2560))
        model = hostile.onnx_model()
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for place in ("/etc/passwd", "x.bin"):
            tensor.external_data.add(key="location", value=place)
        Path("m.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(RefusedInput, match="has two locations"):
            onnx_files.check(Path("m.onnx"))


def test_a_program_is_rehearsed_with_as_many_images_as_it_will_be_given() -> None:
    torch.save(Choosy(), "m.pt")
    with pytest.raises(RefusedInput, match=r"answers NaN.*\(256, 4\) for 256"):
        intake.assemble(intake.open_weights(Path("m.pt"), trust=True), "", K, SHAPE, "none")


def test_the_corpus_is_large() -> None:
    assert len(corpus.refused()) + len(corpus.harmless()) + len(corpus.cards()) >= 100
