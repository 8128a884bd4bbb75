"""What attachments do in every framework: checks, state, and the meaning of events; no waiting.

Strategy: an adapter's ``Attachment`` adds the methods that wait. Whatever they have to decide is decided here, so that
the three differ only in how they wait. The file has more than 250 lines, and the class more than 15 methods: most are
a few lines, for one method of each adapter.
"""

from __future__ import annotations

import abc
import contextlib
import threading
from collections.abc import Iterator
from typing import Any, ClassVar, Final, Generic, TypeVar

from attachproto import (
    Accepted,
    DataEvent,
    LocalProtocolError,
    OutputClosed,
    RemoteProtocolError,
    Request,
    State,
)
from attachproto_adapters._errors import (
    AttachError,
    AttachmentClosed,
    ContainerNotRunning,
    KillUnsupported,
    OutputTooLarge,
    StreamBroken,
    StreamReset,
    warn,
)
from attachproto_adapters._flows._api_calls import resize_request
from attachproto_adapters._flows._container_calls import kill_request
from attachproto_adapters._flows._ending import Ending
from attachproto_adapters._flows._inspect import Facts, half_close_ends_attach
from attachproto_adapters._flows._intermediaries import closing_intermediary, half_close_ends_at
from attachproto_adapters._flows._life import InputState, Life, LifeEvent
from attachproto_adapters._flows._output import Gathered, ReadAhead
from attachproto_adapters._flows._stdin import Feed, as_bytes, check_half_close, check_input, check_stdin, takes_stdin
from attachproto_adapters._flows._steps import Opened
from attachproto_adapters._line_iterator import LinesArguments, LinesBase
from attachproto_adapters._transport._guard import OneCaller
from attachproto_adapters._transport._log import log_attached, log_ended
from attachproto_adapters._transport._session import Session

# To find a member on its enum takes long: see the core's Connection.
_STREAMING: Final = State.STREAMING

AnySession = TypeVar("AnySession", bound=Session)
AnyLines = TypeVar("AnyLines", bound=LinesBase[Any])


class AttachmentBase(abc.ABC, Generic[AnySession]):
    """The part of an attachment that is the same in every framework.

    Attributes:
        accepted: the engine's answer: how the output is framed, and the header fields.
    """

    _reset: ClassVar[tuple[type[Exception], type[Exception]]] = (ConnectionResetError, StreamReset)
    """This framework's error for a reset, and the one that also has the output."""

    def __init__(self, session: AnySession, accepted: Accepted, opened: Opened | None) -> None:
        self.accepted = accepted
        self._session = session
        self._opened = opened
        self._stdin_asked = session.connection.our_state is _STREAMING
        self._life = Life(threading.RLock())
        self._gathered = Gathered(None if opened is None else opened.marker)
        self._ending = None if opened is None else Ending(opened, self._gathered.so_far, self._life)
        self._waiting = OneCaller(session.caller, session.busy, session.caller_kind, "waiting", session.lock)
        self._feed: Feed | None = None
        self._lines: LinesBase[Any] | None = None
        # What has read ahead: the buffer of lines() or of the reader of stdout.
        self._ahead: ReadAhead | None = None
        # Events that were read and not given out. They come before any that are still to be read. The next one stands
        # last: a list can be shortened fast only at its end, and an empty deque would take 700 bytes.
        self._ready: list[DataEvent] = []
        # Those that come behind what ``_ahead`` holds.
        self._behind: list[DataEvent] = []
        self._takes_stdin = self._stdin_asked and takes_stdin(self.inspected) and not (opened and opened.ended)
        log_attached(session.asked, accepted.framing)

    @property
    def inspected(self) -> Facts | None:
        """The inspect of the container or the exec from before the attach; ``None`` with ``open_attachment``."""
        return None if self._opened is None else self._opened.inspected

    @property
    def half_close_ends_attach(self) -> bool:
        """Whether ``close_stdin`` is known to end the attach, because of the engine or an intermediary."""
        if self.inspected is not None and self.inspected.half_close_ends_attach:
            return True
        return self._intermediary is not None

    @property
    def _intermediary(self) -> str | None:
        """The intermediary that has answered for the engine, if it closes the stream at a half-close."""
        inspected = None if self.inspected is None else self.inspected.intermediary
        return closing_intermediary(self.accepted.headers) or inspected

    @property
    def can_half_close(self) -> bool:
        """Whether the transport can end stdin and go on reading."""
        return self._session.can_half_close

    @property
    def output_so_far(self) -> tuple[bytes, bytes]:
        """What ``communicate`` has read so far, as it returns it: stdout (with a TTY, all output) and stderr.

        It is there after every error of ``communicate``, after a timeout and a cancellation, and after a close. What
        ``receive``, iteration, ``lines`` and ``stdout_reader`` have given out is not in it. Any thread may read it.
        """
        return self._gathered.so_far()

    # ---- sending ----

    def _check_send(self) -> None:
        """Raise if nothing can be sent now."""
        session, life = self._session, self._life
        if (
            self._takes_stdin
            and self._feed is None
            and not (life.ended or life.closed or session.sending.unfinished)
            and session.connection.our_state is _STREAMING
        ):
            return  # as all below, in a fifth of the time
        self._check_open()
        self._session.check_sending()
        if self._feed is not None and self._feed.state is InputState.SENDING:
            raise LocalProtocolError("communicate() is in the middle of its input: call it again, or close")
        self._check_has_stdin()
        check_stdin(self._session.connection.our_state, self.inspected, asked=self._stdin_asked)

    def _check_close_stdin(self) -> None:
        self._check_send()
        check_half_close(can_half_close=self.can_half_close)
        if self.inspected is not None and self.inspected.half_close_ends_attach:
            warn(half_close_ends_attach(self.inspected))
        elif self._intermediary is not None:
            warn(half_close_ends_at(self._intermediary))

    def _check_has_stdin(self) -> None:
        if self._opened is not None and self._opened.ended:
            raise ContainerNotRunning(
                f"the container {self._opened.name} has exited: its output can be read, and nothing reads its stdin"
            )

    def _check_open(self) -> None:
        if self._life.ended:
            raise self._broken_pipe("the container's output has ended, and with it the attachment")
        if self._life.closed:
            raise AttachmentClosed("the attachment is closed")

    @abc.abstractmethod
    def _broken_pipe(self, message: str) -> Exception:
        """This framework's error for sending to a peer that does not read any more."""

    # ---- receiving ----

    # ``receive`` and iteration return events of ``_ready``, and call ``_fill`` of their framework only if it is empty.
    # They take an event with ``event = ready[-1]`` and ``del ready[-1]``, because CPython runs no signal's handler, and
    # switches to no other thread, before the caller has the event. After a call, such as of pop(), it may. Whatever
    # else reads removes all events first, so that a second reader finds none, and is refused by the guard.

    def _take(self, *, reads: bool = False) -> list[DataEvent]:
        """The next events that were read, the next one last; none if more must be read, and at the end.

        Events leave a step of reading open, which the caller finishes. If an exception comes before that, they are
        lost, and the next call raises.

        Args:
            reads: whether it may read what has arrived; in blocking code also wait for it.
        """
        if self._ready:
            self._session.reading.begin()
            ready, self._ready = self._ready, []
            return ready
        if self._life.ended:
            return []
        events = self._session.take_or_read() if reads else self._session.take_events()
        if events and type(events[0]) is OutputClosed:
            self._end(LifeEvent.OUTPUT_CLOSED)
            self._session.reading.finish()
            return []
        return events  # type: ignore[return-value]  # behind Accepted a client gets no others

    def _take_one(self) -> DataEvent | None:
        """The next event for what reads ahead, if it was read already. It starts a step of reading."""
        if not self._behind:
            return None
        self._session.reading.begin()
        return self._behind.pop()

    def _take_back(self, reader: ReadAhead | None = None) -> None:
        """Take back what was read ahead and not given out, for the next call that reads.

        Args:
            reader: what reads ahead from now on. It keeps what it has.
        """
        ahead = self._ahead
        if ahead is reader:
            return
        if ahead is not None and (self._behind or ahead.holds_bytes):
            self._session.reading.begin()
            ready = [*self._ready, *self._behind, *reversed(ahead.take_back())]
            # Both at once: an iteration would go on with whatever an interruption has left in _ready.
            self._ready, self._behind = ready, []
            self._session.reading.finish()
        self._ahead = reader

    def _one_lines(self, kind: type[AnyLines], made_with: LinesArguments) -> AnyLines:
        """The iterator over lines. All calls share one, because it holds what was read of a line."""
        if self._lines is None:
            self._lines = kind(self, self._session.reading, made_with)
        if self._lines.made_with != made_with:
            raise ValueError("lines() was called before with other arguments, and holds what was read of a line")
        assert isinstance(self._lines, kind)
        return self._lines

    # ---- communicate ----

    def _begin(self, input: bytes | None) -> None:
        """Take the input of ``communicate``, or go on with that of a call that was interrupted."""
        input = as_bytes(input)
        if self._feed is not None and self._session.sending.interrupted:
            self._feed.move(InputState.LOST)
        self._session.check_sending()
        if self._feed is not None and self._feed.state is InputState.LOST and not self._life.ended:
            if input is not None:
                raise LocalProtocolError(
                    "sending was interrupted, and it is not known how much was sent: call communicate() without input "
                    "to get the rest of the output"
                )
            self._feed.move(InputState.REFUSED)
        if input is None:
            return
        if self._feed is None:
            self._check_open()
            self._check_has_stdin()
            check_input(
                self._session.connection.our_state,
                self.inspected,
                asked=self._stdin_asked,
                can_half_close=self.can_half_close,
                intermediary=self._intermediary,
            )
            self._feed = Feed(input, self._session.outgoing)
        elif input != self._feed.input:
            raise ValueError("communicate() was interrupted with other input: it can go on only with the same input")

    def _gather(self, events: list[DataEvent], max_output: int | None) -> None:
        """Keep what ``_take`` has returned for the result of ``communicate``."""
        try:
            self._gathered.add_all(events, max_output)
        except OutputTooLarge:
            self._ready = events
            self._session.reading.finish()
            raise
        self._session.reading.finish()

    def _reset_is_an_end(self) -> bool:
        """Whether a reset counts as the end of the output. Then what is left of the output can be read.

        Podman resets the connection if a client sends to a container that has exited. Between frames that is the end of
        the output. Reading or sending may report the reset first. What is unsent could not be sent any more. If the
        engine is known, it is asked then whether the process has ended.
        """
        feed = self._feed
        if feed is None or feed.state is InputState.SENT:
            return False
        if not self._session.end_at_reset():
            return False
        feed.move(InputState.RESET)
        return True

    @contextlib.contextmanager
    def _with_output(self) -> Iterator[None]:
        """A context of reading for ``communicate``: the error of a broken stream has what was read before it.

        Other errors are raised as they are: an ``ssl.SSLError`` for instance, which callers may look for.
        """
        try:
            yield
        except RemoteProtocolError as exc:
            raise StreamBroken(str(exc), exc.reason, *self.output_so_far) from exc
        except self._reset[0] as exc:
            if type(exc) is not self._reset[0]:
                raise
            raise self._reset[1](str(exc), *self.output_so_far) from exc

    # ---- the end ----

    def _end(self, event: LifeEvent) -> None:
        """Note that the output has ended, or that the caller closes the attachment."""
        if self._life.move(event):
            log_ended(self._session.asked, self._how_it_ends(event))

    def _how_it_ends(self, event: LifeEvent) -> str:
        if event is LifeEvent.OUTPUT_CLOSED:
            return "ended by a reset" if self._ended_by_reset else "ended"
        if (broken := self._session.broken) is not None:
            return f"closed after {type(broken).__name__}"
        if self._session.connection.their_state is State.ERROR:
            return "closed after RemoteProtocolError"
        return "closed by the caller"

    @property
    def _ended_by_reset(self) -> bool:
        return self._feed is not None and self._feed.state is InputState.RESET

    def _engine(self, who: str) -> Opened:
        if self._opened is None:
            raise AttachError(f"{who} needs to know the engine, and an attachment of open_attachment() does not")
        return self._opened

    def _ending_of(self, who: str) -> Ending:
        self._engine(who)
        assert self._ending is not None
        return self._ending

    def _resize_request(self, height: int, width: int) -> Request:
        opened = self._engine("resize()")
        return resize_request(opened.kind, opened.name, height, width, opened.api_version)

    def _kill_request(self, signal: str) -> Request:
        opened = self._engine("kill()")
        if opened.kind != "containers":
            raise KillUnsupported("engines have no call that sends a signal to an exec, only one for a container")
        return kill_request(opened.name, signal, opened.api_version)
