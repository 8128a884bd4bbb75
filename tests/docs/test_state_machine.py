"""docs/explanation/state-machine.md has every move of the tables, in its pictures and in its lists, and no other."""

from __future__ import annotations

import re

import pytest

from attachproto import CLIENT, SERVER, Role, State
from scripts import draw_states
from scripts.draw_states import Move, moves

PAGE = (draw_states.FOLDER / "state-machine.md").read_text()
ARCHITECTURE = (draw_states.FOLDER.parent / "architecture.md").read_text()


def listed(role: Role) -> dict[Move, list[str]]:
    """What the page's list of this side's moves says."""
    text = PAGE.partition(f"<!-- moves of the {role.name.lower()} -->")[2].partition("<!-- end of moves -->")[0]
    found: dict[Move, list[str]] = {}
    for before, by, after in re.findall(r"^\| `(\w+)` \| (.+?) \| `(\w+)` \| .*\|$", text, re.MULTILINE):
        other = re.match(r"(client|server) is ", by)
        names = (
            [f"{other[0]}{state}" for state in re.findall(r"`(\w+)`", by)] if other else by.replace("`", "").split(", ")
        )
        found[Move(State[before], other is None, State[after])] = names
    return found


@pytest.mark.parametrize("role", Role)
def test_the_list_has_every_move(role: Role) -> None:
    assert {move: set(names) for move, names in listed(role).items()} == {
        move: set(names) for move, names in moves(role).items()
    }


def test_the_pictures_are_the_tables() -> None:
    for file, text in draw_states.pictures().items():
        assert file.read_text() == text, "run python -m scripts.draw_states"
        assert file.name in PAGE
        assert f"explanation/{file.name}" in ARCHITECTURE


def test_a_changed_table_changes_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {role: dict(table) for role, table in draw_states.EVENT_TRANSITIONS.items()}
    rows[Role.CLIENT][State.STREAMING] = {}
    monkeypatch.setattr(draw_states, "EVENT_TRANSITIONS", rows)
    with pytest.raises(AssertionError):
        test_the_pictures_are_the_tables()
    with pytest.raises(AssertionError):
        test_the_list_has_every_move(CLIENT)


@pytest.mark.parametrize("role", Role)
def test_every_state_and_every_move_is_drawn(role: Role) -> None:
    picture = draw_states.draw(role, "light")
    for state in draw_states.EVENT_TRANSITIONS[role].keys() - {State.ERROR}:
        assert picture.count(f">{state.name}</text>") >= 1
    assert len(re.findall(r'<path class="(?:line|dash)" ', picture)) == len(moves(role))


def test_a_state_without_a_place_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    places = {role: {**there} for role, there in draw_states.PLACES.items()}
    del places[SERVER][State.RESPONDING]
    monkeypatch.setattr(draw_states, "PLACES", places)
    draw_states.draw(CLIENT, "dark")
    with pytest.raises(KeyError):
        draw_states.draw(SERVER, "dark")
