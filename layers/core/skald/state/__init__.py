"""PostgreSQL is the truth; Redis may vanish at any moment and only speed is lost."""
