"""The local platform: PostgreSQL, Valkey and LocalStack as plain processes of the user."""
