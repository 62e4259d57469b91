"""From "any checkpoint" to a callable network: the only place that opens a stranger's file."""

from teachers.intake.assemble import Teacher, assemble
from teachers.intake.card import Card, save_teacher
from teachers.intake.normalise import NORMALISATIONS, normalisation
from teachers.intake.weights import Weights, open_weights

__all__ = [
    "NORMALISATIONS",
    "Card",
    "Teacher",
    "Weights",
    "assemble",
    "normalisation",
    "open_weights",
    "save_teacher",
]
