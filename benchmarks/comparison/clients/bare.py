"""What any client is built on: sockets without a protocol, a bare echo in each framework, and the bare core."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time

import trio

from attachproto import CLIENT, NEED_DATA, Accepted, Attach, AttachOptions, Connection, OutputClosed, Stderr
from benchmarks.comparison.clients._outcome import Outcome

READ = 128 * 1024

STDIN = AttachOptions(stdin=True)


def connect() -> socket.socket:
    """A connection to ``DOCKER_HOST``."""
    host = os.environ["DOCKER_HOST"]
    if host.startswith("unix://"):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(host.removeprefix("unix://"))
        return sock
    name, _, port = host.removeprefix("tcp://").rpartition(":")
    sock = socket.create_connection((name, int(port)))
    if not os.environ.get("DOCKER_TLS_VERIFY"):
        return sock
    directory = os.environ["DOCKER_CERT_PATH"]
    context = ssl.create_default_context(cafile=f"{directory}/ca.pem")
    context.load_cert_chain(f"{directory}/cert.pem", f"{directory}/key.pem")
    return context.wrap_socket(sock, server_hostname=name)


def attach(sock: socket.socket, options: AttachOptions, *, tty: bool) -> Connection:
    """Ask for the stream, and read the head byte by byte, so that no output is read with it."""
    connection = Connection(CLIENT)
    sock.sendall(connection.send(Attach("web", options, tty=tty)))
    while (event := connection.next_event()) is NEED_DATA:
        connection.receive_data(sock.recv(1))
    assert isinstance(event, Accepted)
    return connection


class Drain:
    """The least that can be done: ``recv`` until the end of file."""

    def output(self, outcome: Outcome, *, tty: bool) -> None:
        with connect() as sock:
            attach(sock, AttachOptions(), tty=tty)
            while data := sock.recv(READ):
                outcome.add(False, data)

    def keystrokes(self, outcome: Outcome, count: int) -> None:
        with connect() as sock:
            attach(sock, STDIN, tty=True)
            began = time.perf_counter()
            for _ in range(count):
                sock.sendall(b"x")
                outcome.add(False, sock.recv(READ))
            outcome.seconds = time.perf_counter() - began


class DrainAsyncio:
    """asyncio's streams."""

    def keystrokes(self, outcome: Outcome, count: int) -> None:
        async def main() -> None:
            sock = connect()
            attach(sock, STDIN, tty=True)
            reader, writer = await asyncio.open_connection(sock=sock)
            began = time.perf_counter()
            for _ in range(count):
                writer.write(b"x")
                await writer.drain()
                outcome.add(False, await reader.read(READ))
            outcome.seconds = time.perf_counter() - began
            writer.close()

        asyncio.run(main())


class DrainTrio:
    """trio's ``SocketStream``."""

    def keystrokes(self, outcome: Outcome, count: int) -> None:
        async def main() -> None:
            sock = connect()
            attach(sock, STDIN, tty=True)
            async with trio.SocketStream(trio.socket.from_stdlib_socket(sock)) as stream:
                began = time.perf_counter()
                for _ in range(count):
                    await stream.send_all(b"x")
                    outcome.add(False, bytes(await stream.receive_some(READ)))
                outcome.seconds = time.perf_counter() - began

        trio.run(main)


class Core:
    """The README's loop around ``Connection``."""

    def output(self, outcome: Outcome, *, tty: bool) -> None:
        with connect() as sock:
            connection = attach(sock, AttachOptions(), tty=tty)
            sizes, digests = outcome.sizes, outcome.digests
            while True:
                event = connection.next_event()
                if event is NEED_DATA:
                    connection.receive_data(sock.recv(READ))
                elif type(event) is OutputClosed:
                    return
                else:
                    is_stderr = type(event) is Stderr
                    sizes[is_stderr] += len(event.data)  # type: ignore[union-attr]  # nothing else comes
                    if digests:
                        digests[is_stderr].update(event.data)  # type: ignore[union-attr]
