"""The account of a NATS URL: password, token, credentials file or seed file.

Source: nats-py, `Client.connect`; NATS documentation, "NKeys", "Credentials file".
"""

from __future__ import annotations

import binascii
from itertools import pairwise
from pathlib import Path
from typing import Any

import nkeys  # pyright: ignore[reportMissingTypeStubs]
from nats.aio.client import RawCredentials

from socketcluster.brokers.address import BrokerAddress, url_error

CREDENTIALS_BLOCKS = ("BEGIN NATS USER JWT", "BEGIN USER NKEY SEED")


def account_of(address: BrokerAddress) -> dict[str, Any]:
    """Return the arguments of `Client.connect` for a URL's account, with its files read.

    Raises:
        InvalidOptionsError: a file cannot be read, or does not have what it should.
    """
    account: dict[str, Any] = {}
    if address.password is not None:
        account = {"user": address.username or "", "password": address.password}
    elif address.username is not None:
        account = {"token": address.username}
    if "creds" in address.query:
        text = _read("creds", address.query["creds"])
        seed = _check_credentials(address.query["creds"], text)
        _check_seed("creds", address.query["creds"], seed)
        account["user_credentials"] = RawCredentials(text)
    if "nkey" in address.query:
        seed = _read("nkey", address.query["nkey"]).strip()
        _check_seed("nkey", address.query["nkey"], seed)
        account["nkeys_seed_str"] = seed
    return account


def _read(parameter: str, path: str) -> str:
    try:
        return Path(path).read_text("ascii")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text of ASCII"
        raise url_error(
            f"the file of the parameter {parameter} cannot be read: {path!r}: {reason}"
        ) from error


def _check_credentials(path: str, text: str) -> str:
    """Return the seed in a credentials file. nats-py would look for a missing block for ever."""
    lines = text.splitlines()
    after = {
        block: following
        for block in CREDENTIALS_BLOCKS
        for line, following in pairwise(lines)
        if block in line
    }
    for block in CREDENTIALS_BLOCKS:
        if not after.get(block):
            raise url_error(
                f"the file of the parameter creds has no block {block!r}: {path!r}. It is made by "
                "`nsc generate creds`"
            )
    return after[CREDENTIALS_BLOCKS[1]].strip()


def _check_seed(parameter: str, path: str, seed: str) -> None:
    try:
        nkeys.from_seed(bytearray(seed.encode())).wipe()
    except (nkeys.NkeysError, ValueError, binascii.Error) as error:
        raise url_error(
            f"the file of the parameter {parameter} has no seed of a user (SU…): {path!r}"
        ) from error
