"""The clients that are compared, each in a process of its own: ``python -m benchmarks.comparison.clients``."""
