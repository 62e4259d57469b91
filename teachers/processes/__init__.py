"""Processes of their own, and what goes between them."""
