"""TLS: the layer by itself, against Python's own server in memory, and the three adapters over a real connection."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from attachproto import Framing, LocalProtocolError, OutputClosed, RawOutput, Stdout
from attachproto_adapters import EngineUnreachable, ErrorWithOutput, HostInvalid
from attachproto_adapters._transport._schemes import TlsFiles
from attachproto_adapters._transport._tls import TlsClient, TlsLayer, client_context
from tests.adapters.frameworks import EACH_FRAMEWORK, WITH_STDIN, Framework
from tests.adapters.scenarios import MEGABYTE, pattern
from tests.adapters.scripted import BOUND, Peer, Task, accepts, echo
from tests.adapters.tls_engine import VERSIONS, Certificates, ServerTls, TlsEngine
from tests.helpers import cut_at

RECORD = 16 * 1024

EACH_VERSION = pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def files(directory: Path, *, verify: bool = True) -> TlsFiles:
    ca, cert, key = (str(directory / name) for name in ("ca.pem", "cert.pem", "key.pem"))
    return TlsFiles(ca, cert, key, verify)


# ---- the layer by itself: but for key updates of the peer's, which Python's ssl module cannot make ----


class Ends:
    """Our layer, and Python's own TLS as the server, with nothing between them but what a test passes on."""

    def __init__(self, layer: TlsLayer, server: ssl.SSLContext) -> None:
        self.layer = layer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = server.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def shake_hands(self, pieces: Callable[[bytes], Iterable[bytes]] = lambda data: [data]) -> None:
        """Both become connected; what the server says comes in such pieces."""
        steps = self.layer.handshake()
        to_server = next(steps)
        try:
            while True:
                self._incoming.write(to_server)
                to_server = b""
                with contextlib.suppress(ssl.SSLError):  # what it has against us, it says
                    self.server.do_handshake()
                for piece in pieces(self._outgoing.read()):
                    to_server += steps.send(piece)
        except StopIteration as last:
            self._incoming.write(to_server + last.value)
        # With TLS 1.3 it leaves tickets behind, which come with the first data.
        self.server.do_handshake()

    def from_server(self, data: bytes = b"", *, end: bool = False) -> bytes:
        """What goes over the wire for this data, and for the server's close_notify."""
        if data:
            self.server.write(data)
        if end:
            with contextlib.suppress(ssl.SSLWantReadError):
                self.server.unwrap()
        return self._outgoing.read()

    def at_server(self, data: bytes) -> bytes:
        """What the server reads of these bytes from the wire; it fails if the client's direction has ended."""
        self._incoming.write(data)
        found = b""
        with contextlib.suppress(ssl.SSLWantReadError):
            while True:
                piece = self.server.read(RECORD)
                assert piece, "the client's direction has ended"
                found += piece
        return found

    def ended_at_server(self) -> bool:
        try:
            return not self.server.read(RECORD)
        except ssl.SSLZeroReturnError:
            return True
        except ssl.SSLWantReadError:
            return False


def new_ends(certificates: Certificates, version: ssl.TLSVersion) -> Ends:
    return Ends(TlsLayer(client_context(files(certificates.client)), "127.0.0.1"), certificates.server_context(version))


def connected(certificates: Certificates, version: ssl.TLSVersion) -> Ends:
    ends = new_ends(certificates, version)
    ends.shake_hands()
    assert ends.layer.decrypt(ends.from_server(b"with it come tickets")) == b"with it come tickets"
    return ends


@pytest.fixture
def ends(certificates: Certificates, version: ssl.TLSVersion) -> Ends:
    return connected(certificates, version)


def named(version: ssl.TLSVersion) -> str:
    """As ``SSLObject.version()`` says it."""
    return version.name.replace("TLSv1_", "TLSv1.")


def splits(length: int) -> list[Iterable[int]]:
    """Where to cut so many bytes: nowhere, at one place, everywhere."""
    return [*([at] for at in range(length)), range(length)]


@EACH_VERSION
def test_handshake_byte_by_byte(certificates: Certificates, version: ssl.TLSVersion) -> None:
    ends = new_ends(certificates, version)
    ends.shake_hands(lambda data: [data[at : at + 1] for at in range(len(data))])
    assert ends.at_server(ends.layer.encrypt(b"in")) == b"in"
    assert ends.layer.decrypt(ends.from_server(b"out")) == b"out"
    assert ends.server.version() == named(version)


@EACH_VERSION
def test_every_split_of_an_exchange(ends: Ends) -> None:
    def wire() -> bytes:
        return b"".join(map(ends.from_server, (b"one", b"two", b"three")))

    whole = wire()
    assert ends.layer.decrypt(whole) == b"onetwothree"
    for places in splits(len(whole)):
        assert b"".join(map(ends.layer.decrypt, cut_at(wire(), places))) == b"onetwothree"
        assert not ends.layer.ended
        assert ends.layer.failure is None


@EACH_VERSION
def test_every_split_of_the_end(certificates: Certificates, version: ssl.TLSVersion) -> None:
    """Also none, that is data and close_notify in one piece."""
    length = len(connected(certificates, version).from_server(b"last", end=True))
    for places in splits(length):
        ends = connected(certificates, version)
        wire = ends.from_server(b"last", end=True)
        assert b"".join(map(ends.layer.decrypt, cut_at(wire, places))) == b"last"
        assert ends.layer.ended
        assert ends.layer.failure is None


@EACH_VERSION
def test_our_end_leaves_theirs_open(ends: Ends) -> None:
    assert ends.at_server(ends.layer.encrypt(b"last")) == b"last"
    assert not ends.ended_at_server()
    notify = ends.layer.end()
    assert notify
    with pytest.raises(AssertionError, match="has ended"):
        ends.at_server(notify)
    large = pattern(MEGABYTE)
    assert ends.layer.decrypt(ends.from_server(large)) == large
    assert not ends.layer.ended
    assert ends.layer.decrypt(ends.from_server(b"and their end", end=True)) == b"and their end"
    assert ends.layer.ended
    assert ends.layer.failure is None


@EACH_VERSION
def test_the_end_once_only(ends: Ends) -> None:
    assert ends.layer.end()
    assert not ends.layer.end()


@EACH_VERSION
def test_their_end_leaves_ours_open(ends: Ends) -> None:
    assert ends.layer.decrypt(ends.from_server(end=True)) == b""
    assert ends.layer.ended
    assert ends.layer.decrypt(b"") == b""
    assert ends.layer.failure is None, "FIN after close_notify is no failure"
    wire = ends.layer.encrypt(b"still")
    assert ends.at_server(wire) == b"still"


@EACH_VERSION
@pytest.mark.parametrize("cut", [0, 1, 7, -1])
def test_fin_without_close_notify_is_a_failure_after_what_came(ends: Ends, cut: int) -> None:
    whole, last = ends.from_server(b"whole"), ends.from_server(b"cut")
    if not cut:
        last = b""
    assert ends.layer.decrypt(whole + last[:cut]) == b"whole"
    assert ends.layer.failure is None
    assert ends.layer.decrypt(b"") == b""
    assert isinstance(ends.layer.failure, ssl.SSLEOFError)
    assert not ends.layer.ended


@EACH_VERSION
def test_garbage_is_a_failure_after_what_came(ends: Ends) -> None:
    assert ends.layer.decrypt(ends.from_server(b"whole") + b"HTTP/1.1 200 OK\r\n\r\n") == b"whole"
    assert isinstance(ends.layer.failure, ssl.SSLError)
    assert not ends.layer.ended


@EACH_VERSION
def test_a_record_that_was_tampered_with_is_a_failure(ends: Ends) -> None:
    first, second = ends.from_server(b"whole"), bytearray(ends.from_server(b"forged"))
    second[-1] ^= 1
    assert ends.layer.decrypt(first + bytes(second)) == b"whole"
    assert ends.layer.failure is not None


def test_garbage_instead_of_a_handshake(certificates: Certificates) -> None:
    steps = new_ends(certificates, VERSIONS[0]).layer.handshake()
    next(steps)
    with pytest.raises(ssl.SSLError) as info:
        steps.send(b"HTTP/1.0 400 Bad Request\r\n\r\n")
    assert info.value.reason == "WRONG_VERSION_NUMBER"


@pytest.mark.parametrize("came", [b"", b"\x16\x03\x03"])
def test_fin_instead_of_a_handshake(certificates: Certificates, came: bytes) -> None:
    steps = new_ends(certificates, VERSIONS[0]).layer.handshake()
    next(steps)
    if came:
        assert steps.send(came) == b""
    with pytest.raises(ssl.SSLEOFError):
        steps.send(b"")


@EACH_VERSION
@pytest.mark.parametrize("size", [0, 1, RECORD, RECORD + 1, MEGABYTE])
def test_sizes(ends: Ends, size: int) -> None:
    data = pattern(size)
    wire = ends.layer.encrypt(memoryview(data))
    assert ends.at_server(wire) == data
    assert bool(wire) == bool(size)
    assert ends.layer.decrypt(ends.from_server(data)) == data


class OneAtATime:
    """An SSL object that fails where two threads are in it, which OpenSSL forbids, and rarely tells."""

    def __init__(self, inner: ssl.SSLObject) -> None:
        self._inner = inner
        self._inside = 0

    def read(self, size: int) -> bytes:
        with self._alone():
            return self._inner.read(size)

    def write(self, data: memoryview) -> int:
        with self._alone():
            return self._inner.write(data)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        self._inside += 1
        try:
            yield
            assert self._inside == 1, "two threads at once"
        finally:
            self._inside -= 1


@EACH_VERSION
def test_one_thread_encrypts_while_another_decrypts(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """10 MB each way. The server's records are made before, so that our layer alone has two threads."""
    monkeypatch.setattr(ends.layer, "_object", OneAtATime(ends.layer._object))
    large = pattern(10 * MEGABYTE)
    to_client = [ends.from_server(large[at : at + 50_000]) for at in range(0, len(large), 50_000)]
    begin = threading.Barrier(2)

    def decrypt() -> bytes:
        begin.wait(BOUND)
        return b"".join(map(ends.layer.decrypt, to_client))

    def encrypt() -> list[bytes]:
        begin.wait(BOUND)
        return [ends.layer.encrypt(large[at : at + 30_000]) for at in range(0, len(large), 30_000)]

    decrypting, encrypting = Task(decrypt), Task(encrypt)
    assert decrypting.result() == large
    assert b"".join(map(ends.at_server, encrypting.result())) == large


# ---- the context ----


def handshake(client: ssl.SSLContext, name: str, server: ssl.SSLContext) -> str | None:
    """The version that they agree on; raises what the client would."""
    ends = Ends(TlsLayer(client, name), server)
    ends.shake_hands()
    return ends.server.version()


@EACH_VERSION
def test_verified_by_default(certificates: Certificates, version: ssl.TLSVersion) -> None:
    server = certificates.server_context(version)
    context = client_context(files(certificates.client))
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert handshake(context, "127.0.0.1", server) == named(version)


@EACH_VERSION
@pytest.mark.parametrize(
    ("who", "name", "message"),
    [("client", "engine.example.org", "Hostname mismatch"), ("distrustful", "127.0.0.1", "self-signed certificate in")],
)
def test_an_engine_that_is_not_trusted(
    certificates: Certificates, version: ssl.TLSVersion, who: str, name: str, message: str
) -> None:
    server = certificates.server_context(version)
    directory = getattr(certificates, who)
    with pytest.raises(ssl.SSLCertVerificationError, match=message):
        handshake(client_context(files(directory)), name, server)
    assert handshake(client_context(files(directory, verify=False)), name, server)


def test_the_systems_certificates_where_none_are_named(certificates: Certificates) -> None:
    context = client_context(TlsFiles(None, None, None, verify=True))
    assert context.verify_mode is ssl.CERT_REQUIRED
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(context, "127.0.0.1", certificates.server_context(VERSIONS[1]))


def test_tls_1_1_is_refused(certificates: Certificates) -> None:
    assert client_context(files(certificates.client)).minimum_version is ssl.TLSVersion.TLSv1_2
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificates.client / "cert.pem", certificates.client / "key.pem")
    server.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        server.minimum_version = server.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match=r"(?i)(protocol|unsupported)[ _](version|protocol)"):
        handshake(client_context(files(certificates.client)), "127.0.0.1", server)


@pytest.mark.parametrize("missing", ["ca.pem", "cert.pem", "key.pem"])
@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_files_that_cannot_be_loaded(
    certificates: Certificates, tmp_path: Path, missing: str, content: bytes | None
) -> None:
    for name in ("ca.pem", "cert.pem", "key.pem"):
        there = content if name == missing else (certificates.client / name).read_bytes()
        if there is not None:
            (tmp_path / name).write_bytes(there)
    what = "the CA's certificates" if missing == "ca.pem" else "our certificate and its key"
    with pytest.raises(HostInvalid, match=f"{what} for TLS cannot be loaded.*{re.escape(str(tmp_path / missing))}"):
        client_context(files(tmp_path))


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_password(
    certificates: Certificates, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key((certificates.client / "key.pem").read_bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (tmp_path / "key.pem").write_bytes(encrypted)
    for name in ("ca.pem", "cert.pem"):
        (tmp_path / name).write_bytes((certificates.client / name).read_bytes())
    with pytest.raises(HostInvalid, match=f"the key is encrypted.*{re.escape(str(tmp_path / 'key.pem'))}"):
        client_context(files(tmp_path))


# ---- the three adapters over TCP ----


def speak_tls(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(directory))


@pytest.fixture
def tls_engine(
    certificates: Certificates, version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TlsEngine]:
    """Behind TLS of this version; the environment is that of a client that it takes."""
    running = TlsEngine(certificates.server_context(version))
    speak_tls(monkeypatch, certificates.client)
    yield running
    running.close()


@EACH_VERSION
def test_an_engine_that_resumes_nothing(certificates: Certificates, version: ssl.TLSVersion) -> None:
    client = TlsClient(files(certificates.client), "127.0.0.1")
    for _ in range(2):
        ends = Ends(client.new_layer(), certificates.server_context(version))
        ends.shake_hands()
        assert ends.layer.decrypt(ends.from_server(b"with it come tickets")) == b"with it come tickets"
        assert client.session is not None
        assert not ends.server.session_reused, "another server has another key for its tickets"


@EACH_VERSION
def test_a_session_is_taken_out_a_few_times_only(
    certificates: Certificates, version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time CPython may leak it: some 7 KiB (gh-116810). This engine has no tickets, so none can be resumed."""
    taken: list[ssl.SSLObject] = []
    original: Any = ssl.SSLObject.session

    def session(ssl_object: ssl.SSLObject) -> ssl.SSLSession | None:
        taken.append(ssl_object)
        found: ssl.SSLSession | None = original.fget(ssl_object)
        return found

    monkeypatch.setattr(ssl.SSLObject, "session", property(session, original.fset))
    context = certificates.server_context(version)
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    client = TlsClient(files(certificates.client), "127.0.0.1")
    for _ in range(10):
        ends = Ends(client.new_layer(), context)
        ends.shake_hands()
        for _ in range(20):
            assert ends.layer.decrypt(ends.from_server(b"x")) == b"x"
        assert taken.count(ends.layer._object) <= 1
    assert client.session is None
    assert len(taken) == 3


@EACH_FRAMEWORK
@EACH_VERSION
def test_attach(framework: Framework, tls_engine: TlsEngine, version: ssl.TLSVersion) -> None:
    tls_engine.on("inspect", tls_engine.runs())
    tls_engine.on("attach", accepts(Stdout(b"hello")))

    async def scenario() -> None:
        async with await framework.attach("web", host=tls_engine.host) as attachment:
            assert await attachment.receive() == Stdout(b"hello")
            assert await attachment.receive() == OutputClosed()
            assert await attachment.wait() == 0

    framework.run(scenario)
    assert {seen.version for seen in tls_engine.seen} == {named(version)}
    assert not any(seen.close_notify for seen in tls_engine.seen), "nothing half-closes unasked"
    first, *others = (seen.resumed for seen in tls_engine.seen)
    assert not first
    assert others == [True] * len(others) != [], "only the first handshake has certificates"


@EACH_FRAMEWORK
@EACH_VERSION
def test_half_close_is_close_notify_and_output_goes_on(framework: Framework, tls_engine: TlsEngine) -> None:
    """The server sees close_notify with TCP open, and prints much only then."""
    large = pattern(10 * MEGABYTE)
    tls_engine.on("attach", echo)

    async def scenario() -> None:
        async with await framework.attach("web", WITH_STDIN, host=tls_engine.host) as attachment:
            assert attachment.can_half_close
            stdout, stderr = await attachment.communicate(large)
            assert stdout == large
            assert not stderr

    framework.run(scenario)
    (seen,) = [seen for seen in tls_engine.seen if seen.close_notify]
    assert seen.open_then


@EACH_FRAMEWORK
@EACH_VERSION
def test_much_in_both_directions_at_once(framework: Framework, tls_engine: TlsEngine) -> None:
    large = pattern(10 * MEGABYTE)

    def act(peer: Peer) -> None:
        peer.accept()
        writing = Task(lambda: peer.send(*(Stdout(large[at : at + MEGABYTE]) for at in range(0, len(large), MEGABYTE))))
        assert peer.stdin_to_end() == large
        writing.result()
        peer.send(OutputClosed())
        peer.until_closed()

    tls_engine.on("attach", act)

    async def scenario() -> None:
        async with await framework.attach("web", WITH_STDIN, host=tls_engine.host) as attachment:
            stdout, _ = await attachment.communicate(large)
            assert stdout == large

    framework.run(scenario)


@EACH_FRAMEWORK
@EACH_VERSION
def test_close_stdin_and_then_a_clean_end(framework: Framework, tls_engine: TlsEngine) -> None:
    tls_engine.on("attach", echo)

    async def scenario() -> None:
        async with await framework.attach("web", WITH_STDIN, host=tls_engine.host) as attachment:
            await attachment.send_stdin(b"one ")
            await attachment.send_stdin(b"two")
            await attachment.close_stdin()
            assert [event async for event in attachment] == [Stdout(b"one two")]

    framework.run(scenario)


@EACH_FRAMEWORK
@EACH_VERSION
def test_a_name_that_is_not_the_engines(framework: Framework, tls_engine: TlsEngine) -> None:
    host = tls_engine.host.replace("127.0.0.1", "localhost")

    async def scenario() -> None:
        with pytest.raises(EngineUnreachable) as info:
            await framework.attach("web", host=host)
        assert str(info.value).startswith(
            f"no engine answers at {host} (as given): its certificate is not accepted: Hostname mismatch"
        )

    framework.run(scenario)
    assert tls_engine.calls == []


@EACH_FRAMEWORK
@EACH_VERSION
def test_an_engine_of_a_ca_that_is_not_trusted(
    framework: Framework, tls_engine: TlsEngine, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    speak_tls(monkeypatch, certificates.distrustful)

    async def scenario() -> None:
        with pytest.raises(EngineUnreachable, match="its certificate is not accepted: self-signed certificate in"):
            await framework.attach("web", host=tls_engine.host)

    framework.run(scenario)
    assert tls_engine.calls == []


@EACH_FRAMEWORK
@EACH_VERSION
@pytest.mark.parametrize(
    ("who", "message"),
    [
        ("nameless", r"may require a client certificate|requires a client certificate \(.*certificate required\)"),
        ("stranger", r"refuses our client certificate, .*unknown ca\)"),
    ],
)
def test_a_client_that_the_engine_does_not_take(
    framework: Framework,
    tls_engine: TlsEngine,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    who: str,
    message: str,
) -> None:
    """With TLS 1.3 our handshake is over by then, and the first read tells."""
    speak_tls(monkeypatch, getattr(certificates, who))

    async def scenario() -> None:
        with pytest.raises(EngineUnreachable, match=f"no engine answers at {tls_engine.host}.*({message})") as info:
            await framework.attach("web", host=tls_engine.host)
        assert not info.value.sent

    framework.run(scenario)
    tls_engine.close()
    assert len(tls_engine.refused) == 1
    assert tls_engine.calls == []


@EACH_FRAMEWORK
def test_a_port_that_does_not_speak_tls(
    framework: Framework, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    speak_tls(monkeypatch, certificates.client)
    with bare_server(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request") as host:

        async def scenario() -> None:
            with pytest.raises(EngineUnreachable, match=f"no engine answers at {host}.*does not speak TLS"):
                await framework.attach("web", host=host)

        framework.run(scenario)


@EACH_FRAMEWORK
@pytest.mark.parametrize("reset", [False, True])
def test_a_port_that_hangs_up(
    framework: Framework, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, reset: bool
) -> None:
    speak_tls(monkeypatch, certificates.client)
    with bare_server(b"", reset=reset) as host:

        async def scenario() -> None:
            with pytest.raises(EngineUnreachable, match=f"no engine answers at {host}"):
                await framework.attach("web", host=host)

        framework.run(scenario)


@contextlib.contextmanager
def bare_server(says: bytes, *, reset: bool = False) -> Iterator[str]:
    """Reads the first that comes on one connection, says something, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(BOUND)

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                peer = Peer(sock)
                assert sock.recv(MEGABYTE)
                peer.write(says)
                if reset:
                    peer.reset()

        serving = Task(serve)
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        serving.result()


def fin(tls: ServerTls) -> None:
    tls.sock.shutdown(socket.SHUT_WR)


def garbage(tls: ServerTls) -> None:
    tls.sock.sendall(b"HTTP/1.1 500 Oops\r\n\r\n")


def framework_breaks(framework: Framework) -> tuple[type[Exception], ...]:
    """What tells in this framework that the connection is broken."""
    return framework.broken if framework.name == "trio" else (ssl.SSLError,)


@EACH_FRAMEWORK
@EACH_VERSION
@pytest.mark.parametrize("framing", list(Framing))
@pytest.mark.parametrize("end", [fin, garbage])
def test_a_stream_that_breaks_is_no_end(
    framework: Framework,
    certificates: Certificates,
    version: ssl.TLSVersion,
    monkeypatch: pytest.MonkeyPatch,
    framing: Framing,
    end: Callable[[ServerTls], None],
) -> None:
    """Also where nothing is left open that a cut would show: only TLS can tell."""
    printed = Stdout(b"said") if framing is Framing.MULTIPLEXED else RawOutput(b"said")
    speak_tls(monkeypatch, certificates.client)
    broken = TlsEngine(certificates.server_context(version), end)
    broken.on("attach", accepts(printed, framing=framing))

    async def scenario() -> None:
        async with await framework.attach("web", host=broken.host, tty=framing is Framing.RAW) as attachment:
            assert await attachment.receive() == printed
            for _ in range(2):
                with pytest.raises(framework_breaks(framework)):
                    await attachment.receive()

    try:
        framework.run(scenario)
    finally:
        broken.close()


@EACH_FRAMEWORK
def test_what_was_read_before_tls_broke(
    framework: Framework, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of ``ssl`` stays what it is, and the attachment has the output. In trio the error has it, too."""
    speak_tls(monkeypatch, certificates.client)
    broken = TlsEngine(certificates.server_context(VERSIONS[-1]), fin)
    broken.on("attach", accepts(Stdout(b"said")))

    async def scenario() -> None:
        async with await framework.attach("web", host=broken.host, tty=False) as attachment:
            with pytest.raises(framework_breaks(framework)) as caught:
                await attachment.communicate()
            assert attachment.output_so_far == (b"said", b"")
            assert isinstance(caught.value, ErrorWithOutput) == (framework.name == "trio")

    try:
        framework.run(scenario)
    finally:
        broken.close()


@EACH_FRAMEWORK
@EACH_VERSION
def test_sending_after_tls_has_broken(
    framework: Framework, certificates: Certificates, version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a broken pipe, as on a socket; the output's error is the same each time, and in no group."""
    speak_tls(monkeypatch, certificates.client)
    engine = TlsEngine(certificates.server_context(version), garbage)
    engine.on("attach", accepts(Stdout(b"said")))

    async def scenario() -> None:
        async with await framework.attach("web", WITH_STDIN, host=engine.host) as attachment:
            for _ in range(3):
                with pytest.raises(framework_breaks(framework), match=r"(?i)wrong.version"):
                    await attachment.communicate(b"never sent")
        async with await framework.attach("web", WITH_STDIN, host=engine.host) as attachment:
            with pytest.raises(framework_breaks(framework)):
                await attachment.communicate()
            with pytest.raises(framework.broken, match="wrong version"):
                await attachment.send_stdin(b"never sent")
            with pytest.raises(LocalProtocolError):
                await attachment.send_stdin(b"never sent")
        async with await framework.attach("web", WITH_STDIN, host=engine.host) as attachment:
            with pytest.raises(framework_breaks(framework)):
                await attachment.communicate()
            with pytest.raises(framework.broken, match="wrong version"):
                await attachment.close_stdin()

    try:
        framework.run(scenario)
    finally:
        engine.close()
