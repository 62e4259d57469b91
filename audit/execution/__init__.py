"""Where cells run: the cache, the door to the teacher, and processes on both sides of it."""
