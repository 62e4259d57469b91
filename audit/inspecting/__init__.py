"""What a stranger's checkpoint is, and how it is to be used."""
