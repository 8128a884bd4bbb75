"""Decisions about Docker, without I/O: the order of calls, and what their answers mean."""
