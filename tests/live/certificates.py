"""Certificates for an engine behind TLS, made with the openssl program: no client of the tests has made them.

    python tests/live/certificates.py DIRECTORY        makes them, and prints the folders

This file imports nothing of the project, and nothing of its neighbours, so that it also runs as a script.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# Strict enough for X509_V_FLAG_X509_STRICT, which Python asks for since 3.13.
CONFIGURATION = """\
[req]
distinguished_name = name
prompt = no
[name]
[ca]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always
[client]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always
"""


class OpensslFailed(Exception):
    """The openssl program did not do what was asked; says what it said."""


@dataclass(frozen=True)
class Certificates:
    """Folders with ca.pem, cert.pem and key.pem, as DOCKER_CERT_PATH has them."""

    directory: Path

    @property
    def server(self) -> Path:
        """The engine's own, for DNS:localhost and IP:127.0.0.1."""
        return self.directory / "server"

    @property
    def client(self) -> Path:
        """A client that trusts the engine, and that the engine trusts."""
        return self.directory / "client"

    @property
    def foreign(self) -> Path:
        """A client that trusts the engine, with a certificate of another CA: the engine refuses it."""
        return self.directory / "foreign"

    @property
    def distrustful(self) -> Path:
        """A client that the engine trusts, and that trusts another CA only: it refuses the engine."""
        return self.directory / "distrustful"

    @property
    def nameless(self) -> Path:
        """A client that trusts the engine and has no certificate (ca.pem alone): the engine refuses it."""
        return self.directory / "nameless"


def make_certificates(directory: Path, openssl: str = "openssl") -> Certificates:
    """Makes two CAs, a server and two clients, each valid for a month."""
    made = Certificates(directory)
    for folder in (directory, made.server, made.client, made.foreign, made.distrustful, made.nameless):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    configuration = directory / "openssl.cnf"
    configuration.write_text(CONFIGURATION)

    def certify(subject: str, section: str, certificate: Path, key: Path, *ca: str) -> None:
        command = [
            *(openssl, "req", "-x509", "-config", str(configuration), "-extensions", section, "-days", "30"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={subject}"),
            *("-out", str(certificate), "-keyout", str(key), *ca),
        ]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no reason given"]
            raise OpensslFailed(f"`openssl req` for {subject} failed: {lines[-1]}")

    for ca, folder, section in (
        ("engine", made.server, "server"),
        ("engine", made.client, "client"),
        ("stranger", made.foreign, "client"),
    ):
        certificate, key = directory / f"{ca}-ca.pem", directory / f"{ca}-ca-key.pem"
        if not certificate.exists():
            certify(f"{ca} CA", "ca", certificate, key)
        signed = ("-CA", str(certificate), "-CAkey", str(key))
        certify(folder.name, section, folder / "cert.pem", folder / "key.pem", *signed)
        shutil.copy(directory / "engine-ca.pem", folder / "ca.pem")
    for name in ("cert.pem", "key.pem"):
        shutil.copy(made.client / name, made.distrustful / name)
    shutil.copy(directory / "stranger-ca.pem", made.distrustful / "ca.pem")
    shutil.copy(directory / "engine-ca.pem", made.nameless / "ca.pem")
    return made


if __name__ == "__main__":
    result = make_certificates(Path(sys.argv[1]).absolute())
    print(result.server, result.client, result.foreign, result.distrustful, result.nameless, sep="\n")
