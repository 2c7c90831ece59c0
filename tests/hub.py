"""A hub on this machine: as much of the Hugging Face protocol as a push and a load need."""

import base64
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c" * 40


class Hub(ThreadingHTTPServer):
    """`files` are those of all repositories, by OWNER/NAME/PATH."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.files: dict[str, bytes] = {}
        self.created: list[dict] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answers(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        repo = "/".join(self.path.split("/")[3:5])
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            there = [(one["organization"], one["name"]) for one in self.server.created]
            self.server.created.append(asked)
            url = f"{self.server.address}/{asked['organization']}/{asked['name']}"
            self.answer({"url": url}, 409 if (asked["organization"], asked["name"]) in there else 200)
        elif "/preupload/" in self.path:
            asked = json.loads(body)["files"]
            told = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            self.answer({"files": [{"path": file["path"], **told} for file in asked]})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    self.server.files[f"{repo}/{line['value']['path']}"] = content
            self.answer({"commitUrl": f"{self.server.address}/{repo}/commit/{COMMIT}", "commitOid": COMMIT})
        else:
            self.answer({})

    def do_GET(self) -> None:
        name = self.path.lstrip("/").partition("?")[0].replace("/resolve/main", "")
        if self.path.startswith("/api/"):
            return self.answer({"id": "/".join(self.path.split("/")[3:5]), "sha": COMMIT, "siblings": []})
        if name not in self.server.files:
            return self.answer({"error": "Entry not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        headers = {"ETag": f'"{len(self.server.files[name])}"', "X-Repo-Commit": COMMIT}
        return self.answer(self.server.files[name], 200, headers)

    do_HEAD = do_GET

    def answer(self, content: dict | bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""
