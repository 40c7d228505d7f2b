"""A learner as the hub sees one: logs in by the form, starts a server, runs cells in a kernel of it."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import requests
import websocket

LIMIT = 180.0
"""Seconds that a server or a cell may take."""


class ClassroomError(RuntimeError):
    """The hub or a server refused something; the message says what."""


class Learner:
    """One person with a browser."""

    def __init__(self, url: str, name: str):
        """Keep the hub's address and the name."""
        self.url, self.name, self._web = url, name, requests.Session()
        self._token = ""

    def log_in(self, password: str) -> None:
        """Fill the form in. Raises ClassroomError where the hub refuses name or password."""
        self._web.get(f"{self.url}/hub/login").raise_for_status()
        form = {"username": self.name, "password": password, "_xsrf": self._xsrf()}
        # To the token page, because the start page would start the server.
        answer = self._web.post(f"{self.url}/hub/login?next=/hub/token", data=form)
        if not answer.ok or "/hub/token" not in answer.url:
            raise ClassroomError(f"{self.name} was not let in ({answer.status_code})")
        made = self._web.post(
            f"{self.url}/hub/api/users/{self.name}/tokens", json={"note": "class"},
            headers={"X-XSRFToken": self._xsrf(), "Referer": f"{self.url}/hub/token"},
        )  # fmt: skip
        self._token = self._checked(made)["token"]

    def start(self) -> float:
        """Start the server; return the seconds until it answers."""
        began = time.perf_counter()
        self.hub("POST", f"users/{self.name}/server")
        while not self.hub("GET", f"users/{self.name}")["servers"].get("", {}).get("ready"):
            if time.perf_counter() - began > LIMIT:
                raise ClassroomError(f"the server of {self.name} does not start")
            time.sleep(0.1)
        self.server("GET", "api/status")
        return time.perf_counter() - began

    def stop(self) -> None:
        """Ask the hub to end the server."""
        self.hub("DELETE", f"users/{self.name}/server")

    def open(self, notebook: str) -> str:
        """Start a kernel for a notebook, as opening it does; return the kernel's id."""
        wanted = {"path": notebook, "name": notebook, "type": "notebook", "kernel": {"name": "python3"}}
        return str(self.server("POST", "api/sessions", wanted)["kernel"]["id"])

    def run(self, kernel: str, code: str) -> str:
        """Return what a cell prints and shows. Raises ClassroomError with the error's text where it raises."""
        address = f"{self.url}/user/{self.name}/api/kernels/{kernel}/channels".replace("http", "ws", 1)
        link = websocket.create_connection(
            address, timeout=LIMIT, header=[f"Authorization: token {self._token}"]
        )
        try:
            request = _request(code)
            link.send(json.dumps(request))
            return "".join(_said(link, request["header"]["msg_id"]))
        finally:
            link.close()

    def hub(self, method: str, path: str, body: Any = None) -> Any:
        """Return the answer of the hub's API."""
        return self._ask(method, f"{self.url}/hub/api/{path}", body)

    def server(self, method: str, path: str, body: Any = None, of: str = "") -> Any:
        """Return the answer of a server's API, by default of the learner's own."""
        return self._ask(method, f"{self.url}/user/{of or self.name}/{path}", body)

    def _ask(self, method: str, url: str, body: Any) -> Any:
        """Return an answer to a request that carries the learner's token."""
        head = {"Authorization": f"token {self._token}"}
        # No cookies: beside them the server would ask for a form's token, too.
        return self._checked(requests.request(method, url, json=body, headers=head, timeout=LIMIT))

    def _checked(self, answer: requests.Response) -> Any:
        """Return the content. Raises ClassroomError where the request was refused."""
        if not answer.ok:
            raise ClassroomError(f"{answer.request.method} {answer.request.path_url}: {answer.status_code}")
        kind = answer.headers.get("Content-Type", "")
        return answer.json() if answer.content and "json" in kind else answer.text

    def _xsrf(self) -> str:
        """Return what proves to the hub that a form was its own."""
        return next((c.value or "" for c in self._web.cookies if c.name == "_xsrf" and "hub" in c.path), "")


def _request(code: str) -> dict[str, Any]:
    """Return the message that has a kernel execute a cell."""
    header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "session": uuid.uuid4().hex}
    header |= {"username": "", "version": "5.3"}
    content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
    return {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}


def _said(link: websocket.WebSocket, request: str) -> Iterator[str]:
    """Yield what a kernel says to one request, until it is idle again. Raises ClassroomError for an error."""
    while True:
        message = json.loads(link.recv())
        if message["parent_header"].get("msg_id") != request:
            continue
        kind, content = message["msg_type"], message["content"]
        if kind == "error":
            raise ClassroomError("\n".join(content["traceback"]))
        if kind == "status" and content["execution_state"] == "idle":
            return
        if kind == "stream":
            yield content["text"]
        elif kind in ("execute_result", "display_data"):
            yield content["data"].get("text/plain", "")
