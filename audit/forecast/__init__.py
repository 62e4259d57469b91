"""What an audit would take, and what it could find: `audit plan`."""
