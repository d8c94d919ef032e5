"""A stand-in for the Hugging Face Hub on loopback: what its client asks for, kept in memory, with faults by switch."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import re
import sys
import threading
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

#: Files of this size or more, or with one of these endings, go to large-file storage.
_LARGE = 1000


@dataclass
class Fault:
    """What goes wrong with requests whose method and path match, as often as `times` says."""

    pattern: str
    times: int = 10**9
    #: Answer with this status and these headers.
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    #: Break the connection after so many bytes of the body.
    breaks: int | None = None
    #: Send a body that is changed in this way, its length as it then is.
    changed: object = None
    #: Wait so many seconds after half of the body.
    waits: float = 0.0
    #: Further headers, or others, of an answer that is right otherwise.
    lies: dict[str, str] = field(default_factory=dict)
    #: Send the body again and again, with no length announced.
    endless: bool = False


@dataclass
class Repository:
    private: bool
    gated: bool = False
    #: Commits, the oldest first: 40 digits, and files by path.
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def at(self, revision):
        if revision == "main":
            return self.commits[-1]
        return next((commit for commit in self.commits if commit[0] == revision), None)

    def commit(self, files, message="a commit"):
        """A further commit with these files on top of the last one; its 40 digits."""
        before = self.commits[-1][1] if self.commits else {}
        after = {**before, **files}
        text = json.dumps([len(self.commits), {name: hashlib.sha256(data).hexdigest() for name, data in after.items()}])
        self.commits.append((hashlib.sha1(text.encode()).hexdigest(), after))
        self.messages.append(message)
        return self.commits[-1][0]


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """A client that was killed is no news; told later, it would stand in another test's stderr."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Hub:
    """The server; `url` is its address, `asked` what it was asked for."""

    def __init__(self):
        self.repositories: dict[str, Repository] = {}
        self.stored: dict[str, bytes] = {}
        self.tokens = {"hf_secret0123456789"}
        self.faults: list[Fault] = []
        self.asked: list[tuple[str, str]] = []
        self.authorizations: set[str | None] = set()
        self.sent = 0
        self.closed = threading.Event()
        #: Set once a fault keeps a client waiting in the middle of a body.
        self.waiting = threading.Event()
        self._lock = threading.Lock()
        hub = self

        class Handler(_Handler):
            outer = hub

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self):
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()

    def add(self, name, files, *, private=False, gated=False):
        """A repository with one commit; its 40 digits."""
        repository = self.repositories.setdefault(name, Repository(private, gated))
        return repository.commit(files)

    def count(self, pattern):
        """How many requests matched."""
        return sum(bool(re.search(pattern, f"{method} {path}")) for method, path in self.asked)

    def fault(self, method, path):
        with self._lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.pattern, f"{method} {path}"):
                    fault.times -= 1
                    return fault
        return None


class _Handler(http.server.BaseHTTPRequestHandler):
    outer: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer()

    do_GET = do_POST = do_PUT = do_HEAD  # noqa: N815 - names of http.server

    def _answer(self):
        path = unquote(urlsplit(self.path).path)
        self.outer.asked.append((self.command, path))
        authorization = self.headers.get("Authorization")
        self.outer.authorizations.add(authorization)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            self.body = self._chunks()
        self.known = (authorization or "").removeprefix("Bearer ") in self.outer.tokens
        self.problem = self.outer.fault(self.command, path)
        if self.problem is not None and self.problem.status is not None:
            self._send(self.problem.status, self.problem.body, self.problem.headers)
            return
        for pattern, method in _ROUTES:
            found = re.fullmatch(pattern, f"{self.command} {path}")
            if found:
                getattr(self, method)(**found.groupdict())
                return
        self._error(404, "", "no such route")

    def _chunks(self):
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, status, body=b"", headers=None, *, length=None):
        problem = self.problem if status in (200, 206) else None
        if problem is not None and problem.changed is not None and self.command != "HEAD":
            body = problem.changed(body)
        self.send_response(status)
        headers = {"Content-Length": str(len(body) if length is None else length), **(headers or {})}
        if problem is not None:
            headers |= problem.lies
            if problem.endless:
                del headers["Content-Length"]
                self.close_connection = True
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        while problem is not None and problem.endless and not self.outer.closed.is_set():
            self.wfile.write(body)
        if problem is not None and problem.waits:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.outer.waiting.set()
            self.outer.closed.wait(problem.waits)
            body = body[len(body) // 2 :]
        if problem is not None and problem.breaks is not None:
            body = body[: problem.breaks]
            self.close_connection = True
        self.outer.sent += len(body)
        self.wfile.write(body)

    def _json(self, value, status=200):
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _error(self, status, code, message, headers=None):
        said = {"X-Error-Code": code, "X-Error-Message": message, **(headers or {})}
        self._send(status, json.dumps({"error": message}).encode(), said)

    def _open(self, repo):
        """The repository; None where the one who asks may not see it, and is told so."""
        found = self.outer.repositories.get(repo)
        if found is None or (found.private and not self.known):
            self._error(404 if self.known else 401, "RepoNotFound", "Repository not found")
            return None
        if found.gated and not self.known:
            self._error(403, "GatedRepo", f"Access to model {repo} is restricted")
            return None
        return found

    def _at(self, repo, revision):
        found = self._open(repo)
        if found is None:
            return None
        commit = found.at(revision)
        if commit is None:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def resolve(self, repo, revision, file):
        commit = self._at(repo, revision)
        if commit is None:
            return
        oid, files = commit
        if file not in files:
            self._error(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": oid})
            return
        data = files[file]
        headers = {"X-Repo-Commit": oid, "ETag": f'"{_etag(data)}"', "Accept-Ranges": "bytes"}
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if start:
            first = int(start[1])
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
            self._send(206, data[first:], headers, length=len(data) - first)
        else:
            self._send(200, data, headers, length=None if self.problem and self.problem.changed else len(data))

    def info(self, repo, revision="main"):
        commit = self._at(repo, revision)
        if commit is not None:
            siblings = [{"rfilename": name} for name in commit[1]]
            found = self.outer.repositories[repo]
            said = {"id": repo, "modelId": repo, "sha": commit[0], "private": found.private, "siblings": siblings}
            self._json({**said, "tags": [], "gated": found.gated, "downloads": 0, "likes": 0})

    def tree(self, repo, revision):
        commit = self._at(repo, revision)
        if commit is not None:
            self._json([_entry(name, data) for name, data in commit[1].items()])

    def paths_info(self, repo, revision):
        commit = self._at(repo, revision)
        if commit is not None:
            wanted = json.loads(self.body)["paths"] if self.body.startswith(b"{") else list(commit[1])
            self._json([_entry(name, commit[1][name]) for name in wanted if name in commit[1]])

    def create(self):
        said = json.loads(self.body)
        name = f"{said['organization']}/{said['name']}" if said.get("organization") else said["name"]
        if not self.known:
            self._error(401, "", "Invalid username or password.")
        elif name in self.outer.repositories:
            self._json({"error": "You already created this model repo", "url": f"{self.outer.url}/{name}"}, 409)
        else:
            private = said.get("private") or said.get("visibility") == "private"
            repository = self.outer.repositories[name] = Repository(bool(private))
            repository.commit({".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit")
            self._json({"url": f"{self.outer.url}/{name}", "id": name})

    def validate(self):
        self._json({"errors": [], "warnings": []})

    def preupload(self, repo, revision):
        commit = self._at(repo, revision)
        if commit is not None:
            self._json({"files": [{"path": f["path"], "shouldIgnore": False, "uploadMode": _mode(f["size"]),
                                   **({"oid": _entry(f["path"], commit[1][f["path"]])["oid"]}
                                      if f["path"] in commit[1] else {})}
                                  for f in json.loads(self.body)["files"]]})  # fmt: skip

    def batch(self, repo):
        if self._open(repo) is None:
            return
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            actions = {"upload": {"href": f"{self.outer.url}/storage/{wanted['oid']}"},
                       "verify": {"href": f"{self.outer.url}/storage/{wanted['oid']}/verify"}}  # fmt: skip
            here = wanted["oid"] in self.outer.stored
            objects.append({**wanted, **({} if here else {"actions": actions})})
        self._json({"transfer": "basic", "objects": objects})

    def store(self, oid):
        if hashlib.sha256(self.body).hexdigest() != oid:
            self._error(400, "", "wrong content")
            return
        self.outer.stored[oid] = self.body
        self._send(200)

    def verify(self, oid):
        self._send(200 if oid in self.outer.stored else 404)

    def commit(self, repo, revision):
        if not self.known:
            self._error(401, "", "Invalid username or password.")
            return
        found = self._open(repo)
        if found is None:
            return
        lines = [json.loads(line) for line in self.body.splitlines()]
        (header,) = (line["value"] for line in lines if line["key"] == "header")
        if header.get("parentCommit") not in (None, found.commits[-1][0]):
            self._error(412, "", "stale parent commit")
            return
        files = {line["value"]["path"]: self.outer.stored[line["value"]["oid"]]
                 for line in lines if line["key"] == "lfsFile"}  # fmt: skip
        files |= {line["value"]["path"]: base64.b64decode(line["value"]["content"])
                  for line in lines if line["key"] == "file"}  # fmt: skip
        oid = found.commit(files, header["summary"])
        self._json({"commitOid": oid, "commitUrl": f"{self.outer.url}/{repo}/commit/{oid}", "success": True})


_ROUTES = [
    (r"(?:HEAD|GET) /(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)", "resolve"),
    (r"GET /api/models/(?P<repo>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)", "tree"),
    (r"GET /api/models/(?P<repo>[^/]+/[^/]+)/revision/(?P<revision>[^/]+)", "info"),
    (r"GET /api/models/(?P<repo>[^/]+/[^/]+)", "info"),
    (r"POST /api/models/(?P<repo>[^/]+/[^/]+)/paths-info/(?P<revision>[^/]+)", "paths_info"),
    (r"POST /api/repos/create", "create"),
    (r"POST /api/validate-yaml", "validate"),
    (r"POST /api/models/(?P<repo>[^/]+/[^/]+)/preupload/(?P<revision>[^/]+)", "preupload"),
    (r"POST /(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", "batch"),
    (r"PUT /storage/(?P<oid>\w+)", "store"),
    (r"POST /storage/(?P<oid>\w+)/verify", "verify"),
    (r"POST /api/models/(?P<repo>[^/]+/[^/]+)/commit/(?P<revision>[^/]+)", "commit"),
]


def _mode(size):
    return "lfs" if size >= _LARGE else "regular"


def _etag(data):
    """As the Hub says: SHA-256 of large files, git's blob hash of others."""
    if len(data) >= _LARGE:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _entry(name, data):
    oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    large = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return {
        "type": "file",
        "path": name,
        "size": len(data),
        "oid": oid,
        **({"lfs": large} if len(data) >= _LARGE else {}),
    }
