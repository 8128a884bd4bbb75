"""What a terminal must do, as cases that run in a pane of tmux, on any engine.

`tests/adapters/test_cli_terminal.py` runs them on the embedded engine, `tests/live/test_terminal.py` on real ones too.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Protocol

from tests.adapters.panes import Pane

# Both look at the size again and again too, because a shell may miss a signal.
WATCH = """
trap 'changed=1' WINCH
trap 'exit 7' INT
while :; do
  now=$(stty size)
  if [ "$now" != "$before" ] || [ "$changed" ]; then before=$now changed=; show $now; fi
  sleep 0.05
done
"""

# Draws a whole screen by cursor positions, and again at each change of its size, as an editor does.
DRAW = (
    r"""
show() {
  printf '\033[2J\033[1;1Htop left %s' "$*"
  printf '\033[%d;%dHbottom right\033[3;5H\033[7mmiddle\033[0m' "$1" $(($2 - 11))
}
"""
    + WATCH
)
PRINTS = 'show() { echo "size $*"; }\necho ready\n' + WATCH


class Target(Protocol):
    """An engine, and what the cases need of it."""

    host: str
    image: str
    run_options: str  # that a container needs on this machine

    def create(self, script: str, *, tty: bool) -> str:
        """A container with stdin that runs this script, created and not started: its ID."""

    def start(self, container: str) -> None: ...

    def kill(self, container: str) -> None: ...

    def is_running(self, container: str) -> bool: ...


# The last argument is the command: `attachproto`, or `docker` to compare with.
Case = Callable[[Pane, Target, str], None]
CASES: list[Case] = []


def case(function: Case) -> Case:
    CASES.append(function)
    return function


def started(target: Target, script: str = "sleep 600", *, tty: bool = False) -> str:
    container = target.create(script, tty=tty)
    target.start(container)
    return container


def enter_script(pane: Pane, before: str, script: str) -> None:
    """Enters `before sh -c SCRIPT`, without typing the script, which a pane would wrap."""
    file = pane.folder / "script"
    file.write_text(script)
    pane.enter(f'clear; {before} sh -c "$(cat script)"')


@case
def the_size_at_the_start_and_after_a_resize(pane: Pane, target: Target, program: str) -> None:
    container = started(target)
    pane.resize(24, 80)
    enter_script(pane, f"{program} exec -it {container[:12]}", PRINTS)
    # An engine that takes no size at the creation gets it right after the start.
    pane.until_has("size 24 80")
    pane.resize(30, 91)
    pane.until_has("size 30 91")


@case
def ctrl_c_is_a_byte(pane: Pane, target: Target, program: str) -> None:
    container = started(target)
    script = 'stty -isig -icanon -echo; echo ready; [ "$(head -c 1)" = "$(printf \'\\003\')" ] && echo got 3; sleep 600'
    enter_script(pane, f"{program} exec -it {container[:12]}", script)
    pane.until_has("ready")
    pane.keys("C-c")
    pane.until_has("got 3")


@case
def ctrl_c_ends_the_command_there(pane: Pane, target: Target, program: str) -> None:
    container = started(target)
    before = pane.mode()
    enter_script(pane, f"{program} exec -it {container[:12]}", "echo ready; exec sleep 600")
    pane.until_has("ready")
    pane.keys("C-c")
    pane.until_prompt()
    pane.enter("echo status=$?")
    pane.until_has("status=130")
    assert pane.mode() == before


@case
def a_whole_screen_is_drawn_again_at_a_resize(pane: Pane, target: Target, program: str) -> None:
    container = started(target)
    pane.resize(24, 80)
    enter_script(pane, f"{program} exec -it {container[:12]}", DRAW)
    pane.until(lambda screen: drawn(screen, 24, 80), "the screen")
    pane.resize(12, 50)
    pane.until(lambda screen: drawn(screen, 12, 50), "the smaller screen")
    pane.resize(24, 80)
    pane.until(lambda screen: drawn(screen, 24, 80), "the larger screen")


def drawn(screen: str, height: int, width: int) -> bool:
    lines = screen.splitlines()
    return (
        len(lines) == height
        and lines[0] == f"top left {height} {width}"
        and lines[2] == "    middle"
        and lines[-1] == "bottom right".rjust(width)
    )


@case
def detach_and_attach_again(pane: Pane, target: Target, program: str) -> None:
    container = target.create(DRAW, tty=True)
    pane.resize(24, 80)
    before = pane.mode()
    if program == "attachproto":
        pane.enter(f"clear; {program} attach --start {container[:12]}")
    else:
        target.start(container)
        pane.enter(f"clear; {program} attach {container[:12]}")
    pane.until(lambda screen: drawn(screen, 24, 80), "the screen")
    pane.press_until_prompt("C-p", "C-q")
    assert target.is_running(container)
    assert pane.mode() == before
    pane.enter(f"clear; {program} attach {container[:12]}")
    pane.until(lambda screen: drawn(screen, 24, 80), "the screen after the second attach")
    pane.press_until_prompt("C-c")
    assert not target.is_running(container)
    assert pane.mode() == before


@case
def restored_after_the_exit(pane: Pane, target: Target, program: str) -> None:
    container = started(target)
    before = pane.mode()
    pane.enter(f"clear; {program} exec -it {container[:12]} sh; echo status=$?")
    pane.until(lambda screen: screen.endswith(("#", "$")), "the prompt of the shell there")
    pane.enter("exit 9")
    pane.until_has("status=9")
    assert pane.mode() == before


@case
def restored_after_sigterm(pane: Pane, target: Target, program: str) -> None:
    container = started(target)
    before = pane.mode()
    enter_script(pane, f"{program} exec -it {container[:12]}", PRINTS)
    pane.until_has("ready")
    os.kill(pane.child(), signal.SIGTERM)
    pane.until_prompt()
    assert pane.mode() == before


@case
def restored_after_the_end_of_the_container(pane: Pane, target: Target, program: str) -> None:
    container = started(target, PRINTS, tty=True)
    before = pane.mode()
    pane.enter(f"clear; {program} attach {container[:12]}; echo status=$?")
    pane.until(lambda screen: "size " in screen, "a size")
    target.kill(container)
    pane.until_has("status=137")
    assert pane.mode() == before


@case
def stopped_and_continued(pane: Pane, target: Target, program: str) -> None:
    """By SIGTSTP: the terminal is the shell's meanwhile, and a window that was resized meanwhile is noticed."""
    container = started(target)
    pane.resize(24, 80)
    before = pane.mode()
    enter_script(pane, f"{program} exec -it {container[:12]}", PRINTS)
    pane.until_has("ready")
    os.kill(pane.child(), signal.SIGTSTP)
    pane.until_has("Stopped")
    pane.until_prompt()
    assert pane.mode() == before
    pane.resize(20, 70)
    pane.enter("clear; fg")
    pane.until_has("size 20 70")
    pane.press_until_prompt("C-c")
    assert pane.mode() == before


@case
def a_new_container(pane: Pane, target: Target, program: str) -> None:
    """`run -it`: the size is right, keys arrive, the exit status comes back."""
    pane.resize(24, 80)
    before = pane.mode()
    # dockerd 20.10 and Podman take no size at the creation: it comes right after the start.
    script = 'until [ "$(stty size)" = "24 80" ]; do sleep 0.05; done; echo ready; read -r l; echo "got $l"; exit 5'
    enter_script(pane, f"{program} run --rm -it {target.run_options} {target.image}", script)
    pane.until_has("ready")
    pane.enter("hello")
    pane.until_has("got hello")
    pane.until_prompt()
    pane.enter("echo status=$?")
    pane.until_has("status=5")
    assert pane.mode() == before


# Those whose last screen depends on nothing but the program in the container.
COMPARED = (ctrl_c_is_a_byte, a_whole_screen_is_drawn_again_at_a_resize)


def name_of(case: Case) -> str:
    return getattr(case, "__name__", "").replace("_", " ")
