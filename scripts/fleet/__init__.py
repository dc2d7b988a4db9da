"""A sample fleet: one night of an OTA campaign, with known faults planted in its logs."""

from fleet.generate import generate
from fleet.truth import FaultTruth, FileTruth, Truth

__all__ = ["FaultTruth", "FileTruth", "Truth", "generate"]
