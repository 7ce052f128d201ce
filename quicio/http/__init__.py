"""HTTP/3 client and server for structured concurrency, on asyncio and on trio.

    async with quicio.http.connect("example.com") as client, client.get("/") as response:
        print(response.status, await response.read())

client.py          `connect`, `open_url`: requests, each in a scope of its own
server.py          `serve`: a handler's task for each request; request.py what a handler holds
session.py         `H3Connection` on a connection of the anyio face; server_session.py the server's side of it
receiving.py, sending.py     one message in each direction, and the tasks that wait; body.py how a body is read
fields.py, target.py         header fields and URLs
errors.py          what `quicio.errors` does not have
"""

from quicio.http.client import Client, Response, connect, open_url
from quicio.http.errors import ContentTooLarge, MalformedMessage, RequestRejected
from quicio.http.fields import Fields
from quicio.http.receiving import Informational
from quicio.http.request import Request
from quicio.http.server import Server, serve

__all__ = [
    "Client",
    "ContentTooLarge",
    "Fields",
    "Informational",
    "MalformedMessage",
    "Request",
    "RequestRejected",
    "Response",
    "Server",
    "connect",
    "open_url",
    "serve",
]
