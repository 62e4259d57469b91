"""A network of ImageNet's size end to end: every stage, on a folder of pictures that stays on disk, killed once."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from audit.finished.verify import verify
from reports.record import load

CLASSES, TRAIN, TEST, SIDE = 10, 10, 5, 240
ENTRY = """
from dataclasses import replace
import sys
sys.path.insert(0, {tests!r})
from audits import TINY
from audit.plan.suite import EFFORTS
from teachers import methods
import teachers.data.folders
if __name__ == "__main__":
    EFFORTS["smoke"] = replace(TINY, name="realistic", settings=1, steps=2, batch=32)
    teachers.data.folders.LARGE = 1
    recipe = methods.default_recipe
    methods.default_recipe = lambda task, name=None, steps=None: replace(recipe(task, name, steps or 4), batch=32)
    from audit.cli import main
    main()
"""


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Write pictures of 240 pixels whose class is a colour behind coarse noise."""
    rng = np.random.default_rng(0)
    colours = rng.uniform(0, 255, (CLASSES, 3))
    for split, count in (("train", TRAIN), ("test", TEST)):
        for c, colour in enumerate(colours):
            folder = tmp_path / "pictures" / split / f"colour{c}"
            folder.mkdir(parents=True)
            for i in range(count):
                coarse = rng.normal(0, 60, (15, 15, 3)).repeat(16, 0).repeat(16, 1)
                pixels = (colour + coarse).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.jpg", quality=80)
    return tmp_path / "pictures"


@pytest.mark.slow
@pytest.mark.timeout(1_500)
def test_a_timm_teacher_and_a_torchvision_student_at_224_pixels(pictures: Path, tmp_path: Path) -> None:
    script = tmp_path / "entry.py"
    script.write_text(ENTRY.format(tests=str(Path(__file__).parent)))
    python, cache, teacher, out = sys.executable, tmp_path / "cache", tmp_path / "teacher.safetensors", tmp_path / "out"
    data = ["--data", str(pictures), "--size", "224", "--cache", str(cache)]
    taught = ["teach", "plain", "--arch", "timm:mobilenetv3_small_075", "--steps", "24", "--out", str(teacher)]
    subprocess.run([python, str(script), *taught, *data], check=True)

    student = ["--student", "torchvision:shufflenet_v2_x0_5", "--effort", "smoke", "--jobs", "1", "--out", str(out)]
    command = [python, str(script), "run", "--teacher", str(teacher), "--attacks", "soft-kd", *student]
    command += ["--cache", str(cache), "--surrogate", str(pictures / "test")]
    run = subprocess.Popen(command)
    while run.poll() is None and len(list((cache / "cells").rglob("*.json"))) < 3:
        time.sleep(0.2)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL, "it was too fast to be killed"
    kept = len(list((cache / "cells").rglob("*.json")))
    assert subprocess.run(command).returncode in (1, 3)

    record = load(out)
    assert record.task.shape == (3, 224, 224)
    assert record.times.reused >= kept >= 3
    assert record.teacher.architecture == "timm:mobilenetv3_small_075"
    assert {t.cell.student for t in record.trials} == {"torchvision:shufflenet_v2_x0_5"}
    assert list(verify(out)) == []
    assert len(list((cache / "data").rglob("images.npy"))) == 2, "the task's and the surrogate pool"
