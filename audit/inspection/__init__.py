"""`audit inspect`: describe a checkpoint or a URL."""
