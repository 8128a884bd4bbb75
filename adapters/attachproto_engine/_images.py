"""The names of images, and which of them an engine has."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from attachproto_engine._rules import Rules

# As github.com/distribution/reference: a path of lower-case parts, which may begin with a registry, a tag, a digest.
_PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME: Final = re.compile(rf"(?:[A-Za-z0-9.-]+(?::[0-9]+)?/)?{_PART}(?:/{_PART})*")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")

# No engine takes a longer name.
_NAME_MAX: Final = 255


class Images:
    """The images of an engine: names only, because a container is a local process."""

    def __init__(self, names: Iterable[str] | None) -> None:
        """Make it.

        Args:
            names: the images that are there; ``None`` for every name that a client may ask for.

        Raises:
            TypeError: one of them is no text, or they are a single one.
            ValueError: one of them is no name of an image.
        """
        listed = None if names is None else list(names)
        if isinstance(names, str) or not all(isinstance(name, str) for name in listed or ()):
            raise TypeError(f"images are a list of names such as ['alpine'], not {names!r}")
        self._names = None if listed is None else {_normal(name) for name in listed}

    def check(self, name: str, rules: Rules) -> None:
        """Check that there is such an image.

        Raises:
            ApiError: there is none (404), or it is no name of an image.
        """
        # dockerd creates a container without an image from a command alone.
        if self._names is None or (not name and not rules.podman):
            return
        try:
            normal = _normal(name)
        except ValueError:
            raise rules.image_name_refusal(name) from None
        if normal not in self._names:
            raise rules.no_such_image(_familiar(normal) if not rules.podman else _full(name))


def _normal(name: str) -> str:
    """A name with its registry, and with a tag where it has no digest: two spellings of one image are then equal."""
    if _DIGEST.fullmatch(name):
        return name
    rest, at, digest = name.partition("@")
    path, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        path, tag = rest, ""
    if (
        not _NAME.fullmatch(path)
        or len(path) > _NAME_MAX
        or (at and not _DIGEST.fullmatch(digest))
        or (not tag and rest.endswith(":"))
        or (tag and not _TAG.fullmatch(tag))
    ):
        raise ValueError(f"{name!r} is no name of an image")
    full = _full(path)
    return f"{full}@{digest}" if at else f"{full}:{tag or 'latest'}"


def _full(name: str) -> str:
    """A name with its registry and ``library``."""
    registry, slash, _ = name.partition("/")
    if slash and ("." in registry or ":" in registry or registry == "localhost"):
        return name
    return f"docker.io/{name}" if slash else f"docker.io/library/{name}"


def _familiar(normal: str) -> str:
    """A name as dockerd writes it."""
    return normal.removeprefix("docker.io/").removeprefix("library/")
