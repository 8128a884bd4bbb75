"""Where engines differ in the scenarios of the matrix: each explained once, with where it comes from."""

from __future__ import annotations

import attrs

from tests.live.engine_api import Engine

NEWEST = (999, 0)


@attrs.frozen
class Engines:
    """Some releases of dockerd or of Podman, or the embedded engine in the place of one.

    Attributes:
        name: `docker` or `podman`.
        since: the first release.
        before: the first release that is no longer meant.
        embedded: whether the embedded engine is meant too; only with all releases.
    """

    name: str
    since: tuple[int, int] = (0, 0)
    before: tuple[int, int] = NEWEST
    embedded: bool = True

    def fits(self, engine: Engine) -> bool:
        if engine.name != self.name:
            return False
        if engine.label.startswith("embedded"):
            return self.embedded and (self.since, self.before) == ((0, 0), NEWEST)
        return self.since <= engine.release < self.before


@attrs.frozen
class Difference:
    """Something that an engine does otherwise than most.

    Attributes:
        text: what it does, and what the adapters make of it.
        source: the file of moby, Podman or conmon, or the page of this project, that shows it.
        where: on which engines it may be seen.
        offered: false if the engine does not have what the scenario asks for.
    """

    text: str
    source: str
    where: tuple[Engines, ...]
    offered: bool = True

    def fits(self, engine: Engine) -> bool:
        return any(each.fits(engine) for each in self.where)


DOCKER = Engines("docker")
PODMAN = Engines("podman")
QUIRKS = "[quirks.md](quirks.md#{})"
WITH_A_SWITCH, WITHOUT, ATTACHING, CREATING = (
    QUIRKS.format(anchor)
    for anchor in (
        "with-a-switch",
        "without-a-switch",
        "what-an-attach-does-to-a-container",
        "creating-killing-and-removing",
    )
)

DIFFERENCES: dict[str, Difference] = {
    "close_ends_stdin": Difference(
        "When a client that sends stdin closes its connection, Podman ends the container's stdin, with `StdinOnce` "
        "and without it. Here the program ends then. With a TTY, stdin stays open.",
        "conmon `src/conn_sock.c`: stdin is closed with the last client, unless conmon was started with "
        "`--leave-stdin-open`, which Podman does not do",
        (PODMAN,),
    ),
    "half_close_ends_attach": Difference(
        "Without `StdinOnce`, dockerd ends the output too when stdin ends. `communicate(input)` raises "
        "`HalfCloseEndsAttach` before it sends anything, and the attachment can still be used.",
        "moby `container/stream/attach.go`: without `CloseStdin`, the end of stdin closes stdout and stderr",
        (DOCKER,),
    ),
    "tells_of_unread_stdin": Difference(
        "If the container does not take the input, Podman writes `Error: …` into stderr. Nothing tells it from "
        "what the program has printed.",
        WITHOUT,
        (PODMAN,),
    ),
    "unread_stdin_loses_output": Difference(
        "If the process ends without having read its input, Podman may lose the end of the output. It ends the "
        "stream with a reset in any case, so nothing but the text on stderr tells it.",
        "seen with a bare socket: 4 of 80 times on 5.4 and 5.8. Podman's socket to conmon is reset with output in it",
        (Engines("podman", embedded=False),),
    ),
    "error_inside_a_frame": Difference(
        "When the process ends without having read its input, Podman may also write its error into the middle of a "
        "frame. `communicate` raises a `RemoteProtocolError`, and what came before was delivered.",
        "seen on 4.3 and 5.8, about once in a hundred: the payload of a frame where the next header should be",
        (Engines("podman", embedded=False),),
    ),
    "resize_is_late": Difference(
        "Podman answers a resize before the terminal has the new size.",
        "seen with `stty size` after the answer: 9 of 300 times on 5.4, asked again it had the size. Podman writes the "
        "size into a FIFO of conmon's, which nobody answers: `libpod/oci_conmon_exec_common.go`",
        (Engines("podman", embedded=False),),
    ),
    "resize_is_lost": Difference(
        "On a busy machine Podman may answer a resize with 200, and the terminal keeps its size. Resized again, it "
        "has it.",
        "the same FIFO",
        (Engines("podman", embedded=False),),
    ),
    "detaches_without_tty": Difference(
        "Podman takes the detach keys without a TTY too, if each comes in a read of its own. The output ends, and "
        "with it the container's stdin. Sent in one piece they are data.",
        "Podman `libpod/oci_conmon_attach_common.go`, `CopyDetachable`, which knows no TTY; "
        "[adapters.md](adapters.md) tells how to send such data",
        (Engines("podman", embedded=False),),
    ),
    "keys_one_by_one": Difference(
        "Podman detaches only if each key comes in a read of its own. Keys that are sent in one piece are data.",
        "Podman `CopyDetachable`: it compares a key with a whole read of one byte",
        (Engines("podman", embedded=False),),
    ),
    "detached_text": Difference(
        "Podman before 5.4 writes `Error: detached from container` into the output. "
        "`quirks=[Quirk.DETACHED_TEXT]` makes a `Systemerr` of it.",
        WITH_A_SWITCH,
        (Engines("podman", before=(5, 4)),),
    ),
    "size_after_the_start": Difference(
        "The terminal has its size shortly after the start: this engine ignores `ConsoleSize` at the creation, and "
        "the adapters set the size by a call.",
        CREATING,
        (Engines("docker", before=(23, 0)), PODMAN),
    ),
    "no_exit_code_after_removal": Difference(
        "The container was gone before its exit code was told: `ExitCodeUnknown`.",
        ATTACHING,
        (DOCKER, PODMAN),
    ),
    "podman_500": Difference(
        "Podman answers 500 where dockerd has a status of its own. The message tells what it is.",
        "Podman `pkg/api/handlers/compat/containers.go`: `utils.InternalServerError` for most errors",
        (PODMAN,),
    ),
    "attach_prepares": Difference(
        "Podman prepares the process at the attach, and refuses that with 409 (4.3) or 500 (5.4, 5.8). dockerd "
        "refuses the start, with 400.",
        CREATING,
        (PODMAN,),
    ),
    "wrong_type_500": Difference(
        "dockerd 20.10 answers 500 to JSON with a value of the wrong type, later releases 400.",
        "seen: `json: cannot unmarshal number into Go struct field HostConfig` with status 500",
        (Engines("docker", before=(26, 0)),),
    ),
    "exec_not_found_126": Difference(
        "The exit code of a program that does not exist is 126 on dockerd 20.10 and 26.1, and 127 on 28.5 and Podman.",
        "moby `daemon/exec.go`: every exec that cannot be started has 126, before the runtime's error was looked at",
        (Engines("docker", before=(27, 0)),),
    ),
    "reason_on_stdout": Difference(
        "dockerd writes the reason why a command cannot be started to stdout, Podman to stderr.",
        WITHOUT,
        (DOCKER,),
    ),
    "exec_detach_text": Difference(
        "After the detach keys of an exec, dockerd writes `exec attach failed: error on attach stdin: read escape "
        "sequence` into the output.",
        "moby `container/stream/attach.go` wraps the error, and `daemon/exec.go` no longer knows it as a detach; "
        "docker-py's own tests name the same text",
        (DOCKER,),
    ),
    "detached_exec_is_over": Difference(
        "After the detach keys of an exec, inspect reports it as ended: with the exit code 126 on dockerd, which "
        "`wait()` returns on 28.5 though the command goes on, and with -1 on Podman 4.3 (`ExitCodeUnknown`). "
        "`detach()` is not concerned: it closes the connection.",
        "seen: `/exec/{id}/json` says `Running: false`, and `/proc` in the container has the process",
        (DOCKER, Engines("podman", before=(5, 0))),
    ),
    "detached_exec_ends": Difference(
        "On dockerd 20.10 and 26.1 the detach keys of an exec end its command.",
        "seen: `/proc` in the container no longer has the process (`cat`, `sleep`, a shell); on 28.5 it has",
        (Engines("docker", before=(27, 0)),),
    ),
    "bound_is_left_out": Difference(
        "Podman may leave out the line whose own time is the bound: `until=` takes only lines before it, `since=` "
        "only those after it. Podman 4.3 and 5.4 print times in whole seconds.",
        "Podman `libpod/logs/log.go`: `LogLine.Since` and `LogLine.Until`",
        (PODMAN,),
    ),
    "any_version": Difference(
        "Podman does not check the API version in the path.",
        "Podman `pkg/api/server/handler_api.go`: `VersionedPath` takes any number",
        (PODMAN,),
        offered=False,
    ),
    "any_image": Difference(
        "The embedded engine has every image, unless `Engine(images=…)` says which.",
        "[testing-your-docker-code.md](testing-your-docker-code.md)",
        (DOCKER, PODMAN),
        offered=False,
    ),
    "no_root_of_its_own": Difference(
        "A container of the embedded engine is a local process, and has the shell of its machine.",
        "[testing-your-docker-code.md](testing-your-docker-code.md)",
        (DOCKER, PODMAN),
        offered=False,
    ),
}
