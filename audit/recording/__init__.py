"""From trained cells to what a record holds."""
