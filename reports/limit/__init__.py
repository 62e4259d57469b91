"""What `audit limit` found, and how it is told: which budgets of queries are safe, for every surface and attacker."""
