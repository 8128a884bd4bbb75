"""Measures how fast frames are decoded in memory, and the memory for a frame that announces 4 GiB.

    python benchmarks/decode.py

The bytes are cut as an adapter reads them (64 KiB at a time). Each figure is the best of several runs; the last
column compares it with copying the same chunks once, so that it means the same on any machine.
"""

from __future__ import annotations

import time
import tracemalloc

from attachproto import FrameDecoder, Stderr, Stdout, encode_frame

CHUNK = 64 * 1024
RUNS = 7


def cut(data: bytes) -> list[bytes]:
    return [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)]


def decode(chunks: list[bytes]) -> int:
    decoder = FrameDecoder()
    size = 0
    for chunk in chunks:
        decoder.receive_data(chunk)
        for event in decoder.events():
            size += len(event.data)  # type: ignore[union-attr]
    return size


def copy(chunks: list[bytes]) -> int:
    return sum(len(bytearray(chunk)) for chunk in chunks)


def best(work: object, chunks: list[bytes]) -> float:
    taken = []
    for _ in range(RUNS):
        start = time.perf_counter()
        work(chunks)  # type: ignore[operator]
        taken.append(time.perf_counter() - start)
    return min(taken)


def report(name: str, frames: list[bytes], repeat: int) -> None:
    data = b"".join(frames) * repeat
    chunks = cut(data)
    payload = len(data) - 8 * len(frames) * repeat
    assert decode(chunks) == payload
    seconds = best(decode, chunks)
    bare = best(copy, chunks)
    rate = len(frames) * repeat / seconds / 1e6
    print(f"{name:34} {rate:8.2f} M frames/s {payload / seconds / 1e9:8.2f} GB/s {seconds / bare:8.1f} x a bare copy")


def huge_frame() -> None:
    """A frame that announces 4 GiB and brings 256 MiB."""
    chunk = bytes(CHUNK)
    decoder = FrameDecoder()
    tracemalloc.start()
    decoder.receive_data(b"\x01\0\0\0\xff\xff\xff\xff")
    size = 0
    for _ in range(256 * 1024 * 1024 // CHUNK):
        decoder.receive_data(chunk)
        for event in decoder.events():
            size += len(event.data)  # type: ignore[union-attr]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size == 256 * 1024 * 1024
    print(f"4 GiB announced, 256 MiB sent: {peak / 1024:.0f} KiB of memory at the most")


if __name__ == "__main__":
    report("64-byte frames", [encode_frame(Stdout(b"x" * 64))], 500_000)
    report("1 KiB frames", [encode_frame(Stdout(b"x" * 1024))], 100_000)
    report("8 KiB frames (Podman)", [encode_frame(Stdout(b"x" * 8192))], 20_000)
    report("32 KiB frames (dockerd)", [encode_frame(Stdout(b"x" * 32768))], 8_000)
    report(
        "100 B stdout, 400 B stderr in turn",
        [encode_frame(Stdout(b"x" * 100)), encode_frame(Stderr(b"y" * 400))],
        50_000,
    )
    huge_frame()
