"""The arguments of ``Connection``: each is checked at once, in either role."""

from __future__ import annotations

from typing import Any

import pytest

from attachproto import CLIENT, SERVER, Attach, Connection, Quirk, Request, Role, __version__

LIMITS = ("max_head", "max_refusal", "max_body", "max_request_body")


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("name", LIMITS)
class TestLimits:
    @pytest.mark.parametrize("wrong", [None, "65536", 1.5, float("inf"), True])
    def test_a_limit_is_an_int(self, role: Role, name: str, wrong: object) -> None:
        with pytest.raises(TypeError, match=rf"{name} is an int, in bytes, not {wrong!r}.*sys\.maxsize"):
            Connection(role, **{name: wrong})  # type: ignore[arg-type]

    @pytest.mark.parametrize("wrong", [0, -1])
    def test_a_limit_is_at_least_one(self, role: Role, name: str, wrong: int) -> None:
        with pytest.raises(ValueError, match=f"{name} is at least 1 byte, not {wrong}"):
            Connection(role, **{name: wrong})  # type: ignore[arg-type]

    def test_either_role_takes_every_limit(self, role: Role, name: str) -> None:
        assert Connection(role, **{name: 1}).our_role is role  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("host", "engine"),
        ("host", "\r\n"),
        ("host", ""),
        ("user_agent", "x/1"),
        ("headers", [("host", "x")]),
        ("headers", 5),
        ("headers", 0),
        ("base_path", ("api",)),
        ("quirks", [Quirk.DETACHED_TEXT]),
        ("quirks", Quirk),
        ("quirks", iter(())),
        ("quirks", ["nonsense"]),
        ("quirks", None),
    ],
)
def test_a_server_refuses_what_is_a_clients(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"{name} belongs to the role CLIENT.*leave it out for SERVER"):
        Connection(SERVER, **{name: value})


def test_a_client_refuses_keep_alive() -> None:
    with pytest.raises(TypeError, match=r"keep_alive belongs to the role SERVER.*Connection\.reusable"):
        Connection(CLIENT, keep_alive=True)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("wrong", [None, 1, "yes"])
def test_keep_alive_is_a_bool(role: Role, wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"keep_alive is True or False, not {wrong!r}"):
        Connection(role, keep_alive=wrong)


def test_what_is_the_default_may_be_said() -> None:
    user_agent = f"attachproto/{__version__}"
    connection = Connection(SERVER, host="localhost", user_agent=user_agent, headers=[], base_path=[])
    connection.receive_data(Connection(CLIENT, keep_alive=False).send(Attach("web")))
    assert isinstance(connection.next_event(), Attach)


@pytest.mark.parametrize("name", ["host", "user_agent"])
def test_a_client_refuses_what_no_header_can_have(name: str) -> None:
    for wrong in (None, b"engine", 5):
        with pytest.raises(TypeError, match=f"pair of str, not .*{wrong!r}"):
            Connection(CLIENT, **{name: wrong})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="characters that a header cannot have"):
        Connection(CLIENT, **{name: "a\r\nb"})  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [5, None, Quirk.DETACHED_TEXT, ["newline-outside-frame"], [[]]])
def test_quirks_are_members_of_quirk(wrong: Any) -> None:
    with pytest.raises(TypeError, match="quirks are members of Quirk"):
        Connection(CLIENT, quirks=wrong)


def test_a_refused_limit_would_have_stopped_the_first_event() -> None:
    """The smallest limit does what it says: an error with a reason, the same on each call."""
    connection = Connection(CLIENT, max_head=1)
    connection.send(Request("GET", ("_ping",)))
    connection.receive_data(b"HTTP/1.1 200 OK\r\n\r\n")
    messages = set()
    for _ in range(2):
        with pytest.raises(Exception, match="larger than 1 bytes") as caught:
            connection.next_event()
        messages.add((type(caught.value), str(caught.value)))
    assert len(messages) == 1
