"""The workloads: what the replay server pours into each client, and what a client must have read of it.

Strategy: a body is one block of prepared bytes, sent again and again. So 1 GiB needs no memory of its own, and the
server does nothing but send. What a client must have read follows from the block.
"""

from __future__ import annotations

import hashlib
import random
from typing import Final, Literal

import attrs

from attachproto import Stderr, Stdout, encode_frame

MIB: Final = 1024 * 1024

Kind = Literal["output", "beside", "keystrokes", "cat", "attach", "exec"]


@attrs.frozen
class Body:
    """Output of a container: a head that is sent once, then a block that is sent ``count`` times.

    Attributes:
        head: sent once.
        block: sent ``count`` times.
        count: how often.
        stdout: what of the block is stdout (with a TTY, all of it).
        stderr: what of the block is stderr.
    """

    head: bytes
    block: bytes
    count: int
    stdout: bytes
    stderr: bytes = b""

    @property
    def payload(self) -> int:
        """How many bytes the container wrote."""
        return (len(self.stdout) + len(self.stderr)) * self.count

    @property
    def sizes(self) -> tuple[int, int]:
        """How many bytes of stdout and of stderr a client must have read."""
        return len(self.stdout) * self.count, len(self.stderr) * self.count

    def digests(self) -> tuple[str, str]:
        """The SHA-256 of stdout and of stderr."""
        both = []
        for data in (self.stdout, self.stderr):
            digest = hashlib.sha256()
            for _ in range(self.count):
                digest.update(data)
            both.append(digest.hexdigest())
        return both[0], both[1]


@attrs.frozen
class Workload:
    """One row of the comparison.

    Attributes:
        name: what the command line calls it.
        title: what the page calls it.
        kind: what a client does.
        size: bytes of payload, or how many keystrokes or jobs.
        body: what the server sends; ``None`` where it answers what it reads.
        tty: whether the container has a TTY.
        scheme: how the client reaches the server: ``unix``, ``tcp`` or ``tls``.
    """

    name: str
    title: str
    kind: Kind
    size: int
    body: Body | None = None
    tty: bool = False
    scheme: str = "unix"


def _repeated(frames: list[Stdout | Stderr], size: int, head: bytes = b"") -> Body:
    """A body of about ``size`` bytes of payload; the block has about 1 MiB."""
    one = sum(len(frame.data) for frame in frames)
    per_block = max(1, min(size, MIB) // one)
    return Body(
        head,
        b"".join(map(encode_frame, frames)) * per_block,
        max(1, size // (one * per_block)),
        b"".join(frame.data for frame in frames if isinstance(frame, Stdout)) * per_block,
        b"".join(frame.data for frame in frames if isinstance(frame, Stderr)) * per_block,
    )


def _line(number: int, size: int) -> bytes:
    """A line of exactly this size."""
    return (f"{number:06} " + "lorem ipsum dolor sit amet " * (size // 27 + 1)).encode()[: size - 1] + b"\n"


def lines(size: int) -> Body:
    """64-byte lines, every eighth on stderr: a service's log."""
    return _repeated([Stderr(_line(at, 64)) if at % 8 == 7 else Stdout(_line(at, 64)) for at in range(8)], size)


def alternating(size: int) -> Body:
    """64-byte frames that change between stdout and stderr each time: nothing can be joined."""
    return _repeated([Stdout(_line(0, 64)), Stderr(_line(1, 64))], size)


def build_log(size: int) -> Body:
    """The mix of a build's log: mostly reads of up to 16 KiB, some short lines, a few of them on stderr."""
    seed = random.Random(7)
    frames: list[Stdout | Stderr] = []
    for at in range(256):
        length = seed.choice((40, 80, 120, 512, 2048, 4096, 16384, 16384))
        frames.append((Stderr if seed.random() < 0.06 else Stdout)(_line(at, length)))
    return _repeated(frames, size)


def large_frames(size: int) -> Body:
    """32 KiB frames: what dockerd makes of a program that writes as fast as it can."""
    return _repeated([Stdout(random.Random(8).randbytes(32 * 1024))], size)


def terminal(size: int) -> Body:
    """The raw bytes of a TTY."""
    block = random.Random(9).randbytes(min(size, MIB))
    return Body(b"", block, size // len(block), block)


def one_frame(size: int) -> Body:
    """One frame that holds everything."""
    block = random.Random(10).randbytes(min(size, MIB))
    count = size // len(block)
    head = encode_frame(Stdout(b""))[:4] + (count * len(block)).to_bytes(4, "big")
    return Body(head, block, count, block)


def workloads(*, quick: bool) -> list[Workload]:
    """All workloads; with ``quick``, as small as shows that everything works."""

    def size(mebibytes: int) -> int:
        return MIB if quick else mebibytes * MIB

    def count(full: int) -> int:
        return 3 if quick else full

    def output(name: str, title: str, body: Body, *, tty: bool = False, scheme: str = "unix") -> Workload:
        return Workload(name, title, "output", body.payload, body, tty, scheme)

    rows = [
        output("lines", "64-byte lines, every eighth on stderr", lines(size(32))),
        output("alternating", "64-byte frames, stdout and stderr in turn", alternating(size(16))),
        output("build-log", "a build log's mix of sizes", build_log(size(128))),
        output("32k", "32 KiB frames", large_frames(size(256))),
        output("tty", "a TTY's raw bytes", terminal(size(256)), tty=True),
        output("one-frame", "one frame of 1 GiB", one_frame(size(1024))),
        output("tls-lines", "64-byte lines over TLS", lines(size(16)), scheme="tls"),
        output("tls-32k", "32 KiB frames over TLS", large_frames(size(128)), scheme="tls"),
        Workload("cat", "64 MiB through cat and back", "cat", size(64)),
        Workload("beside", "another task beside alternating frames", "beside", size(4), alternating(size(4))),
        Workload("keystrokes", "a keystroke and its echo", "keystrokes", count(2000), tty=True),
    ]
    for scheme in ("unix", "tcp", "tls"):
        rows += [
            Workload(f"attach-{scheme}", f"an attach, {scheme}", "attach", count(40), lines(64 * 8), scheme=scheme),
            Workload(f"exec-{scheme}", f"an exec, {scheme}", "exec", count(40), lines(64 * 8), scheme=scheme),
        ]
    return rows
