"""The stores that the contract is held to, one of each kind a test process."""

from collections.abc import Iterator

import pytest

from tests.stores import Store, run_azure, run_gcs, run_oci, run_sftp


@pytest.fixture(scope="session")
def gcs() -> Iterator[Store]:
    with run_gcs() as store:
        yield store


@pytest.fixture(scope="session")
def azure() -> Iterator[Store]:
    with run_azure() as store:
        yield store


@pytest.fixture(scope="session")
def sftp() -> Iterator[Store]:
    with run_sftp() as store:
        yield store


@pytest.fixture(scope="session")
def oci() -> Iterator[Store]:
    with run_oci() as store:
        yield store
