"""The configurations of the proxies, each as a reader of docs/proxies.md would write it.

A `Site` is one port of a proxy: what it forwards to, after how many idle seconds it gives up, and what it refuses. A
`Way` is one way to configure a proxy, and one row of the table. The page shows the same text as the tests run.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent

# The request of each stream; the other calls pass, so that the refusal meets the stream itself.
STREAM_PATHS = r"/(attach|logs|exec/[^/]+/start)$"

NGINX_STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
APACHE_MODULES = Path("/usr/lib/apache2/modules")


@dataclass(frozen=True)
class Site:
    """One port of a proxy.

    Attributes:
        name: letters, digits and underscores; no two sites of a process share it.
        port: on 127.0.0.1, where the proxy listens.
        socket: the engine's Unix socket.
        bridge: a TCP port of 127.0.0.1 that leads to the engine, for a proxy that has no Unix sockets.
        idle: after how many seconds without a byte the proxy gives up.
        forbids: answer 403 to the requests of streams.
    """

    name: str
    port: int
    socket: str
    bridge: int
    idle: int
    forbids: bool = False


# ---- haproxy ----


def _haproxy_timeouts(site: Site) -> str:
    return f"    timeout connect 5s\n    timeout client {site.idle}s\n    timeout server {site.idle}s\n"


def haproxy_http(site: Site) -> str:
    deny = f"    http-request deny deny_status 403 if {{ path_reg {STREAM_PATHS} }}\n" if site.forbids else ""
    return (
        f"listen {site.name}\n"
        f"    mode http\n"
        f"    bind 127.0.0.1:{site.port}\n"
        f"{_haproxy_timeouts(site)}{deny}"
        f"    server engine unix@{site.socket}\n"
    )


def haproxy_tcp(site: Site) -> str:
    reject = "    tcp-request connection reject\n" if site.forbids else ""
    return (
        f"listen {site.name}\n"
        f"    mode tcp\n"
        f"    bind 127.0.0.1:{site.port}\n"
        f"{_haproxy_timeouts(site)}{reject}"
        f"    server engine unix@{site.socket}\n"
    )


def haproxy_whole(home: Path, sites: Sequence[str]) -> str:
    return "global\n    maxconn 200\n\n" + "\n".join(sites)


# ---- nginx ----


def _nginx_http(site: Site, directives: str) -> str:
    deny = f"    location ~ {STREAM_PATHS} {{ deny all; }}\n" if site.forbids else ""
    return (
        f"server {{\n"
        f"    listen 127.0.0.1:{site.port};\n"
        f"    client_max_body_size 0;\n"
        f"{deny}"
        f"    location / {{\n"
        f"        proxy_pass http://unix:{site.socket}:;\n"
        f"        proxy_http_version 1.1;\n"
        f"{indent(directives, ' ' * 8)}"
        f"        proxy_read_timeout {site.idle}s;\n"
        f"        proxy_send_timeout {site.idle}s;\n"
        f"    }}\n"
        f"}}\n"
    )


_NGINX_UPGRADE = "proxy_set_header Upgrade $http_upgrade;\nproxy_set_header Connection $http_connection;\n"


def nginx_plain(site: Site) -> str:
    return _nginx_http(site, "")


def nginx_upgrade(site: Site) -> str:
    return _nginx_http(site, _NGINX_UPGRADE)


def nginx_unbuffered(site: Site) -> str:
    return _nginx_http(site, _NGINX_UPGRADE + "proxy_buffering off;\nproxy_request_buffering off;\n")


def nginx_stream(site: Site, directives: str = "") -> str:
    deny = "    deny all;\n" if site.forbids else ""
    return (
        f"server {{\n"
        f"    listen 127.0.0.1:{site.port};\n"
        f"{deny}"
        f"    proxy_pass unix:{site.socket};\n"
        f"    proxy_timeout {site.idle}s;\n"
        f"{directives}"
        f"}}\n"
    )


def nginx_stream_half_close(site: Site) -> str:
    return nginx_stream(site, "    proxy_half_close on;\n")


def nginx_whole(home: Path, sites: Sequence[str]) -> str:
    http = "".join(site for site in sites if "http://" in site)
    stream = "".join(site for site in sites if "http://" not in site)
    folders = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return (
        f"load_module {NGINX_STREAM_MODULE};\n"
        f"user root;\ndaemon off;\nworker_processes 1;\npid {home}/pid;\nerror_log stderr;\n"
        f"events {{ worker_connections 500; }}\n"
        f"http {{\n    access_log off;\n"
        f"{''.join(f'    {folder}_temp_path {home}/{folder};' + chr(10) for folder in folders)}"
        f"{indent(http, '    ')}}}\n"
        f"stream {{\n{indent(stream, '    ')}}}\n"
    )


# ---- Apache ----


def apache_upgrade(site: Site, upgrade: str = " upgrade=ANY") -> str:
    deny = f"    <LocationMatch {STREAM_PATHS}>\n        Require all denied\n    </LocationMatch>\n"
    return (
        f"Listen 127.0.0.1:{site.port}\n"
        f"<VirtualHost 127.0.0.1:{site.port}>\n"
        f"{deny if site.forbids else ''}"
        f"    ProxyPass / unix:{site.socket}|http://docker/ timeout={site.idle} flushpackets=on{upgrade}\n"
        f"</VirtualHost>\n"
    )


def apache_plain(site: Site) -> str:
    return apache_upgrade(site, "")


def apache_whole(home: Path, sites: Sequence[str]) -> str:
    modules = ("mpm_event", "authz_core", "proxy", "proxy_http")
    return (
        f"ServerRoot {home}\nDefaultRuntimeDir {home}\nServerName localhost\nPidFile {home}/pid\n"
        f"{''.join(f'LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so' + chr(10) for name in modules)}"
        f"User www-data\nGroup www-data\nErrorLog /dev/stderr\nMutex posixsem\n" + "\n".join(sites)
    )


# ---- Caddy ----


def caddy(site: Site, directives: str = "") -> str:
    deny = f"    @streams path_regexp {STREAM_PATHS}\n    respond @streams 403\n" if site.forbids else ""
    return (
        f"http://:{site.port} {{\n"
        f"    bind 127.0.0.1\n"
        f"{deny}"
        f"    reverse_proxy unix/{site.socket} {{\n"
        f"{directives}"
        f"        transport http {{\n"
        f"            read_timeout {site.idle}s\n"
        f"            write_timeout {site.idle}s\n"
        f"        }}\n"
        f"    }}\n"
        f"}}\n"
    )


def caddy_flushing(site: Site) -> str:
    return caddy(site, "        flush_interval -1\n")


def caddy_whole(home: Path, sites: Sequence[str]) -> str:
    return "{\n    admin off\n    auto_https off\n}\n\n" + "\n".join(sites)


# ---- Squid ----


def squid(site: Site) -> str:
    deny = f"acl streams_{site.name} urlpath_regex /(attach|logs|exec/[^/]+/start)(\\?|$)\n"
    deny += f"http_access deny from_{site.name} streams_{site.name}\n"
    return (
        f"http_port 127.0.0.1:{site.port} accel no-vhost defaultsite=docker name={site.name}\n"
        f"cache_peer 127.0.0.1 parent {site.bridge} 0 no-query no-digest originserver name=engine_{site.name}\n"
        f"acl from_{site.name} myportname {site.name}\n"
        f"cache_peer_access engine_{site.name} allow from_{site.name}\n"
        f"{deny if site.forbids else ''}"
        f"http_access allow from_{site.name}\n"
        f"http_upgrade_request_protocols tcp allow from_{site.name}\n"
        f"read_timeout {site.idle} seconds\n"
    )


def squid_whole(home: Path, sites: Sequence[str]) -> str:
    return (
        "".join(sites)
        + "never_direct allow all\ncache deny all\ncache_mem 8 MB\nmax_filedescriptors 1024\n"
        + "access_log none\ncache_log /dev/null\ncache_store_log none\npid_filename none\ncoredump_dir none\n"
        + "netdb_filename none\npinger_enable off\nshutdown_lifetime 0 seconds\n"
    )


# ---- all of them ----


@dataclass(frozen=True)
class Program:
    """A proxy's program.

    Attributes:
        command: in the foreground; `{config}` is the path of its configuration.
        version: the arguments that print its version.
        whole: makes the whole configuration of its sites; gets a directory of its own.
        end: what ends it: SIGTERM where it has workers to end, SIGKILL where it would wait for its connections.
    """

    name: str
    packages: tuple[str, ...]
    command: tuple[str, ...]
    version: tuple[str, ...]
    whole: Callable[[Path, Sequence[str]], str]
    end: signal.Signals = signal.SIGTERM


HAPROXY = Program("haproxy", ("haproxy",), ("haproxy", "-db", "-f", "{config}"), ("-v",), haproxy_whole)
NGINX = Program("nginx", ("nginx",), ("nginx", "-c", "{config}"), ("-v",), nginx_whole)
APACHE = Program("apache2", ("apache2",), ("apache2", "-f", "{config}", "-DFOREGROUND"), ("-v",), apache_whole)
CADDY = Program(
    "caddy",
    ("caddy",),
    ("caddy", "run", "--config", "{config}", "--adapter", "caddyfile"),
    ("version",),
    caddy_whole,
    signal.SIGKILL,
)
SQUID = Program("squid", ("squid",), ("squid", "-N", "-f", "{config}"), ("-v",), squid_whole, signal.SIGKILL)


@dataclass(frozen=True)
class Way:
    """One way to configure a proxy."""

    name: str
    program: Program
    site: Callable[[Site], str]


WAYS = (
    Way("haproxy, `mode tcp`", HAPROXY, haproxy_tcp),
    Way("haproxy, `mode http`", HAPROXY, haproxy_http),
    Way("nginx `stream`, `proxy_half_close on`", NGINX, nginx_stream_half_close),
    Way("nginx `stream`", NGINX, nginx_stream),
    Way("nginx, upgrade headers, `proxy_buffering off`", NGINX, nginx_unbuffered),
    Way("nginx, upgrade headers", NGINX, nginx_upgrade),
    Way("nginx, nothing but `proxy_pass`", NGINX, nginx_plain),
    Way("Apache, `upgrade=ANY`", APACHE, apache_upgrade),
    Way("Apache, without `upgrade=`", APACHE, apache_plain),
    Way("Caddy, `flush_interval -1`", CADDY, caddy_flushing),
    Way("Caddy", CADDY, caddy),
    Way("Squid", SQUID, squid),
)
