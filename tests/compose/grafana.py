"""Stands for Grafana where there is no registry: reads the same files, has a few of the same URLs.

Runs in a container of its own, without this project. It proves that the folders are mounted where
the provisioning says, that they can be read, and that the data source is reached from there. How
the panels look it cannot tell.
"""

import json
import os
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

PROVISIONING = Path("/etc/grafana/provisioning")
PROXY = "/api/datasources/proxy/uid/"
DASHBOARDS = "/api/dashboards/uid/"
TIMEOUT = 10.0


def provisioned(kind: str) -> list[dict[str, Any]]:
    """What all files of one kind list."""
    key = {"datasources": "datasources", "dashboards": "providers"}[kind]
    files = sorted((PROVISIONING / kind).glob("*.yml"))
    return [entry for path in files for entry in yaml.safe_load(path.read_text())[key]]


SOURCES = {source["uid"]: source["url"] for source in provisioned("datasources")}
BOARDS = {
    board["uid"]: board
    for provider in provisioned("dashboards")
    for path in Path(provider["options"]["path"]).glob("*.json")
    for board in [json.loads(path.read_text())]
}
HOME = json.loads(Path(os.environ["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]).read_text())
assert HOME["uid"] in BOARDS, "the first page is none of the dashboards"


class Handler(BaseHTTPRequestHandler):
    """Health, a dashboard by its uid, and what goes through to a data source."""

    def do_GET(self) -> None:
        status, body = 404, b"{}"
        if self.path == "/api/health":
            status, body = 200, b'{"database":"ok"}'
        elif (board := BOARDS.get(self.path.removeprefix(DASHBOARDS))) is not None:
            status, body = 200, json.dumps({"dashboard": board}).encode()
        elif self.path.startswith(PROXY):
            uid, _, rest = self.path.removeprefix(PROXY).partition("/")
            status, body = self._ask(f"{SOURCES[uid]}/{rest}")
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _ask(self, url: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 502, b"{}"


if __name__ == "__main__":
    ThreadingHTTPServer(("", 3000), Handler).serve_forever()
