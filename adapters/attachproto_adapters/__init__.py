"""Attach to containers with what you already use: one module for each way to do I/O.

``attachproto_adapters.blocking`` works on plain sockets. Importing this package imports no framework.
"""

from attachproto_adapters._errors import AttachError as AttachError
from attachproto_adapters._errors import AttachmentClosed as AttachmentClosed
from attachproto_adapters._errors import AttachWarning as AttachWarning
from attachproto_adapters._errors import ContainerNotRunning as ContainerNotRunning
from attachproto_adapters._errors import EngineReportedError as EngineReportedError
from attachproto_adapters._errors import EngineUnreachable as EngineUnreachable
from attachproto_adapters._errors import HalfCloseEndsAttach as HalfCloseEndsAttach
from attachproto_adapters._errors import HalfCloseUnsupported as HalfCloseUnsupported
from attachproto_adapters._errors import HostInvalid as HostInvalid
from attachproto_adapters._errors import OutputTooLarge as OutputTooLarge
from attachproto_adapters._errors import RequestRejected as RequestRejected
