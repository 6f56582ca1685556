"""Requests and agent sessions: trace formats, generators, arrival processes. Its modules are imported where they are used."""
