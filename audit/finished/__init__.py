"""Commands that work on a written record."""
