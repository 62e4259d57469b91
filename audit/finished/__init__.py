"""What is done with a record once it is written."""
