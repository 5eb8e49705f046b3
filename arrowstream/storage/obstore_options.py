"""fsspec's options in obstore's words, for the stores and options where both mean the same.

Whatever is not understood here is said, and fsspec is taken: a credential that one of them reads and the other does not
would be a failure that nobody can explain.
"""

import datetime as dt
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arrowstream.storage.places import Place

KINDS = ("s3", "gs", "az")
# These speak of botocore's own ways, which another client has not.
BOTOCORE_ONLY = {
    *("retries", "connect_timeout", "read_timeout", "max_pool_connections", "tcp_keepalive", "user_agent"),
    *("request_checksum_calculation", "response_checksum_validation"),
}
ASKED_AGAIN = dt.timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Settings:
    """How obstore reaches a container.

    Attributes:
        kind: The class in ``obstore.store``.
        keywords: What it is made with, beside the container; they compare equal where they mean the same.
        profile: For S3: the profile whose credentials botocore finds; None where ``keywords`` hold all it takes.
        asks_botocore: Whether botocore finds the credentials.
    """

    kind: str
    keywords: dict[str, Any] = field(default_factory=dict)
    profile: str | None = None
    asks_botocore: bool = False


class _NotUnderstoodError(Exception):
    """The options say something that obstore cannot be told."""


def translated(place: Place) -> Settings | str:
    """Say how obstore would reach a place; or, as text, why it cannot."""
    translate = {"s3": _s3, "gs": _gcs, "az": _azure}[place.protocol]
    options = {name: value for name, value in place.options.items() if value is not None}
    try:
        return translate(options, place.container)
    except _NotUnderstoodError as error:
        return str(error)


def _refuse_others(options: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(options.keys() - known)
    if unknown:
        raise _NotUnderstoodError(f"obstore has no word for the option {', '.join(unknown)}")


def _s3(options: dict[str, Any], bucket: str) -> Settings:
    _refuse_others(
        options,
        {
            *("key", "secret", "token", "anon", "endpoint_url", "client_kwargs", "config_kwargs", "profile"),
            *("requester_pays", "use_ssl"),
        },
    )
    client, config = options.get("client_kwargs") or {}, options.get("config_kwargs") or {}
    _refuse_others(client, {"region_name", "endpoint_url"})
    _refuse_others(config, {"s3", "signature_version"} | BOTOCORE_ONLY)
    _refuse_others(config.get("s3") or {}, {"addressing_style"})
    if config.get("signature_version") not in (None, "s3v4") or options.get("use_ssl") is False:
        raise _NotUnderstoodError("obstore signs with s3v4 and speaks TLS where the endpoint says so")
    profile = options.get("profile")
    endpoint = options.get("endpoint_url") or _environment("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    region = client.get("region_name") or _environment("AWS_REGION", "AWS_DEFAULT_REGION")
    region = region or _from_botocore(profile, "region")
    if endpoint is None and profile is not None:
        raise _NotUnderstoodError("a profile may name an endpoint, which obstore would not see")
    if region is None and endpoint is None:
        raise _NotUnderstoodError("no region is named, and obstore does not ask the bucket for it")
    style = (config.get("s3") or {}).get("addressing_style") or "auto"
    keywords: dict[str, Any] = {"region": region or "us-east-1", "virtual_hosted_style_request": style == "virtual"}
    if endpoint:
        scheme, _, host = endpoint.rstrip("/").partition("://")
        keywords["endpoint"] = f"{scheme}://{bucket}.{host}" if style == "virtual" else f"{scheme}://{host}"
    if options.get("requester_pays"):
        keywords["request_payer"] = True
    return _with_s3_credentials(options, keywords, profile)


def _with_s3_credentials(options: Mapping[str, Any], keywords: dict[str, Any], profile: str | None) -> Settings:
    if options.get("anon"):
        return Settings("S3Store", {**keywords, "skip_signature": True})
    if options.get("key") and options.get("secret"):
        keywords |= {"access_key_id": options["key"], "secret_access_key": options["secret"]}
        if options.get("token"):
            keywords["session_token"] = options["token"]
        return Settings("S3Store", keywords)
    if options.keys() & {"key", "secret", "token"}:
        raise _NotUnderstoodError("obstore needs both key and secret")
    key, secret = _environment("AWS_ACCESS_KEY_ID"), _environment("AWS_SECRET_ACCESS_KEY")
    if key and secret and not profile and not _environment("AWS_PROFILE"):
        keywords |= {"access_key_id": key, "secret_access_key": secret}
        if token := _environment("AWS_SESSION_TOKEN"):
            keywords["session_token"] = token
        return Settings("S3Store", keywords)
    if _botocore() is None:
        raise _NotUnderstoodError(
            "no AWS_ACCESS_KEY_ID in the environment, and botocore, which looks further, is absent"
        )
    return Settings("S3Store", keywords, profile, asks_botocore=True)


def nobody_signs(place: Place) -> bool:
    """Tell whether nothing says how requests to S3 are to be signed: neither options nor environment nor botocore.

    What is said and is wrong is left to the request to find out.
    """
    named = {name for name, value in place.options.items() if value is not None}
    if place.protocol != "s3" or named & {"key", "secret", "token", "anon", "profile", "session"}:
        return False
    session = _botocore()
    if session is None or _environment("AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        return False
    from botocore.exceptions import BotoCoreError

    try:
        return session().get_credentials() is None
    except BotoCoreError:
        return False


def botocore_credentials(profile: str | None) -> Callable[[], dict[str, Any]]:
    """Give a function that finds credentials where s3fs would: files, profiles, roles, the machine's own.

    Raises:
        PermissionError: (the function) There are none.
    """
    session = _botocore()(profile=profile)

    def find() -> dict[str, Any]:
        # What was not there may have come since, in the environment or in a file; a session looks once.
        found = session.get_credentials() or _botocore()(profile=profile).get_credentials()
        if found is None:
            raise PermissionError("NoCredentialsError: unable to locate credentials")
        frozen = found.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            # botocore renews those that end; it is asked often enough to be in time.
            "expires_at": dt.datetime.now(dt.UTC) + ASKED_AGAIN if frozen.token else None,
        }

    return find


def _gcs(options: dict[str, Any], bucket: str) -> Settings:
    del bucket
    _refuse_others(options, {"token", "project"})
    if _environment("STORAGE_EMULATOR_HOST"):
        raise _NotUnderstoodError("obstore does not know the emulator of STORAGE_EMULATOR_HOST")
    token = options.get("token")
    if token == "anon":  # noqa: S105 (gcsfs's word for none)
        return Settings("GCSStore", {"skip_signature": True})
    if isinstance(token, Mapping):
        return _gcs_key(token)
    path = token if isinstance(token, str) else _environment("GOOGLE_APPLICATION_CREDENTIALS")
    if path is None or not Path(path).is_file():
        raise _NotUnderstoodError("obstore is given Google's credentials as a file or as a service account's key alone")
    try:
        return _gcs_key(json.loads(Path(path).read_text()), path)
    except (OSError, ValueError) as error:
        raise _NotUnderstoodError(f"{path} holds no credentials that obstore reads") from error


def _gcs_key(key: Mapping[str, Any], path: str | None = None) -> Settings:
    if key.get("type") == "service_account":
        return Settings("GCSStore", {"service_account_key": json.dumps(dict(key))})
    if key.get("type") == "authorized_user" and path:
        return Settings("GCSStore", {"application_credentials": path})
    raise _NotUnderstoodError(f"obstore has no word for Google's credentials of type {key.get('type')!r}")


def _azure(options: dict[str, Any], container: str) -> Settings:
    del container
    known = {"account_name", "account_key", "sas_token", "anon", "client_id", "client_secret", "tenant_id"}
    text = options.get("connection_string")
    if text is None and not options.keys() & {"account_key", "sas_token", "client_secret"}:
        text = _environment("AZURE_STORAGE_CONNECTION_STRING")
    if text is not None:
        _refuse_others(options, {"connection_string", "anon"})
        return _from_connection_string(text)
    _refuse_others(options, known)
    if not options.get("account_name"):
        raise _NotUnderstoodError("no account is named")
    keywords: dict[str, Any] = {"account_name": options["account_name"]}
    if options.get("account_key"):
        return Settings("AzureStore", {**keywords, "account_key": options["account_key"]})
    if options.get("sas_token"):
        return Settings("AzureStore", {**keywords, "sas_key": options["sas_token"]})
    if options.keys() >= {"client_id", "client_secret", "tenant_id"}:
        names = ("client_id", "client_secret", "tenant_id")
        return Settings("AzureStore", {**keywords, **{name: options[name] for name in names}})
    if options.get("anon"):
        return Settings("AzureStore", {**keywords, "skip_signature": True})
    raise _NotUnderstoodError("Azure's default credentials are found by azure-identity alone")


def _from_connection_string(text: str) -> Settings:
    parts = dict(part.split("=", 1) for part in text.split(";") if "=" in part)
    keywords: dict[str, Any] = {}
    for name, value in parts.items():
        match name:
            case "AccountName":
                keywords["account_name"] = value
            case "AccountKey":
                keywords["account_key"] = value
            case "SharedAccessSignature":
                keywords["sas_key"] = value
            case "BlobEndpoint":
                keywords["endpoint"] = value.rstrip("/")
            case "DefaultEndpointsProtocol" | "EndpointSuffix" | "QueueEndpoint" | "TableEndpoint" | "FileEndpoint":
                pass
            case _:
                raise _NotUnderstoodError(f"obstore has no word for {name} of a connection string")
    if parts.get("EndpointSuffix", "core.windows.net") != "core.windows.net" or "account_name" not in keywords:
        raise _NotUnderstoodError("obstore knows connection strings with an AccountName of core.windows.net")
    return Settings("AzureStore", keywords)


def _environment(*names: str) -> str | None:
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def _botocore() -> Any:
    """Give botocore's class of sessions; None where it is not installed."""
    try:
        from botocore.session import Session
    except ImportError:
        return None
    return Session


def _from_botocore(profile: str | None, variable: str) -> str | None:
    session = _botocore()
    return session(profile=profile).get_config_variable(variable) if session else None
