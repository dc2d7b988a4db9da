"""A sample fleet: the logs of one night of an OTA campaign, with known faults planted in them."""

from fleet.generate import generate
from fleet.truth import FaultTruth, FileTruth, Truth

__all__ = ["FaultTruth", "FileTruth", "Truth", "generate"]
