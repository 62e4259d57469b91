"""Data sets, from a name, a folder or the embedded files to a task."""
