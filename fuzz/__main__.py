"""Runs one target: ``python -m fuzz TARGET [OPTION OF LIBFUZZER | CORPUS | INPUT]...``.

``fuzz/run`` starts it for each target. With the path of one input it runs that input alone.
"""

from __future__ import annotations

import importlib
import sys
import warnings

import atheris

from fuzz.targets import TARGETS

# atheris counts the branches of these packages. Of h11 too, because it decides which chunks and heads are valid.
_INSTRUMENTED = ["attachproto", "attachproto_adapters", "h11"]


def main() -> None:
    """Instrument the packages, import the target, and hand over to libFuzzer, which ends the process."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m fuzz {{{','.join(TARGETS)}}} [OPTION | CORPUS | INPUT]...")
    # What the adapters warn of is no finding.
    warnings.simplefilter("ignore")
    instrument = atheris.instrument_imports  # pyright: ignore[reportAttributeAccessIssue]
    with instrument(include=_INSTRUMENTED):
        target = importlib.import_module(f"fuzz.targets.{sys.argv[1]}")
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
