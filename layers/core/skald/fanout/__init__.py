"""Fan-out: tasks of a saga. Each ends once; the last one opens the gate (V-04)."""

from skald.fanout.fanout import FanOut, TaskOwner
from skald.fanout.rows import Counts, TaskState
from skald.fanout.task import GivenUp, Task

__all__ = ["Counts", "FanOut", "GivenUp", "Task", "TaskOwner", "TaskState"]
