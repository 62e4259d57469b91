"""The board: teachers of several defences, one panel for every task and attacker, as plain data and pages."""
