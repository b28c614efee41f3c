"""Prices for a backtest, from files, exchanges and chains, checked: `load(data_settings({...})).market`."""

from offchain.data.load import Loaded, Progress, load, load_frame
from offchain.data.settings import DataSettings, Pool, data_settings

__all__ = ["DataSettings", "Loaded", "Pool", "Progress", "data_settings", "load", "load_frame"]
