"""The files that clients upload for their batches (V-02)."""

from batches.domain import CONTEXT
from batches.repository import FILES
from skald.storage.uploads import Uploads

files = Uploads(CONTEXT, FILES)
