"""How a student is got from a black box: one technique, one file."""
