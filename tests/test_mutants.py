"""Broken attacks are caught: each mutant is one bug of public code, or one that we could make, and must fail a test."""

import compileall
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from py_compile import PycInvalidationMode

import pytest

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("attacks", "audit", "teachers", "reports", "tests", "examples", "pyproject.toml")


@dataclass(frozen=True)
class Mutant:
    """One change of one file, and the tests that must notice it."""

    bug: str
    file: str
    old: str
    new: str
    tests: str  # file, and names to select by


MUTANTS = (
    Mutant(
        "KD divided by the number of classes",
        "attacks/losses.py",
        'F.kl_div(log_s, target, reduction="batchmean")',
        'F.kl_div(log_s, target, reduction="mean")',
        "tests/attacks/test_soft_kd.py -k gradient_of_kd",
    ),
    Mutant(
        "KD without T²",
        "attacks/losses.py",
        "return temperature**2 * F.kl_div(log_s",
        "return F.kl_div(log_s",
        "tests/attacks/test_soft_kd.py -k gradient_of_kd",
    ),
    Mutant(
        "KL turned round",
        "attacks/losses.py",
        'F.kl_div(log_s, target, reduction="batchmean")',
        'F.kl_div(target.log(), log_s.exp(), reduction="batchmean")',
        "tests/attacks/test_soft_kd.py -k brute_force",
    ),
    Mutant(
        "distilled part detached from the student",
        "attacks/logits/soft_kd.py",
        "kd(outputs.logits, soft_target",
        "kd(outputs.logits.detach(), soft_target",
        "tests/attacks/test_soft_kd.py -k learns_from_the_teacher",
    ),
    Mutant(
        "student started from the last one",
        "teachers/training.py",
        "network = build_student(recipe, classes, shape, device, start=start).train()",
        "network = globals().setdefault('_LAST', build_student(recipe, classes, shape, device, start=start)).train()",
        "tests/test_training.py -k same_seed",
    ),
    Mutant(
        "label attack peeks at the truth",
        "attacks/labels/label_kd.py",
        "batch.answers.labels, label_smoothing",
        "batch.labels, label_smoothing",
        "tests/attacks/test_label_kd.py -k nothing_but_the_top_class",
    ),
    Mutant(
        "label surface lets probabilities out",
        "teachers/surface.py",
        'return Answers("label", log_probs.argmax(-1))',
        'return Answers("probs", log_probs)',
        "tests/test_oracle.py -k label_surface",
    ),
    Mutant(
        "query past the budget",
        "teachers/oracle.py",
        "self.charged + images > self.budget",
        "self.charged > self.budget",
        "tests/test_oracle.py -k budget",
    ),
    Mutant(
        "queries not counted",
        "teachers/oracle.py",
        "        self.charge(len(x))\n",
        "",
        "tests/test_oracle.py -k budget",
    ),
    Mutant(
        "labels answer a view whose image the teacher was asked about",
        "attacks/own_answers.py",
        "number * len(self.images) + self._position[at])",
        "torch.where(exact, number * len(self.images) + self._position[at], -1))",
        "tests/attacks/test_own_answers.py -k another_views_answer",
    ),
    Mutant(
        "other images for another budget",
        "attacks/own_answers.py",
        "np.random.default_rng(0).permutation(len(pool))[index]",
        "np.random.default_rng(left).permutation(len(pool))[index]",
        "tests/attacks/test_own_answers.py -k smaller_budgets",
    ),
    Mutant(
        "the attacker's own answers are decoded as the teacher's",
        "attacks/adaptive/adaptive.py",
        "answers, views, asked = lab.told(paid), paid.views, torch.from_numpy(paid.images)",
        "answers, views, asked = lab.answers(kind), lab.view_set(kind).count, torch.arange(len(lab.pool))",
        "tests/attacks/test_own_answers.py -k decoded",
    ),
    Mutant(
        "DKD leaves the target among the others",
        "attacks/logits/dkd.py",
        "F.log_softmax(log_p.gather(-1, others(y, log_p.shape[1])), -1)",
        "F.log_softmax(log_p, -1)",
        "tests/attacks/test_dkd.py -k dkd",
    ),
    Mutant(
        "a network on a card normalises images with numbers on the CPU, once it is behind a guard",
        "teachers/networks.py",
        "        whole.mean, whole.std = self.mean, self.std\n",
        "",
        "tests/test_fake_device.py -k way_to_teach",
    ),
    Mutant(
        "every step waits for the card, until the indices of the batch are there",
        "teachers/training.py",
        "now.to(self._device, non_blocking=True)",
        "now.to(self._device)",
        "tests/test_fake_device.py -k soft-kd",
    ),
    Mutant(
        "RLD is as sure of the label as the teacher is of it, not of its top class",
        "attacks/logits/rld.py",
        "_binary(log_t, log_t.argmax(-1, keepdim=True))",
        "_binary(log_t, y)",
        "tests/attacks/test_rld.py -k confidence",
    ),
    Mutant(
        "RLD compares classes that a mistaken teacher ranks above the label",
        "attacks/logits/rld.py",
        "below = log_p < log_p.gather(-1, y)",
        "below = log_p != log_p.gather(-1, y)",
        "tests/attacks/test_rld.py -k masked_correlation",
    ),
    Mutant(
        "Kendall's pairs hold classes that an answer hides",
        "attacks/logits/kendall.py",
        " * (shown[:, :, None] & shown[:, None, :])",
        "",
        "tests/attacks/test_kendall.py -k hidden_entries",
    ),
    Mutant(
        "Kendall's derivative forgets that signs saturate",
        "attacks/logits/kendall.py",
        "torch.addcmul(theirs, alike, ours, value=-1).sum(-1)",
        "theirs.sum(-1)",
        "tests/attacks/test_kendall.py -k derivative",
    ),
    Mutant(
        "Sign forgets how many rows of a class are reversed",
        "attacks/adaptive/decoders/sign.py",
        "odds = (shares - 2 * m * s / v).sigmoid()",
        "odds = (-2 * m * s / v).sigmoid()",
        "tests/attacks/test_decoders.py -k follows_the_share",
    ),
    Mutant(
        "the parts before and after a change are pooled with each other's weights",
        "attacks/adaptive/decoders/change.py",
        "(n * left[1] + (count - n) * right[1])",
        "((count - n) * left[1] + n * right[1])",
        "tests/attacks/test_decoders.py -k pooled_deviation",
    ),
    Mutant(
        "evidence of an image counts its label",
        "attacks/adaptive/decoders/evidence.py",
        "tails(x, given.tops, given.classes)[0]",
        "tails(x, given.tops)[0]",
        "tests/attacks/test_adaptive_chain.py -k what_a_loop",
    ),
    Mutant(
        "evidence that one image makes is enough",
        "attacks/adaptive/decoders/evidence.py",
        "return sure and new.cosine()",
        "return new.cosine()",
        "tests/attacks/test_adaptive_chain.py -k sure_gain",
    ),
    Mutant(
        "Lies leaves out the answers that tell",
        "attacks/adaptive/decoders/lies.py",
        "return parts[low] if true",
        "return parts[high] if true",
        "tests/attacks/test_adaptive_chain.py -k lies_are_left_out",
    ),
    Mutant(
        "Unmix fits on the images that it decodes",
        "attacks/adaptive/decoders/unmix.py",
        "fit, rest = half & given.full, ~half & given.full",
        "fit, rest = half & given.full, half & given.full",
        "tests/attacks/test_adaptive_chain.py -k ridge",
    ),
    Mutant(
        "Moved takes unsure mistakes for swaps",
        "attacks/adaptive/decoders/moved.py",
        " or not _is_bold(log_probs, given, wrong)",
        "",
        "tests/attacks/test_adaptive_chain.py -k any_temperature",
    ),
    Mutant(
        "the mean of views counts hidden ones",
        "attacks/adaptive/decoders/views.py",
        "number = by_class(given.full.double()[:, None]",
        "number = by_class(torch.ones_like(given.full).double()[:, None]",
        "tests/attacks/test_adaptive_chain.py -k mean_of_views",
    ),
    Mutant(
        "Floor takes a class of equal answers for a uniform part",
        "attacks/adaptive/decoders/floor.py",
        " and _several(given.tops[inside])",
        "",
        "tests/attacks/test_adaptive_chain.py -k no_uniform_part",
    ),
    Mutant(
        "values that are handed out in one order count as knowledge",
        "attacks/adaptive/chain.py",
        "evidence(ranks(x, labels).log_probs, labels, reference, alike=True))",
        "evidence(x, labels, reference, alike=True))",
        "tests/attacks/test_adaptive_chain.py -k without_knowledge",
    ),
    Mutant(
        "a cautious decoding fits a map to an own student's answers",
        "attacks/adaptive/chain.py",
        "fit = _kept if cautious else unmix",
        "fit = unmix",
        "tests/attacks/test_adaptive_chain.py -k knows_less",
    ),
    Mutant(
        "the part of the answers that tells less is used",
        "attacks/adaptive/chain.py",
        "best = tells.index(max(tells))",
        "best = tells.index(min(tells))",
        "tests/attacks/test_adaptive_chain.py -k tells_more",
    ),
    Mutant(
        "mistakes are swaps where images of most classes are missing",
        "attacks/adaptive/chain.py",
        "stages if swaps else stages[1:]",
        "stages",
        "tests/attacks/test_adaptive_chain.py -k called_a_swap",
    ),
    Mutant(
        "other views are used where they tell as little as crops",
        "attacks/adaptive/adaptive.py",
        "max(ENOUGH, CLEARLY * crops.tells)",
        "ENOUGH",
        "tests/attacks/test_adaptive.py -k clearly_more",
    ),
    Mutant(
        "answers that tell weigh more where others do not",
        "attacks/adaptive/adaptive.py",
        "telling.to(logits).mean() * self._distilled",
        "self._distilled",
        "tests/attacks/test_adaptive.py -k label_alone",
    ),
    Mutant(
        "views that show too little of an image for its class count",
        "attacks/adaptive/adaptive.py",
        "use = given.full & (given.classes == given.tops)",
        "use = given.full",
        "tests/attacks/test_adaptive.py -k tell_nothing",
    ),
    Mutant(
        "logit standardisation of the teacher alone",
        "attacks/logits/lskd.py",
        "kd(standardise(outputs.logits)",
        "kd(outputs.logits",
        "tests/attacks/test_lskd.py -k lskd_ignores_the_students_scale",
    ),
    Mutant(
        "averager means over all classes",
        "attacks/resistant/avg.py",
        "index_add_(0, y, p)",
        "index_add_(0, torch.zeros_like(y), p)",
        "tests/attacks/test_avg.py -k averager",
    ),
    Mutant(
        "averager forgets that the authors average in the batch",
        "attacks/resistant/avg.py",
        "self.means(batch.answers, batch.labels) if self.in_batch else means",
        "means",
        "tests/attacks/test_avg.py -k authors_average",
    ),
    Mutant(
        "averager weighs by alpha where the authors square it",
        "attacks/resistant/avg.py",
        "self.weight**2 if self.squared",
        "self.weight if self.squared",
        "tests/attacks/test_avg.py -k authors_average",
    ),
    Mutant(
        "mean of logits never softened",
        "attacks/resistant/avg.py",
        "F.softmax(means / temperature, -1)",
        "F.softmax(means, -1)",
        "tests/attacks/test_avg.py -k softened_mean_of_logits",
    ),
    Mutant(
        "standardised DKD leaves the student's scale",
        "attacks/logits/dkd.py",
        "standardise(logits), standardise(batch.answers.logits())",
        "logits, standardise(batch.answers.logits())",
        "tests/attacks/test_dkd.py -k standardised_dkd",
    ),
    Mutant(
        "the teacher of published skeptical heads speaks to the deepest",
        "attacks/resistant/skeptical.py",
        "max(-count, min(self.shallow, count - 1))",
        "min(abs(self.shallow), count - 1)",
        "tests/attacks/test_resistant.py -k authors_heads_the_teacher",
    ),
    Mutant(
        "a new hyperparameter gives older students new keys",
        "attacks/base.py",
        "return counted(self, self.later)",
        "return counted(self, frozenset())",
        "tests/attacks/test_grids.py -k keeps_its_key",
    ),
    Mutant(
        "regression without centring the student",
        "attacks/logits/mse.py",
        "centred = outputs.logits - outputs.logits.mean(-1, keepdim=True)",
        "centred = outputs.logits",
        "tests/attacks/test_logits.py -k mse",
    ),
    Mutant(
        "curriculum temperature descends",
        "attacks/logits/ctkd.py",
        "strength * (self.theta.detach() - self.theta)",
        "strength * (self.theta - self.theta.detach())",
        "tests/attacks/test_logits.py -k ctkd_climbs",
    ),
    Mutant(
        "Markov kernel normalised over the wrong axis",
        "attacks/resistant/mkd.py",
        "return F.softmax(s + self._u[y] @ self._v[y].mT, -1)",
        "return F.softmax(s + self._u[y] @ self._v[y].mT, -2)",
        "tests/attacks/test_resistant.py -k kernel",
    ),
    Mutant(
        "Markov KD softens probabilities twice",
        "attacks/resistant/mkd.py",
        "torch.bmm(p[:, None],",
        "torch.bmm(p.softmax(-1)[:, None],",
        "tests/attacks/test_resistant.py -k kernel",
    ),
    Mutant(
        "the teacher speaks to the last head",
        "attacks/resistant/skeptical.py",
        "kd(hears, soft_target(batch, T), T)",
        "kd(outputs.logits, soft_target(batch, T), T)",
        "tests/attacks/test_resistant.py -k skeptical",
    ),
    Mutant(
        "zeroth-order slope not divided by its step",
        "attacks/data_free/zeroth_order.py",
        "rise = (values[1:] - values[0]) / epsilon",
        "rise = values[1:] - values[0]",
        "tests/attacks/test_zeroth_order.py",
    ),
    Mutant(
        "generator descends the disagreement",
        "attacks/data_free/zeroth_order.py",
        "torch.autograd.grad(images, weights, -slope / len(images))",
        "torch.autograd.grad(images, weights, slope / len(images))",
        "tests/attacks/test_zeroth_order.py",
    ),
    Mutant(
        "a rate for a mean with the sum over classes",
        "attacks/data_free/dfme.py",
        "return apart.mean(-1) if self.mean else apart.sum(-1)",
        "return apart.sum(-1)",
        "tests/attacks/test_zeroth_order.py -k published_mean",
    ),
    Mutant(
        "crops that tell the answers of other images",
        "attacks/data_free/crops.py",
        "return wide[which[:, None, None],",
        "return wide[which.roll(1)[:, None, None],",
        "tests/attacks/test_dfms.py -k crops_show",
    ),
    Mutant(
        "the last images of a round instead of the best",
        "attacks/data_free/ideal.py",
        "best = min(best, (cost, images), key=",
        "best = max((cost, images), (cost, images), key=",
        "tests/attacks/test_ideal.py -k best_images",
    ),
    Mutant(
        "frozen class means follow the batch",
        "teachers/methods/centroids.py",
        'if self.update in ("batch", "running"):',
        'if self.update != "epoch":',
        "tests/test_methods.py -k frozen_class_means",
    ),
    Mutant(
        "APGP's divergence turned round",
        "teachers/methods/apgp.py",
        "apart = divergence(own, outputs.logits)",
        "apart = divergence(outputs.logits, own)",
        "tests/test_methods.py -k apgp_as_published_subtracts",
    ),
    Mutant(
        "a later field is counted, so that stored students are lost",
        "teachers/fields.py",
        "if name not in silent}",
        "}",
        "tests/attacks/test_later_fields.py -k keep_their_keys",
    ),
    Mutant(
        "sign flips without a key",
        "teachers/disguises.py",
        "[_keyed(key) & 1 for key in digests(x)]",
        "[key[0] & 1 for key in digests(x)]",
        "tests/test_disguises.py -k sign_flips",
    ),
    Mutant(
        "one hidden permutation for all top classes",
        "teachers/disguises.py",
        "np.random.default_rng([SECRET, top]).permutation(others)",
        "np.random.default_rng(SECRET).permutation(others)",
        "tests/test_disguises.py -k permuted",
    ),
    Mutant(
        "mis-tuned attacks are evidence",
        "audit/statistics/verdict.py",
        "return self.passes and not self.mis_tuned",
        "return self.passes",
        "tests/test_misleading.py -k open_bound",
    ),
    Mutant(
        "the bound of a mis-tuned attack is set aside with it",
        "audit/statistics/verdict.py",
        "for f in judged if (reason := _open(f, delta, level, alpha))",
        "for f in judged if not f.mis_tuned and (reason := _open(f, delta, level, alpha))",
        "tests/test_misleading.py -k open_bound",
    ),
    Mutant(
        "harm without a bound over seeds",
        "audit/analysis/tuning.py",
        "margin.upper() < -least",
        "margin.mean < -least",
        "tests/test_misleading.py -k harm_is_bounded",
    ),
    Mutant(
        "noise is a change of answers",
        "audit/analysis/teacher_flags.py",
        "now > np.maximum(noise, SAME)",
        "now > SAME",
        "tests/test_stateful_teachers.py -k beyond_noise",
    ),
    Mutant(
        "only the first views are asked about again",
        "teachers/targets/questions.py",
        "np.linspace(0, asked - 1, VIEWS)",
        "np.linspace(0, min(asked, VIEWS) - 1, VIEWS)",
        "tests/test_stateful_teachers.py -k lie_evenly",
    ),
    Mutant(
        "images of another class order in the LS control",
        "attacks/controls/ls.py",
        "batch.truth(outputs.logits.shape[1], self.smoothing)",
        "batch.truth(outputs.logits.shape[1])",
        "tests/attacks/test_ls.py -k ls_smooths",
    ),
    Mutant(
        "a gain over one control is enough",
        "audit/statistics/verdict.py",
        "return max((looks.p_above() if usable(looks.last) else 1.0",
        "return min((looks.p_above() if usable(looks.last) else 1.0",
        "tests/test_rivals.py -k one_control_that_gains",
    ),
    Mutant(
        "a corrected bound over the weakest control",
        "audit/statistics/verdict.py",
        "return min((looks.lower(alpha) if usable(looks.last) else -1.0",
        "return max((looks.lower(alpha) if usable(looks.last) else -1.0",
        "tests/test_rivals.py -k gains_say",
    ),
    Mutant(
        "a twin that lowers the bar of UNDISTILLABLE",
        "audit/statistics/verdict.py",
        "        return self.looks\n",
        "        return min(self.gained, key=lambda looks: looks.last.mean)\n",
        "tests/test_rivals.py -k rarely_called_undistillable",
    ),
    Mutant(
        "what a loss gains on labels held against the teacher",
        "audit/statistics/verdict.py",
        "        return self.looks\n",
        "        return max(self.gained, key=lambda looks: looks.last.mean)\n",
        "tests/test_rivals.py -k what_a_loss_gains_on_labels",
    ),
    Mutant(
        "a comparison closed before its twin decides",
        "audit/statistics/verdict.py",
        "looks.upper(alpha) <= 0 for looks",
        "looks.lower(alpha) <= 0 for looks",
        "tests/test_rivals.py -k stays_open",
    ),
    Mutant(
        "a twin of images whose labels the attacker does not know",
        "teachers/targets/home.py",
        "train=pool if whole else pool.take(pool.labelled)",
        "train=task.train",
        "tests/test_home.py -k sees_the_images_that_have_labels",
    ),
    Mutant(
        "a twin that shows more than the audited teacher",
        "teachers/targets/home.py",
        "mark, full, LateBox(lesson, surface), full",
        "mark, full, full, full",
        "tests/test_home.py -k trained_when_it_is_first_asked",
    ),
    Mutant(
        "a twin that starts as a student does",
        "teachers/targets/home.py",
        "TWIN_SEEDS = range(4_000, 5_000)",
        "TWIN_SEEDS = range(0, 1_000)",
        "tests/test_home.py -k seed_of_a_twin",
    ),
    Mutant(
        "a later student uses answers that are not counted",
        "audit/execution/metering.py",
        "                self._use(block, rows)\n        return file",
        "                pass\n        return file",
        "tests/test_mapped.py -k another_student",
    ),
    Mutant(
        "an audit may be silent for long",
        "reports/progress.py",
        "self.clock() - self._told >= SILENT",
        "self.clock() - self._told >= 2 * SILENT",
        "tests/test_progress.py -k nine_silent_seconds",
    ),
    Mutant(
        "what is left leaves out the teachers",
        "audit/forecast/outlook.py",
        "if cell.teacher in self._lessons:",
        "if False:",
        "tests/test_progress.py -k not_trained_yet",
    ),
    Mutant(
        "a technique that was not timed costs what any other does",
        "audit/forecast/stopwatch.py",
        "if _holds(t) == _holds(technique)]",
        "if True]",
        "tests/test_forecast.py -k hold_as_much",
    ),
    Mutant(
        "a plug-in shares the file of answers with all others",
        "audit/execution/metering.py",
        "question = self._owner, self.teacher",
        'question = "", self.teacher',
        "tests/test_mapped.py -k another_owner",
    ),
    Mutant(
        "attacks that have not run do not count in Holm's correction",
        "audit/statistics/verdict.py",
        'COUNTED: tuple[Status, ...] = ("judged", "planned")',
        'COUNTED: tuple[Status, ...] = ("judged",)',
        "tests/test_verdict.py -k has_not_run",
    ),
    Mutant(
        "a table with attacks that have not run can be UNDISTILLABLE",
        "audit/statistics/verdict.py",
        'if waiting := len(_of("planned", findings)):',
        "if waiting := 0:",
        "tests/test_verdict.py -k has_not_run",
    ),
    Mutant(
        "bounds lie where no margin can be",
        "audit/statistics/compare.py",
        "return margin.over(float(control.mean()))",
        "return margin",
        "tests/test_compare.py -k where_no_margin",
    ),
    Mutant(
        "one twin for all students",
        "audit/plan/design.py",
        "cell.seed % FIRST_TUNING_SEED",
        "0",
        "tests/test_home.py -k twin_of_its_own",
    ),
    Mutant(
        "the worst on the first seed get the second",
        "audit/trials/protocol.py",
        "seeds=arm.seeds[:1])), reverse=True)",
        "seeds=arm.seeds[:1])))",
        "tests/test_racing.py -k leaders_are_the_best",
    ),
    Mutant(
        "smoothings of a loss race as settings do",
        "audit/plan/design.py",
        "kind = arm.technique if isinstance(arm.target, float) else arm.technique.name",
        "kind = arm.technique.name",
        "tests/test_design.py -k race",
    ),
    Mutant(
        "each look of a limit has the whole error rate",
        "audit/limits/panels.py",
        "return ALPHA / search.looks(len(self.budgets))",
        "return ALPHA",
        "tests/test_audit_limit.py -k every_budget",
    ),
    Mutant(
        "a budget that is not decided is taken for safe",
        "audit/limits/search.py",
        'outcome != "safe" and place > low',
        'outcome == "gains" and place > low',
        "tests/test_audit_limit.py -k so_many_looks or more_looks",
    ),
    Mutant(
        "a budget is safe where no attack is known to work",
        "audit/limits/judged.py",
        "passes=f.passes or rows[name].attack",
        "passes=True or rows[name].attack",
        "tests/test_audit_limit.py -k known_to_work",
    ),
    Mutant(
        "what gains with probabilities gains through a label",
        "audit/limits/search.py",
        "return surface != other and surface in whole and",
        "return surface != other and",
        "tests/test_audit_limit.py -k shows_less",
    ),
    Mutant(
        "an attacker without images is held against students that have them",
        "audit/limits/judged.py",
        'if row.holds == "original":\n        return finding',
        'if row.holds != "":\n        return finding',
        "tests/test_audit_limit.py -k largest_class",
    ),
)


# Python with what the tests import from others and pytest with its plug-ins, and of our code what imports no mutated
# module: every run is a fork of it, so that nobody waits for torch a hundred times. Nothing of ours that a run has to
# import anew may be here already: a module that is refused takes everything with it that imports it, and every run
# looks once more. What is here already is never looked through for garbage.
STARTED = """
import gc, importlib, json, os, sys
from pathlib import Path
import filelock, httpx, hypothesis.strategies, jinja2, matplotlib.pyplot, pandas, pydantic, pytest
import rich.console, safetensors.torch, scipy.stats, sklearn.datasets, torch, torchvision, typer
import _pytest.config, pydantic.types, pytest_timeout

MUTATED = set(sys.argv[1:])

class Mutated(BaseException):
    pass

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name in MUTATED:
            raise Mutated(name)

for name in _pytest.config.default_plugins:
    importlib.import_module("_pytest." + name)
sys.meta_path.insert(0, Refusing())
for path in sorted(path for part in ("attacks", "audit", "reports", "teachers") for path in Path(part).rglob("*.py")):
    if not path.stem.startswith("__"):
        try:
            importlib.import_module(".".join(path.with_suffix("").parts))
        except Mutated:
            pass
sys.meta_path.pop(0)
gc.collect()
gc.freeze()
gc.disable()
for line in sys.stdin:
    arguments, output = json.loads(line)
    child = os.fork()
    if not child:
        for stream in (1, 2):
            os.dup2(os.open(output, os.O_CREAT | os.O_WRONLY | os.O_APPEND), stream)
        if early := MUTATED & set(sys.modules):
            print("imported too early:", *early, flush=True)
            os._exit(99)
        gc.enable()
        code = pytest.main(arguments)
        sys.stdout.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
os._exit(0)
"""
# Of the plug-ins that are installed a run loads the one that pyproject.toml sets up. It starts no fork server unless a
# test needs one: that imports torch again, which takes longer than the run.
SPARING = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "TESTS_START_NO_SERVER": "1"}


@dataclass(frozen=True)
class Checkout:
    """A copy of the code and its tests, and a process that runs some of the tests."""

    folder: Path
    process: subprocess.Popen[str]

    def run(self, tests: str, output: Path) -> tuple[int, str]:
        """Run tests with what the files now hold; return pytest's exit code and what it printed."""
        file, _, selected = tests.partition(" -k ")
        plugins = ["-p", "pytest_timeout", "-p", "no:cacheprovider"]
        imported = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of what `STARTED` has imported
        arguments = ["-x", *plugins, *imported, file, *(["-k", selected] if selected else [])]
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([arguments, str(output)]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline()), output.read_text(encoding="utf-8")


def module(file: str) -> str:
    """Return the name by which a file is imported."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """Copy what tests need, compiled: a file that changes is compiled anew, whatever its time."""
    folder = tmp_path_factory.mktemp("checkout")
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / part)
    compileall.compile_dir(folder, quiet=2, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
    env = {"PATH": "", "PYTHONPATH": ".", **SPARING}
    command = [sys.executable, "-c", STARTED, *sorted({module(mutant.file) for mutant in MUTANTS})]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=folder, stdin=pipe, stdout=pipe, text=True, env=env) as process:
        yield Checkout(folder, process)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.bug)
def test_a_mutant_fits_the_code(mutant: Mutant) -> None:
    """Where this fails, the code has changed: bring the mutant up to date."""
    assert (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.old) == 1


def by_file() -> Iterator[str]:
    """Return the tests of all mutants: of each file together."""
    found: dict[str, set[str]] = {}
    for mutant in MUTANTS:
        file, _, selected = mutant.tests.partition(" -k ")
        found.setdefault(file, set()).add(selected)
    for file, selections in sorted(found.items()):
        yield file if "" in selections else f"{file} -k {' or '.join(f'({s})' for s in sorted(selections))}"


@pytest.mark.slow
@pytest.mark.parametrize("tests", [*by_file()], ids=lambda tests: tests.partition(" ")[0])
def test_the_tests_that_catch_mutants_pass_without_them(tests: str, checkout: Checkout, tmp_path: Path) -> None:
    code, printed = checkout.run(tests, tmp_path / "output")
    assert code == 0, printed[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.bug)
def test_a_broken_attack_fails_a_test(mutant: Mutant, checkout: Checkout, tmp_path: Path) -> None:
    path = checkout.folder / mutant.file
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        code, printed = checkout.run(mutant.tests, tmp_path / "output")
    finally:
        path.write_text(before, encoding="utf-8")
    assert code == 1, f"nothing noticed: {mutant.bug}\n{printed[-2000:]}"
    assert " failed" in printed
