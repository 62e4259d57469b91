"""The gate: a policy that an audit must fulfil, and what it finds."""
