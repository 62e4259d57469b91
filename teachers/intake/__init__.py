"""Turn any checkpoint into a callable network; the only package that opens untrusted model files."""

from teachers.intake.assemble import Teacher, answers, assemble, explored, order_of, reordered
from teachers.intake.card import Card, save_teacher
from teachers.intake.normalise import NORMALISATIONS, Normalisation, normalisation
from teachers.intake.outputs import as_logits, outputs
from teachers.intake.weights import Weights, open_weights

__all__ = [
    "NORMALISATIONS",
    "Card",
    "Normalisation",
    "Teacher",
    "Weights",
    "answers",
    "as_logits",
    "assemble",
    "explored",
    "normalisation",
    "open_weights",
    "order_of",
    "outputs",
    "reordered",
    "save_teacher",
]
