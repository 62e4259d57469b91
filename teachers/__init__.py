"""Teachers, the targets of attacks, and the training of every network."""
