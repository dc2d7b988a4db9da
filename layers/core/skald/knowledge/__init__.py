"""The knowledge base: entries in versions, their embeddings, and a search over both (V-09)."""
