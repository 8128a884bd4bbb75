"""Plain calls share a connection, within one job and between the calls of a client, unless it may have ended."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest
import trio

from attachproto import AttachOptions, Reason, RemoteProtocolError, Request, Response, Stdout
from attachproto_adapters import RequestRejected, blocking
from attachproto_adapters._transport import _async_dialer, _blocking_dialer, _idle
from attachproto_adapters._transport._sockets import wait_until_ready
from attachproto_engine import Engine as EmbeddedEngine
from tests.adapters.cancelling import CANCELLERS, Canceller
from tests.adapters.frameworks import ASYNCIO, BLOCKING, EACH_FRAMEWORK, TRIO, Client, Framework
from tests.adapters.interrupting import Interrupter, counts
from tests.adapters.scripted import (
    BOUND,
    Act,
    Engine,
    Peer,
    accepts,
    answers,
    close,
    container,
    docker_exec,
    refuses,
    then,
    until_closed,
    waits,
)
from tests.adapters.test_forked import in_a_child
from tests.adapters.test_ssh import place
from tests.adapters.tls_engine import Certificates, TlsEngine
from tests.helpers import children

ENDED = docker_exec(exit_code=0)
EXEC = ["exec", "json"]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(params=["unix", "tls"])
def keeping(
    request: pytest.FixtureRequest, socket_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Engine]:
    """An engine that keeps connections open, over a Unix socket and over TLS."""
    if request.param == "unix":
        engine = Engine(str(socket_path), keep_alive=True)
    else:
        # Of 1.3: its tickets come behind the handshake, and could be taken for an answer that nobody has asked for.
        engine = TlsEngine(certificates.server_context(ssl.TLSVersion.TLSv1_3), keep_alive=True)
        monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
        monkeypatch.setenv("DOCKER_CERT_PATH", str(certificates.client))
    runs_commands(engine)
    yield engine
    engine.close()


def runs_commands(engine: Engine) -> None:
    engine.on("inspect", answers(ENDED))
    engine.on("start", accepts(Stdout(b"hi")))
    engine.on("logs", accepts(Stdout(b"hi"), status_code=200))


async def run(client: Client) -> None:
    """Without the shell by which it can be killed its first call is one that must not be repeated."""
    result = await client.run_exec("web", ["true"], kill=False)
    assert (result.exit_code, result.stdout) == (0, b"hi")


async def read_logs(client: Client) -> None:
    """It begins with a call that may be repeated."""
    async with await client.logs("web") as attachment:
        assert await attachment.communicate() == (b"hi", b"")


def used(engine: Engine) -> list[list[str]]:
    """The calls by connection, without those of streams."""
    with engine._lock:
        return [calls for calls in engine.connections if calls[:1] not in (["start"], ["logs"])]


# ---- which calls share a connection ----


@EACH_FRAMEWORK
def test_the_plain_calls_of_one_function_share_a_connection(framework: Framework, keeping: Engine) -> None:
    async def scenario() -> None:
        result = await framework.run_exec("web", ["true"], kill=False, host=keeping.host)
        assert result.stdout == b"hi"

    framework.run(scenario)
    assert used(keeping) == [["exec", "inspect"]]


@EACH_FRAMEWORK
def test_calls_of_one_client_share_a_connection(framework: Framework, keeping: Engine) -> None:
    async def scenario() -> None:
        async with framework.client(keeping.host) as client:
            for _ in range(3):
                await run(client)

    framework.run(scenario)
    assert used(keeping) == [["exec", "inspect"] * 3]


@EACH_FRAMEWORK
def test_an_attach_asks_on_one_connection_and_holds_its_wait_on_another(framework: Framework, keeping: Engine) -> None:
    """At the end it is asked once more whether the container has exited."""
    keeping.on("inspect", answers(container(status="created")), answers(container(status="exited", exit_code=5)))
    keeping.on("start", answers(None, 204))
    keeping.on("attach", accepts(Stdout(b"hi")))
    keeping.on("wait", waits(5))

    async def scenario() -> None:
        async with await framework.attach("web", host=keeping.host, start=True) as attachment:
            assert await attachment.communicate() == (b"hi", b"")
            assert await attachment.wait() == 5

    framework.run(scenario)
    assert sorted(keeping.connections) == [["attach"], ["inspect"], ["inspect", "start"], ["wait"]]


@EACH_FRAMEWORK
def test_an_attachment_asks_on_the_connection_of_its_client(framework: Framework, keeping: Engine) -> None:
    keeping.on("inspect", answers(docker_exec()), answers(ENDED))

    async def scenario() -> None:
        async with framework.client(keeping.host) as client, await client.exec_start("e1") as attachment:
            assert await attachment.communicate() == (b"hi", b"")
            assert await attachment.wait() == 0

    framework.run(scenario)
    assert used(keeping) == [["inspect"] * 2]


@EACH_FRAMEWORK
def test_what_is_kept_is_closed_with_the_last_who_needs_it(framework: Framework, keeping: Engine) -> None:
    """The attachment outlives its client, and asks on connections of its own."""
    keeping.on("inspect", answers(docker_exec()), answers(ENDED))

    async def scenario() -> None:
        async with framework.client(keeping.host) as client:
            attachment = await client.exec_start("e1")
        async with attachment:
            assert await attachment.communicate() == (b"hi", b"")
            assert await attachment.wait() == 0

    framework.run(scenario)
    assert used(keeping) == [["inspect"], ["inspect"]]


@attrs.define
class Session:
    """What the slot needs of a session."""

    released: bool = False


def test_the_slot_keeps_one_connection_while_somebody_holds_it() -> None:
    def idle() -> _idle.IdleConnection:
        return _idle.IdleConnection(socket.socket(), None, None, 0.0)

    slot, session = _idle.IdleSlot(), Session()
    with contextlib.closing((first := idle()).sock), contextlib.closing((second := idle()).sock):
        assert not slot.put(session, first)
        one, other = slot.hold(), slot.hold()
        assert slot.put(session, first)
        assert session.released
        assert not slot.put(Session(), second)
        assert one.release() is one.release() is None
        taken: list[_idle.IdleConnection] = []
        assert slot.take(taken) is first
        assert taken == [first]
        assert slot.take(taken) is None
        assert slot.put(session, second)
        assert other.release() is second
        lost = slot.hold()
        del lost  # an interruption came before anything could release it
        assert not slot.put(session, first)


# ---- connections that are not used again ----

NOT_KEPT: dict[str, Act] = {
    "close": lambda peer: peer.write(
        b"HTTP/1.1 201 Created\r\nConnection: close\r\nContent-Length: 13\r\n\r\n" + b'{"Id": "e1"}\n'
    ),
    "HTTP/1.0": lambda peer: peer.write(b"HTTP/1.0 201 Created\r\nContent-Length: 13\r\n\r\n" + b'{"Id": "e1"}\n'),
    "no length": then(lambda peer: peer.write(b"HTTP/1.1 201 Created\r\n\r\n" + b'{"Id": "e1"}\n'), close),
    "more behind it": lambda peer: peer.write(
        b"HTTP/1.1 201 Created\r\nContent-Length: 13\r\n\r\n" + b'{"Id": "e1"}\n' + b"HTTP/1.1 200 OK\r\n"
    ),
}


@EACH_FRAMEWORK
@pytest.mark.parametrize("how", NOT_KEPT)
def test_an_answer_that_does_not_leave_the_connection_open(framework: Framework, keeping: Engine, how: str) -> None:
    keeping.on("exec", then(NOT_KEPT[how], until_closed) if how != "no length" else NOT_KEPT[how])

    async def scenario() -> None:
        async with framework.client(keeping.host) as client:
            await run(client)

    framework.run(scenario)
    assert used(keeping) == [["exec"], ["inspect"]]


@EACH_FRAMEWORK
def test_a_connection_that_the_engine_has_closed_is_not_used(framework: Framework, keeping: Engine) -> None:
    closed = threading.Event()

    def answer_and_close(peer: Peer) -> None:
        answers(ENDED)(peer)
        peer.close()
        closed.set()

    keeping.on("inspect", answer_and_close)

    async def scenario() -> None:
        async with framework.client(keeping.host) as client:
            for _ in range(3):
                closed.clear()
                await run(client)
                await framework.until(closed)
                await arrived(framework, client)

    framework.run(scenario)
    assert used(keeping) == [["exec", "inspect"]] * 3


async def arrived(framework: Framework, client: Any) -> None:
    """Wait until the end of file has come to the connection that is kept; with TLS threads stand between."""
    owner = client._owner if framework is BLOCKING else client
    if (idle := owner._address.idle._idle) is not None:
        await framework.aside(lambda: wait_until_ready(idle.sock.fileno(), BOUND, read=True, write=False))


IDLE_TIMEOUT = then(
    lambda peer: peer.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"), close
)

# At the moment at which we ask. A server may say 408 before it closes.
EACH_END = pytest.mark.parametrize("end", [close, IDLE_TIMEOUT], ids=["closed", "408"])


@EACH_FRAMEWORK
@EACH_END
def test_a_get_is_made_again_if_the_connection_ends_unanswered(framework: Framework, keeping: Engine, end: Act) -> None:
    keeping.on("inspect", answers(ENDED), end, answers(container()))

    async def scenario() -> None:
        async with framework.client(keeping.host) as client:
            await run(client)
            await read_logs(client)

    framework.run(scenario)
    assert used(keeping) == [["exec", "inspect", "inspect"], ["inspect"]]


@EACH_FRAMEWORK
@EACH_END
def test_a_call_that_changes_something_is_made_once(framework: Framework, keeping: Engine, end: Act) -> None:
    keeping.on("exec", answers({"Id": "e1"}, 201), end)

    async def scenario() -> None:
        async with framework.client(keeping.host) as client:
            await run(client)
            with pytest.raises(RemoteProtocolError) as caught:
                await run(client)
            assert caught.value.reason is Reason.NOTHING_CAME
            if end is IDLE_TIMEOUT:
                assert "408 in place of an answer to POST /containers/web/exec" in str(caught.value)

    framework.run(scenario)
    assert used(keeping) == [["exec", "inspect", "exec"]]


@EACH_FRAMEWORK
def test_a_408_on_a_new_connection_is_a_refusal(framework: Framework, keeping: Engine) -> None:
    keeping.on("inspect", IDLE_TIMEOUT)

    async def scenario() -> None:
        with pytest.raises(RequestRejected) as caught:
            await framework.logs("web", host=keeping.host)
        assert caught.value.status_code == 408

    framework.run(scenario)
    assert used(keeping) == [["inspect"]]


@EACH_FRAMEWORK
def test_a_cut_answer_is_an_error_and_nothing_is_made_again(framework: Framework, keeping: Engine) -> None:
    keeping.on("inspect", answers(ENDED), then(lambda peer: peer.write(b"HTTP/1.1 2"), close))

    async def scenario() -> None:
        async with framework.client(keeping.host) as client:
            await run(client)
            with pytest.raises(RemoteProtocolError, match="inside the answer's head"):
                await read_logs(client)

    framework.run(scenario)
    assert used(keeping) == [["exec", "inspect", "inspect"]]


@EACH_FRAMEWORK
def test_after_a_second_nothing_is_changed_without_a_ping(
    framework: Framework, keeping: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a Unix socket a new connection costs less than a ping."""
    monkeypatch.setattr(_idle, "_RECENT_SECONDS", -1.0)

    async def scenario() -> None:
        async with framework.client(keeping.host) as client:
            await run(client)
            await run(client)

    framework.run(scenario)
    if isinstance(keeping, TlsEngine):
        assert used(keeping) == [["exec", "inspect", "_ping", "exec", "inspect"]]
    else:
        assert used(keeping) == [["exec", "inspect"]] * 2


@EACH_FRAMEWORK
def test_a_ping_without_an_answer_leads_to_a_new_connection(
    framework: Framework, keeping: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_idle, "_RECENT_SECONDS", -1.0)
    keeping.on("_ping", close)

    async def scenario() -> None:
        async with framework.client(keeping.host) as client:
            await run(client)
            await run(client)

    framework.run(scenario)
    pinged = ["_ping"] if isinstance(keeping, TlsEngine) else []
    assert used(keeping) == [["exec", "inspect", *pinged], ["exec", "inspect"]]


@EACH_FRAMEWORK
def test_an_old_connection_is_not_used(framework: Framework, keeping: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_idle, "_IDLE_SECONDS", -1.0)

    async def scenario() -> None:
        await framework.run_exec("web", ["true"], kill=False, host=keeping.host)

    framework.run(scenario)
    assert used(keeping) == [["exec"], ["inspect"]]


@EACH_FRAMEWORK
def test_a_refusal_leaves_the_connection_open(framework: Framework, keeping: Engine) -> None:
    keeping.on("exec", refuses(404, "no such container"), answers({"Id": "e1"}, 201))

    async def scenario() -> None:
        async with framework.client(keeping.host) as client:
            with pytest.raises(Exception, match="no such container"):
                await run(client)
            await run(client)

    framework.run(scenario)
    assert used(keeping) == [["exec", "exec", "inspect"]]


def test_a_connection_on_which_a_call_timed_out_is_not_used(keeping: Engine) -> None:
    keeping.on("inspect", answers(ENDED), until_closed, answers(ENDED))
    inspect = Request("GET", ("exec", "e1", "json"))
    with blocking.Client(keeping.host, timeout=BOUND) as client, contextlib.closing(client._dialer()) as dialer:
        dialer.call(inspect)
        dialer.settimeout(0.05)
        with pytest.raises(TimeoutError, match="no answer came"):
            dialer.call(inspect)
        dialer.settimeout(BOUND)
        assert json.loads(dialer.call(inspect).body) == ENDED
    assert used(keeping) == [["inspect", "inspect"], ["inspect"]]


@pytest.mark.parametrize("framework", [ASYNCIO, TRIO], ids=str)
def test_a_cancelled_call_takes_its_connection_with_it(framework: Framework, keeping: Engine) -> None:
    asked = threading.Event()

    def hang(peer: Peer) -> None:
        asked.set()
        peer.until_closed()

    keeping.on("inspect", answers(ENDED), hang, answers(ENDED))

    async def scenario() -> None:
        async with framework.client(keeping.host) as client:
            await run(client)
            await cancelled_when(asked, framework, lambda: read_logs(client))
            await run(client)

    framework.run(scenario)
    assert used(keeping) == [["exec", "inspect", "inspect"], ["exec", "inspect"]]


async def cancelled_when(
    event: threading.Event, framework: Framework, call: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    if framework is TRIO:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await framework.until(event)
            nursery.cancel_scope.cancel()
        return
    task = asyncio.create_task(call())
    await framework.until(event)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("canceller", CANCELLERS, ids=str)
def test_whenever_a_call_is_cancelled_the_next_one_is_answered(canceller: Canceller, keeping: Engine) -> None:
    client = canceller.framework.client(keeping.host)
    reached = True
    at = 1

    async def scenario() -> None:
        nonlocal reached
        outcome = await canceller(lambda: client.run_exec("web", ["true"], kill=False), at)
        await run(client)
        reached = outcome.reached

    while reached:
        canceller.framework.run(scenario)
        at += 1
    canceller.framework.run(client.aclose)
    assert at > 3


def test_whenever_a_call_is_interrupted_the_next_one_is_answered(keeping: Engine) -> None:
    """The connection is idle, in use, or put back, at each moment at which Ctrl-C may come."""
    inspect = Request("GET", ("exec", "e1", "json"))

    def ask(interrupter: Interrupter | None = None) -> Response | None:
        with (
            contextlib.closing(client._dialer()) as dialer,
            contextlib.suppress(KeyboardInterrupt),
            interrupter or contextlib.nullcontext(),
        ):
            return dialer.call(inspect)
        return None

    with blocking.Client(keeping.host, timeout=BOUND) as client:
        at = 0
        for at in itertools.count(1, counts(5, 1)):
            ask()
            interrupter = Interrupter(at)
            ask(interrupter)
            response = ask()
            assert response is not None
            assert json.loads(response.body) == ENDED, at
            if not interrupter.reached:
                break
    assert at > 50


# ---- threads, loops, processes ----


def test_threads_share_a_client_and_never_an_answer(keeping: Engine) -> None:
    def answer(peer: Peer) -> None:
        assert isinstance(peer.request, Request)
        peer.send(Response(200, (), peer.request.path[1].encode()))

    keeping.on("inspect", answer)
    wrong: list[tuple[str, bytes]] = []

    def work(number: int) -> None:
        for at in range(20):
            request = Request("GET", ("containers", f"{number * 100 + at}", "json"))
            response = dialer.call(request)
            if response.body != request.path[1].encode():
                wrong.append((request.path[1], response.body))

    with blocking.Client(keeping.host, timeout=BOUND) as client:
        dialer = client._dialer()
        threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(BOUND)
        dialer.close()
    assert not wrong
    assert sum(map(len, keeping.connections)) == 80


@pytest.mark.parametrize("framework", [ASYNCIO, TRIO], ids=str)
def test_a_second_event_loop_goes_on_with_the_connection_of_the_first(framework: Framework, keeping: Engine) -> None:
    client = framework.client(keeping.host)
    framework.run(lambda: run(client))
    framework.run(lambda: run(client))
    framework.run(client.aclose)
    assert used(keeping) == [["exec", "inspect"] * 2]


def test_a_forked_child_leaves_the_connection_to_its_parent(keeping: Engine) -> None:
    with blocking.Client(keeping.host, timeout=BOUND) as client:
        client.run_exec("web", ["true"], kill=False)
        in_a_child(lambda: _in_child(client))
        client.run_exec("web", ["true"], kill=False)
    assert used(keeping) == [["exec", "inspect", "exec", "inspect"], ["exec", "inspect"]]


def _in_child(client: blocking.Client) -> None:
    assert client.run_exec("web", ["true"], kill=False).stdout == b"hi"
    client.close()


def test_a_forked_child_that_only_closes_leaves_the_connection_open(keeping: Engine) -> None:
    with blocking.Client(keeping.host, timeout=BOUND) as client:
        client.run_exec("web", ["true"], kill=False)
        in_a_child(client.close)
        client.run_exec("web", ["true"], kill=False)
    assert used(keeping) == [["exec", "inspect"] * 2]


def test_a_client_that_is_closed_during_a_call_leaves_nothing_open(keeping: Engine) -> None:
    """The call goes on, and closes what it would have left behind."""
    with blocking.Client(keeping.host, timeout=BOUND) as client:

        def close_client(peer: Peer) -> None:
            client.close()
            answers(ENDED)(peer)

        keeping.on("inspect", close_client)
        assert client.run_exec("web", ["true"], kill=False).stdout == b"hi"
    assert used(keeping) == [["exec", "inspect"]]


# ---- the embedded engine ----


@EACH_FRAMEWORK
@pytest.mark.parametrize("emulate", ["dockerd", "podman"])
def test_jobs_of_every_kind_share_a_connection_to_the_embedded_engine(
    framework: Framework, emulate: Literal["dockerd", "podman"], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = count_connections(monkeypatch)

    async def scenario() -> None:
        async with framework.client(engine.host) as client:
            container = await client.create("any", ["sh", "-c", "read line; echo $line"], stdin=True)
            async with await client.attach(container, AttachOptions(stdin=True), start=True) as attachment:
                for number in range(3):
                    assert (await client.run_exec(container, ["echo", str(number)])).stdout == b"%d\n" % number
                assert await attachment.communicate(b"hi\n") == (b"hi\n", b"")
                assert await attachment.wait() == 0
            async with await client.logs(container) as attachment:
                assert await attachment.communicate() == (b"hi\n", b"")
            await client.remove(container)
            assert (await client.run("any", ["echo", "done"])).stdout == b"done\n"

    with EmbeddedEngine(emulate=emulate) as engine:
        framework.run(scenario)
    streams, waits_held = 1 + 3 + 1 + 1, 2
    assert len(made) == 1 + streams + waits_held


def count_connections(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    made: list[object] = []
    for dialer in (_blocking_dialer.Dialer, _async_dialer.AsyncDialer):

        def dial(self: Any, *args: Any, dial: Callable[..., Any] = dialer.dial) -> Any:
            made.append(self)
            return dial(self, *args)

        monkeypatch.setattr(dialer, "dial", dial)
    return made


# ---- ssh ----

# It stands for ssh and for `docker system dial-stdio` behind it.
RELAY = """
import os, socket, sys, threading
engine = socket.socket(socket.AF_UNIX)
engine.connect(sys.argv[1])
def out():
    while data := engine.recv(65536):
        os.write(1, data)
    os._exit(0)
threading.Thread(target=out, daemon=True).start()
while data := os.read(0, 65536):
    engine.sendall(data)
engine.shutdown(socket.SHUT_WR)
threading.Event().wait()
"""


@EACH_FRAMEWORK
def test_over_ssh_all_plain_calls_are_one_login(
    framework: Framework, socket_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "relay.py").write_text(RELAY)
    logins = tmp_path / "logins"
    script = f"echo >> {logins}; exec {sys.executable} -SE {tmp_path}/relay.py {socket_path}"
    place(tmp_path / "bin", "ssh", script)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}")
    engine = Engine(str(socket_path), keep_alive=True)
    runs_commands(engine)

    async def scenario() -> None:
        async with framework.client("ssh://engine") as client:
            await run(client)
            await run(client)
        assert not children()

    try:
        framework.run(scenario)
    finally:
        engine.close()
    assert used(engine) == [["exec", "inspect"] * 2]
    assert len(logins.read_text().splitlines()) == 3, "one for the calls, and one for each stream"
