"""Attacks that first decode what a teacher's answers mean, and then distil."""
