"""Independent calls side by side in processes of this machine."""

from twin.processes.pool import Call, Died, OnDone, call_all, processes

__all__ = ["Call", "Died", "OnDone", "call_all", "processes"]
