"""An embedded engine, to test clients of Docker without Docker.

It speaks the Docker Engine API (1.41 to 1.51) and runs local processes as containers. **It is not a sandbox**: they
are ordinary processes of this machine, with the rights of the user who runs the engine.

What goes wrong with a call can be scripted byte by byte: see ``Engine.fault`` and the subclasses of ``Fault``.
"""

from attachproto_engine._engine import Engine as Engine
from attachproto_engine._engine import serve as serve
from attachproto_engine._faults import Chunked as Chunked
from attachproto_engine._faults import Counted as Counted
from attachproto_engine._faults import Cut as Cut
from attachproto_engine._faults import Delay as Delay
from attachproto_engine._faults import EndEarly as EndEarly
from attachproto_engine._faults import Fault as Fault
from attachproto_engine._faults import Garbage as Garbage
from attachproto_engine._faults import HeldHead as HeldHead
from attachproto_engine._faults import IdleCut as IdleCut
from attachproto_engine._faults import LongFrame as LongFrame
from attachproto_engine._faults import NoAnswer as NoAnswer
from attachproto_engine._faults import NoHalfClose as NoHalfClose
from attachproto_engine._faults import NoUpgrade as NoUpgrade
from attachproto_engine._faults import ProxyAnswer as ProxyAnswer
from attachproto_engine._faults import Reset as Reset
from attachproto_engine._faults import SetHeader as SetHeader
from attachproto_engine._faults import Split as Split
from attachproto_engine._faults import UnknownStream as UnknownStream
