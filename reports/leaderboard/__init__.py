"""Several audits side by side: plain data and reports."""
