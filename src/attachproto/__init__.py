"""The Docker Engine's attach protocol as a Sans-I/O state machine.

``Connection`` turns events into bytes and bytes into events, for both ends of one exchange. ``FrameDecoder``,
``encode_frame`` and ``demux`` are for programs that have an HTTP client already. ``Quirk`` names known bugs of single
engines, to work around. Nothing here does I/O: for sockets, see ``attachproto_adapters``.
"""

from attachproto._attach_options import AttachOptions as AttachOptions
from attachproto._connection import Connection as Connection
from attachproto._decoder import FrameDecoder as FrameDecoder
from attachproto._decoder import demux as demux
from attachproto._detach_keys import parse_detach_keys as parse_detach_keys
from attachproto._errors import AttachError as AttachError
from attachproto._errors import LocalProtocolError as LocalProtocolError
from attachproto._errors import ProtocolError as ProtocolError
from attachproto._errors import Reason as Reason
from attachproto._errors import RemoteProtocolError as RemoteProtocolError
from attachproto._events import Accepted as Accepted
from attachproto._events import Continue as Continue
from attachproto._events import DataEvent as DataEvent
from attachproto._events import Event as Event
from attachproto._events import FrameEvent as FrameEvent
from attachproto._events import Framing as Framing
from attachproto._events import OutputClosed as OutputClosed
from attachproto._events import OutputEvent as OutputEvent
from attachproto._events import RawOutput as RawOutput
from attachproto._events import Rejected as Rejected
from attachproto._events import Response as Response
from attachproto._events import ResponseHead as ResponseHead
from attachproto._events import Stderr as Stderr
from attachproto._events import Stdin as Stdin
from attachproto._events import StdinClosed as StdinClosed
from attachproto._events import Stdout as Stdout
from attachproto._events import Systemerr as Systemerr
from attachproto._frames import encode_frame as encode_frame
from attachproto._headers import MULTIPLEXED_STREAM as MULTIPLEXED_STREAM
from attachproto._headers import RAW_STREAM as RAW_STREAM
from attachproto._headers import Headers as Headers
from attachproto._quirks import Quirk as Quirk
from attachproto._requests import Request as Request
from attachproto._signals import CLIENT as CLIENT
from attachproto._signals import NEED_DATA as NEED_DATA
from attachproto._signals import SEND_EOF as SEND_EOF
from attachproto._signals import SERVER as SERVER
from attachproto._signals import Role as Role
from attachproto._signals import Signal as Signal
from attachproto._state import State as State
from attachproto._stream_base import StreamRequest as StreamRequest
from attachproto._stream_requests import Attach as Attach
from attachproto._stream_requests import ExecStart as ExecStart
from attachproto._stream_requests import Logs as Logs
from attachproto._version import __version__ as __version__
