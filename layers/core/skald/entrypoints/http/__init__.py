"""HTTP: routes become functions of validated input, caller and transaction."""

from skald.entrypoints.http.api import Api
from skald.entrypoints.http.request import Caller, Listed, Tx

__all__ = ["Api", "Caller", "Listed", "Tx"]
