"""Techniques that train a student from a black box's answers: one technique, one file."""
