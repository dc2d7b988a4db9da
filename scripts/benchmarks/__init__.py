"""What Skald costs beside its peers: a module per benchmark on `harness` and `servers`."""
