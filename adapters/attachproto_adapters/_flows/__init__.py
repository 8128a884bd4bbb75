"""What is decided about Docker, without I/O: flows of calls, and what their answers mean."""
