"""A headless Chromium, spoken to over its own pipe: no driver and no package are needed."""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PROGRAM = next(filter(None, map(shutil.which, NAMES)), None)
# Without these it looks for updates and the like, which a closed network refuses one by one.
QUIET = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic",
    "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-extensions", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
SECONDS = 60


class Chromium:
    """One page.

    Args:
        profile: an empty folder.
    """

    def __init__(self, profile):
        ours, theirs = os.pipe(), os.pipe()
        self.to_child, self.from_child = ours[1], theirs[0]
        self.buffer, self.count, self.events = b"", 0, []
        # Chromium reads 3 and writes 4; first out of the way, should a pipe have one of these numbers.
        high = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (ours[0], theirs[1])]
        places = [
            (os.POSIX_SPAWN_DUP2, end, place) for end, place in zip(high, (3, 4), strict=True)
        ]
        silence = [(os.POSIX_SPAWN_OPEN, place, os.devnull, os.O_WRONLY, 0) for place in (1, 2)]
        self.process = os.posix_spawn(
            PROGRAM,
            [PROGRAM, *QUIET, f"--user-data-dir={profile}", "about:blank"],
            os.environ,
            file_actions=[*places, *silence],
        )
        for end in (ours[0], theirs[1], *high):
            os.close(end)
        self.session = None
        (page,) = (
            target
            for target in self._until(lambda: self.call("Target.getTargets")["targetInfos"])
            if target["type"] == "page"
        )
        attached = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def _until(self, look):
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            targets = look()
            if any(target["type"] == "page" for target in targets):
                return targets
            time.sleep(0.05)
        raise TimeoutError("Chromium opened no page")

    def call(self, method, **params):
        """Return what Chromium answers; events that come first are kept."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to_child, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self.count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def _receive(self):
        while b"\0" not in self.buffer:
            if not select.select([self.from_child], [], [], SECONDS)[0]:
                raise TimeoutError("Chromium says nothing")
            chunk = os.read(self.from_child, 1 << 20)
            if not chunk:
                raise RuntimeError("Chromium has ended")
            self.buffer += chunk
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def open(self, path, width, height=900, dark=False):
        """Open a file in a window of this width in CSS pixels; events are forgotten."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        end = time.monotonic() + SECONDS
        while self.evaluate("document.readyState") != "complete" and time.monotonic() < end:
            time.sleep(0.02)

    def evaluate(self, script):
        """Return the value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def requests(self):
        """Return the addresses that were asked for since the page was opened."""
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def complaints(self):
        """Return what went to the console or the log since the page was opened."""
        wanted = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [event["params"] for event in self.events if event["method"] in wanted]

    def screenshot(self, path):
        """Write the whole page as PNG."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def close(self):
        with contextlib.suppress(OSError, RuntimeError, TimeoutError):
            self.session = None
            self.call("Browser.close")
        end = time.monotonic() + 10
        while os.waitpid(self.process, os.WNOHANG) == (0, 0):
            if time.monotonic() > end:
                os.kill(self.process, signal.SIGKILL)
            time.sleep(0.02)
        os.close(self.to_child)
        os.close(self.from_child)
