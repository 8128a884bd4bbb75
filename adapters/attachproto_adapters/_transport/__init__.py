"""How bytes reach an engine: addresses, TLS, ssh, and a session for each framework."""
