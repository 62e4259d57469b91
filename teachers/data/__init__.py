"""Load data sets as tasks: by name, from a folder, or embedded ones."""
