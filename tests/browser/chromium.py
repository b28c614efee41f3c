"""A headless Chromium, spoken to over the DevTools protocol: just enough to look at a page."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from websockets.sync.client import connect

SECONDS = 60  # for anything that a page does


class Page:
    """One tab."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._number = 0
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command's answer; what happens meanwhile is kept in `events`. A `confirm()` of the page gets OK."""
        self._number = number = self._number + 1
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=SECONDS))
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)
            if message.get("method") == "Page.javascriptDialogOpening":  # the page waits for the answer
                self._number += 1
                accept = {"method": "Page.handleJavaScriptDialog", "params": {"accept": True}}
                self._socket.send(json.dumps({"id": self._number} | accept))

    def evaluate(self, script: str) -> Any:
        """A script's value, awaited."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        """The window, or a phone's screen."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=phone,
        )  # fmt: skip
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)

    def prefer(self, scheme: str) -> None:
        """ "dark" or "light"."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, file: Path, ready: str) -> None:
        """Load a file and wait until the script `ready` is true."""
        self.call("Page.navigate", url="about:blank")
        self.wait_for("location.href === 'about:blank'")
        self.events.clear()
        self.call("Page.navigate", url=file.as_uri())
        self.wait_for(f"location.protocol === 'file:' && document.readyState === 'complete' && {ready}")

    def wait_for(self, script: str) -> None:
        """Until a script is true."""
        self.wait_until(lambda: bool(self.evaluate(script)), script)

    def wait_until(self, true: Callable[[], bool], what: str = "") -> None:
        """Until something outside the page is true; the page's requests are answered meanwhile."""
        end = time.monotonic() + SECONDS
        while not true():
            assert time.monotonic() < end, f"never true: {what}"
            self.evaluate("1")
            time.sleep(0.05)

    def requests(self) -> list[str]:
        """Addresses that were asked for since `open`."""
        self.evaluate("1")  # what is on its way arrives before the answer
        sent = (event for event in self.events if event.get("method") == "Network.requestWillBeSent")
        return [event["params"]["request"]["url"] for event in sent]

    def complaints(self) -> list[str]:
        """Errors and warnings of the page, its policy (CSP) included, since `open`."""
        self.evaluate("1")
        found = []
        for event in self.events:
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(json.dumps(event["params"]["exceptionDetails"]))
            if event.get("method") == "Log.entryAdded":
                found.append(event["params"]["entry"]["text"])
            if event.get("method") == "Runtime.consoleAPICalled" and event["params"]["type"] in (
                "error",
                "warning",
            ):
                found.append(json.dumps(event["params"]["args"]))
        return found

    def picture(self, file: Path, *, whole: bool = True) -> None:
        """PNG of the page, or of what the window shows."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        file.write_bytes(base64.b64decode(found["data"]))


@contextmanager
def browser(kind: type[Page] = Page) -> Iterator[Page]:
    """A tab in a Chromium of its own, which ends with it."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert program, "the browser's tests need chromium"
    profile = Path(tempfile.mkdtemp(prefix="evenkeel-chromium-"))
    arguments = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                 "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank")  # fmt: skip
    process = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with connect(_address(profile, process), max_size=None, compression=None) as socket:
            yield kind(socket)
    finally:
        process.terminate()
        process.wait(timeout=SECONDS)
        shutil.rmtree(profile, ignore_errors=True)


def _address(profile: Path, process: subprocess.Popen[bytes]) -> str:
    """Of the first tab."""
    file, end = profile / "DevToolsActivePort", time.monotonic() + SECONDS
    while time.monotonic() < end:
        assert process.poll() is None, "chromium ended at once"
        if file.exists() and (lines := file.read_text().splitlines()):
            tabs = json.load(urlopen(f"http://127.0.0.1:{lines[0]}/json/list"))
            for tab in tabs:
                if tab["type"] == "page":
                    return str(tab["webSocketDebuggerUrl"])
        time.sleep(0.05)
    raise AssertionError("chromium does not answer")
