"""`audit limit`: the most queries that an API can answer before an attack gains, for every surface and attacker."""
