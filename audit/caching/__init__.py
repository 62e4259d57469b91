"""The user's cache as a thing of its own: listed, pruned, carried from one machine to another, warmed."""
