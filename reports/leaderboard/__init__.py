"""Several audits side by side: their plain data, and how it is told."""
