from __future__ import annotations

import signal

import pytest

from tests.examples.programs import Target, program, run

# An MCP server in shell. It logs to stderr, asks the client something in between, and says at its end why it ends.
SERVER = r"""
result() { printf '{"jsonrpc": "2.0", "id": %s, "result": %s}\n' "$id" "$1"; }
while read -r line; do
  id=${line##*\"id\": }; id=${id%%,*}
  case $line in
    *'"initialize"'*)
      echo 'hello' >&2
      echo '{"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}}'
      echo '{"jsonrpc": "2.0", "id": 77, "method": "roots/list"}'
      read -r answer
      case $answer in *'"id": 77'*-32601*) ;; *) exit 5 ;; esac
      result '{"serverInfo": {"name": "sh", "version": "1"}}' ;;
    *tools/list*) result '{"tools": [{"name": "say", "description": "says it"}]}' ;;
    *'"fail"'*) echo "{\"jsonrpc\": \"2.0\", \"id\": $id, \"error\": {\"code\": 1, \"message\": \"no such tool\"}}" ;;
    *'"die"'*) exit 4 ;;
    *'"hang"'*) echo 'hangs' >&2; exec sleep 1000 ;;
    *tools/call*) word=${line##*\"word\": \"}; result '{"content": [{"type": "text", "text": "'"${word%%\"*}"'"}]}' ;;
  esac
done
echo 'stdin has ended' >&2
"""


def arguments(target: Target, *options: str) -> list[str]:
    return [*target.options, *options, target.image, "sh", "-c", SERVER]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_tools_of_a_server(target: Target, backend: str) -> None:
    # Its last words come behind the half-close.
    assert run("mcp_server.py", *arguments(target, "--backend", backend)) == (
        0,
        ["server: sh 1", "say: says it"],
        "hello\nstdin has ended",
    )
    assert target.containers() == []


def test_a_call(target: Target) -> None:
    call = ["--call", "say", "--arguments", '{"word": "gr\u00fcn"}']
    code, lines, _ = run("mcp_server.py", *arguments(target, *call))
    assert (code, lines) == (0, ["server: sh 1", "gr\u00fcn"])


def test_errors(target: Target) -> None:
    for tool, message in (("fail", "no such tool"), ("die", "the server has ended with exit code 4")):
        code, _, errors = run("mcp_server.py", *arguments(target, "--call", tool))
        assert (code, errors.splitlines()[-1]) == (1, message)
        assert target.containers() == []


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_ctrl_c(target: Target, backend: str) -> None:
    with program("mcp_server.py", *arguments(target, "--backend", backend, "--call", "hang")) as running:
        assert running.line() == "server: sh 1"
        assert [running.error_line(), running.error_line()] == ["hello", "hangs"]
        assert running.end(signal.SIGINT) == (130, [], "hello\nhangs")
        assert target.containers() == []
