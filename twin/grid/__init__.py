"""The utility's side: feeds and what they are asked."""

from twin.grid.load_target import FeedSchedule, LoadTargetEvent

__all__ = ["FeedSchedule", "LoadTargetEvent"]
