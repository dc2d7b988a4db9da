"""The files that clients upload for their notes."""

from notes.domain import CONTEXT
from notes.repository import FILES
from skald.storage.uploads import Uploads

files = Uploads(CONTEXT, FILES)
