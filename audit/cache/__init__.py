"""The user's cache: what it holds, and the commands that list, prune, check and move it."""
