"""The command ``attachproto``: ``attach``, ``exec``, ``logs``, ``run``, ``replay``, ``demo``, ``engine``.

It uses the blocking adapter. Outside this package only ``__main__`` imports it.
"""
