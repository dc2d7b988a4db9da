"""The local platform: runs PostgreSQL, Valkey and LocalStack as processes of the user."""
