"""A Hugging Face hub on this machine, with faults to order, for the real huggingface_hub client.

It speaks what the client needs to find and download models: model info, file resolution with LFS redirects, ranges,
and the error codes of the real hub. Two sockets: the hub, which may see a token, and the storage host, which must not;
and, with a certificate, a third one that has plain files at https addresses.

    with LocalHub() as hub:
        hub.add("timm/convnext_tiny.fb_in22k", {"model.safetensors": path})
        hub.fault("GET .*/lfs/", status=503, times=2)
        subprocess.run(["zooconv", "fetch-convert", "convnext_tiny_22k"], env=os.environ | {"HF_ENDPOINT": hub.url})

Protocol: https://huggingface.co/docs/hub/api and https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_local"  # noqa: S105 (of the local hub alone)
_LFS = (".safetensors", ".bin", ".pth", ".pt", ".pkl", ".npz")
_PIECE = 1 << 20


@dataclass(frozen=True)
class Blob:
    """A file of a repository: its digests, and the bytes or the path to them."""

    content: bytes | Path
    size: int
    sha256: str
    git: str
    lfs: bool

    @classmethod
    def of(cls, name: str, content: bytes | Path) -> Blob:
        """Measure a file. Large binary ones are LFS files, as on the hub."""
        sha256, size = hashlib.sha256(), 0
        for piece in _pieces(content):
            sha256.update(piece)
            size += len(piece)
        lfs = name.endswith(_LFS)
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256.hexdigest()}\nsize {size}\n".encode()
        data = pointer if lfs else b"".join(_pieces(content))
        git = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
        return cls(content, size, sha256.hexdigest(), git, lfs)

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        for piece in _pieces(self.content, start):
            yield piece[:stop - start]
            start += len(piece)
            if start >= stop:
                return


@dataclass
class Repo:
    """A repository: its commits, its branches, and who may see it."""

    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    license: str = "apache-2.0"
    private: bool = False
    gated: bool = False
    disabled: bool = False


@dataclass
class Fault:
    """What goes wrong with the next `times` requests whose `host METHOD /path` matches `pattern`.

    `wrong` bytes are sent from byte `after` of a file on; a server that sends the `whole` ignores ranges.
    """

    pattern: str
    times: int = 1
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    wrong: bool = False
    cut: int | None = None
    reset: bool = False
    after: int = 0
    whole: bool = False


class LocalHub:
    """The servers. A context manager; `url` is what HF_ENDPOINT must be.

    With `certificate`, a PEM file with its key, `web` is an https host for what `put` is given; $SSL_CERT_FILE must
    name the same file for a client that is to trust it.
    """

    def __init__(self, certificate: Path | None = None) -> None:
        self.repos: dict[str, Repo] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.ranges: list[str] = []  # the Range header of each file that was sent, if it had one
        self.token_leaked = False
        self.lock = threading.Lock()
        self._servers = [self._serve("hub"), self._serve("cdn")]
        self.url, self.cdn = (f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers)
        self.web, self.files = "", dict[str, Blob | str]()
        if certificate:
            self._servers.append(self._serve("web", certificate))
            self.web = f"https://127.0.0.1:{self._servers[-1].server_address[1]}"

    def add(self, repo: str, files: Mapping[str, bytes | Path], *, branch: str = "main", **facts: Any) -> str:
        """Commit files to a repository; the commit. `facts` are fields of `Repo`."""
        known = self.repos.setdefault(repo, Repo())
        for name, value in facts.items():
            setattr(known, name, value)
        tree = dict(known.commits.get(known.refs.get(branch, ""), {}))
        tree |= {name: Blob.of(name, content) for name, content in files.items()}
        text = json.dumps([repo, sorted((name, blob.git) for name, blob in tree.items())])
        commit = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        known.commits[commit], known.refs[branch] = tree, commit
        return commit

    def put(self, path: str, content: bytes | Path | str) -> str:
        """Have a file at an https address, or a redirection, which is a text; the address."""
        self.files[path] = content if isinstance(content, str) else Blob.of(path, content)
        return f"{self.web}{path}"

    def fault(self, pattern: str, **what: Any) -> Fault:
        """Order a fault. See `Fault`."""
        fault = Fault(pattern, **what)
        self.faults.append(fault)
        return fault

    def count(self, pattern: str) -> int:
        """How many requests matched."""
        return sum(bool(re.search(pattern, line)) for line in self.requests)

    def next_fault(self, line: str) -> Fault:
        with self.lock:
            self.requests.append(line)
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.pattern, line):
                    fault.times -= 1
                    return fault
        return Fault("")

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def _serve(self, role: str, certificate: Path | None = None) -> ThreadingHTTPServer:
        handler = type(f"{role}Handler", (_Handler,), {"hub": self, "role": role})
        server = _Server(("127.0.0.1", 0), handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return server

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Tell of anything but a client that hung up, as one does that does not trust the certificate."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Refused(Exception):
    def __init__(self, status: int, code: str = "", message: str = "", **headers: str) -> None:
        super().__init__(message)
        self.status, self.headers = status, {"X-Error-Code": code, "X-Error-Message": message, **headers}


class _Handler(BaseHTTPRequestHandler):
    hub: ClassVar[LocalHub]
    role: ClassVar[str]
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.fault = self.hub.next_fault(f"{self.role} {self.command} {unquote(parts.path)}")
        try:
            if self.fault.status is not None:
                raise _Refused(self.fault.status)
            answer = {"hub": self._resolve, "cdn": self._storage, "web": self._plain}[self.role]
            answer(parts.path, parse_qs(parts.query))
        except _Refused as error:
            self._send(error.status, error.headers, b"{}")
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    # -- the hub -----------------------------------------------------------------------------------------------------

    def _resolve(self, path: str, query: Mapping[str, list[str]]) -> None:
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            repo = self._repo(found[1])
            commit = self._commit(repo, unquote(found[2] or "main"))
            self._json(self._info(found[1], repo, commit, blobs="blobs" in query))
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(found[1], unquote(found[2]), unquote(found[3]))
        else:
            raise _Refused(404, "", f"no route {path}")

    def _file(self, name: str, revision: str, file: str) -> None:
        repo = self._repo(name)
        if repo.gated and not self._known():
            raise _Refused(401, "GatedRepo", f"Access to model {name} is restricted.")
        commit = self._commit(repo, revision)
        blob = repo.commits[commit].get(file)
        if blob is None:
            raise _Refused(404, "EntryNotFound", "Entry not found", **{"X-Repo-Commit": commit})
        stamp = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if blob.lfs:
            self._send(302, {**stamp, "Location": f"{self.hub.cdn}/lfs/{blob.sha256}?name={name}&sig=x",
                             "ETag": f'"{blob.git}"', "X-Linked-ETag": f'"{blob.sha256}"',
                             "X-Linked-Size": str(blob.size)}, b"")
        else:
            self._content(blob, {**stamp, "ETag": f'"{blob.git}"'})

    def _info(self, name: str, repo: Repo, commit: str, *, blobs: bool) -> dict[str, Any]:
        siblings = []
        for file, blob in sorted(repo.commits[commit].items()):
            entry: dict[str, Any] = {"rfilename": file}
            if blobs:
                entry |= {"size": blob.size, "blobId": blob.git}
            if blobs and blob.lfs:
                entry["lfs"] = {"sha256": blob.sha256, "size": blob.size, "pointerSize": 135}
            siblings.append(entry)
        return {"id": name, "modelId": name, "sha": commit, "private": repo.private, "disabled": repo.disabled,
                "gated": "manual" if repo.gated else False, "tags": [], "downloads": 0, "likes": 0,
                "cardData": {"license": repo.license}, "siblings": siblings}

    def _known(self) -> bool:
        given = self.headers.get("Authorization")
        if given and given != f"Bearer {TOKEN}":
            raise _Refused(401, "", "Invalid credentials in Authorization header")
        return bool(given)

    def _repo(self, name: str) -> Repo:
        known, repo = self._known(), self.hub.repos.get(name)
        if repo is None or (repo.private and not known):
            raise _Refused(404 if known else 401, "RepoNotFound", "Repository not found")
        if repo.disabled:
            raise _Refused(403, "", "Access to this resource is disabled.")
        return repo

    def _commit(self, repo: Repo, revision: str) -> str:
        commit = repo.refs.get(revision, revision)
        if commit not in repo.commits:
            raise _Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    # -- the storage host --------------------------------------------------------------------------------------------

    def _storage(self, path: str, query: Mapping[str, list[str]]) -> None:
        self._no_token()
        name = query["name"][0]
        for tree in self.hub.repos[name].commits.values():
            for blob in tree.values():
                if path == f"/lfs/{blob.sha256}":
                    self._content(blob, {"ETag": f'"{blob.sha256[:32]}"', "Accept-Ranges": "bytes"})
                    return
        raise _Refused(404)

    # -- the https host ----------------------------------------------------------------------------------------------

    def _plain(self, path: str, query: Mapping[str, list[str]]) -> None:
        self._no_token()
        found = self.hub.files.get(path)
        if found is None:
            raise _Refused(404)
        if isinstance(found, str):
            self._send(302, {"Location": found}, b"")
        else:
            self._content(found, {"Accept-Ranges": "bytes"})

    def _no_token(self) -> None:
        if self.headers.get("Authorization"):
            self.hub.token_leaked = True
            raise _Refused(400, "", f"the token came to {self.role}")

    # -- answers -----------------------------------------------------------------------------------------------------

    def _json(self, value: object) -> None:
        self._send(200, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self._head(status, {**headers, "Content-Length": str(len(body))})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, **self.fault.headers}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()

    def _content(self, blob: Blob, headers: Mapping[str, str]) -> None:
        """A file, or the range of it that was asked for, with the fault that was ordered."""
        start, stop, status = 0, blob.size, 200
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted and not self.fault.whole:
            start, stop, status = int(wanted[1]), min(int(wanted[2] or blob.size - 1) + 1, blob.size), 206
            headers = {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{blob.size}"}
        if self.command == "GET":
            self.hub.ranges.append(self.headers.get("Range", ""))
        self._head(status, {**headers, "Content-Length": str(stop - start)})
        if self.command == "HEAD":
            return
        if self.fault.cut is not None:
            stop = min(stop, start + self.fault.cut)
        for piece in blob.read(start, stop):
            odd = self.fault.wrong and start >= self.fault.after
            self.wfile.write(bytes(b ^ 1 for b in piece[:64]) + piece[64:] if odd else piece)
        if self.fault.cut is not None or self.fault.reset:
            self._hang_up()

    def _hang_up(self) -> None:
        self.wfile.flush()
        if self.fault.reset:  # linger 0: the kernel answers with RST instead of FIN
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        else:
            self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True


def _pieces(content: bytes | Path, start: int = 0) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content[start:]
        return
    with content.open("rb") as file:
        file.seek(start)
        while piece := file.read(_PIECE):
            yield piece
