"""`python -m control_loop.object_server PORT`: objects in memory, by plain GET and PUT, as much of S3 as is needed.

It answers in a fifth of a millisecond. The local cluster's S3 stand-in takes several, and would be what is measured.
"""

from __future__ import annotations

import sys

from aiohttp import web

_NO_SUCH_KEY = b"<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>"


def application() -> web.Application:
    objects: dict[str, bytes] = {}

    async def get(request: web.Request) -> web.Response:
        body = objects.get(request.path)
        if body is None:
            return web.Response(status=404, body=_NO_SUCH_KEY, content_type="application/xml")
        return web.Response(body=body, headers={"ETag": '"0"'})

    async def put(request: web.Request) -> web.Response:
        objects[request.path] = await request.read()
        return web.Response(headers={"ETag": '"0"'})

    served = web.Application()
    served.add_routes([web.get("/{path:.*}", get), web.put("/{path:.*}", put)])
    return served


if __name__ == "__main__":
    web.run_app(application(), host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
