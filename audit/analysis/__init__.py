"""Every number, flag and word that follows from a record."""
