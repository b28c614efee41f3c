"""Packages that are not in every installation, by the extra that brings them."""

from __future__ import annotations

__all__ = ["EXTRAS", "how_to_install"]

EXTRAS = {  # of pyproject.toml, by the module's name
    "fastapi": "api",
    "limits": "api",
    "standardwebhooks": "api",
    "uvicorn": "api",
    "ccxt": "exchange-data",
    "procrastinate": "fleet",
    "psycopg": "fleet",
    "matplotlib": "demo",
    "dask": "backtest",
    "distributed": "backtest",
    "exchange_calendars": "backtest",
    "jinja2": "backtest",
    "pandas": "backtest",
    "plotly": "backtest",
    "pyarrow": "backtest",
    "pymoo": "backtest",
    "pyrevm": "backtest",
    "skfolio": "backtest",
    "sklearn": "backtest",
}


def how_to_install(error: ModuleNotFoundError) -> str:
    """One line for the user of a module that is not there."""
    name = (error.name or "a package").partition(".")[0]
    what = f"'evenkeel[{EXTRAS[name]}]'" if name in EXTRAS else name
    return f"{name} is not installed: pip install {what}"
