"""A real nginx for tests, by the configuration that the how-to shows: TLS and HTTP/2 before one server."""

import os
import re
import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.servers.process import ROOT, ServerProcess, StartError

PAGE: Final = ROOT / "docs" / "how-to" / "servers.md"
NAME: Final = "www.example.com"


def shown(language: str) -> list[str]:
    """Return the blocks of the how-to in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@dataclass(kw_only=True, slots=True, eq=False)
class Nginx(ServerProcess):
    """The how-to's nginx, with the places of this test in place of those that are shown."""

    server: ServerProcess
    directory: Path
    #: How long the old workers of a reload keep their streams.
    patience: str = "10s"

    @property
    def base_url(self) -> str:
        """Where it listens."""
        return f"https://{self.host}:{self.port}"

    @property
    def trust(self) -> ssl.SSLContext:
        """Return what believes its certificate, and no other."""
        return ssl.create_default_context(cafile=str(self.directory / "certificate.pem"))

    def command(self) -> list[str]:
        """Write its files, and word its command."""
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        if program is None:
            raise StartError("nginx is not installed (on Debian: apt-get install nginx-light)")
        self.directory.mkdir(exist_ok=True)
        self._certify()
        configuration = self.directory / "nginx.conf"
        configuration.write_text(self._configuration())
        # Workers of the same user may read the test's own directory.
        user = "user root;" if os.getuid() == 0 else ""
        more = f"daemon off; pid {self.directory}/pid; {user}"
        return [program, "-p", str(self.directory), "-e", "stderr", "-c", str(configuration), "-g", more]

    def _configuration(self) -> str:
        (text,) = shown("nginx")
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        scratch = "\n".join(f"    {kind}_temp_path {self.directory}/{kind};" for kind in kinds)
        places = {
            "worker_processes auto;": "worker_processes 1;",
            "worker_shutdown_timeout 10s;": f"worker_shutdown_timeout {self.patience};",
            "http {\n": f"http {{\n{scratch}\n",
            "127.0.0.1:8000": f"{self.server.host}:{self.server.port}",
            "listen 443": f"listen {self.host}:{self.port}",
            "/etc/ssl/mysite": str(self.directory),
            "/srv/mysite/static": str(self.directory),
        }
        for place, own in places.items():
            assert text.count(place) >= 1, place
            text = text.replace(place, own)
        return text

    def _certify(self) -> None:
        words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        words += ["-keyout", "key.pem", "-out", "certificate.pem", "-subj", f"/CN={NAME}"]
        words += ["-addext", f"subjectAltName=DNS:{NAME},IP:{self.host}"]
        subprocess.run(words, cwd=self.directory, check=True, capture_output=True, timeout=60)
