"""`audit board`: from a folder of audits to one page, ranked by the gain that every attack surely stays below."""
