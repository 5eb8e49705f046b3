"""Where a URL leads: its protocol in fsspec's terms, its container, and what the environment adds to the options.

Understood beside fsspec's own URLs are those of mosaicml-streaming, and the environment variables it reads. What stands
in the options always wins over the environment.
"""

import importlib.util
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arrowstream.storage.urls import S3_PROTOCOLS, endpoint_url_of, protocol_of

GOOGLES_S3 = "https://storage.googleapis.com"
AZURE_PROTOCOLS = ("az", "abfs", "abfss", "azure", "azure-dl")
SFTP_PROTOCOLS = ("sftp", "ssh")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A directory of a store, as clients want it told.

    Attributes:
        protocol: fsspec's name for the kind of store.
        url: The directory as a URL of that protocol, without a slash at its end.
        options: What fsspec's file system is made with.
    """

    protocol: str
    url: str
    options: dict[str, Any]

    @property
    def container(self) -> str:
        """The bucket or container, for stores that have them."""
        return self._rest.partition("/")[0]

    @property
    def prefix(self) -> str:
        """The path below the container, without slashes at its ends."""
        return self._rest.partition("/")[2].strip("/")

    @property
    def _rest(self) -> str:
        return self.url.partition("://")[2]


def place_of(url: str, options: Mapping[str, Any]) -> Place:
    """Find out where a URL leads."""
    if url.startswith("dbfs:/") and "://" not in url:  # as Databricks and mosaicml-streaming write it
        url = f"dbfs:///{url.removeprefix('dbfs:/')}"
    find = _FINDERS.get(protocol_of(url), _as_it_is)
    return find(url.rstrip("/"), dict(options))


def _as_it_is(url: str, options: dict[str, Any]) -> Place:
    return Place(protocol=protocol_of(url), url=url, options=options)


def _s3(url: str, options: dict[str, Any]) -> Place:
    endpoint = endpoint_url_of(options)
    if endpoint:
        options["endpoint_url"] = endpoint
    place = Place(protocol="s3", url=f"s3://{url.partition('://')[2]}", options=options)
    if access := os.environ.get("S3_CANNED_ACL"):
        options.setdefault("s3_additional_kwargs", {"ACL": access})
    payers = os.environ.get("MOSAICML_STREAMING_AWS_REQUESTER_PAYS", "").split(",")
    if place.container in payers:
        options.setdefault("requester_pays", True)
    return place


def _gcs(url: str, options: dict[str, Any]) -> Place:
    """Google's own protocol; or S3's at Google's address, for HMAC keys, which work with no other."""
    key, secret = os.environ.get("GCS_KEY"), os.environ.get("GCS_SECRET")
    rest = url.partition("://")[2]
    if "key" in options and "secret" in options:
        key, secret = options["key"], options["secret"]
    elif options.get("token") is not None or not (key and secret):
        return Place(protocol="gs", url=f"gs://{rest}", options=options)
    # Google does not know the checksums that newer releases of botocore send unasked.
    config = {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
    options = {
        "endpoint_url": GOOGLES_S3,
        "config_kwargs": config,
        "client_kwargs": {"region_name": "auto"},
        **options,
        "key": key,
        "secret": secret,
    }
    return Place(protocol="s3", url=f"s3://{rest}", options=options)


def _azure(url: str, options: dict[str, Any]) -> Place:
    """``az://container/path``; a host in place of the container names the account, and the container follows it.

    mosaicml-streaming reads ``azure://account.blob.core.windows.net/container/path`` and writes ``azure://container/path``.
    """
    rest = url.partition("://")[2]
    first, _, below = rest.partition("/")
    known = options.get("connection_string") or os.environ.get("AZURE_STORAGE_CONNECTION_STRING")
    account = options.get("account_name") or os.environ.get("AZURE_ACCOUNT_NAME")
    if "@" in first:  # abfss://container@account.dfs.core.windows.net/path
        container, _, host = first.partition("@")
        account, rest = options.get("account_name") or host.partition(".")[0], f"{container}/{below}".rstrip("/")
    elif "." in first or (protocol_of(url) == "azure" and first == account):
        account, rest = options.get("account_name") or first.partition(".")[0], below
    if "connection_string" not in options:
        if account:
            options["account_name"] = account
        key = os.environ.get("AZURE_ACCOUNT_ACCESS_KEY")
        if key and not any(options.get(name) for name in ("account_key", "sas_token", "credential", "client_secret")):
            options["account_key"] = key
        # Without credentials adlfs would ask for what is public, and not for those of the command line or the machine.
        if not known and not options.keys() & {"account_key", "sas_token", "credential", "client_secret"}:
            options.setdefault("anon", False)
    return Place(protocol="az", url=f"az://{rest}", options=options)


def _sftp(url: str, options: dict[str, Any]) -> Place:
    """SFTP by ``sshfs`` where it is installed, else by fsspec's own client; their options differ."""
    key, hosts = os.environ.get("COMPOSER_SFTP_KEY_FILE"), os.environ.get("COMPOSER_SFTP_KNOWN_HOSTS_FILE")
    if importlib.util.find_spec("sshfs"):
        if key and not options.keys() & {"client_keys", "password"}:
            options["client_keys"] = [key]
        if hosts:
            options.setdefault("known_hosts", hosts)
    elif key and not options.keys() & {"key_filename", "password"}:
        options["key_filename"] = key
    return Place(protocol=protocol_of(url), url=url, options=options)


def _oci(url: str, options: dict[str, Any]) -> Place:
    """``oci://bucket@namespace/path``; without credentials, those of the SDK's own file."""
    if not options.keys() & {"config", "signer", "iam_type"} and not os.environ.get("OCIFS_IAM_TYPE"):
        path = Path(os.environ.get("OCI_CONFIG_FILE", "~/.oci/config")).expanduser()
        if path.is_file():
            options["config"] = str(path)
            if profile := os.environ.get("OCI_CONFIG_PROFILE"):
                options.setdefault("profile", profile)
    return Place(protocol="oci", url=url, options=options)


def _databricks(url: str, options: dict[str, Any]) -> Place:
    host, token = os.environ.get("DATABRICKS_HOST"), os.environ.get("DATABRICKS_TOKEN")
    if host:
        options.setdefault("instance", host.removeprefix("https://").rstrip("/"))
    if token:
        options.setdefault("token", token)
    return Place(protocol="dbfs", url=url, options=options)


_FINDERS: dict[str, Callable[[str, dict[str, Any]], Place]] = {
    **dict.fromkeys(S3_PROTOCOLS, _s3),
    **dict.fromkeys(("gs", "gcs"), _gcs),
    **dict.fromkeys(AZURE_PROTOCOLS, _azure),
    **dict.fromkeys(SFTP_PROTOCOLS, _sftp),
    "oci": _oci,
    "dbfs": _databricks,
}
