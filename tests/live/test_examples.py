"""The tests of the examples, on real engines."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

import pytest

from tests.examples import test_agent_tools as agent_tools
from tests.examples import test_grader as grader
from tests.examples import test_log_service as log_service
from tests.examples import test_mcp_server as mcp_server
from tests.examples import test_web_terminal as web_terminal
from tests.examples.browser import browser as browser
from tests.examples.programs import Target
from tests.live import engines
from tests.live.conftest import NAMED
from tests.live.engine_api import Engine

pytestmark = pytest.mark.live

LABELS = [*engines.NAMES, *(label for label in NAMED if label not in engines.NAMES)]
# A container in a container may not have the limits that Podman asks for.
LIMITS = {"Ulimits": [{"Name": name, "Soft": 1024, "Hard": 1024} for name in ("nofile", "nproc")]}


@pytest.fixture(params=LABELS)
def target(request: pytest.FixtureRequest, find_engine: Callable[[str], Engine]) -> Iterator[Target]:
    engine = find_engine(request.param)
    image = f"example-{secrets.token_hex(8)}"
    engine.call("POST", f"/images/{engines.IMAGE}/tag?repo={image}")
    found = Target(engine.host, image, {"NetworkMode": "none", **(LIMITS if engine.name == "podman" else {})})
    yield found
    found.remove_all()
    engine.call("DELETE", f"/images/{image}?noprune=1")


test_a_deadline_ends_the_command = agent_tools.test_a_deadline_ends_the_command
test_output_is_bounded = agent_tools.test_output_is_bounded
test_ctrl_c_removes_the_sandbox = agent_tools.test_ctrl_c_removes_the_sandbox
test_a_runner_that_is_killed_leaves_no_sandbox = agent_tools.test_a_runner_that_is_killed_leaves_no_sandbox

test_a_submission_passes = grader.test_a_submission_passes
test_what_can_be_wrong = grader.test_what_can_be_wrong

test_the_tools_of_a_server = mcp_server.test_the_tools_of_a_server
test_ctrl_c = mcp_server.test_ctrl_c

test_viewers_come_leave_and_resume = log_service.test_viewers_come_leave_and_resume
test_ctrl_c_while_somebody_looks = log_service.test_ctrl_c_while_somebody_looks

test_a_shell_in_a_browser = web_terminal.test_a_shell_in_a_browser
test_the_shell_ends = web_terminal.test_the_shell_ends
test_ctrl_c_while_a_tab_is_open = web_terminal.test_ctrl_c_while_a_tab_is_open
