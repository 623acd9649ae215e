"""A Firefox without a window, in a profile and a process group of its own."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final

from tests.browser.firefox.connection import Connection
from tests.servers.process import LEASH, becomes_true

#: It asks nobody for anything by itself, shows no page that nobody asked for, and else is as people have it.
PREFERENCES: Final = {
    "app.normandy.enabled": False,
    "app.update.auto": False,
    "app.update.enabled": False,
    "browser.aboutwelcome.enabled": False,
    "browser.newtabpage.enabled": False,
    "browser.region.update.enabled": False,
    "browser.safebrowsing.provider.google4.updateURL": "",
    "browser.safebrowsing.provider.mozilla.updateURL": "",
    # As many as a machine with enough memory keeps for the back button: none depends on this one's memory.
    "browser.sessionhistory.max_total_viewers": 8,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.homepage": "about:blank",
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.systemAddon.update.enabled": False,
    "media.gmp-manager.updateEnabled": False,
    "messaging-system.rsexperimentloader.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.proxy.type": 0,  # what the environment says of proxies is not meant for this machine's own sites
    "services.settings.server": "data:,#none",
    "toolkit.telemetry.enabled": False,
    "toolkit.telemetry.unified": False,
    "trailhead.firstrun.didSeeAboutWelcome": True,
}
ENVIRONMENT: Final = {
    "MOZ_CRASHREPORTER_DISABLE": "1",
    "MOZ_DISABLE_AUTO_SAFE_MODE": "1",  # being ended by a signal is no crash to be careful after
    "MOZ_REMOTE_SETTINGS_DEVTOOLS": "1",  # or an official build asks Mozilla's server all the same
}
PROGRAMS: Final = ("firefox-esr", "firefox")
ARGUMENTS: Final = ("--headless", "--no-remote", "--remote-debugging-port=0")


class StartError(RuntimeError):
    """Firefox is not here, ended, or did not answer in time; the message ends with what it said."""


@dataclass(kw_only=True, slots=True, eq=False)
class Firefox:
    """The browser's processes and a connection to them; a context manager that starts and ends them."""

    folder: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _connection: Connection | None = field(default=None, init=False)

    def start(self) -> Connection:
        """Start it, and connect as soon as it listens."""
        program = next(filter(None, map(shutil.which, PROGRAMS)), None)
        if program is None:
            raise StartError("there is no firefox here: install it (on Debian: apt-get install firefox-esr)")
        profile = self.folder / "profile"
        profile.mkdir()
        lines = [f"user_pref({json.dumps(key)}, {json.dumps(value)});" for key, value in PREFERENCES.items()]
        (profile / "user.js").write_text("\n".join(lines))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-IS", str(LEASH), program, *ARGUMENTS, "--profile", str(profile)],
                # A home of its own: it writes outside of its profile too.
                env={**os.environ, **ENVIRONMENT, "HOME": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._connection = Connection("127.0.0.1", self._wait_until_it_listens(self._process))
        except BaseException:
            self.stop()
            raise
        return self._connection

    def stop(self) -> None:
        """End its processes at once: nothing that they have is wanted any more."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def tail(self) -> str:
        """Return the end of what it said."""
        return self._log.read_text(errors="replace")[-4000:] if self._log.exists() else ""

    @property
    def _log(self) -> Path:
        return self.folder / "log"

    def _wait_until_it_listens(self, process: subprocess.Popen[bytes], within: float = 60) -> int:
        """Return its port, which it says when it is ready."""
        said = re.compile(r"^WebDriver BiDi listening on ws://127\.0\.0\.1:(\d+)$", re.MULTILINE)
        becomes_true(lambda: bool(said.search(self.tail())) or process.poll() is not None, within=within)
        found = said.search(self.tail())
        if not found:
            raise StartError(f"firefox did not listen within {within:.0f} s; it said:\n{self.tail()}")
        return int(found[1])

    def __enter__(self) -> Connection:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
