"""PostgreSQL: pools that survive a frozen environment, transactions bound to a tenant."""

from skald.postgres.pool import Database, database, lookout
from skald.postgres.slots import PoolExhausted
from skald.postgres.transaction import Transaction

__all__ = ["Database", "PoolExhausted", "Transaction", "database", "lookout"]
