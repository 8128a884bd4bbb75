"""Fuzz targets for atheris: ``fuzz/README.md`` says how to run them."""
