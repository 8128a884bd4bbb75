"""Requests: value to target and back, and what cannot be built."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attachproto import CLIENT, SERVER, Attach, AttachOptions, Connection, Request, StreamRequest, parse_detach_keys
from tests.helpers import bare, cuts

# ---- detach keys: protocol.md, sections 3.4 and 10.46, seen on dockerd 20.10 and 28.5 ----

KEYS = {
    "ctrl-@": b"\x00",
    "ctrl-a": b"\x01",
    "ctrl-z": b"\x1a",
    "ctrl-[": b"\x1b",
    "ctrl-\\": b"\x1c",
    "ctrl-]": b"\x1d",
    "ctrl-^": b"\x1e",
    "ctrl-_": b"\x1f",
    "DEL": b"\x7f",
    "a": b"a",
    " ": b" ",
    "\x00": b"\x00",
    "ctrl-p,ctrl-q": b"\x10\x11",
    "ctrl-@,[": b"\x00[",
    "a,b,c": b"abc",
}
BAD_KEYS = {
    "ctrl-A": "ctrl-A",
    "ctrl-,": "ctrl-",
    "ctrl-": "ctrl-",
    "ctrl-1": "ctrl-1",
    "ctrl-?": "ctrl-?",
    "del": "del",
    "é": "é",
    "foo": "foo",
    "a,,b": "",
    ",": "",
    "ctrl-p, ctrl-q": " ctrl-q",
    "ctrl-a,ctrl-zz": "ctrl-zz",
}


@pytest.mark.parametrize("keys", KEYS)
def test_detach_keys(keys: str) -> None:
    assert parse_detach_keys(keys) == KEYS[keys]
    assert AttachOptions(detach_keys=keys).detach_keys == keys


@pytest.mark.parametrize("keys", BAD_KEYS)
def test_a_wrong_detach_key_is_named(keys: str) -> None:
    with pytest.raises(ValueError, match="unknown detach key") as caught:
        AttachOptions(detach_keys=keys)
    assert f"unknown detach key {BAD_KEYS[keys]!r}:" in str(caught.value)


def test_empty_detach_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="engines disagree"):
        AttachOptions(detach_keys="")


# ---- attach ----


def test_every_flag_is_said_and_sorted() -> None:
    assert Attach("web").to_request().target == "/containers/web/attach?logs=0&stderr=1&stdin=0&stdout=1&stream=1"
    options = AttachOptions(stream=False, stdin=True, stdout=False, stderr=False, logs=True, detach_keys="ctrl-@,[")
    assert (
        Attach("web", options, api_version="1.41").to_request().target
        == "/v1.41/containers/web/attach?detachKeys=ctrl-%40%2C%5B&logs=1&stderr=0&stdin=1&stdout=0&stream=0"
    )


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "a?b", "a#b", "a%2fb", " ", "a b", "a\r\nX: y", "a\n", "-a", "_a", "é", "a\0", "%2e%2e"],
)
def test_no_container_has_this_name(name: str) -> None:
    with pytest.raises(ValueError, match="container is a name or ID of"):
        Attach(name)


@pytest.mark.parametrize("name", ["a", "0", "web", "a.b-c_d", "A1", "f" * 64])
def test_a_container_may_have_this_name(name: str) -> None:
    assert f"/containers/{name}/attach?" in Attach(name).to_request().target


def test_options_are_flags() -> None:
    with pytest.raises(TypeError):
        AttachOptions(stdin=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        AttachOptions(True)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Attach("web", {"stdin": True})  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Attach("web", tty=0)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Attach(b"web")  # type: ignore[arg-type]


@pytest.mark.parametrize("version", ["", "v1.41", "1.", "x", "1.41/..", "1.41\n", "latest"])
def test_no_api_version(version: str) -> None:
    with pytest.raises(ValueError, match="api_version"):
        Attach("web", api_version=version)
    with pytest.raises(ValueError, match="api_version"):
        Request("GET", ("_ping",), api_version=version)


def test_the_base_of_stream_requests_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        StreamRequest()  # type: ignore[abstract]


# ---- plain calls ----


def test_segments_and_pairs_keep_their_place() -> None:
    request = Request("GET", ("a/b", "c?d#e", "f g", "%2e%2e", "é\r\n"), (("k&=", "v #\r\n"), ("k", "")))
    assert request.target == "/a%2Fb/c%3Fd%23e/f%20g/%252e%252e/%C3%A9%0D%0A?k%26%3D=v%20%23%0D%0A&k="


@pytest.mark.parametrize("segment", ["", ".", ".."])
def test_a_segment_that_engines_would_clean_away(segment: str) -> None:
    with pytest.raises(ValueError, match="cannot be a segment"):
        Request("GET", ("containers", segment, "json"))


def test_a_segment_that_is_no_text() -> None:
    """Python has lone surrogates for bytes that are not UTF-8, in the environment for instance."""
    with pytest.raises(ValueError, match="a segment of a path has a lone surrogate"):
        Request("GET", ("containers", "a\udcff"))
    with pytest.raises(ValueError, match="a segment of a path has a lone surrogate"):
        Connection(CLIENT, base_path=("a\udcff",))


def test_a_path_is_no_string() -> None:
    with pytest.raises(TypeError, match="a path is a tuple of segments"):
        Request("GET", "/containers/web/json")
    with pytest.raises(TypeError):
        Request("GET", ("containers", 5))  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["", "CONNECT", "get", "GET ", "GET /x", "G\r\nET"])
def test_no_method(method: str) -> None:
    with pytest.raises(ValueError, match="method is an HTTP method"):
        Request(method, ("_ping",))


@pytest.mark.parametrize(
    ("name", "value"),
    [("", "x"), ("a b", "x"), ("a:", "x"), ("a\r\n", "x"), ("a", "x\r\ny: z"), ("a", "x\0"), ("a", " x"), ("a", "ж")],
)
def test_no_header(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="header"):
        Request("GET", ("_ping",), headers=((name, value),))
    with pytest.raises(ValueError, match="header"):
        Attach("web", headers=((name, value),))
    with pytest.raises(ValueError, match="header"):
        Connection(CLIENT, host=value + "\r\n")


def test_header_names_are_lower_case() -> None:
    assert Request("GET", ("_ping",), headers=(("X-Trace", "a b"),)).headers == (("x-trace", "a b"),)


SAFE = set(string.ascii_letters + string.digits + "/._-~%?&=")


@given(
    st.lists(st.text(min_size=1).filter(lambda s: s not in (".", "..")), min_size=1, max_size=4),
    st.lists(st.tuples(st.text(), st.text()), max_size=3),
)
def test_any_value_stays_in_its_place(path: list[str], query: list[tuple[str, str]]) -> None:
    """Whatever text is put in comes out at the other end, and the target holds no byte that could end it."""
    try:
        request = Request("GET", tuple(path), tuple(query))
    except UnicodeEncodeError:  # a lone surrogate is no text
        return
    assert set(request.target) <= SAFE
    server = Connection(SERVER)
    server.receive_data(Connection(CLIENT).send(request))
    got = server.next_event()
    assert isinstance(got, Request)
    assert got.target == request.target
    if not (path[0].startswith("v") and path[0][1:2].isdigit()):
        assert got.path == tuple(path)
    assert got.query == tuple(query)


# ---- read from the wire ----


def read(target: str, method: str = "POST", headers: bytes = b"", body: bytes = b"") -> object:
    wire = f"{method} {target} HTTP/1.1\r\nHost: d\r\n".encode() + headers + b"\r\n" + body
    results = []
    for pieces in cuts(wire) if len(wire) < 150 else ([wire], [wire[i : i + 1] for i in range(len(wire))]):
        server = Connection(SERVER)
        events = []
        for piece in pieces:
            server.receive_data(piece)
            events += list(server.events())
        assert len(events) == 1, pieces
        results.append(events[0])
    assert all(result == results[0] for result in results)
    return results[0]


def options(query: str) -> AttachOptions:
    got = read(f"/containers/web/attach{query}")
    assert isinstance(got, Attach)
    return got.options


@pytest.mark.parametrize(
    ("value", "wanted"),
    [("1", True), ("true", True), ("foo", True), ("off", True), ("f", True), ("n", True), ("2", True), ("%20yes", True)]
    + [(value, False) for value in ("", "0", "no", "nO", "false", "FALSE", "none", "None", "%20", "%20no%20")],
)
def test_flags_are_read_as_dockerd_reads_them(value: str, wanted: bool) -> None:
    """BoolValue in moby's daemon/server/httputils/form.go; protocol.md 1.3 and 10.34."""
    assert options(f"?stream={value}").stream is wanted


def test_an_absent_flag_is_false_and_the_first_of_two_stands() -> None:
    assert options("") == AttachOptions(stream=False, stdout=False, stderr=False)
    assert options("?stdin").stdin is False
    assert options("?stdout=1&stdout=0").stdout is True
    assert options("?stdout=0&stdout=1").stdout is False


def test_detach_keys_from_the_wire() -> None:
    assert options("?detachKeys=ctrl-p%2Cctrl-q").detach_keys == "ctrl-p,ctrl-q"
    assert options("?detachKeys=").detach_keys is None
    assert options("?detachKeys=+").detach_keys == " "


@pytest.mark.parametrize(
    "target",
    [
        "/containers/web/attach?detachKeys=foo",
        "/containers/a%2Fb/attach",
        "/containers/%2e%2e/attach",
        "/containers//attach",
        "/containers/web/attach/",
        "/containers/web/attach/ws",
        "/containers/web",
        "/",
        "//",
        "*",
        "/v1.41",
        "/containers/%zz/attach",
        "/containers/%ff/attach",
        "http://[/containers/web/json",
    ],
)
def test_what_is_no_valid_stream_request_is_a_plain_one(target: str) -> None:
    got = read(target)
    assert isinstance(got, Request)
    assert got.target == target


def test_attach_is_a_post() -> None:
    assert isinstance(read("/containers/web/attach", method="GET"), Request)


def test_the_version_is_taken_off_the_path() -> None:
    got = read("/v1.41/containers/web/attach?stream=1")
    assert isinstance(got, Attach)
    assert got.api_version == "1.41"
    got = read("http://docker/v1.24/_ping?a=1&a=2&b", method="GET")
    assert isinstance(got, Request)
    assert (got.api_version, got.path, got.query) == ("1.24", ("_ping",), (("a", "1"), ("a", "2"), ("b", "")))


def test_a_body_is_read_and_never_becomes_stdin() -> None:
    got = read("/containers/create", headers=b"Content-Length: 5\r\n", body=b"{...}")
    assert isinstance(got, Request)
    assert got.body == b"{...}"
    got = read("/containers/create", headers=b"Transfer-Encoding: chunked\r\n", body=b"2\r\n{.\r\n1\r\n}\r\n0\r\n\r\n")
    assert isinstance(got, Request)
    assert got.body == b"{.}"
    assert isinstance(read("/containers/web/attach", headers=b"Content-Length: 5\r\n", body=b"hello"), Attach)


@pytest.mark.parametrize(
    "request_",
    [
        Attach("web"),
        Attach("web", AttachOptions(stdin=True, logs=True, detach_keys="ctrl-@,["), api_version="1.51", tty=True),
        Request("GET", ("containers", "web", "json"), (("size", "1"),), api_version="1.41"),
        Request(
            "POST",
            ("containers", "create"),
            (("name", "a b"),),
            b'{"Image":"x"}',
            (("content-type", "application/json"),),
        ),
        Request("HEAD", ("_ping",)),
    ],
)
def test_what_a_client_sends_a_server_reads(request_: Attach | Request) -> None:
    server = Connection(SERVER)
    server.receive_data(Connection(CLIENT).send(request_))
    got = server.next_event()
    assert bare(got) == bare(request_)
    assert dict(got.headers)["host"] == "localhost"  # type: ignore[union-attr]
