"""CMI and clusters of one teacher's answers: `audit cmi`."""
