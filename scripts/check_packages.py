"""Build the sdist, the wheel, and a wheel from the sdist; install each, and the tree editable; use all packages.

    python scripts/check_packages.py        needs the project's dev extra (build, twine)

Each is installed into a virtual environment of its own, where all packages must import, be typed, and exchange bytes.
Before that, the metadata must be what PyPI can show, and the sdist must have what the documentation is built from.
"""

from __future__ import annotations

import email
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = {
    "attachproto": ROOT / "src",
    "attachproto_adapters": ROOT / "adapters",
    "attachproto_engine": ROOT / "adapters",
}
EXPECTED = {
    str(file.relative_to(folder))
    for package, folder in PACKAGES.items()
    for file in [folder / package / "py.typed", *(folder / package).rglob("*.py")]
}
USE = """
import importlib.resources, attachproto, attachproto_adapters.cli._main
import attachproto_adapters.anyio, attachproto_adapters.asyncio, attachproto_adapters.blocking, attachproto_engine
for package in ("attachproto", "attachproto_adapters", "attachproto_engine"):
    assert importlib.resources.files(package).joinpath("py.typed").is_file(), package
client, server = attachproto.Connection(attachproto.CLIENT), attachproto.Connection(attachproto.SERVER)
server.receive_data(client.send(attachproto.Attach("web")))
assert server.next_event() == attachproto.Attach("web")
print(attachproto.__version__)
"""


WITH_TRIO = "import attachproto_adapters.trio"
WITHOUT_TRIO = f"""
try:
    {WITH_TRIO}
except ImportError as exc:
    assert "pip install 'attachproto[trio]'" in str(exc), exc
else:
    raise AssertionError("trio is no dependency, and is there")
"""


def run(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def use(name: str, *install: object, trio: bool = False) -> None:
    """Install into a new environment and use it from outside the checkout."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = pathlib.Path(folder, "bin", "python")
        run(python, "-m", "pip", "install", "--quiet", *install)
        version = run(python, "-I", "-c", USE + (WITH_TRIO if trio else WITHOUT_TRIO)).strip()
        command = run(pathlib.Path(folder, "bin", "attachproto"), "--version").strip()
        assert command == f"attachproto {version}", command
        print(f"{name:24} attachproto {version} works", flush=True)


def contents(wheel: pathlib.Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def check_description(wheel: pathlib.Path) -> None:
    """What PyPI shows must be rendered, and each of its links must lead somewhere from there."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        description = str(email.message_from_bytes(archive.read(name)).get_payload())
    links = re.findall(r"\]\(([^)]*)\)", description)
    assert links, "the description has no links at all"
    assert all(link.startswith("https://") for link in links), links
    assert re.search(r"\bhow-to guides\b", description), "the text of a link is lost"


def check_documentation(sdist: pathlib.Path) -> None:
    """The unpacked sdist must have all of `docs`, and the pages elsewhere whose text is read there."""
    ignored = {"_build", "__pycache__"}
    pages = [page for page in (ROOT / "docs").rglob("*") if page.is_file() and not ignored & {*page.parts}]
    assert len(pages) > 20
    for page in pages:
        assert (sdist / page.relative_to(ROOT)).is_file(), page
        if page.suffix == ".md" and (named := re.match(r"<!-- the text of (\S+) -->", page.read_text())):
            assert (sdist / named[1]).is_file(), named[1]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        built, rebuilt = pathlib.Path(folder, "built"), pathlib.Path(folder, "rebuilt")
        # Each straight from the tree; the wheel from the sdist then by itself.
        run(sys.executable, "-m", "build", "--sdist", "--wheel", "--outdir", built, ROOT)
        (sdist,), (wheel,) = built.glob("*.tar.gz"), built.glob("*.whl")
        run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
        check_description(wheel)
        with tarfile.open(sdist) as archive:
            archive.extractall(folder, filter="data")
        unpacked = pathlib.Path(folder, sdist.name[:-7])
        check_documentation(unpacked)
        run(sys.executable, "-m", "build", "--wheel", "--outdir", rebuilt, unpacked)
        (second,) = rebuilt.glob("*.whl")
        for made in (wheel, second):
            assert contents(made) == EXPECTED, contents(made) ^ EXPECTED
        use("wheel", wheel)
        use("wheel with its extra", f"{wheel}[trio]", trio=True)
        use("sdist", sdist)
        use("wheel from the sdist", second)
        use("editable", "--editable", ROOT)


if __name__ == "__main__":
    main()
