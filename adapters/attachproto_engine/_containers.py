"""All containers of one engine: their names, and how a client finds one."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterator
from typing import Final

from attachproto_engine._config import Config
from attachproto_engine._container import Container
from attachproto_engine._errors import ApiError
from attachproto_engine._exec import Exec
from attachproto_engine._guard import Guard
from attachproto_engine._images import Images
from attachproto_engine._rules import Rules
from attachproto_engine._supervisor import Supervisor

_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")

# dockerd has no limit. Here names are kept, searched and written in one event loop for all clients.
_NAME_MAX: Final = 1000


class Containers:
    """The containers of one engine.

    Attributes:
        rules: those of the emulated engine.
    """

    def __init__(self, rules: Rules, images: Images, guard: Guard) -> None:
        self.rules = rules
        self._images = images
        self._by_id: dict[str, Container] = {}
        self._supervisor = Supervisor(guard)
        self._unnamed = 0

    def __iter__(self) -> Iterator[Container]:
        """The containers, in the order of their creation."""
        return iter(list(self._by_id.values()))

    def create(self, name: str | None, config: Config) -> Container:
        """Create a container; without a name it gets one.

        Raises:
            ApiError: the name is invalid, or taken; or there is no such image, or no such log driver.
        """
        name = self._new_name() if name is None else self._checked(name)
        self._images.check(config.image, self.rules)
        driver = config.log_driver
        refused = self.rules.log_driver_refusal(driver) or self.rules.log_option_refusal(driver, config.log_options)
        if refused:
            raise refused
        container = Container(name, config, self.rules, self._supervisor, self._drop)
        self._by_id[container.id] = container
        return container

    def rename(self, container: Container, name: str) -> None:
        """Give a container another name.

        Raises:
            ApiError: the name is empty, invalid, or taken.
        """
        if not self.rules.podman and not name:
            raise ApiError(400, "Neither old nor new names may be empty")
        if name.removeprefix("/") == container.name:
            if self.rules.podman:
                return
            raise ApiError(400, "Renaming a container with the same name as its current name")
        try:
            container.name = self._checked(name)
        except ApiError as exc:
            raise self.rules.rename_refusal(container.id, name, exc) from None

    def _checked(self, name: str) -> str:
        """A new name, without a slash before it."""
        found = name.removeprefix("/")
        if not _NAME.fullmatch(found):
            raise ApiError(400, f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
        if len(found) > _NAME_MAX:
            raise ApiError(400, f"Invalid container name: the embedded engine takes up to {_NAME_MAX} characters")
        if other := self._named(found):
            raise ApiError(
                409,
                f'Conflict. The container name "/{found}" is already in use by container "{other.id}". '
                "You have to remove (or rename) that container to be able to reuse that name.",
            )
        return found

    def _new_name(self) -> str:
        while True:
            self._unnamed += 1
            name = f"container-{self._unnamed}"
            if self._named(name) is None:
                return name

    def _named(self, name: str) -> Container | None:
        return next((container for container in self._by_id.values() if container.name == name), None)

    def find(self, name: str) -> Container:
        """A container by its ID, its name, or the beginning of its ID.

        Raises:
            ApiError: there is none, or more than one.
        """
        found = self._by_id.get(name) or self._named(name.removeprefix("/"))
        if found is not None:
            return found
        matching = [container for container in self._by_id.values() if name and container.id.startswith(name)]
        if len(matching) > 1:
            raise ApiError(400, f"multiple IDs found with provided prefix: {name}")
        if not matching:
            raise ApiError(404, self.rules.no_such_container.format(name=name))
        return matching[0]

    def find_exec(self, exec_id: str) -> tuple[Container, Exec]:
        """An exec by its ID, and its container.

        Raises:
            ApiError: there is none.
        """
        for container in self._by_id.values():
            if exec_id in container.execs:
                return container, container.execs[exec_id]
        raise ApiError(404, f"No such exec instance: {exec_id}")

    async def remove(self, name: str, *, force: bool) -> None:
        """Remove a container; with ``force`` a running one is killed first.

        Raises:
            ApiError: there is none, or it is being removed already, or it runs and ``force`` is false.
        """
        container = self.find(name)
        if container.removing:
            raise self.rules.removing_refusal(name)
        if container.running:
            if not force:
                raise self.rules.remove_refusal(container.id, container.name, container.status)
            # Without the mark a start beside this could come between the end of the process and the removal. The
            # new process would run on, in a container that no client can find.
            container.removing = True
            ended = container.exits.add()
            # Its process may have ended already, with output still to be read.
            with contextlib.suppress(ApiError):
                container.kill(signal.SIGKILL)
            await ended
        if container.id in self._by_id:
            self._drop(container)

    def _drop(self, container: Container) -> None:
        del self._by_id[container.id]
        container.removed()

    async def close(self) -> None:
        """Kill every process, and remove every container."""
        await self._supervisor.close()
        for container in self:
            self._drop(container)
