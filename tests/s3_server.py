"""An S3 over HTTP, by moto, with buckets for tests to share files in."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import boto3
import requests
from moto.server import ThreadedMotoServer

KEYS = {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "secret-key", "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass(frozen=True)
class Bucket:
    """A bucket, the URL of a folder in it, and what the environment says to whoever may use it."""

    url: str
    env: dict[str, str]

    def client(self) -> object:
        return boto3.client("s3", endpoint_url=self.env["AWS_ENDPOINT_URL"], **CLIENT)

    @property
    def name(self) -> str:
        return self.url.split("/")[2]


CLIENT = {
    "aws_access_key_id": KEYS["AWS_ACCESS_KEY_ID"],
    "aws_secret_access_key": KEYS["AWS_SECRET_ACCESS_KEY"],
    "region_name": KEYS["AWS_DEFAULT_REGION"],
}


class S3Server:
    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        self.endpoint = "http://{}:{}".format(*self._server.get_host_and_port())

    @property
    def env(self) -> dict[str, str]:
        # Whatever this machine's user has put into its own files is not asked.
        return {**KEYS, "AWS_ENDPOINT_URL": self.endpoint, "AWS_CONFIG_FILE": os.devnull,
                "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true"}  # fmt: skip

    def new_bucket(self) -> Bucket:
        bucket = Bucket(f"s3://shared-{uuid.uuid4().hex[:12]}/explorer", self.env)
        bucket.client().create_bucket(Bucket=bucket.name)
        return bucket

    @contextmanager
    def a_key_that_may_nothing(self) -> Iterator[dict[str, str]]:
        """The environment of a user to whom no policy gives anything; while it lasts, everybody needs one."""
        iam = boto3.client("iam", endpoint_url=self.endpoint, **CLIENT)
        name = f"nobody-{uuid.uuid4().hex[:8]}"
        iam.create_user(UserName=name)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        self._ask_for_permission(after="0")
        try:
            yield self.env | {
                "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
                "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
            }
        finally:
            self._ask_for_permission(after="inf")

    def _ask_for_permission(self, after: str) -> None:
        requests.post(f"{self.endpoint}/moto-api/reset-auth", data=after, timeout=10).raise_for_status()

    def stop(self) -> None:
        self._server.stop()
