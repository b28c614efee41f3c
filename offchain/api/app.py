"""The application: routes, the page, the pass-through to the node, behind `Edge`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from offchain import __version__
from offchain.api.demo_wallet import DemoWallet
from offchain.api.edge import Edge, Rates
from offchain.api.problems import Problem, add_handlers
from offchain.api.routes import PROBLEM, Limits, router, source_of
from offchain.api.rpc import pass_on
from offchain.api.source import Source

__all__ = ["STATIC", "Options", "create_app"]

STATIC = Path(__file__).with_name("static")  # the built page
NOT_PAGES = ("v1/", "rpc", "demo-wallet", "healthz", "readyz", "openapi.json")
NOT_BUILT = "the page is not built: in a clone of the repository, run `make web`"
TYPES = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}


@dataclass(frozen=True)
class Options:
    """How the API is served."""

    limits: Limits = field(default_factory=Limits)
    rates: Rates = field(default_factory=Rates)
    hosts: Sequence[str] = ()  # names that are answered to; empty: any
    origins: Sequence[str] = ()  # of other sites whose pages may read the API; empty: none
    static: Path = STATIC
    wallet: DemoWallet | None = None  # demo mode
    routers: Sequence[APIRouter] = ()  # more of /v1


def create_app(source: Source, options: Options | None = None) -> FastAPI:
    """The application that answers for `source`'s chain."""
    options = options or Options()
    app = FastAPI(
        title="Evenkeel",
        version=__version__,
        description="Portfolios that keep themselves on target, on chain. Amounts are decimal strings; docs/api.md.",
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.source, app.state.limits = source, options.limits
    app.state.demo_wallet = options.wallet.account.address if options.wallet else None
    routers = (router, *options.routers, _node())
    add_handlers(app, lambda path: allowed_methods(routers, path))
    for more in (*routers, _pages(options, routers)):
        app.include_router(more)
    if options.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(options.origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["authorization", "content-type", "if-none-match", "idempotency-key"],
            expose_headers=["etag", "retry-after", "x-request-id"],
        )
    app.add_middleware(Edge, rates=options.rates, hosts=options.hosts)
    return app


def allowed_methods(routers: Sequence[APIRouter], path: str) -> set[str]:
    """What the routes at that path answer to, all of them together; none where there is no such path."""
    found: set[str] = set()
    for route in (route for more in routers for route in more.routes if isinstance(route, APIRoute)):
        if route.path_regex.match(path):
            found |= route.methods or set()
    return found


def _node() -> APIRouter:
    """Life signs, and JSON-RPC."""
    routes = APIRouter()

    @routes.get("/healthz", operation_id="healthz")
    def healthz() -> dict[str, str]:
        """The process lives."""
        return {"status": "ok"}

    @routes.get("/readyz", operation_id="readyz", responses={503: PROBLEM})
    def readyz(request: Request) -> JSONResponse:
        """The node answers and its newest block is young."""
        from offchain.api.routes import health

        found = health(source_of(request), request.app.state.limits)
        return JSONResponse({"status": found.status}, status_code=200 if found.status == "ok" else 503)

    @routes.post(
        "/rpc",
        operation_id="rpc",
        responses={"4XX": PROBLEM, 204: {"description": "only notifications: nothing to say"}},
        openapi_extra={
            "requestBody": {"required": True, "content": {"application/json": {"schema": RPC_SCHEMA}}},
        },
    )
    async def rpc(request: Request) -> Response:
        """JSON-RPC, passed on to the node: reads and signed transactions only."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Problem("unsupported_media_type", "content-type: must be application/json")
        body = await request.body()
        answer = await run_in_threadpool(pass_on, source_of(request), body, request.state.spend)
        return Response(status_code=204) if answer is None else JSONResponse(answer)

    return routes


# Any JSON: what is no call, or no batch of them, is answered with an error of JSON-RPC, as clients expect.
RPC_SCHEMA = {"description": "a JSON-RPC call or a batch of at most 50"}


def _pages(options: Options, routers: Sequence[APIRouter]) -> APIRouter:
    """The demo's wallet and the built page; last, since it takes every path that is left."""
    routes = APIRouter(include_in_schema=False)
    wallet = options.wallet
    if wallet is not None:
        script = wallet.script()

        @routes.get("/demo-wallet.js")
        def demo_wallet_script() -> Response:
            return Response(script, media_type="text/javascript")

        @routes.post("/demo-wallet")
        async def demo_wallet(request: Request) -> JSONResponse:
            # no other site's page can send this type without being asked first, which CORS then refuses
            if request.headers.get("content-type", "").partition(";")[0] != "application/json":
                raise Problem("unsupported_media_type", "content-type: must be application/json")
            answer = await run_in_threadpool(wallet.answer, await request.body())
            return JSONResponse({"jsonrpc": "2.0", "id": 1} | answer)

    @routes.get("/{path:path}")
    def page(path: str) -> Response:
        """A file of the built page, or the page itself."""
        if path.startswith(NOT_PAGES) or path == "v1":
            raise HTTPException(405) if allowed_methods(routers, f"/{path}") else HTTPException(404)
        root = options.static.resolve()
        wanted = (root / path).resolve() if "\0" not in path else root
        if path and wanted.is_file() and wanted.is_relative_to(root) and wanted.name != "index.html":
            lasting = "public, max-age=31536000, immutable" if path.startswith("assets/") else "no-cache"
            return FileResponse(
                wanted, media_type=TYPES.get(wanted.suffix), headers={"cache-control": lasting}
            )
        if "." in path.rpartition("/")[2] and path != "index.html":
            raise Problem("not_found", "no such file")
        index = root / "index.html"
        if not index.is_file():
            raise Problem("not_found", NOT_BUILT)
        html = index.read_text()
        if wallet is not None:
            html = html.replace("</head>", '<script src="/demo-wallet.js"></script></head>', 1)
        return HTMLResponse(html)

    return routes


def openapi_text(app: FastAPI) -> str:
    """The description, for files and tests."""
    return json.dumps(app.openapi(), indent=2, sort_keys=True)
