"""A server on the loopback that speaks the Hub's protocol as huggingface_hub uses it, faults included.

Metadata by HEAD with redirects, ranges, ETag and `x-linked-etag`, full commits and branches. Large files (`.pth`,
`.safetensors`, `.zip`) live on another host, as on the Hub: `localhost` where the Hub is `127.0.0.1`.
"""

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

LARGE = (".pth", ".safetensors", ".zip")

Tree = dict[str, bytes]


@dataclass
class Fault:
    """What goes wrong, `times` times, with requests of `method` whose path holds `path`.

    kind: "status" (answer `status`), "cut" (half of the body, then the connection is gone), "stall" (half, then
    nothing), "wrong" (one byte is another), "short" and "long" (a byte less, a byte more than the file has).
    """

    path: str
    kind: str
    times: int = 1
    method: str = "GET"
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)


@cache
def sha256(content: bytes) -> str:
    """Return the checksum of a file, which many tests serve."""
    return hashlib.sha256(content).hexdigest()


class Hub:
    """Repositories (name → commit → tree), their branches (name → commit of `main`), and what goes wrong."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, Tree]] = {}
        self.main: dict[str, str] = {}
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str, str]] = []
        """(method, path, Range header or "")"""
        self.tokens: set[tuple[str, str]] = set()
        """(host, Authorization header) as they came"""
        self.blobs: dict[str, bytes] = {}
        self.port = 0

    def commit(self, repository: str, tree: Tree) -> str:
        """Add a commit, let `main` be at it, and return its name."""
        hashes = {path: sha256(content) for path, content in sorted(tree.items())}
        name = hashlib.sha1(repr((repository, len(self.repositories), hashes)).encode()).hexdigest()
        self.repositories.setdefault(repository, {})[name] = tree
        self.main[repository] = name
        self.blobs |= {hashes[path]: content for path, content in tree.items()}
        return name

    def fault(self, method: str, path: str) -> Fault | None:
        """Return the fault that this request meets, which is then spent once more."""
        for fault in self.faults:
            if fault.times > 0 and fault.method == method and fault.path in path:
                fault.times -= 1
                return fault
        return None

    def fetched(self, path: str) -> int:
        """Return how many GET requests there were for paths that hold `path`."""
        return sum(method == "GET" and path in asked for method, asked, _ in self.requests)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that were killed."""


@contextmanager
def serving(hub: Hub) -> Iterator[str]:
    """Serve `hub` on a free port of the loopback; gives its address."""
    server = _Server(("127.0.0.1", 0), _handler(hub))
    hub.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{hub.port}"
    finally:
        server.shutdown()
        server.server_close()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Be silent."""

        def do_HEAD(self) -> None:
            self.answer("HEAD")

        def do_GET(self) -> None:
            self.answer("GET")

        def answer(self, method: str) -> None:
            path = unquote(self.path)
            hub.requests.append((method, path, self.headers.get("Range", "")))
            if token := self.headers.get("Authorization"):
                hub.tokens.add((self.headers["Host"].partition(":")[0], token))
            fault = hub.fault(method, path)
            if fault and fault.kind == "status":
                self.finish_with(fault.status, fault.headers)
            elif "/resolve/" in path:
                self.resolve(method, path, fault)
            elif path.startswith("/cdn/"):
                self.content(method, hub.blobs[path.removeprefix("/cdn/")], {}, fault)
            elif path.startswith("/raw/"):
                _, _, owner, name, commit, inner = path.split("/", 5)
                self.content(method, hub.repositories[f"{owner}/{name}"][commit][inner], {}, fault)
            else:
                self.finish_with(404, {})

        def resolve(self, method: str, path: str, fault: Fault | None) -> None:
            repository, _, rest = path.strip("/").partition("/resolve/")
            revision, _, inner = rest.partition("/")
            commit = hub.main.get(repository, "") if revision == "main" else revision
            tree = hub.repositories.get(repository, {}).get(commit)
            if repository not in hub.repositories:
                return self.finish_with(401, {"X-Error-Code": "RepoNotFound"})
            if tree is None:
                return self.finish_with(404, {"X-Error-Code": "RevisionNotFound"})
            if inner not in tree:
                return self.finish_with(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            content = tree[inner]
            headers = {"X-Repo-Commit": commit}
            if inner.endswith(LARGE):
                checksum = sha256(content)
                headers |= {"X-Linked-Etag": f'"{checksum}"', "X-Linked-Size": str(len(content))}
                return self.finish_with(302, headers | {"Location": f"http://localhost:{hub.port}/cdn/{checksum}"})
            blob_id = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            return self.content(method, content, headers | {"ETag": f'"{blob_id}"'}, fault)

        def content(self, method: str, content: bytes, headers: dict[str, str], fault: Fault | None) -> None:
            kind = fault.kind if fault else ""
            if kind == "wrong":
                middle = len(content) // 2
                content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
            elif kind in ("short", "long"):
                content = content[:-1] if kind == "short" else content + b"x"
            status, start = 200, 0
            if wanted := self.headers.get("Range"):
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
                if start >= len(content):
                    return self.finish_with(416, {"Content-Range": f"bytes */{len(content)}"})
                status = 206
                headers = headers | {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
            body = content[start:]
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body)), "Accept-Ranges": "bytes"}).items():
                self.send_header(name, value)
            self.end_headers()
            if method == "HEAD":
                return None
            if kind in ("cut", "stall"):
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                time.sleep(0.2 if kind == "cut" else 20)
                self.close_connection = True
                self.connection.close()
                return None
            self.wfile.write(body)
            return None

        def finish_with(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in (headers | {"Content-Length": "0"}).items():
                self.send_header(name, value)
            self.end_headers()

    return Handler
