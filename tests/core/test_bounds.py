"""What is held, and how many steps are made, for input that is made to exceed every bound. All of it is counted.

Steps are calls of functions, Python's and C's (``sys.setprofile``). ``check_linear`` measures the same input twice, the
second time with twice as much of it, and the steps may double. What is held is counted by following references. With
ATTACHPROTO_COUNTS=full it is a million of each thing, otherwise a tenth of it or less.
"""

from __future__ import annotations

import tracemalloc
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from attachproto import (
    NEED_DATA,
    SERVER,
    Accepted,
    Attach,
    AttachOptions,
    Connection,
    Event,
    FrameDecoder,
    Framing,
    Logs,
    OutputClosed,
    Quirk,
    RawOutput,
    Reason,
    RemoteProtocolError,
    Request,
    Response,
    State,
    Stdout,
)
from fuzz import _invariants
from fuzz._invariants import counted, held_bytes
from tests.helpers import H101M, H200M, H200R, client, counts, frame, server

MANY = counts(10_000, 1_000_000)
ASK = Attach("web", tty=False)
ASK_TTY = Attach("web", tty=True)
CALL = Request("GET", ("containers", "web", "json"))
CHUNKED = H200M[:-2] + b"Transfer-Encoding: chunked\r\n\r\n"
H11_INCOMPLETE_MAX = 16 * 1024


@pytest.fixture(autouse=True)
def _counted_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_invariants, "COUNTED_OF", 1)


def steps_of(reader: Any, pieces: Iterable[bytes]) -> int:
    """How many calls it takes to read these, up to an error."""
    given = list(pieces)
    with counted(b"") as steps:
        consume(reader, given)
    return steps.count


def consume(reader: Any, pieces: Iterable[bytes]) -> Reason | None:
    """Read these and keep nothing. Returns the reason of the error, if one was raised."""
    for piece in pieces:
        reader.receive_data(piece)
        try:
            deque(reader.events(), maxlen=0)
        except RemoteProtocolError as error:
            return error.reason
    return None


def check_linear(make: Callable[[], Any], pieces: Callable[[int], Iterable[bytes]], count: int, *, each: float) -> None:
    """Twice as much takes at most twice the steps, and each thing at most so many."""
    half, whole = (steps_of(make(), pieces(size)) for size in (count // 2, count))
    assert whole <= 2 * half + 2000, (half, whole)
    assert whole <= each * count + 2000, (whole / count, "for each")


def held_after(reader: Any, pieces: Iterable[bytes]) -> int:
    """How many bytes more are held when all of this is parsed than before."""
    before = held_bytes(reader)
    assert consume(reader, pieces) is None
    return held_bytes(reader) - before


def peak_of(reader: Any, pieces: Iterable[bytes]) -> int:
    """The most bytes that Python had allocated at any time while it read these, without the pieces themselves."""
    given = list(pieces)
    tracemalloc.start()
    try:
        consume(reader, given)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_this_finds_what_is_quadratic() -> None:
    class Quadratic:
        def __init__(self) -> None:
            self.kept: list[bytes] = []

        def receive_data(self, data: bytes) -> None:
            self.kept.append(data)
            for each in self.kept:
                each.count(b"x")

        def events(self) -> Iterator[Event]:
            return iter(())

    with pytest.raises(AssertionError):
        check_linear(Quadratic, lambda count: [b"x"] * count, 200, each=10**6)
    assert held_after(Quadratic(), [bytes(100)] * 3) >= 100
    assert peak_of(FrameDecoder(), [frame(1, bytes(10_000))]) >= 10_000


def opened(request: Attach = ASK, head: bytes = H101M) -> Connection:
    connection = client(request)
    connection.receive_data(head)
    connection.next_event()
    return connection


# ---- frames ----


def ones(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


@pytest.mark.parametrize("make", [FrameDecoder, opened])
def test_a_header_of_4_gib_is_eight_bytes(make: Callable[[], Any]) -> None:
    reader = make()
    header = frame(1, b"", length=2**32 - 1)
    assert held_after(reader, [header]) <= 8
    for size in (1, 1000, 100_000):
        assert held_after(reader, [bytes(size)] * 20) <= 0, "what was given out is not held"
    assert peak_of(make(), [header, *[bytes(100_000)] * 50]) < 1_000_000


def test_an_idle_decoder_keeps_no_chunk() -> None:
    """Found by fuzzing: the last chunk was kept until the next one came, 64 KiB for each idle attachment."""
    decoder = FrameDecoder()
    empty = held_bytes(decoder)
    decoder.receive_data(frame(1, bytes(50_000)) + frame(2, b"", length=2**32 - 1)[:5])
    assert decoder.next_event() == Stdout(bytes(50_000))
    assert decoder.next_event() is NEED_DATA
    assert held_bytes(decoder) - empty == 5, "the header that was cut, and nothing else"


@pytest.mark.parametrize("make", [FrameDecoder, opened])
def test_a_million_empty_frames_in_one_chunk(make: Callable[[], Any]) -> None:
    check_linear(make, lambda count: [frame(1, b"") * count], MANY, each=2)
    chunk = frame(2, b"") * max(MANY, 500_000)
    assert held_after(make(), [chunk]) <= 0
    # bytes.join takes 80 bytes for each of the 8,192 pieces of a window.
    assert peak_of(make(), [chunk]) < 1_000_000, "no event is made, and the chunk of 4 MB is not copied"


def test_a_million_small_frames_in_one_chunk() -> None:
    check_linear(FrameDecoder, lambda count: [(frame(1, b"x") + frame(2, b"y")) * count], MANY // 2, each=24)
    chunk = (frame(1, b"x") + frame(2, b"y")) * (MANY // 2)
    # The events of two windows are made at once, and no more than about 512.
    assert peak_of(FrameDecoder(), [chunk]) < 200_000
    decoder = FrameDecoder()
    decoder.receive_data(chunk)
    decoder.next_event()
    assert len(decoder._ready) < 600


@pytest.mark.parametrize("make", [FrameDecoder, opened])
def test_a_million_single_bytes(make: Callable[[], Any]) -> None:
    wire = (frame(1, b"hello") + frame(2, b"") + frame(1, b"x")) * (MANY // 30)
    check_linear(make, lambda count: ones(wire[:count]), len(wire), each=40)
    assert held_after(make(), ones(wire)) <= 0


@pytest.mark.parametrize("quirks", [(Quirk.NEWLINE_OUTSIDE_FRAME,), (Quirk.DETACHED_TEXT,), tuple(Quirk)])
@pytest.mark.parametrize("pieces", [lambda wire: [wire], ones], ids=["whole", "single bytes"])
def test_quirks_cost_and_hold_no_more(quirks: tuple[Quirk, ...], pieces: Callable[[bytes], list[bytes]]) -> None:
    text = b"Error: detached from container\n"
    lines = frame(1, b"") + (b"\n" if Quirk.NEWLINE_OUTSIDE_FRAME in quirks else b"") + frame(2, text) + frame(1, b"x")
    count = MANY // 300
    check_linear(lambda: FrameDecoder(quirks=quirks), lambda size: pieces(lines * size), count, each=len(lines) * 60)
    assert held_after(FrameDecoder(quirks=quirks), pieces(lines * count + frame(2, text))) <= 8 + len(text)


def test_raw_output_is_passed_on() -> None:
    check_linear(lambda: opened(ASK_TTY, H200R), lambda count: [b"x"] * count, MANY // 10, each=40)
    connection = opened(ASK_TTY, H200R)
    given = bytes(100_000)
    connection.receive_data(given)
    event = connection.next_event()
    assert isinstance(event, RawOutput)
    assert event.data is given, "not copied"


# ---- heads ----


def endless_head(start: bytes) -> Callable[[int], Iterable[bytes]]:
    """The first bytes of a head without an end, of a size, in single bytes."""
    return lambda count: ones((start + b"a: b\r\n" * count)[:count])


@pytest.mark.parametrize(
    ("make", "start"),
    [
        (lambda: client(ASK), b"HTTP/1.1 101 UPGRADED\r\n"),
        (lambda: client(CALL), b"HTTP/1.1 200 OK\r\n"),
        (lambda: Connection(SERVER), b"POST /containers/web/attach HTTP/1.1\r\n"),
        (lambda: client(ASK), b"HTTP/"),
        (lambda: Connection(SERVER), b"G"),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000, 10**6])
def test_a_head_without_an_end(make: Callable[[], Connection], start: bytes, size: int) -> None:
    limit = 64 * 1024
    data = start + b"x" * (2 * limit)
    connection = make()
    before = held_bytes(connection)
    taken = 0
    for at in range(0, len(data), size):
        piece = data[at : at + size]
        taken += len(piece)
        if consume(connection, [piece]) is not None:
            break
        if at % 1000 < size:
            assert held_bytes(connection) - before <= limit + 10
    else:
        pytest.fail("no error")
    assert taken <= limit + size
    with pytest.raises(RemoteProtocolError) as caught:
        connection.next_event()
    assert caught.value.reason is Reason.HEAD_TOO_LARGE
    assert held_bytes(connection) - before < 2000, "the error's text, and nothing of the head"


def test_a_head_in_single_bytes_takes_linear_steps() -> None:
    check_linear(lambda: client(ASK), endless_head(b"HTTP/1.1 101 X\r\n"), 10_000, each=40)
    check_linear(lambda: Connection(SERVER), endless_head(b"GET / HTTP/1.1\r\n"), 10_000, each=40)


def test_a_million_1xx_heads() -> None:
    """Only 16 are skipped, in one chunk, each by itself, and in single bytes."""
    one = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    for pieces in ([one * MANY], [one] * 20, ones(one * 20)):
        connection = client(ASK)
        assert consume(connection, pieces) is Reason.BAD_HEAD
        assert held_bytes(connection) - held_bytes(client(ASK)) < 2000
    # However many there are in the chunk, the same few are parsed.
    few, many = (steps_of(client(ASK), [one * count]) for count in (20, MANY))
    assert many <= few + 50


def test_large_1xx_heads_share_the_limit_of_the_head() -> None:
    one = b"HTTP/1.1 103 X\r\nLink: " + b"x" * 10_000 + b"\r\n\r\n"
    for pieces in ([one * 20], [one] * 20, ones(one * 7)):
        assert consume(client(ASK), pieces) is Reason.HEAD_TOO_LARGE


# ---- bodies ----


def test_malformed_chunks_are_not_kept() -> None:
    """An error's traceback would keep the frames that hold what was read: the error is made where it is raised."""
    connection = client(Logs("web", tty=False))
    before = held_bytes(connection)
    assert consume(connection, [CHUNKED + b"x" * 262_144]) is Reason.BAD_CHUNKS
    assert held_bytes(connection) - before < H11_INCOMPLETE_MAX + 4096


@pytest.mark.parametrize("size", [1, 1000, 100_000])
@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 500 X\r\n\r\n",
        b"HTTP/1.1 500 X\r\nContent-Length: 99999999999\r\n\r\n",
        b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 99999999999\r\n\r\n",
    ],
)
def test_an_error_without_an_end(head: bytes, size: int) -> None:
    limit = 6_000
    connection = client(ASK, max_refusal=limit)
    before = held_bytes(connection)
    consume(connection, [head])
    reason, at = None, 0
    for at in range(0, 2 * limit, size):
        if (reason := consume(connection, [b"x" * size])) is not None:
            break
        if at % 1000 < size:
            assert held_bytes(connection) - before <= limit + 3000
    assert reason is Reason.BODY_TOO_LARGE
    assert at <= limit
    assert held_bytes(connection) - before < 3000, "the error's text, and nothing of the body"


def test_the_body_of_a_plain_answer_and_of_a_request_without_an_end() -> None:
    answer = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 8_000
    assert consume(client(CALL, max_body=5_000), [answer]) is Reason.BODY_TOO_LARGE
    assert consume(client(CALL, max_body=5_000), ones(answer)) is Reason.BODY_TOO_LARGE
    asked = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 8_000
    assert consume(Connection(SERVER, max_request_body=5_000), [asked]) is Reason.BODY_TOO_LARGE
    assert consume(Connection(SERVER, max_request_body=5_000), ones(asked)) is Reason.BODY_TOO_LARGE


def test_what_comes_behind_the_last_event_is_dropped() -> None:
    connection = client(CALL)
    consume(connection, [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])
    before = held_bytes(connection)
    for _ in range(100):
        connection.receive_data(bytes(10_000))
    assert held_bytes(connection) <= before
    assert not connection.reusable


def test_what_a_client_sends_before_the_answer_waits() -> None:
    """A server that does not answer holds what comes meanwhile. Who reads for it has to stop, as the engine does."""
    serving = server(Attach("web", AttachOptions(stdin=True)))
    serving.receive_data(bytes(1000))
    assert serving.next_event() is NEED_DATA
    assert serving.their_state is State.ASKED_BOTH
    without = server(ASK)
    before = held_bytes(without)
    without.receive_data(bytes(1000))
    assert held_bytes(without) <= before, "nothing waits for stdin that was not asked for"


# ---- chunks of HTTP ----


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)


def in_chunks() -> Connection:
    return opened(head=CHUNKED)


@pytest.mark.parametrize("pieces", [lambda wire: [wire], ones], ids=["whole", "single bytes"])
def test_a_million_chunks_of_one_byte(pieces: Callable[[bytes], list[bytes]]) -> None:
    wire = b"".join(map(chunk, ones(frame(1, b"x"))))
    check_linear(in_chunks, lambda count: pieces(wire * count), MANY // 200, each=6000)
    assert held_after(in_chunks(), pieces(wire * 100)) <= 0


@pytest.mark.parametrize("pieces", [lambda wire: [wire], ones], ids=["whole", "single bytes"])
def test_a_flood_of_chunk_extensions(pieces: Callable[[bytes], list[bytes]]) -> None:
    wire = chunk(frame(1, b"x"), b";a=" + b"b" * 1000)
    check_linear(in_chunks, lambda count: pieces(wire * count), 10, each=60 * len(wire))
    assert held_after(in_chunks(), pieces(wire * 10)) <= 0


CUTS = [1, 7, 1000, H11_INCOMPLETE_MAX - 1, H11_INCOMPLETE_MAX, H11_INCOMPLETE_MAX + 1, 10**6]


@pytest.mark.parametrize("size", CUTS)
@pytest.mark.parametrize("before", [b"", chunk(frame(2, b"y" * 5000))])
@pytest.mark.parametrize(("length", "fits"), [(16_385, True), (16_386, False), (100_000, False)])
def test_the_limit_of_a_chunks_header_is_the_same_in_every_cut(
    size: int, before: bytes, length: int, fits: bool
) -> None:
    """h11 tests its limit only while the header is incomplete: a whole one passed, and the same one cut failed."""
    header = b"a;" + b"x" * (length - 4) + b"\r\n"
    wire = before + header + frame(1, b"hi") + b"\r\n0\r\n\r\n"
    connection = in_chunks()
    reasons = consume(connection, [wire[at : at + size] for at in range(0, len(wire), size)])
    assert reasons is (None if fits else Reason.BAD_CHUNKS)
    assert connection.their_state is (State.DONE if fits else State.ERROR)


@pytest.mark.parametrize("size", CUTS)
@pytest.mark.parametrize(("length", "fits"), [(16_385, True), (16_386, False)])
def test_the_limit_of_trailers_is_the_same_in_every_cut(size: int, length: int, fits: bool) -> None:
    wire = chunk(frame(1, b"hi")) + b"0\r\n" + b"A: " + b"x" * (length - 7) + b"\r\n\r\n"
    connection = in_chunks()
    reason = consume(connection, [wire[at : at + size] for at in range(0, len(wire), size)])
    assert reason is (None if fits else Reason.BAD_CHUNKS)


def test_trailers_without_an_end() -> None:
    connection = in_chunks()
    before = held_bytes(connection)
    reason = None
    assert consume(connection, [chunk(frame(1, b"hi")) + b"0\r\n"]) is None
    for _ in range(40):
        if (reason := consume(connection, [b"a: b\r\n" * 100])) is not None:
            break
        assert held_bytes(connection) - before <= H11_INCOMPLETE_MAX + 1000
    assert reason is Reason.BAD_CHUNKS


def test_one_read_of_chunks_is_one_event() -> None:
    """Also where h11 gets it in several pieces."""
    data = bytes(50_000)
    connection = opened(ASK_TTY, H200R[:-2] + b"Transfer-Encoding: chunked\r\n\r\n")
    connection.receive_data(chunk(data[:20_000]) + chunk(data[20_000:]) + b"0\r\n\r\n")
    assert list(connection.events()) == [RawOutput(data), OutputClosed()]


def test_what_is_behind_the_last_chunk_is_left_unread() -> None:
    """A server keeps it for the next exchange, whole, however much there is."""
    asked = b"POST /one HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"x" * 20_000) + b"0\r\n\r\n"
    following = b"POST /two HTTP/1.1\r\nHost: x\r\nContent-Length: 30000\r\n\r\n" + b"y" * 30_000
    for size in (10**6, 16_384, 1000, 7):
        wire = asked + following
        connection = Connection(SERVER, keep_alive=True)
        bodies = []
        for at in range(0, len(wire), size):
            connection.receive_data(wire[at : at + size])
            for event in connection.events():
                assert isinstance(event, Request)
                bodies.append(event.body)
                connection.send(Response(200))
                after = connection.next_exchange()
                assert after is not None
                connection = after
                bodies += [each.body for each in connection.events() if isinstance(each, Request)]
                break
        assert bodies == [b"x" * 20_000, b"y" * 30_000]


# ---- the server ----


def test_stdin_is_passed_on() -> None:
    serving = server(Attach("web", AttachOptions(stdin=True)))
    serving.send(Accepted(Framing.MULTIPLEXED))
    assert held_after(serving, [bytes(10_000)] * 50) <= 0
    check_linear(in_stdin, lambda count: [b"x"] * count, MANY // 10, each=40)


def in_stdin() -> Connection:
    serving = server(Attach("web", AttachOptions(stdin=True)))
    serving.send(Accepted(Framing.RAW))
    return serving


def test_a_flood_of_glued_requests() -> None:
    """Each costs the same: what is behind it is handed on and not parsed twice."""
    one = b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n"

    def serve(count: int) -> int:
        connection: Connection | None = Connection(SERVER, keep_alive=True)
        wire = one * count
        served = 0
        with counted(b"") as steps:
            for at in range(0, len(wire), 65536):
                assert connection is not None
                connection.receive_data(wire[at : at + 65536])
                while connection is not None and connection.next_event() is not NEED_DATA:
                    served += 1
                    connection.send(Response(200))
                    connection = connection.next_exchange()
        assert served == count
        return steps.count

    half, whole = serve(MANY // 200), serve(MANY // 100)
    assert whole <= 2 * half + 2000
