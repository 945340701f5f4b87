"""The servers that are compared: each is started with its best honest configuration for the same work, as one
instance before one vendor, with the CPUs that it may use, and ended by its own id.

The same work: the vendor's key and workspace are put into what is forwarded, a 200 is kept, requests for one call that
is being fetched wait for it, and nothing is written a hit. A peer that is not installed is left out.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

from . import machine

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PATH = "/v2/api/call-history/"
# From this size on nginx is the cheaper with `sendfile`, in bytes.
SENDFILE_FROM = 32 << 10
HOT = "1" + "0" * 23


def binary(name):
    """A program of the release build."""
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
    return os.path.join(target, "release", name)


class Server:
    """A process that listens. `with` ends it."""

    def __init__(self, name, command, port, cpus, folder, unix=None, wrapper=()):
        self.name, self.port, self.unix = name, port, unix
        self.log = open(os.path.join(folder, f"{name.replace(' ', '-')}.log"), "ab")
        pinned = ["taskset", "-c", ",".join(map(str, cpus)), *wrapper, *command]
        self.began, self.began_at = time.monotonic(), time.time()
        self.process = subprocess.Popen(
            pinned, stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL, start_new_session=True)
        self._await_socket()

    def _await_socket(self):
        family = socket.AF_UNIX if self.unix else socket.AF_INET
        until = time.monotonic() + 20
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break
            try:
                with socket.socket(family) as probe:
                    probe.connect(self.unix or ("127.0.0.1", self.port))
                    self.listening = self.since_start()
                    return
            except OSError:
                time.sleep(0.0005)
        self.log.flush()
        with open(self.log.name, encoding="utf-8", errors="replace") as log:
            told = log.read()[-2000:]
        self.stop()
        raise RuntimeError(f"{self.name} does not listen:\n{told}")

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self):
        return self.process.pid

    def since_start(self):
        """Seconds since the process was started."""
        return time.monotonic() - self.began

    def cpu(self):
        return machine.cpu_seconds(self.pid)

    def memory(self):
        return machine.resident_bytes(self.pid)

    def stop(self, patience=5):
        """Has it end in order, and waits for that for so many seconds."""
        if self.process.poll() is None:
            # The whole session: some peers have a parent and workers.
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(5)
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def vendor(size, pause_ms, cpus, folder):
    """The vendor that stands behind everybody."""
    port = machine.free_port()
    command = [binary("examples/vendor"), f"127.0.0.1:{port}", str(size), str(pause_ms)]
    server = Server("vendor", command, port, cpus, folder)
    server.record = size
    return server


def lookups(server):
    """How many lookups came to the vendor so far."""
    return int(fetch(server.address, "/requests"))


def bare(size, cpus, folder, name="bare hyper", http2=False, unix=None, apart=False, wrapper=()):
    """The reference; with `apart` as a runtime for each core."""
    port = machine.free_port()
    address = unix or f"127.0.0.1:{port}"
    command = [binary("examples/bare"), address, str(size), str(len(cpus))]
    if http2 or apart:
        command.append("http2" if http2 else "apart")
    return Server(name, command, port, cpus, folder, unix, wrapper)


def callgate(upstream, cpus, folder, settings="", name="callgate", unix=None, port=None, wrapper=()):
    """The gateway of this checkout. `settings` is TOML, and comes last."""
    port, admin = port or machine.free_port(), machine.free_port()
    listen = f'["127.0.0.1:{port}", "unix:{unix}"]' if unix else f'"127.0.0.1:{port}"'
    base = write(folder, f"callgate-{port}.toml", f"""
[listen]
internal = {listen}
admin = "127.0.0.1:{admin}"
max_connections = 20000
max_requests = 1000000000
[upstream]
base_url = "http://{upstream.address}"
max_concurrency = 256
[[workspaces]]
workspace_id = "ws-bench"
api_key = "bench-key-0123456789abcdef"
[budget]
requests_per_minute = 1000000
[log]
level = "warn"
hits = 0.0
""")
    command = [binary("callgate"), "serve", "--config", base]
    if settings:
        command += ["--config", write(folder, f"callgate-{port}-more.toml", settings)]
    server = Server(name, command, port, cpus, folder, unix, wrapper)
    server.admin = f"127.0.0.1:{admin}"
    return server


def nginx(upstream, cpus, folder, fields=True, name="nginx"):
    """nginx with its disk cache in memory: it has no other. A small record is read with its head and written in one
    go, which costs it less than `sendfile` and the corking around it."""
    sendfile = "on" if upstream.record >= SENDFILE_FROM else "off"
    port = machine.free_port()
    cache = os.path.join(folder, f"nginx-{port}")
    os.makedirs(cache)
    said = """
            add_header Cache-Status "nginx; $upstream_cache_status" always;
            add_header X-Request-Id $request_id always;
            add_header X-Content-Type-Options nosniff always;""" if fields else ""
    text = f"""
daemon off;
pid {cache}/pid;
error_log stderr error;
worker_processes {len(cpus)};
worker_rlimit_nofile 20000;
events {{ worker_connections 18000; }}
http {{
    access_log off;
    sendfile {sendfile};
    tcp_nopush {sendfile};
    keepalive_timeout 75s;
    keepalive_requests 1000000000;
    open_file_cache max=200000 inactive=1d;
    client_body_temp_path {cache}/body;
    proxy_temp_path {cache}/proxy;
    fastcgi_temp_path {cache}/f; uwsgi_temp_path {cache}/u; scgi_temp_path {cache}/s;
    proxy_cache_path {cache}/calls levels=1:2 keys_zone=calls:128m max_size=4g inactive=1d use_temp_path=off;
    upstream vendor {{ server {upstream.address}; keepalive 256; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} reuseport backlog=4096;
        location {PATH} {{
            proxy_pass http://vendor;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header x-api-key bench-key-0123456789abcdef;
            proxy_set_header x-workspace-id ws-bench;
            proxy_cache calls;
            proxy_cache_key $uri;
            proxy_cache_valid 200 1d;
            proxy_cache_lock on;
            proxy_cache_lock_timeout 15s;{said}
        }}
    }}
}}
"""
    command = ["nginx", "-c", write(folder, f"nginx-{port}.conf", text), "-p", cache]
    return Server(name, command, port, cpus, folder)


def haproxy(upstream, cpus, folder, name="HAProxy"):
    """HAProxy with its cache in memory."""
    port = machine.free_port()
    text = f"""
global
    nbthread {len(cpus)}
    maxconn 9000
defaults
    mode http
    timeout client 75s
    timeout server 15s
    timeout connect 3s
    timeout http-keep-alive 75s
cache calls
    total-max-size 1024
    max-object-size 120000
    max-age 86400
frontend callers
    bind 127.0.0.1:{port} backlog 4096
    http-request cache-use calls
    http-response cache-store calls
    http-response set-header Cache-Status "haproxy; hit" if {{ res.cache_hit }}
    http-after-response set-header X-Request-Id %[uuid]
    http-after-response set-header X-Content-Type-Options nosniff
    default_backend vendor
backend vendor
    http-reuse always
    http-request set-header x-api-key bench-key-0123456789abcdef
    http-request set-header x-workspace-id ws-bench
    server vendor {upstream.address}
"""
    command = ["haproxy", "-db", "-f", write(folder, f"haproxy-{port}.cfg", text)]
    return Server(name, command, port, cpus, folder)


def varnish(upstream, cpus, folder, name="Varnish"):
    """Varnish with its store in memory."""
    port = machine.free_port()
    place = os.path.join(folder, f"varnish-{port}")
    os.makedirs(place)
    text = f"""
vcl 4.1;
import std;
backend default {{ .host = "127.0.0.1"; .port = "{upstream.port}"; }}
sub vcl_recv {{ unset req.http.cookie; return (hash); }}
sub vcl_backend_fetch {{
    set bereq.http.x-api-key = "bench-key-0123456789abcdef";
    set bereq.http.x-workspace-id = "ws-bench";
}}
sub vcl_backend_response {{ set beresp.ttl = 1d; }}
sub vcl_deliver {{
    if (obj.hits > 0) {{ set resp.http.Cache-Status = "varnish; hit"; }}
    set resp.http.X-Request-Id = req.xid;
    set resp.http.X-Content-Type-Options = "nosniff";
}}
"""
    command = ["varnishd", "-F", "-j", "none", "-n", place, "-a", f"127.0.0.1:{port}",
               "-f", write(folder, f"varnish-{port}.vcl", text), "-s", "malloc,2g",
               "-p", f"thread_pools={len(cpus)}", "-p", "thread_pool_min=300", "-p", "timeout_idle=75"]
    return Server(name, command, port, cpus, folder)


def installed():
    """The peers that this machine has, with their versions."""
    found = {
        "nginx": machine.version(["nginx", "-v"], r"nginx/([\d.]+)"),
        "HAProxy": machine.version(["haproxy", "-v"], r"version ([\d.]+)"),
        "Varnish": machine.version(["varnishd", "-V"], r"varnish-([\d.]+)"),
    }
    return {name: version for name, version in found.items() if version}


def peers(upstream, cpus, folder):
    """Starts every peer that is installed."""
    makers = {"nginx": nginx, "HAProxy": haproxy, "Varnish": varnish}
    started = []
    for name in installed():
        started.append(makers[name](upstream, cpus, folder))
        if name == "nginx":
            started.append(nginx(upstream, cpus, folder, fields=False, name="nginx stripped"))
    return started


def fetch(address, path):
    """The body of a GET, as text."""
    with urllib.request.urlopen(f"http://{address}{path}", timeout=30) as answer:
        return answer.read().decode()


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def need(*programs):
    """Ends with a clear word where a program is missing."""
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        raise SystemExit(f"benches/compare needs {', '.join(missing)}")
