"""As much of Oracle's Object Storage as its SDK asks for, with the signatures checked.

Written from what the SDK sends and from the fields of its models, for there is no emulator: it holds our use of the
SDK, not Oracle's behaviour.
"""

import base64
import contextlib
import dataclasses
import hashlib
import http.server
import json
import re
import urllib.parse
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.servers import run_http

NAMESPACE, BUCKET = "space", "arrowstream-tests"
ABOUT = {
    "version-id": "1",
    "storage-tier": "Standard",
    "Last-Modified": "Sun, 06 Nov 1994 08:49:37 GMT",
    "Accept-Ranges": "bytes",
}
BASE = f"/n/{NAMESPACE}/b/{BUCKET}"


@dataclasses.dataclass(slots=True)
class Objects:
    """What the stub holds, and whose signature it believes."""

    key: rsa.RSAPublicKey
    objects: dict[str, bytes] = dataclasses.field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = dataclasses.field(default_factory=dict)


@contextlib.contextmanager
def run_oci(directory: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Run the stub; gives fsspec's options to reach it, and the same with another's key."""
    mine, other = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    objects = Objects(mine.public_key())
    with run_http(type("OCI", (_Handler,), {"store": objects})) as url:
        yield _options(url, mine, directory / "mine.pem"), _options(url, other, directory / "other.pem")


def _options(url: str, key: rsa.RSAPrivateKey, path: Path) -> dict[str, Any]:
    kind, no_password = serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, kind, no_password))
    path.chmod(0o600)
    config = {
        "user": f"ocid1.user.oc1..{'a' * 60}",
        "tenancy": f"ocid1.tenancy.oc1..{'a' * 60}",
        "fingerprint": "aa:" * 15 + "aa",
        "key_file": str(path),
        "region": "us-ashburn-1",
    }
    return {"config": config, "config_kwargs": {"service_endpoint": url}}


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Objects

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass

    def handle_one(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, _, query = self.path.partition("?")
        asked = {name: values[0] for name, values in urllib.parse.parse_qs(query).items()}
        if not self.is_signed():
            self.fail(401, "NotAuthenticated")
        elif path.rstrip("/") == "/n":
            self.say(NAMESPACE)
        elif path == BASE:
            self.say({"namespace": NAMESPACE, "name": BUCKET})
        elif path == f"{BASE}/o":
            self.list(asked)
        elif path.startswith(f"{BASE}/o/"):
            getattr(self, f"object_{self.command.lower()}")(urllib.parse.unquote(path[len(BASE) + 3 :]), content)
        elif path.startswith(f"{BASE}/u"):
            self.upload(urllib.parse.unquote(path[len(BASE) + 3 :]), asked, content)
        else:
            self.fail(404, "BucketNotFound")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_one

    def is_signed(self) -> bool:
        """Check the signature, RSA-SHA256 over the headers that it names."""
        parts = dict(re.findall(r'(\w+)="([^"]*)"', self.headers.get("Authorization", "")))
        target = f"{self.command.lower()} {self.path}"
        lines = [
            f"{name}: {target if name == '(request-target)' else self.headers[name]}"
            for name in parts.get("headers", "").split()
        ]
        try:
            self.store.key.verify(
                base64.b64decode(parts.get("signature", "")),
                "\n".join(lines).encode(),
                padding.PKCS1v15(),
                hashes.SHA256(),
            )
        except InvalidSignature:
            return False
        return True

    def list(self, asked: dict[str, str]) -> None:
        prefix, delimiter = asked.get("prefix", ""), asked.get("delimiter")
        names = sorted(
            name for name in self.store.objects if name.startswith(prefix) and name >= asked.get("start", "")
        )
        page, rest = names[: int(asked.get("limit", 1000))], names[int(asked.get("limit", 1000)) :]
        deeper = [name for name in page if delimiter and delimiter in name[len(prefix) :]]
        folders = sorted({prefix + name[len(prefix) :].split("/")[0] + "/" for name in deeper})
        found = [{"name": name, "size": len(self.store.objects[name])} for name in page if name not in deeper]
        self.say({"objects": found, "prefixes": folders, "nextStartWith": rest[0] if rest else None})

    def object_put(self, name: str, content: bytes) -> None:
        self.store.objects[name] = content
        self.say(b"", headers={"ETag": _etag(content), "opc-content-md5": _md5(content)})

    def object_get(self, name: str, _: bytes) -> None:
        if name not in self.store.objects:
            self.fail(404, "ObjectNotFound")
            return
        content, wanted = self.store.objects[name], self.headers.get("Range")
        about = {"ETag": _etag(content), **ABOUT}
        if wanted:
            start, _, last = wanted.removeprefix("bytes=").partition("-")
            part = content[int(start) : int(last or len(content)) + 1]
            if not part:
                self.fail(416, "InvalidRange")
                return
            about["Content-Range"] = f"bytes {start}-{int(start) + len(part) - 1}/{len(content)}"
            self.say(part, 206, about)
        else:
            self.say(content, headers={**about, "opc-content-md5": _md5(content)})

    object_head = object_get

    def object_delete(self, name: str, _: bytes) -> None:
        if self.store.objects.pop(name, None) is None:
            self.fail(404, "ObjectNotFound")
        else:
            self.say(b"", 204)

    def upload(self, name: str, asked: dict[str, str], content: bytes) -> None:
        """Begin, fill and end an upload in parts."""
        number = asked.get("uploadId")
        if number is None:
            number = uuid.uuid4().hex
            self.store.uploads[number] = {}
            name = json.loads(content)["object"]
            self.say({"namespace": NAMESPACE, "bucket": BUCKET, "object": name, "uploadId": number})
        elif self.command == "PUT":
            self.store.uploads[number][int(asked["uploadPartNum"])] = content
            self.say(b"", headers={"ETag": _etag(content), "opc-content-md5": _md5(content)})
        else:
            parts = self.store.uploads.pop(number)
            if self.command == "POST":
                wanted = sorted(part["partNum"] for part in json.loads(content)["partsToCommit"])
                self.store.objects[name] = b"".join(parts[part] for part in wanted)
            self.say(b"", headers={"ETag": number, "opc-multipart-md5": _md5(b"")})

    def fail(self, status: int, code: str) -> None:
        self.say({"code": code, "message": "as the stub sees it"}, status)

    def say(self, what: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        content = what if isinstance(what, bytes) else json.dumps(what).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(what, bytes) else "application/json"
        about = {"Content-Type": kind, "Content-Length": str(len(content)), "opc-request-id": "1", **(headers or {})}
        for header in about.items():
            self.send_header(*header)
        self.end_headers()
        if self.command != "HEAD" and status != 204:
            self.wfile.write(content)


def _etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content).digest()).decode()
