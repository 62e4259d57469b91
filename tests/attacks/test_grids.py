"""What attacks are tuned over: frozen suites try what they did, cells keep their keys, authors' settings are there."""

import hashlib
import json

import pytest

from attacks import registry
from attacks.base import Attack, Technique
from attacks.controls.dist_ls import DistLS
from attacks.logits.dist import DIST
from attacks.logits.dkd import DKD
from attacks.logits.function_matching import FunctionMatching
from attacks.logits.lskd import LSKD
from attacks.logits.nkd import NKD
from attacks.logits.soft_kd import SoftKD
from attacks.logits.ttm import TTM
from attacks.resistant.avg import AVG
from attacks.resistant.inversion import Inversion
from attacks.resistant.mkd import MKD
from attacks.resistant.skeptical import Skeptical
from attacks.resistant.view_ensemble import ViewEnsemble
from audit.plan.cells import Cell
from audit.plan.suite import EARLIER

TRIED = EARLIER["standard"].settings  # by suites that were frozen before these settings came
OLDER = {
    "soft-kd": "e300d5d573405e73",
    "dkd": "9bb5d00479b31f5e",
    "lskd": "8c385261a47465b4",
    "nkd": "5ff65cadc406d2fb",
    "dist": "2582fadd53acaeff",
    "ttm": "bcc5b4f6624ae5f2",
    "function-matching": "ccea7f7eae58fee6",
    "avg": "e300d5d573405e73",
    "mkd": "1f5c2f4fdfd5761b",
    "inversion": "ac2301be1af6da45",
    "skeptical": "5a851c9b1ca3b5e0",
    "view-ensemble": "80c3d9dca0c31837",
    "dist-ls": "113293411d209b70",
}
KEYS = {  # of students that were trained before these attacks got another hyperparameter
    "avg": "7eb08e77b8f8abba304c913b6f9c24933c2807902b3aa788b590dfb0bb9493a6",
    "dkd": "4d0c41db790313241c4a1e24b1f6fc3197e45a2da6349eb8aed3f2edfaccc2bb",
    "skeptical": "23ae0cf867ac694173f1fc0966599f2432211994af56737e7daeccb2e748348d",
}
NEWER: tuple[Technique, ...] = (
    *(SoftKD(weight=0.1), MKD(weight=0.1), ViewEnsemble(weight=0.1), Inversion(weight=0.1)),
    *(AVG(geometric=True), AVG(in_batch=True)),
    AVG(geometric=True, in_batch=True, squared=True, temperature=20.0),
    *(LSKD(weight=1.0, supervised=1.0), LSKD(weight=1.0, temperature=1.0, supervised=1.0)),
    *(DKD(standardised=True, temperature=2.0), DKD(standardised=True, alpha=9.0, beta=81.0)),
    DKD(temperature=1.0, beta=0.5),
    *(DIST(temperature=4.0, beta=2.0, gamma=2.0), DistLS(temperature=4.0, beta=2.0, gamma=2.0)),
    NKD(gamma=3.5, temperature=3.0),
    *(TTM(gamma=2.0, beta=4.0), TTM(gamma=4.0, beta=4.0)),
)
CELL = Cell(
    engine=2,
    technique="",
    version="1",
    parameters={},
    recipe={"architecture": "strided-4-4"},
    seed=0,
    pool="p",
    task="t",
)
EVERY = {**{attack.name: attack for attack in registry.OURS}, **registry.CONTROLS}


def key(technique: Technique) -> str:
    return CELL.model_copy(update={"technique": technique.name, "parameters": technique.parameters}).key


@pytest.mark.parametrize("name", OLDER)
def test_what_frozen_suites_tune_over_stays_as_it_was(name: str) -> None:
    """In any order: a suite that tries so many tries them all."""
    tried = (json.dumps(setting.parameters, sort_keys=True) for setting in EVERY[name].grid()[:TRIED])
    text = json.dumps(sorted(tried))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == OLDER[name]


@pytest.mark.parametrize("name", KEYS)
def test_a_student_of_the_default_setting_keeps_its_key_when_a_hyperparameter_comes(name: str) -> None:
    assert EVERY[name].later
    assert key(EVERY[name]()) == KEYS[name]


@pytest.mark.parametrize("setting", NEWER, ids=lambda s: f"{s.name} {s.parameters}")
def test_settings_of_the_authors_and_low_weights_stand_behind_what_frozen_suites_try(setting: Technique) -> None:
    assert setting in type(setting).grid()[TRIED:]


def test_attacks_with_fewer_settings_than_suites_try_offer_others_as_presets() -> None:
    """A third setting would be tried by suites that are frozen."""
    assert len(FunctionMatching.grid()) < TRIED
    assert len(Skeptical.grid()) < TRIED
    temperatures = {"t4": 4.0, "t5": 5.0, "t10": 10.0}
    assert FunctionMatching.presets() == {name: FunctionMatching(temperature=t) for name, t in temperatures.items()}
    assert Skeptical.presets() == {"paper": Skeptical(temperature=20.0, shallow=-2, delay=20 / 180, deep=True)}


@pytest.mark.parametrize("technique", EVERY.values(), ids=EVERY)
def test_a_setting_is_built_again_from_its_parameters_and_no_other_has_its_key(technique: type[Technique]) -> None:
    presets = technique.presets().values() if issubclass(technique, Attack) else ()
    settings = [*technique.grid(), *presets]
    assert [technique(**setting.parameters) for setting in settings] == settings
    assert len({key(setting) for setting in settings}) == len(settings)
    assert not technique.later & technique().parameters.keys()
