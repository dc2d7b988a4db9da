"""PostgreSQL: pools that survive a frozen environment, transactions bound to a tenant.

Everything else in Skald imports these names; the modules behind them are this package's own.
"""

from skald.postgres.conditional import ConditionalTransaction
from skald.postgres.interface import Call
from skald.postgres.pool import Database, database, lookout
from skald.postgres.slots import PoolExhausted, PoolStatistics
from skald.postgres.transaction import Transaction

__all__ = [
    "Call",
    "ConditionalTransaction",
    "Database",
    "PoolExhausted",
    "PoolStatistics",
    "Transaction",
    "database",
    "lookout",
]
