"""Attach to containers from blocking sockets, asyncio, trio or anyio: one module for each.

``blocking`` works on plain sockets, ``asyncio`` and ``trio`` in the framework of that name, ``anyio`` in either of the
two. All four have the same functions with the same parameters. Importing this package imports none of the four.
"""

from attachproto_adapters._errors import ApiVersionRejected as ApiVersionRejected
from attachproto_adapters._errors import AttachError as AttachError
from attachproto_adapters._errors import AttachmentClosed as AttachmentClosed
from attachproto_adapters._errors import AttachWarning as AttachWarning
from attachproto_adapters._errors import ClientClosed as ClientClosed
from attachproto_adapters._errors import CommandTimeout as CommandTimeout
from attachproto_adapters._errors import ContainerNotRunning as ContainerNotRunning
from attachproto_adapters._errors import EngineReportedError as EngineReportedError
from attachproto_adapters._errors import EngineUnreachable as EngineUnreachable
from attachproto_adapters._errors import ErrorWithOutput as ErrorWithOutput
from attachproto_adapters._errors import ExecAlreadyStarted as ExecAlreadyStarted
from attachproto_adapters._errors import ExitCodeUnknown as ExitCodeUnknown
from attachproto_adapters._errors import HalfCloseEndsAttach as HalfCloseEndsAttach
from attachproto_adapters._errors import HalfCloseUnsupported as HalfCloseUnsupported
from attachproto_adapters._errors import HostInvalid as HostInvalid
from attachproto_adapters._errors import ImageNotFound as ImageNotFound
from attachproto_adapters._errors import IncompleteRead as IncompleteRead
from attachproto_adapters._errors import KillUnsupported as KillUnsupported
from attachproto_adapters._errors import LogsUnavailable as LogsUnavailable
from attachproto_adapters._errors import OutputCut as OutputCut
from attachproto_adapters._errors import OutputTooLarge as OutputTooLarge
from attachproto_adapters._errors import OutputUndecodable as OutputUndecodable
from attachproto_adapters._errors import RequestRejected as RequestRejected
from attachproto_adapters._errors import SeparatorNotFound as SeparatorNotFound
from attachproto_adapters._errors import StreamBroken as StreamBroken
from attachproto_adapters._errors import StreamReset as StreamReset
from attachproto_adapters._flows._inspect import InspectedContainer as InspectedContainer
from attachproto_adapters._flows._inspect import InspectedExec as InspectedExec
from attachproto_adapters._flows._line import Line as Line
from attachproto_adapters._flows._line import LogTime as LogTime
from attachproto_adapters._flows._options import CommandOptions as CommandOptions
from attachproto_adapters._flows._options import ExecOptions as ExecOptions
from attachproto_adapters._flows._options import LogsOptions as LogsOptions
from attachproto_adapters._flows._output import CompletedRun as CompletedRun
from attachproto_adapters._flows._output import ExecResult as ExecResult
