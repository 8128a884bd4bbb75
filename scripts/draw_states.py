"""Writes the pictures of the core's states, one for each side, from its tables, for the pages that show them.

    python -m scripts.draw_states            writes them
    python -m scripts.draw_states --check    exits with 1 if a picture differs from the tables

The tables say which states and arrows there are, and what stands beside an arrow. This file says only where: ``PLACES``
has the centre of each box, ``BENDS`` how an arrow runs. A state without a place is an error, so a new row of the tables
is never left out. There are two pictures of each side, for a light and for a dark background.
"""

from __future__ import annotations

import math
import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

from attachproto import CLIENT, SERVER, Role, State
from attachproto._state import EVENT_TRANSITIONS as EVENT_TRANSITIONS
from attachproto._state import STATE_TRANSITIONS, Trigger

FOLDER: Final = Path(__file__).parents[1] / "docs" / "explanation"

_S = State
PLACES: Final[Mapping[Role, Mapping[State, tuple[int, int]]]] = {
    CLIENT: {
        _S.IDLE: (170, 45),
        _S.AWAITING_CONTINUE: (520, 45),
        _S.ASKED_BOTH: (110, 290),
        _S.ASKED_OUTPUT: (345, 290),
        _S.CALLED: (570, 290),
        _S.STREAMING: (110, 430),
        _S.DONE: (345, 540),
    },
    SERVER: {
        _S.IDLE: (360, 45),
        _S.MAY_CONTINUE: (360, 165),
        _S.MUST_RESPOND: (165, 300),
        _S.MUST_ANSWER: (555, 300),
        _S.RESPONDING: (165, 450),
        _S.FRAMING_UNKNOWN: (555, 430),
        _S.STREAMING: (555, 560),
        _S.DONE: (360, 670),
    },
}
SIZES: Final = {CLIENT: (720, 580), SERVER: (740, 710)}
LOOPS_AT_THE_LEFT: Final = {(SERVER, _S.MUST_RESPOND)}
"""Where an arrow from a state to itself stands on the left of its box. The others stand on the right."""


class Bend(NamedTuple):
    """How an arrow runs.

    Attributes:
        sideways: how far its middle lies from the straight line, to the right of its direction.
        label_at: where the label is, from 0 (its beginning) to 1 (its head).
    """

    sideways: float = 0
    label_at: float = 0.5


BENDS: Final[Mapping[Role, Mapping[tuple[State, State], Bend]]] = {
    CLIENT: {
        (_S.IDLE, _S.ASKED_BOTH): Bend(20, 0.6),
        (_S.IDLE, _S.ASKED_OUTPUT): Bend(12, 0.7),
        (_S.IDLE, _S.CALLED): Bend(0, 0.2),
        (_S.AWAITING_CONTINUE, _S.ASKED_BOTH): Bend(0, 0.22),
        (_S.AWAITING_CONTINUE, _S.ASKED_OUTPUT): Bend(-12, 0.68),
        (_S.AWAITING_CONTINUE, _S.CALLED): Bend(0, 0.62),
        (_S.AWAITING_CONTINUE, _S.DONE): Bend(-215, 0.6),
        (_S.ASKED_BOTH, _S.DONE): Bend(-12, 0.42),
    },
    SERVER: {
        (_S.IDLE, _S.MUST_RESPOND): Bend(75, 0.42),
        (_S.IDLE, _S.MUST_ANSWER): Bend(-75, 0.42),
        (_S.MAY_CONTINUE, _S.MUST_RESPOND): Bend(-8, 0.55),
        (_S.MAY_CONTINUE, _S.MUST_ANSWER): Bend(8, 0.55),
        (_S.MAY_CONTINUE, _S.RESPONDING): Bend(-20, 0.6),
        (_S.MUST_RESPOND, _S.DONE): Bend(-15, 0.55),
        (_S.MUST_ANSWER, _S.DONE): Bend(40, 0.5),
        (_S.MUST_ANSWER, _S.STREAMING): Bend(-110, 0.5),
    },
}

COLOURS: Final = {
    "light": {"back": "#f6f8fa", "box": "#ffffff", "line": "#57606a", "dash": "#0969da", "text": "#1f2328"},
    "dark": {"back": "#161b22", "box": "#21262d", "line": "#8b949e", "dash": "#58a6ff", "text": "#e6edf3"},
}
_BOX_HEIGHT: Final = 32
_LINE_HEIGHT: Final = 15
_LABEL_MAX: Final = 20  # characters in a line


class Move(NamedTuple):
    """A side moves from one state to another: by an event of its own, or because of the other side's state."""

    before: State
    own_event: bool
    after: State


def moves(role: Role) -> dict[Move, list[str]]:
    """How this side moves, by the tables, and what moves it. A failure, which moves it to ``ERROR``, is left out."""
    labels: defaultdict[Move, list[str]] = defaultdict(list)
    for before, row in EVENT_TRANSITIONS[role].items():
        for trigger, after in row.items():
            if trigger is not Trigger.FAIL:
                name = trigger.value if isinstance(trigger, Trigger) else trigger.__name__
                labels[Move(before, True, after)].append(name)
    for (client, server), (client_after, server_after) in STATE_TRANSITIONS.items():
        if role is CLIENT and client_after is not client:
            labels[Move(client, False, client_after)].append(f"server is {server.name}")
        if role is SERVER and server_after is not server:
            labels[Move(server, False, server_after)].append(f"client is {client.name}")
    return {move: list(dict.fromkeys(names)) for move, names in labels.items()}


def _width(state: State) -> float:
    return 8.0 * len(state.name) + 24


def _to_border(centre: tuple[float, float], towards: tuple[float, float], width: float) -> tuple[float, float]:
    """The point where the line from the centre of a box crosses its border."""
    dx, dy = towards[0] - centre[0], towards[1] - centre[1]
    scale = 1 / max(abs(dx) / (width / 2), abs(dy) / (_BOX_HEIGHT / 2))
    return centre[0] + dx * scale, centre[1] + dy * scale


def _text(x: float, y: float, lines: list[str], colour: str) -> Iterator[str]:
    top = y - (len(lines) - 1) * _LINE_HEIGHT / 2 + 4
    for number, line in enumerate(lines):
        yield f'<text class="{colour}" x="{x:.0f}" y="{top + number * _LINE_HEIGHT:.0f}">{escape(line)}</text>'


def _lines(move: Move, names: list[str]) -> list[str]:
    """What stands beside an arrow, in short lines. ``client is A`` and ``client is B`` share their beginning."""
    if not move.own_event and len(names) > 1:
        beginning = names[0].rpartition(" ")[0]
        return [beginning, *(name.removeprefix(f"{beginning} ") for name in names)]
    return [line for name in names for line in textwrap.wrap(name, _LABEL_MAX)]


def _arrow(role: Role, move: Move, names: list[str]) -> Iterator[str]:
    kind = "line" if move.own_event else "dash"
    start, end = PLACES[role][move.before], PLACES[role][move.after]
    if move.before is move.after:
        side = -1 if (role, move.before) in LOOPS_AT_THE_LEFT else 1
        x, y = start[0] + side * _width(move.before) / 2, float(start[1])
        path = f"M{x:.0f},{y - 8:.0f} c{34 * side},-14 {34 * side},30 {2 * side},16"
        yield f'<path class="{kind}" d="{path}" marker-end="url(#{kind})"/>'
        yield from _text(x + 34 * side, y, names, f"label {kind}text {'start' if side == 1 else 'end'}")
        return
    bend = BENDS[role].get((move.before, move.after), Bend())
    length = math.dist(start, end)
    middle = (
        (start[0] + end[0]) / 2 - (end[1] - start[1]) / length * bend.sideways,
        (start[1] + end[1]) / 2 + (end[0] - start[0]) / length * bend.sideways,
    )
    control = (2 * middle[0] - (start[0] + end[0]) / 2, 2 * middle[1] - (start[1] + end[1]) / 2)
    a, b = _to_border(start, control, _width(move.before)), _to_border(end, control, _width(move.after))
    yield (
        f'<path class="{kind}" d="M{a[0]:.0f},{a[1]:.0f} Q{control[0]:.0f},{control[1]:.0f} {b[0]:.0f},{b[1]:.0f}"'
        f' marker-end="url(#{kind})"/>'
    )
    t = bend.label_at
    x, y = ((1 - t) ** 2 * a[i] + 2 * t * (1 - t) * control[i] + t**2 * b[i] for i in (0, 1))
    yield from _text(x, y, _lines(move, names), f"label {kind}text")


def draw(role: Role, background: str) -> str:
    """One picture as SVG.

    Raises:
        KeyError: a state of the tables has no place.
    """
    colours = COLOURS[background]
    width, height = SIZES[role]
    states = dict.fromkeys(state for move in moves(role) for state in (move.before, move.after))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        f' role="img" aria-label="The states of the {role.name.lower()}">',
        "<style>",
        "text { font: 13px system-ui, sans-serif; text-anchor: middle; }",
        f".state {{ font: bold 13px ui-monospace, monospace; fill: {colours['text']}; }}",
        f".label {{ paint-order: stroke; stroke: {colours['back']}; stroke-width: 5px; stroke-linejoin: round; }}",
        ".start { text-anchor: start; }",
        ".end { text-anchor: end; }",
        f".box {{ fill: {colours['box']}; stroke: {colours['line']}; stroke-width: 1.5px; }}",
        *(
            f".{kind} {{ fill: none; stroke: {colours[kind]}; stroke-width: 1.5px; }}"
            f" .{kind}text, .{kind}head {{ fill: {colours[kind]}; }}"
            for kind in ("line", "dash")
        ),
        ".dash { stroke-dasharray: 5 4; }",
        "</style>",
        "<defs>",
        *(
            f'<marker id="{kind}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8"'
            f' orient="auto-start-reverse"><path class="{kind}head" d="M0,0 L10,5 L0,10 z"/></marker>'
            for kind in ("line", "dash")
        ),
        "</defs>",
        f'<rect width="{width}" height="{height}" rx="8" fill="{colours["back"]}"/>',
    ]
    arrows = [list(_arrow(role, move, names)) for move, names in moves(role).items()]
    # All lines first, so that no line crosses a label.
    parts += [line for arrow in arrows for line in arrow if line.startswith("<path")]
    for state in states:
        x, y = PLACES[role][state]
        box = _width(state)
        parts.append(
            f'<rect class="box" x="{x - box / 2:.0f}" y="{y - _BOX_HEIGHT / 2:.0f}" width="{box:.0f}"'
            f' height="{_BOX_HEIGHT}" rx="6"/>'
        )
        parts += _text(x, y, [state.name], "state")
    parts += [line for arrow in arrows for line in arrow if line.startswith("<text")]
    return "\n".join([*parts, "</svg>", ""])


def pictures() -> dict[Path, str]:
    """Every picture, by its file."""
    return {
        FOLDER / f"states-{role.name.lower()}-{background}.svg": draw(role, background)
        for role in (CLIENT, SERVER)
        for background in COLOURS
    }


def main() -> int:
    if "--check" in sys.argv[1:]:
        return int(any(not file.exists() or file.read_text() != text for file, text in pictures().items()))
    FOLDER.mkdir(exist_ok=True)
    for file, text in pictures().items():
        file.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
