"""`audit attempt`: try one attack on the ordinary teacher, while its author works on it."""
