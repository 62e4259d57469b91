"""Reports of an audit; this package uses only the record, never torch."""
