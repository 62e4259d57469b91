"""Entries on disk with checksums: answers, image pools and trained teachers."""
