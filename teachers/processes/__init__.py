"""Start separate processes, and exchange messages with them."""
