"""A run of ``predict``: what is counted, recorded and verified while it lasts."""
