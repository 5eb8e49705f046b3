"""Where URLs lead, what the environment adds, and who is chosen to go there."""

import sys
import uuid
from pathlib import Path

import pytest

from arrowstream.errors import RemoteAccessError
from arrowstream.storage import Storage
from arrowstream.storage.client import client_for
from arrowstream.storage.places import place_of
from tests.servers import ACCESS_KEY, PUBLIC_BUCKET, SECRET_KEY, S3Server

VARIABLES = [
    *("S3_ENDPOINT_URL", "S3_CANNED_ACL", "MOSAICML_STREAMING_AWS_REQUESTER_PAYS", "GCS_KEY", "GCS_SECRET"),
    *("GOOGLE_APPLICATION_CREDENTIALS", "STORAGE_EMULATOR_HOST", "AZURE_ACCOUNT_NAME", "AZURE_ACCOUNT_ACCESS_KEY"),
    *("AZURE_STORAGE_CONNECTION_STRING", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    *("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"),
    *("COMPOSER_SFTP_KEY_FILE", "COMPOSER_SFTP_KNOWN_HOSTS_FILE", "DATABRICKS_HOST", "DATABRICKS_TOKEN"),
]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.parametrize(
    ("url", "account", "container", "prefix"),
    [
        ("az://box/a/b", None, "box", "a/b"),
        ("abfs://box/a/b/", None, "box", "a/b"),
        ("azure://box/a/b", None, "box", "a/b"),  # as mosaicml-streaming writes
        ("azure://acme.blob.core.windows.net/box/a/b", "acme", "box", "a/b"),  # as it reads
        ("azure-dl://box/a/b", None, "box", "a/b"),
        ("azure-dl://acme.dfs.core.windows.net/box/a/b", "acme", "box", "a/b"),
        ("abfss://box@acme.dfs.core.windows.net/a/b", "acme", "box", "a/b"),
        ("az://box", None, "box", ""),
    ],
)
def test_azures_urls_name_a_container_and_perhaps_an_account(
    url: str, account: str | None, container: str, prefix: str
) -> None:
    place = place_of(url, {})
    assert (place.protocol, place.options.get("account_name")) == ("az", account)
    assert (place.container, place.prefix) == (container, prefix)


def test_azures_account_and_key_may_stand_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_ACCOUNT_NAME", "acme")
    monkeypatch.setenv("AZURE_ACCOUNT_ACCESS_KEY", "a2V5")
    assert place_of("azure://box/a", {}).options == {"account_name": "acme", "account_key": "a2V5"}
    assert place_of("azure://acme/box/a", {}).url == "az://box/a"
    assert place_of("az://box/a", {"account_name": "other", "sas_token": "s"}).options == {
        "account_name": "other",
        "sas_token": "s",
    }
    assert Storage("azure://box/a").client == "obstore"


def test_azures_default_credentials_are_asked_for_where_none_are_given() -> None:
    assert place_of("az://box/a", {"account_name": "acme"}).options["anon"] is False
    assert place_of("az://box/a", {"account_name": "acme", "anon": True}).options["anon"] is True


@pytest.mark.parametrize("client", ["obstore", "fsspec"])
def test_googles_hmac_keys_are_used_with_the_protocol_of_s3(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, client: str
) -> None:
    monkeypatch.setenv("GCS_KEY", ACCESS_KEY)
    monkeypatch.setenv("GCS_SECRET", SECRET_KEY)
    assert place_of("gs://box/a", {}).options["endpoint_url"] == "https://storage.googleapis.com"
    url = s3.new_prefix().replace("s3://", "gs://")
    storage = Storage(url, options={"endpoint_url": s3.endpoint, "client": client})
    storage.write("key", b"1")
    assert storage.read("key") == b"1"
    assert Storage(url.replace("gs://", "s3://"), options=s3.options).list() == ["key"]
    assert place_of("gs://box/a", {"token": "anon"}).protocol == "gs"


@pytest.mark.parametrize("client", ["obstore", "fsspec"])
def test_a_profile_gives_the_credentials(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, client: str
) -> None:
    keys = f"aws_access_key_id={ACCESS_KEY}\naws_secret_access_key={SECRET_KEY}\n"
    (tmp_path / "credentials").write_text(f"[default]\naws_access_key_id=no\naws_secret_access_key=no\n[mine]\n{keys}")
    monkeypatch.setenv("S3_ENDPOINT_URL", s3.endpoint)
    monkeypatch.setenv("AWS_PROFILE", "mine")
    storage = Storage(s3.new_prefix(), options={"client": client})
    storage.write("key", b"1")
    assert storage.read("key") == b"1"
    with pytest.raises(RemoteAccessError):
        Storage(storage.url, options={"client": client, "profile": "default"}).read("key")


@pytest.mark.parametrize("client", ["obstore", "fsspec"])
def test_a_public_bucket_is_read_without_credentials_and_a_warning_says_so(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, client: str
) -> None:
    url = f"s3://{PUBLIC_BUCKET}/{uuid.uuid4().hex}"
    Storage(url, options=s3.options).write("key", b"0123")
    assert not caplog.records
    monkeypatch.setenv("S3_ENDPOINT_URL", s3.endpoint)
    storage = Storage(url, options={"client": client})
    assert (storage.read("key"), storage.read("key", 1, 3), storage.list()) == (b"0123", b"12", ["key"])
    [record] = caplog.records
    assert f"{url}: no credentials were found" in record.getMessage()
    with pytest.raises(RemoteAccessError, match="give credentials"):
        storage.write("key", b"1")
    with pytest.raises(RemoteAccessError, match="give credentials"):
        Storage(s3.new_prefix(), options={"client": client}).read("key")


@pytest.mark.parametrize("client", ["obstore", "fsspec"])
def test_credentials_that_do_not_fit_are_not_left_out_for_a_public_bucket(s3: S3Server, client: str) -> None:
    url = f"s3://{PUBLIC_BUCKET}/{uuid.uuid4().hex}"
    Storage(url, options=s3.options).write("key", b"0123")
    wrong = {**s3.options, "key": "unknown", "secret": "wrong", "client": client}
    with pytest.raises(RemoteAccessError, match="give credentials"):
        Storage(url, options=wrong).read("key")


def test_an_access_list_is_sent_with_what_is_written(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S3_CANNED_ACL", "bucket-owner-full-control")
    storage = Storage(s3.new_prefix(), options=s3.options)
    assert storage.client == "fsspec (s3fs): obstore has no word for the option s3_additional_kwargs"
    storage.write("key", b"1")
    assert storage.read("key") == b"1"


def test_buckets_whose_readers_pay_are_named_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOSAICML_STREAMING_AWS_REQUESTER_PAYS", "one,two")
    assert place_of("s3://two/a", {}).options == {"requester_pays": True}
    assert place_of("s3://three/a", {}).options == {}


def test_a_volume_of_databricks_is_the_directory_where_it_is_mounted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_dir", lambda path: False)
    with pytest.raises(ValueError, match="dbfs:/Volumes/main/a: /Volumes is not mounted here"):
        Storage("dbfs:/Volumes/main/a")
    monkeypatch.setattr(Path, "is_dir", lambda path: True)
    assert Storage("dbfs:/Volumes/main/a").local_path == Path("/Volumes/main/a")
    monkeypatch.setenv("DATABRICKS_HOST", "https://acme.cloud.databricks.com/")
    monkeypatch.setenv("DATABRICKS_TOKEN", "secret")
    place = place_of("dbfs:/data/a", {})
    assert place.url == "dbfs:///data/a"
    assert place.options == {"instance": "acme.cloud.databricks.com", "token": "secret"}


@pytest.mark.parametrize(
    ("url", "options", "reason"),
    [
        ("s3://box/a", {"client_kwargs": {"region_name": "eu-west-1"}, "key": "k", "secret": "s"}, None),
        ("s3://box/a", {"key": "k", "secret": "s"}, "no region is named"),
        ("s3://box/a", {"endpoint_url": "http://here", "key": "k", "secret": "s"}, None),
        ("s3://box/a", {"endpoint_url": "http://here", "anon": True}, None),
        ("s3://box/a", {"endpoint_url": "http://here", "key": "k"}, "both key and secret"),
        ("s3://box/a", {"endpoint_url": "http://here", "version_aware": True}, "option version_aware"),
        ("s3://box/a", {"client_kwargs": {"verify": False}}, "option verify"),
        ("s3://box/a", {"config_kwargs": {"signature_version": "s3"}}, "signs with s3v4"),
        ("gs://box/a", {"token": "anon"}, None),
        ("gs://box/a", {"token": {"type": "external_account"}}, "external_account"),
        ("gs://box/a", {}, "as a file"),
        ("gs://box/a", {"token": "anon", "endpoint_url": "http://here"}, "option endpoint_url"),
        ("az://box/a", {"account_name": "acme", "account_key": "a2V5"}, None),
        ("az://box/a", {"account_name": "acme"}, "azure-identity"),
        ("az://box/a", {"connection_string": "AccountName=a;AccountKey=a2V5;EndpointSuffix=core.cn"}, "core.windows"),
        ("http://host/a", {}, "not used for http"),
    ],
)
def test_obstore_is_taken_where_it_understands_all_that_is_said(
    url: str, options: dict[str, object], reason: str | None
) -> None:
    name = client_for(url, options, 60.0).name
    if reason is None:
        assert name == "obstore"
    else:
        assert name.startswith("fsspec (")
        assert reason in name
        with pytest.raises(ValueError, match=f"{url}: client='obstore' cannot be used: .*{reason}"):
            client_for(url, {**options, "client": "obstore"}, 60.0)


def test_without_obstore_fsspec_goes(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from arrowstream.storage import obstore_library

    monkeypatch.setattr(obstore_library, "_loaded", {})
    monkeypatch.setitem(sys.modules, "obstore._obstore", None)
    monkeypatch.setitem(sys.modules, "obstore", None)
    storage = Storage(s3.new_prefix(), options=s3.options)
    assert storage.client == "fsspec (s3fs): obstore is not installed"
    storage.write("key", b"1")
    assert storage.list() == ["key"]


def test_a_client_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="client is 'boto3', expected one of obstore, fsspec"):
        Storage("s3://box/a", options={"client": "boto3"}).read("key")


def test_a_directory_is_read_by_nobody_else(tmp_path: Path) -> None:
    assert Storage(tmp_path, options={"client": "obstore"}).client == "files"
