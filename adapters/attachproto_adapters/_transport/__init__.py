"""Connections to the engine: addresses, TLS, ssh, and a session for each framework."""
