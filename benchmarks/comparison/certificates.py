"""Certificates for the replay server and its clients, in the files that docker names."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme


def make(directory: Path) -> ssl.SSLContext:
    """Write ``ca.pem``, ``cert.pem`` and ``key.pem`` into the directory; the server's context."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    client = authority.issue_cert("client@localhost")
    client.private_key_pem.write_to_path(directory / "key.pem")
    for pem in client.cert_chain_pems:
        pem.write_to_path(directory / "cert.pem", append=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context
