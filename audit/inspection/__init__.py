"""What a checkpoint or a URL is: `audit inspect`."""
