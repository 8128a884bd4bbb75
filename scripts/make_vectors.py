"""Chooses the recordings that are kept as test vectors, and writes them and what the core must make of them.

    python scripts/make_vectors.py RECORDINGS_DIR    writes tests/vectors and tests/replay/expected
    python scripts/make_vectors.py --again           writes tests/replay/expected anew, from tests/vectors

The expected events come from the parser in `scripts/second_opinion`, which shares no code with the core.
`tests/replay/test_expectations.py` compares the files with what is written today.

RECORDINGS_DIR holds one folder per engine (`docker-28.5.2`), and in it one file per scenario in the recorder's own
format. The output is one file per engine, one connection a line, in the order of the scenarios; the same input gives
the same bytes.

What is kept, in this order of rules:

1. Connections whose received bytes were kept whole. A flow that was shortened by the recorder cannot be replayed to its
   end; such connections are kept, the first `PREFIX` bytes of them, only for the families (leading numbers) of which
   the engine has nothing else.
2. Catalogues, which are scenarios of more than `CATALOGUE` connections (names, versions, odd heads, ...), are kept
   whole for the newest version of each engine. Of an older version only the first connection is kept, and those that
   were answered differently: by status, names of header fields, way of the body, the body itself or the end.
   Identifiers, versions and numbers do not count as differences. The same goes for the variants of a scenario with
   another version in the path (`@v1.24`, `@noprefix`), without the first connection.
3. Everything else is kept for every engine and version.

What could tell about the machine of the recording is replaced by as many x (`REPLACED`), in the bytes and in what is
expected of them; digests are made again after they were found right for the bytes as recorded.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.second_opinion.audit import audit
from scripts.second_opinion.expectations import write_expectations
from scripts.second_opinion.parser import methods_of, read_answers
from scripts.second_opinion.raw import line_from_raw
from tests.replay.expectations import EXPECTED
from tests.replay.recordings import VECTORS, Json, Recording, decode_payload, encode_payload

CATALOGUE = 2
PREFIX = 700

# Groups are what is replaced: the kernel's release behind its version, the folder of Podman's storage, the registry of
# an image.
REPLACED = (
    re.compile(rb'"KernelVersion":"[0-9.]+-([^"]+)"'),
    re.compile(rb'"LogPath":"(/[^"]*?)/vfs-containers/'),
    re.compile(rb'"Image":"([a-z0-9-]+\.[a-z0-9.-]+)/'),
)

# What would tell about a machine and is no part of what is replaced: private folders, and addresses but the one that
# the recorder wrote into a header.
LEAKS = re.compile(rb"/(?:home|root|tmp|mnt|var/tmp|var/lib)/|\b(?!10\.0\.0\.1\b)(?:\d{1,3}\.){3}\d{1,3}\b")


def version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def replaced(data: bytes, found: set[bytes]) -> bytes:
    """The bytes with x in place of each character that tells about the machine; what it was is added to `found`."""
    for pattern in REPLACED:
        for match in reversed(list(pattern.finditer(data))):
            found.add(match[1])
            data = data[: match.start(1)] + b"x" * len(match[1]) + data[match.end(1) :]
    return data


def replaced_line(line: Json, found: set[bytes]) -> Json:
    """The line without what tells about the machine."""
    before = Recording.from_line(line)
    if problems := audit(before):
        raise ValueError(f"{before.name}: the recorder's parse does not fit the bytes: {problems}")
    for event in line["events"]:
        if event[0] in ("send", "recv"):
            event[1] = encode_payload(replaced(decode_payload(event[1]), found))
    after = Recording.from_line(line)
    answers = read_answers(after.received, methods_of(after), after.end == "eof")
    for answer, response in zip(answers, line["expect"]["responses"], strict=True):
        body = response.get("body", {})
        if "text" in body:
            body["text"] = replaced(body["text"].encode("latin-1"), found).decode("latin-1")
        elif "sha256" in body:
            body["sha256"] = hashlib.sha256(answer.body).hexdigest()
    if problems := audit(after):
        raise ValueError(f"{after.name}: the replaced bytes do not fit: {problems}")
    return line


def shortened(line: Json, direction: str) -> Json:
    """The line with only a short beginning of a direction (`send` or `recv`) of which bytes were left out.

    One `-cut` event stands where the first byte is missing, and counts all that are. The request stays whole.
    """
    if all(event[0] != f"{direction}-cut" for event in line["events"]) or line.get("request_cut"):
        return line
    events: list[list[Any]] = []
    cut: list[Any] | None = None
    room = PREFIX
    for kind, *rest in line["events"]:
        if kind not in (direction, f"{direction}-cut"):
            events.append([kind, *rest])
            continue
        data = decode_payload(rest[0]) if kind == direction else b""
        missing = len(data) if kind == direction else rest[0]
        if cut is None and (kept := data[:room]):
            events.append([kind, encode_payload(kept)])
            room -= len(kept)
            missing -= len(kept)
        if missing and cut is None:
            events.append(cut := [f"{direction}-cut", 0])
        if cut is not None:
            cut[1] += missing
    line["events"] = events
    return line


def masked(text: str) -> str:
    """The text without identifiers and numbers."""
    return re.sub(r"[0-9.]+", "0", re.sub(r"\b[0-9a-f]{10,}\b", "", text))


def answered(line: Json) -> str:
    """What makes an answer different from another one."""
    parts: list[Any] = [line["tty"], line["expect"]["end"]]
    for response in line["expect"]["responses"]:
        body = response.get("body", {})
        parts += [
            response["status_line"],
            sorted(name for name, _ in response["headers"]),
            [masked(value) for name, value in response["headers"] if name.lower() in ("content-type", "upgrade")],
            response["body_mode"],
            body.get("framing"),
            masked(body.get("text", "")),
            [masked(stream.get("text", "")) for stream in body.get("streams", {}).values()],
        ]
    return json.dumps(parts)


def chosen(directory: Path) -> tuple[dict[str, list[Json]], set[bytes]]:
    """The lines to write, by engine and version, and what was replaced in them."""
    folders = sorted(
        directory.iterdir(),
        key=lambda path: (path.name.partition("-")[0], version_key(path.name.partition("-")[2])),
        reverse=True,
    )
    seen: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    found = {}
    telling: set[bytes] = set()
    for folder in folders:
        engine = folder.name.partition("-")[0]
        whole: list[Json] = []
        cut: list[Json] = []
        for path in sorted(folder.glob("*.json")):
            document = json.loads(path.read_text("utf-8"))
            variant = "@" in path.stem
            catalogue = len(document["connections"]) > CATALOGUE
            for number, connection in enumerate(document["connections"]):
                line = replaced_line(line_from_raw(document, connection), telling)
                if catalogue or variant:
                    known = seen[engine, line["scenario"], line["label"]]
                    answer = answered(line)
                    if answer in known and (variant or number > 0):
                        continue
                    known.add(answer)
                lines = cut if any(event[0] == "recv-cut" for event in line["events"]) else whole
                lines.append(shortened(shortened(line, "recv"), "send"))
        families = {line["scenario"][:2] for line in whole}
        kept = whole + [line for line in cut if line["scenario"][:2] not in families]
        # Stable: the connections of one scenario stay in the order in which they were made.
        found[folder.name] = sorted(kept, key=lambda line: str(line["scenario"]))
    return found, telling


def write_vectors(directory: Path) -> None:
    total = 0
    found, telling = chosen(directory)
    # A read may have cut such a string in two, where no pattern finds it: so the whole of both directions is searched.
    leaks = re.compile(b"|".join([LEAKS.pattern, *map(re.escape, sorted(telling))]))
    for name, lines in sorted(found.items()):
        texts = [json.dumps(line, separators=(",", ":")) for line in lines]
        for line, text in zip(lines, texts, strict=True):
            wire = Recording.from_line(line)
            for data in (text.encode("ascii"), wire.sent, wire.received):
                if leak := leaks.search(data):
                    raise ValueError(f"{wire.name}: {leak[0]!r} tells about the machine of the recording")
        content = "".join(text + "\n" for text in texts)
        (VECTORS / f"{name}.jsonl").write_text(content, "ascii", newline="\n")
        families = {line["scenario"][:2] for line in lines}
        total += len(content)
        print(f"{name:18} {len(lines):5} connections {len(families):3} families {len(content):9,} bytes")
    print(f"{'all':18} {total:40,} bytes")


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print(__doc__)
        return 2
    if arguments != ["--again"]:
        write_vectors(Path(arguments[0]))
    write_expectations(VECTORS, EXPECTED)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
