"""From the teacher that the command line names to a target that answers images."""
