"""Every number, flag and verdict that can be computed from a record."""
