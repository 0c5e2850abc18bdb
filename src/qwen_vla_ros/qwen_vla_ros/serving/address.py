"""Where a policy server is, and how a client proves itself to it."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from websockets.exceptions import InvalidURI
from websockets.uri import WebSocketURI, parse_uri

from qwen_vla_ros.errors import QwenVlaError

TOKEN_VARIABLE = "QWEN_VLA_TOKEN"
_TOKEN = re.compile(r"[!-~]{16,512}")
_ALLOWED = "16 to 512 printable characters without spaces. Make one with: openssl rand -hex 32"
MAX_TOKEN_FILE_BYTES = 1024


@dataclass(frozen=True, kw_only=True)
class ServerAddress:
    """One policy server, as its client sees it.

    Attributes:
        uri: Such as `ws://127.0.0.1:8000`, or `wss://...` for TLS.
        token: What the server wants to see; empty for none. Never part of a printed text.
        ca_file: Certificates that a wss server's own must lead to; empty for the system's.
    """

    uri: str
    token: str = field(default="", repr=False)
    ca_file: str = ""

    @classmethod
    def from_strings(cls, server: str, *, token_file: str = "", ca_file: str = "") -> Self:
        """Make an address of what a person says; the token may also be in $QWEN_VLA_TOKEN.

        Raises:
            QwenVlaError: The words are no address, or a file cannot be used.
        """
        if ca_file and not Path(ca_file).is_file():
            raise QwenVlaError(f"server_ca_file: there is no file '{ca_file}'.")
        token = read_token(Path(token_file)) if token_file else os.environ.get(TOKEN_VARIABLE, "")
        if token and not _TOKEN.fullmatch(token):
            raise QwenVlaError(f"${TOKEN_VARIABLE} holds no token: {_ALLOWED}")
        address = cls(uri=server, token=token, ca_file=ca_file)
        if address.parsed.user_info:
            raise QwenVlaError(
                f"server: a password in the address can be seen by everybody here; use "
                f"${TOKEN_VARIABLE} or a token file."
            )
        return address

    @property
    def parsed(self) -> WebSocketURI:
        """The parts of the address.

        Raises:
            QwenVlaError: It is none.
        """
        try:
            parsed = parse_uri(self.uri)
            parsed.host.encode("idna")  # what every look-up of a name does, with a ValueError
        except (InvalidURI, ValueError) as error:
            raise QwenVlaError(
                f"server: '{self.uri[:80]}' is no address of a policy server. Allowed: "
                "ws://HOST:PORT, or wss://HOST:PORT for TLS."
            ) from error
        return parsed

    def tls(self) -> ssl.SSLContext | None:
        """Return what a wss connection needs, None for ws.

        Raises:
            QwenVlaError: The certificates cannot be read.
        """
        if not self.parsed.secure:
            return None
        try:
            return ssl.create_default_context(cafile=self.ca_file or None)
        except OSError as error:
            raise QwenVlaError(f"server_ca_file: '{self.ca_file}' has no certificates.") from error

    @property
    def leaks_token(self) -> bool:
        """Whether the token would cross a network for everybody to read."""
        return bool(self.token) and not self.parsed.secure and not is_loopback(self.parsed.host)


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine, without asking anybody."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def read_token(path: Path) -> str:
    """Return the token that a file holds, which nobody but its owner may read.

    Raises:
        QwenVlaError: There is no such file, others can read it, or it holds no token.
    """
    try:
        status = path.stat()
        # Judged before it is opened: a pipe would be waited for, a device read without end.
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_TOKEN_FILE_BYTES:
            raise QwenVlaError(f"token file '{path}' is no file of a line: {_ALLOWED}")
        if status.st_mode & 0o077:
            raise QwenVlaError(
                f"token file '{path}' can be read by others. Type: chmod 600 {path}"
            )
        text = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise QwenVlaError(f"token file '{path}' cannot be read: {error}.") from error
    if not _TOKEN.fullmatch(text):
        raise QwenVlaError(f"token file '{path}' holds no token: {_ALLOWED}")
    return text
