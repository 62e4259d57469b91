"""`audit cmi`: CMI and clusters of one teacher's answers."""
