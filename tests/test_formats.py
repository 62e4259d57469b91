"""Every format, told apart by content, and the programs among them."""

import hashlib
import json
import os
import pickle
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import jailed
import numpy as np
import pytest
import torch
from audits import smoke
from torch import Tensor, nn

from audit import teach
from audit.cache.store import Cache
from audit.cli import _main
from audit.pipeline import run
from audit.plan.options import Options
from teachers import intake, networks
from teachers.errors import RefusedInput, UsageError
from teachers.intake import jail
from teachers.intake.formats import kind_of
from teachers.targets import runtime, teaching
from teachers.targets.spec import TeacherSpec
from teachers.targets.target import fingerprint, open_task, validation_accuracy

ROOT = Path(__file__).resolve().parent.parent
SHAPE, K, ARCH = (3, 16, 16), 5, "strided-4-8"


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return networks.build(ARCH, K, SHAPE).eval()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(7, *SHAPE, generator=torch.Generator().manual_seed(1))


def agrees(path: Path, network: nn.Module, images: Tensor, *, architecture: str = "", trust: bool = True) -> bool:
    opened = intake.open_weights(path, trust)
    teacher = intake.assemble(opened, architecture, K, SHAPE, "none")
    with torch.no_grad():
        found, wanted = teacher.network.eval()(images), network(images)
    return found.shape == (len(images), K) and bool((found - wanted).abs().max() <= 1e-5)


def traced(network: nn.Module, path: Path) -> Path:
    torch.jit.trace(network, torch.rand(2, *SHAPE), check_trace=False).save(str(path))
    return path


needs_torchscript = pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")


def test_what_training_scripts_save_beside_the_weights_does_no_harm(
    tmp_path: Path, network: nn.Module, images: Tensor
) -> None:
    extras = {"args": Namespace(lr=0.1, out=Path("runs")), "best": np.float64(0.9), "hits": np.int64(3), "epoch": 7}
    torch.save({"model": network.state_dict(), **extras}, tmp_path / "m.pt")
    assert agrees(tmp_path / "m.pt", network, images, architecture=ARCH, trust=False)


def test_weights_that_share_memory_are_two_here(tmp_path: Path, network: nn.Module, images: Tensor) -> None:
    flat = torch.cat([p.flatten() for p in network.parameters()])
    held, at = dict(network.state_dict()), 0
    for name, p in network.named_parameters():
        held[name] = flat[at : at + p.numel()].view_as(p)
        at += p.numel()
    torch.save(held, tmp_path / "m.pt")
    assert agrees(tmp_path / "m.pt", network, images, architecture=ARCH)


def test_a_whole_module_is_refused_by_what_it_would_run_and_runs_where_trusted(
    tmp_path: Path, network: nn.Module, images: Tensor
) -> None:
    path = tmp_path / "m.pt"
    for content in (network, {"model": network, "epoch": 3}):
        torch.save(content, path)
        with pytest.raises(RefusedInput, match=r"would run teachers\.networks\.ConvNet.*--trust-model-code"):
            intake.open_weights(path)
        assert agrees(path, network, images)
    path.write_bytes(pickle.dumps(network))
    with pytest.raises(RefusedInput, match=r"is a pickle, which would run code .* \(teachers\.networks\.ConvNet"):
        intake.open_weights(path)
    assert agrees(path, network, images)


@needs_torchscript
def test_a_torchscript_program_is_refused_by_its_code_and_runs_where_trusted(
    tmp_path: Path, network: nn.Module, images: Tensor
) -> None:
    path = traced(network, tmp_path / "m.pt")
    with pytest.raises(RefusedInput, match=r"TorchScript program \(__torch__/.*--trust-model-code"):
        intake.open_weights(path)
    assert agrees(path, network, images)


def test_an_exported_program_of_two_images_answers_seven(tmp_path: Path, network: nn.Module, images: Tensor) -> None:
    path = tmp_path / "m.bin"
    with path.open("wb") as f:
        torch.export.save(torch.export.export(network, (images[:2],)), f)
    with pytest.raises(RefusedInput, match=r"torch\.export program \(.*models/.*json.*--trust-model-code"):
        intake.open_weights(path)
    assert agrees(path, network, images)


def test_a_program_needs_no_architecture_and_takes_none(tmp_path: Path, network: nn.Module) -> None:
    torch.save(network, tmp_path / "m.pt")
    opened = intake.open_weights(tmp_path / "m.pt", trust=True)
    assert opened.is_program
    assert not opened.tensors
    with pytest.raises(UsageError, match="leave --arch resnet18 out"):
        intake.assemble(opened, "resnet18", K, SHAPE, "none")


def test_a_program_for_other_classes_or_images_is_refused(tmp_path: Path, network: nn.Module) -> None:
    torch.save(network, tmp_path / "m.pt")
    opened = intake.open_weights(tmp_path / "m.pt", trust=True)
    with pytest.raises(RefusedInput, match=r"answers \(3, 5\) to 3 images but the data has 7 classes"):
        intake.assemble(opened, "", 7, SHAPE, "none")
    with pytest.raises(RefusedInput, match=r"does not answer images of shape \(3, 20, 20\)"):
        intake.assemble(opened, "", K, (3, 20, 20), "none")


def test_a_programs_fingerprint_is_its_file_and_normalisation(tmp_path: Path, network: nn.Module) -> None:
    torch.save(network, tmp_path / "m.pt")
    opened = intake.open_weights(tmp_path / "m.pt", trust=True)
    prints = {fingerprint(intake.assemble(opened, "", K, SHAPE, n)) for n in ("none", "half", "half")}
    assert len(prints) == 2
    assert "" not in prints


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the exporter
class TestOnnx:
    """ONNX files, through onnxruntime."""

    @pytest.fixture(autouse=True)
    def _extra(self) -> None:
        pytest.importorskip("onnx", reason="the extra [onnx] is not installed")
        pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")

    def export(self, network: nn.Module, path: Path, batch: int, *, dynamic: bool) -> Path:
        axes = {"x": {0: "n"}} if dynamic else None
        torch.onnx.export(
            network, (torch.rand(batch, *SHAPE),), path, dynamo=False, input_names=["x"], dynamic_axes=axes
        )
        return path

    @pytest.mark.parametrize(("batch", "dynamic"), [(1, False), (4, False), (2, True)])
    def test_any_batch_is_answered(
        self, tmp_path: Path, network: nn.Module, images: Tensor, batch: int, dynamic: bool
    ) -> None:
        assert agrees(self.export(network, tmp_path / "m", batch, dynamic=dynamic), network, images, trust=False)

    def test_channels_last_is_found_from_the_shape(self, tmp_path: Path, network: nn.Module, images: Tensor) -> None:
        import onnx

        path = self.export(network, tmp_path / "m.onnx", 2, dynamic=True)
        model = onnx.load(path)
        node = onnx.helper.make_node("Transpose", ["nhwc"], ["x"], perm=[0, 3, 1, 2])
        model.graph.node.insert(0, node)
        model.graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info("nhwc", 1, ["n", 16, 16, 3]))
        onnx.save(model, path)
        assert agrees(path, network, images)

    def test_a_lesson_cannot_start_from_one(self, tmp_path: Path, network: nn.Module, kept: Path) -> None:
        path = self.export(network, tmp_path / "m.onnx", 2, dynamic=True)
        task, _ = open_task(TeacherSpec("demo", "digits"), Cache(kept))
        with pytest.raises(RefusedInput, match="without weights to start from"):
            teach.ordinary(path, task, None)

    def test_other_images_are_refused_by_both_shapes(self, tmp_path: Path, network: nn.Module) -> None:
        opened = intake.open_weights(self.export(network, tmp_path / "m.onnx", 2, dynamic=True))
        with pytest.raises(RefusedInput, match=r"takes \?×3×16×16, the data has images of shape \(1, 8, 8\)"):
            intake.assemble(opened, "", K, (1, 8, 8), "none")

    def test_what_lies_beside_the_file_counts_in_its_digest(
        self, tmp_path: Path, network: nn.Module, images: Tensor
    ) -> None:
        import onnx

        path = self.export(network, tmp_path / "m.onnx", 2, dynamic=True)
        onnx.save(onnx.load(path), path, save_as_external_data=True, location="w.bin", size_threshold=0)
        before = intake.open_weights(path).sha256
        assert agrees(path, network, images)
        held = np.fromfile(tmp_path / "w.bin", np.float32)
        (held * np.float32(0.5)).tofile(tmp_path / "w.bin")
        assert intake.open_weights(path).sha256 != before
        assert not agrees(path, network, images)

    @pytest.mark.slow
    @pytest.mark.usefixtures("tiny")
    def test_bytes_are_given_as_bytes(self, network: nn.Module, tmp_path: Path) -> None:
        import onnx

        path = self.export(network, tmp_path / "m.onnx", 2, dynamic=True)
        model = onnx.load(path)
        model.graph.node.insert(0, onnx.helper.make_node("Cast", ["bytes"], ["x"], to=onnx.TensorProto.FLOAT))
        model.graph.input[0].CopyFrom(
            onnx.helper.make_tensor_value_info("bytes", onnx.TensorProto.UINT8, ["n", 3, 16, 16])
        )
        onnx.save(model, path)
        pixels = torch.randint(256, (3, 3, 16, 16), generator=torch.Generator().manual_seed(0))
        teacher = intake.assemble(intake.open_weights(path), "", K, (3, 16, 16), "none")
        with torch.no_grad():
            assert (teacher.here(pixels / 255) - network(pixels.float())).abs().max() < 1e-3

    def test_an_audit_of_an_onnx_file_ends_in_a_verdict(self, tmp_path: Path, kept: Path) -> None:
        cache = Cache(kept)
        task, _ = open_task(TeacherSpec("demo", "digits"), cache)
        demo = teaching.ordinary_teacher(task, runtime.Runtime(cache, "cpu", print))
        path = tmp_path / "demo.onnx"
        torch.onnx.export(demo.network.eval(), (torch.rand(4, *task.shape),), path, dynamo=False)
        asked = Options(teacher=str(path), data="digits", effort="smoke", cache=kept, out=tmp_path / "out", quiet=True)
        with smoke():
            record = run(asked).record
        assert record.teacher.architecture == "onnx"
        assert record.teacher.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert record.teacher.validation_accuracy == validation_accuracy(demo, task)
        assert record.teacher.network_parameters > 10_000
        assert record.verdict.word in {"DISTILLABLE", "INCONCLUSIVE"}


class TestHuggingFace:
    """Folders of save_pretrained."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        transformers = pytest.importorskip("transformers", reason="the extra [hf] is not installed")
        transformers.logging.disable_progress_bar()
        sizes = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "layer_type": "basic"}
        config = transformers.ResNetConfig(num_channels=3, num_labels=K, **sizes)
        torch.manual_seed(0)
        transformers.ResNetForImageClassification(config).eval().save_pretrained(tmp_path / "m")
        return tmp_path / "m"

    @pytest.mark.slow
    def test_its_logits_are_the_answer(self, folder: Path, images: Tensor) -> None:
        from transformers import AutoModelForImageClassification

        original = AutoModelForImageClassification.from_pretrained(folder).eval()
        assert agrees(folder, lambda x: original(x).logits, images, trust=False)  # type: ignore[arg-type]

    def test_its_digest_is_over_all_its_files(self, folder: Path) -> None:
        before = intake.open_weights(folder)
        assert before.kind == "huggingface"
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "note": 1}))
        assert intake.open_weights(folder).sha256 != before.sha256


def test_a_missing_extra_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from teachers.intake import huggingface, onnx_files

    for name in ("onnx", "onnxruntime", "transformers"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(RefusedInput, match=r"pip install .*\[onnx\]'"):
        onnx_files.require()
    with pytest.raises(RefusedInput, match=r"pip install .*\[hf\]'"):
        huggingface.require()


def test_a_program_is_known_by_content_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"\x08\x08\x12\x02me\x3a\x00")  # ir_version, producer_name, a graph
    assert kind_of(path) == "onnx"
    path.write_bytes(b"\x08\x08\x12\x7fme\x3a\x00")  # a name longer than the file
    with pytest.raises(RefusedInput, match="not a checkpoint that this tool knows"):
        kind_of(path)


def test_the_jail_says_what_a_file_took_too_much_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def confined(work: jail.Work, seconds: int = 20, memory: int = jail.GIB) -> object:
        return jail.confined(work, tmp_path, Path("m.pt"), jail.Limits(memory, seconds))

    with pytest.raises(RefusedInput, match=r"m\.pt took more than 1 seconds to read"):
        confined(jailed.spin, seconds=1)
    with pytest.raises(RefusedInput, match=r"more than 1\.0 GiB of memory"):
        confined(jailed.swell)
    with pytest.raises(RefusedInput, match=r"crashed its reader \(SIGSEGV\)"):
        confined(jailed.crash)
    with pytest.raises(RefusedInput, match="made its reader fail"):
        confined(jailed.leave)
    monkeypatch.setattr(jail, "available", lambda: 2**28)
    with pytest.raises(RefusedInput, match=r"1\.0 GiB of memory to open, 256\.0 MiB are free"):
        confined(jailed.swell)


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        ("leave", "made its reader fail"),
        ("crash", "crashed its reader"),
        ("swell", "of memory"),
        ("nan", "answers NaN"),
    ],
)
def test_a_trusted_program_is_tried_in_the_jail_first(tmp_path: Path, harm: str, sentence: str) -> None:
    torch.save(jailed.Harmful(harm), tmp_path / "m.pt")
    opened = intake.open_weights(tmp_path / "m.pt", trust=True)
    with pytest.raises(RefusedInput, match=sentence):
        intake.assemble(opened, "", K, SHAPE, "none")


@pytest.mark.slow
def test_a_script_that_guards_nothing_opens_files(tmp_path: Path, network: nn.Module) -> None:
    torch.save(network.state_dict(), tmp_path / "m.pt")
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path; from teachers import intake; print(intake.open_weights(Path('m.pt')).kind)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("torch\n", "")


def test_an_audit_refuses_a_program_and_takes_it_where_trusted(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.pt"
    torch.manual_seed(0)
    torch.save(networks.build(ARCH, 10, (1, 8, 8)), path)
    argv = ["audit", "cmi", "--teacher", str(path), "--data", "digits", "--cache", str(kept)]
    monkeypatch.setattr("sys.argv", argv)
    assert _main() == 4
    assert "would run teachers.networks.ConvNet" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", [*argv, "--trust-model-code"])
    assert _main() == 4
    assert "no better than always naming the largest class" in capsys.readouterr().err


def test_a_trusted_program_is_opened_without_arch(tmp_path: Path, kept: Path, network: nn.Module) -> None:
    torch.save(network, tmp_path / "m.pt")
    _, weights = open_task(TeacherSpec(str(tmp_path / "m.pt"), "digits", trust=True), Cache(kept))
    assert weights is not None
    assert weights.kind == "module"
    with pytest.raises(UsageError, match="give --data"):
        open_task(TeacherSpec(str(tmp_path / "m.pt"), trust=True), Cache(kept))


def test_a_state_dict_of_a_newer_pickle_protocol_loads(tmp_path: Path, network: nn.Module, images: Tensor) -> None:
    torch.save(network.state_dict(), tmp_path / "m.pt", pickle_protocol=4)
    assert agrees(tmp_path / "m.pt", network, images, architecture=ARCH, trust=False)


@pytest.mark.slow
def test_the_page_of_formats_is_what_comes_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this fails: python benchmarks/formats.py."""
    for extra in ("onnx", "onnxruntime", "onnxscript", "transformers"):
        pytest.importorskip(extra, reason=f"{extra} is not installed")
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import formats

    page, found = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8"), formats.rows()
    assert page == formats.HEAD + "".join(f"{row}\n" for row in found)
    assert sum(row.agrees == "yes" for row in found) >= 26
    assert all(row.agrees == "yes" or (row.loads == "no" and row.refused) for row in found)


@pytest.mark.parametrize(
    ("said", "normalize"),
    [
        ({"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.25]}, "0.5,0.4,0.3/0.2,0.2,0.25"),
        ({"image_mean": [0.5], "image_std": [0.5], "do_flip_channel_order": True}, "0.5/0.5/bgr"),
        ({"do_normalize": False, "image_mean": [0.5], "image_std": [0.5]}, "none"),
        ({"image_mean": [0.5, 0.5], "image_std": [0.5, 0.5]}, None),
        ({"image_mean": ["0.5"], "image_std": [0.5]}, None),
        ({"image_mean": [0.5], "image_std": [0.5], "do_rescale": False}, None),
        ({"image_mean": [0.5], "image_std": [0.5], "rescale_factor": 1 / 127.5}, None),
        ({}, None),
    ],
)
def test_a_folder_states_its_normalisation(tmp_path: Path, said: dict[str, object], normalize: str | None) -> None:
    from teachers.intake import huggingface

    assert huggingface.normalised(tmp_path) is None
    (tmp_path / huggingface.PREPROCESSOR).write_text(json.dumps(said), encoding="utf-8")
    assert huggingface.normalised(tmp_path) == normalize
