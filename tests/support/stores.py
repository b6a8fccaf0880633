"""S3 as a server that runs here."""

import pytest

from resnet_cli import remote


def as_endpoint(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let S3 be the server at a URL."""
    from s3fs import S3FileSystem

    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "its-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    remote.shared_file_system.cache_clear()
    S3FileSystem.clear_instance_cache()
