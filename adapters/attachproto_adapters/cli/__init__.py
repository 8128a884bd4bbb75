"""The command ``attachproto``: ``attach``, ``exec``, ``logs``, ``run``, ``replay``, ``demo``, ``engine``.

It stands on the blocking adapter, and no module outside this package imports it, but ``__main__``.
"""
