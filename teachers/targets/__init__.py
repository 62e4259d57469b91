"""From a name on the command line to a teacher that can be asked: one room."""
