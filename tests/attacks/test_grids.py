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
    "soft-kd": "091c9661dea73a47",
    "dkd": "b13896c9719d5725",
    "lskd": "6178a417c1446f0c",
    "nkd": "6243e8c26cf5ad97",
    "dist": "f071285c436ca39a",
    "ttm": "1b5dfb9a92b1350e",
    "function-matching": "daba7d1aa6cba747",
    "avg": "091c9661dea73a47",
    "mkd": "a9796738c9e7a7fb",
    "inversion": "ec152ba5fc1f39cc",
    "skeptical": "fa728dc8b2df7768",
    "view-ensemble": "37645d74cd4c7be5",
    "dist-ls": "91e839a834a2d8a4",
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
    text = json.dumps([setting.parameters for setting in EVERY[name].grid()[:TRIED]], sort_keys=True)
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
