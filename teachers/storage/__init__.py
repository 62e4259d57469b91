"""Entries on disk under checksums: answers, image pools and taught teachers."""
