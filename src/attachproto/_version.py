"""The version, in a file of its own because both the package and ``Connection`` import it."""

__version__ = "0.1.0"
