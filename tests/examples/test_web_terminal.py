from __future__ import annotations

import http.client
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from tests.examples.browser import Browser, Tab
from tests.examples.programs import BOUND, Program, Target, program, until

ROWS = "document.querySelector('.xterm-rows')?.innerText ?? ''"
SIZE = "terminal.rows + ' ' + terminal.cols"


@contextmanager
def terminal(target: Target, browser: Browser) -> Iterator[tuple[Program, str]]:
    modules = str(browser.xterm)
    with program("web_terminal.py", *target.options, "--port", "0", "--modules", modules, target.image) as running:
        yield running, running.line()


def wait_for_prompt(tab: Tab) -> None:
    tab.until(f"({ROWS}).trim()")


def wait_for(tab: Tab, text: str) -> None:
    """Waits for a line that ends so; before it may stand a prompt that came late."""
    tab.until(f"({ROWS}).split('\\n').some(line => line.trim().endsWith({text!r}))")


def test_a_shell_in_a_browser(target: Target, browser: Browser) -> None:
    with terminal(target, browser) as (running, url):
        with browser.tab(url) as tab:
            wait_for_prompt(tab)
            sizes = []
            for width, height in ((1000, 700), (600, 500)):
                tab.resize(width, height)
                tab.until(f"innerWidth === {width}")
                tab.type("stty size\n")
                sizes.append(tab.value(SIZE))
                wait_for(tab, sizes[-1])
            assert sizes[0] != sizes[1]
            # What is no ASCII, and both directions at once.
            tab.type("echo $((6 * 7)) grün\n")
            wait_for(tab, "42 grün")
            tab.type("yes\n")
            wait_for(tab, "y")
            assert len(target.containers()) == 1
        until(lambda: not target.containers(), "the container is removed when its tab closes")
        assert running.end(signal.SIGINT) == (130, [], "")


def test_the_shell_ends(target: Target, browser: Browser) -> None:
    with terminal(target, browser) as (running, url), browser.tab(url) as tab:
        wait_for_prompt(tab)
        tab.type("exit\n")
        wait_for(tab, "[closed: the shell has ended]")
        until(lambda: not target.containers(), "the container is removed when its shell ends")
        assert running.end(signal.SIGINT) == (130, [], "")


def test_the_tab_closes_while_its_input_is_stuck(target: Target, browser: Browser) -> None:
    with terminal(target, browser) as (_, url):
        with browser.tab(url) as tab:
            wait_for_prompt(tab)
            tab.type("stty raw -echo; echo ready; exec sleep 1000\n")
            wait_for(tab, "ready")
            tab.value("socket.send(new Uint8Array(3000000))")
            tab.until("socket.bufferedAmount === 0")
        until(lambda: not target.containers(), "the container is removed when its tab closes")


def test_ctrl_c_while_a_tab_is_open(target: Target, browser: Browser) -> None:
    with terminal(target, browser) as (running, url), browser.tab(url) as tab:
        wait_for_prompt(tab)
        assert len(target.containers()) == 1
        assert running.end(signal.SIGINT) == (130, [], "")
        assert target.containers() == []
        wait_for(tab, "[closed: the server ends]")


def test_another_site_gets_no_shell(target: Target, browser: Browser) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
    }
    with terminal(target, browser) as (_, url):
        for origin, status in (("http://evil.example", 403), (None, 403), (url, 101)):
            connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=BOUND)
            connection.request("GET", "/terminal", headers=upgrade | ({"Origin": origin} if origin else {}))
            assert connection.getresponse().status == status
            connection.close()
        until(lambda: not target.containers(), "the container of the one that was let in is removed")
