"""The knowledge base: entries in versions, their embeddings, and the search over both (V-09)."""
