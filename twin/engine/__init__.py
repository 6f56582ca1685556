"""The one place where parts meet the clock: build a scenario, play it, write its run directory."""

from twin.engine.run import Finished, run_directory_name, run_scenario

__all__ = ["Finished", "run_directory_name", "run_scenario"]
