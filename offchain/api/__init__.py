"""The REST API and the page: `create_app(source, options)` is a FastAPI application (docs/api.md)."""

from offchain.api.app import Options, create_app
from offchain.api.source import ChainSource, Places, Source

__all__ = ["ChainSource", "Options", "Places", "Source", "create_app"]
