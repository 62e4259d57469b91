"""The ways to train a teacher, by name: one file each."""

from teachers.methods.registry import METHODS, OURS, method, written
from teachers.methods.training import VERSION, TeacherRecipe, TrainedTeacher, default_recipe, teach

__all__ = [
    "METHODS",
    "OURS",
    "VERSION",
    "TeacherRecipe",
    "TrainedTeacher",
    "default_recipe",
    "method",
    "teach",
    "written",
]
