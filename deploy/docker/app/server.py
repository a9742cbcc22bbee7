"""The application of the example image: clients call "echo", and talk on channels named chat/…."""

from typing import Any

from socketcluster import AGServer

server = AGServer(trusted_proxies=["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"])


@server.procedure("echo")
def echo(data: Any) -> Any:
    """Answer with the data of the call."""
    return data
