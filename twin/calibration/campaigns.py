"""How a benchmark was run: what its rows of measurements do not say, by rules over what they do (data/campaigns.yaml)."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

_FILE = Path(__file__).with_name("data") / "campaigns.yaml"
_COMPARISONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_COMPARISON = re.compile(r"^(<=|>=|<|>) (\d+)$")


@dataclass(frozen=True, slots=True)
class Campaign:
    """Settings of a benchmark's client and engine; the keys of campaigns.yaml, which explains them."""

    backend: str
    waves: int = 10
    length_from: float = 1.0
    length_to: float = 1.0
    vary_inputs: bool = False
    scheduling: str = "chunked"
    batched_tokens: int = 8192
    per_rank: bool = False
    wait_steps: int = 0
    wait_tokens_frac: float = 0.0
    kv: str = "bf16"
    reserve: float = 0.1
    reserve_answers: bool = False
    draft_tokens: int = 0
    unused_places: int = 0
    most_sequences: int = 0
    cold_start_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: settings for the rows it matches."""

    settings: Mapping[str, Any]
    where: Mapping[str, Any] = field(default_factory=dict)

    def matches(self, facts: Mapping[str, Any]) -> bool:
        """Whether each key of `where` has one of its values among the row's facts."""
        return all(_is(facts.get(key), wanted) for key, wanted in self.where.items())


@dataclass(frozen=True, slots=True)
class Campaigns:
    """The rules, and what checkpoints and systems are called in the catalogue."""

    checkpoints: Mapping[str, str]
    systems: Mapping[str, str]
    rules: tuple[Rule, ...]

    def of(self, facts: Mapping[str, Any]) -> Campaign:
        """The campaign of a row: `facts` are its backend, version, measured, mode, system, generation, model, weights, lengths
        (inferencex, other, and INxOUT), tp, dp, gpus and concurrency."""
        campaign = Campaign(backend=facts["backend"])
        for rule in self.rules:
            if rule.matches(facts):
                campaign = replace(campaign, **rule.settings)
        return campaign


def _is(fact: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return any(_is(fact, one) for one in wanted)
    if isinstance(fact, tuple):
        return any(_is(one, wanted) for one in fact)
    compared = _COMPARISON.match(wanted) if isinstance(wanted, str) else None
    if compared:
        return fact is not None and bool(_COMPARISONS[compared[1]](fact, int(compared[2])))
    return bool(fact == wanted)


@lru_cache(maxsize=1)
def campaigns() -> Campaigns:
    """What ships with the product, read once a process."""
    document = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    rules = tuple(Rule(rule["set"], rule.get("where", {})) for rule in document["rules"])
    return Campaigns(document["checkpoints"], document["systems"], rules)
