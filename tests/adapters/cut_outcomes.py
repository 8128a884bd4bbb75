"""How a session ends when one of its answers ends too early: one table, and what of it an error is."""

from __future__ import annotations

import enum
import ssl

from attachproto import Reason, RemoteProtocolError
from attachproto_adapters import EngineUnreachable, ExitCodeUnknown, HalfCloseEndsAttach, OutputCut
from tests.adapters.every_cut import Answer, Fault


class Part(enum.Enum):
    """What of an answer has come."""

    NOTHING = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()
    """The head, and a part of a body with a length or chunks."""
    FRAME = enum.auto()
    """An upgraded stream, up to a byte inside a frame."""
    BETWEEN = enum.auto()
    """An upgraded stream, up to the beginning of a frame."""
    OUTPUT = enum.auto()
    """The whole of an upgraded stream. Only the end of the connection says that it is the whole."""
    WHOLE = enum.auto()
    """The whole of an answer that says itself where it ends."""


class Outcome(enum.Enum):
    """What a session raises."""

    SUCCESS = enum.auto()
    """Nothing: it has all output, and the exit code."""
    NOTHING_CAME = enum.auto()
    CUT_IN_HEAD = enum.auto()
    CUT_IN_BODY = enum.auto()
    CUT_IN_FRAME = enum.auto()
    UNREACHABLE = enum.auto()
    """`EngineUnreachable`: TLS has ended before anything came, as it does when a server refuses a certificate."""
    OUTPUT_CUT = enum.auto()
    """`OutputCut`: the end looked like one, but the engine says that the process goes on."""
    TORN = enum.auto()
    """`ssl.SSLError`; in trio `BrokenResourceError` because of it."""
    RESET = enum.auto()
    """`ConnectionResetError`; in trio `BrokenResourceError` because of it."""
    REFUSED = enum.auto()
    """`HalfCloseEndsAttach`: a half-close seems not to reach the engine, so that no input can be sent."""
    LATE = enum.auto()
    """`TimeoutError`."""
    OTHER = enum.auto()
    """Anything else, which is wrong everywhere."""


_SUCCESS, _REFUSED = Outcome.SUCCESS, Outcome.REFUSED

# What has come:  the outcome of a cut,  of TLS without close_notify,  and of a reset. A stall is LATE everywhere.
TABLE = {
    Part.NOTHING: (Outcome.NOTHING_CAME, Outcome.UNREACHABLE, Outcome.RESET),
    Part.HEAD: (Outcome.CUT_IN_HEAD, Outcome.TORN, Outcome.RESET),
    Part.BODY: (Outcome.CUT_IN_BODY, Outcome.TORN, Outcome.RESET),
    Part.FRAME: (Outcome.CUT_IN_FRAME, Outcome.TORN, Outcome.RESET),
    Part.BETWEEN: (Outcome.OUTPUT_CUT, Outcome.TORN, Outcome.RESET),
    Part.OUTPUT: (_SUCCESS, Outcome.TORN, Outcome.RESET),
    Part.WHOLE: (_SUCCESS, _SUCCESS, _SUCCESS),
}
_COLUMNS = ("cut", "torn", "reset")


def expected(session: str, fault: Fault, answer: Answer) -> frozenset[Outcome]:
    """How this session may end: with one outcome, unless a race or a busy machine decides between two."""
    part, how, call = part_of(answer, fault.at), fault.how, fault.call.split()[0]
    if how == "stall":
        # The wait, the removal and the trial of a half-close have limits of time of their own, after which a session
        # goes on. And what is whole is enough, but on a busy machine the deadline passes nevertheless.
        goes_on = part is Part.WHOLE or call in ("remove", "ping") or _is_held_wait(session, call)
        return frozenset({Outcome.LATE, _SUCCESS} if goes_on else {Outcome.LATE})
    usual = TABLE[part][_COLUMNS.index(how)]
    for condition, outcome in (
        # The removal is tried again.
        (call == "remove", _SUCCESS),
        # A call that only reads is made again if a connection that was kept has ended without an answer. For another it
        # is an error, and then it is known that the server has a valid certificate.
        (part is Part.NOTHING and answer.kept and answer.only_reads, _SUCCESS),
        (part is Part.NOTHING and answer.kept and how == "torn", Outcome.TORN),
        # A wait that breaks off behind its head is asked again.
        (part is Part.BODY and _is_held_wait(session, call), _SUCCESS),
        # The trial of a half-close: any beginning of an answer shows that the engine has got the request. An attach
        # goes on without it, and warns when stdin is to end.
        (call == "ping" and (session == "attach" or part is Part.BODY or (part, how) == (Part.HEAD, "cut")), _SUCCESS),
        (call == "ping" and part in (Part.NOTHING, Part.HEAD), _REFUSED),
    ):
        if condition:
            return frozenset({outcome})
    if how == "reset" and call in ("attach", "exec") and session in ("run", "run_exec") and part in _AS_CUT:
        # If the input could not be written any more, this explains the reset: it is judged as an end of file.
        return frozenset({usual, TABLE[part][0]})
    return frozenset({usual})


_AS_CUT = (Part.FRAME, Part.BETWEEN, Part.OUTPUT)


def hides_exit_code(session: str, fault: Fault) -> bool:
    """Whether the call that was cut asks for the exit code of a command whose output is whole: `ExitCodeUnknown`."""
    return session == "run_exec" and fault.call.startswith("exec_inspect")


def seen_to_end(fault: Fault, answer: Answer) -> frozenset[bool]:
    """Whether a command that is to be ended may be seen to have ended (``CommandTimeout.ended``)."""
    part, call = part_of(answer, fault.at), fault.call.split()[0]
    if fault.how != "stall":
        return frozenset({True})  # all of it is done once more
    # What is whole is enough, but the time for all of these calls is short. The words of the exec that ends the command
    # are read up to the end of its connection.
    return frozenset({True, False} if part is Part.WHOLE and call != "exec" else {False})


def _is_held_wait(session: str, call: str) -> bool:
    return call == "wait" and session != "logs"  # there it is asked after the end


def part_of(answer: Answer, at: int) -> Part:
    """What of this answer its first bytes are."""
    head = answer.data.index(b"\r\n\r\n") + 4
    if at == 0:
        return Part.NOTHING
    if at < head:
        return Part.HEAD
    if at == len(answer.data):
        return Part.OUTPUT if answer.is_upgraded else Part.WHOLE
    if not answer.is_upgraded:
        return Part.BODY
    return Part.BETWEEN if at in {head, *answer.ends_of_frames} else Part.FRAME


def outcome(error: BaseException | None, broken: tuple[type[Exception], ...]) -> Outcome:
    """Which outcome this error is.

    Args:
        error: what a session has raised.
        broken: what the framework raises for a broken connection, in addition to ``OSError``.
    """
    match error:
        case None:
            return Outcome.SUCCESS
        case ExitCodeUnknown():
            return Outcome.OTHER if error.__cause__ is None else outcome(error.__cause__, broken)
        case RemoteProtocolError(reason=Reason() as reason):
            return getattr(Outcome, reason.name, Outcome.OTHER)
        case EngineUnreachable() if "no connection within" in str(error):
            return Outcome.LATE  # on a busy machine the deadline may pass while the blocking adapter still connects
        case EngineUnreachable():
            return Outcome.UNREACHABLE
        case OutputCut():
            return Outcome.OUTPUT_CUT
        case HalfCloseEndsAttach():
            return Outcome.REFUSED
        case TimeoutError():
            return Outcome.LATE
        case ssl.SSLError():
            return Outcome.TORN
        case ConnectionResetError():
            return Outcome.RESET
        case _ if broken and isinstance(error, broken):
            below = outcome(error.__cause__, broken)
            return below if below in (Outcome.TORN, Outcome.RESET) else Outcome.OTHER
        case _:
            return Outcome.OTHER
