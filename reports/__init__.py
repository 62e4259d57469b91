"""How an audit is told; knows only the record, never torch."""
