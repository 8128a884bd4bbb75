"""All scenarios, in the order of the page's tables."""

from tests.live.matrix.scenarios import (  # noqa: F401  # each fills the list
    attach,
    connections,
    deadlines,
    execs,
    exit_codes,
    logs,
    names_and_refusals,
    output,
    run,
    stdin,
    terminals,
)
from tests.live.matrix.scene import SCENARIOS as SCENARIOS
