"""One way to serve on a system: how instances are laid out, how many share a group, and what they speculate."""

from __future__ import annotations

from dataclasses import dataclass

from twin.catalog import Catalog, Part
from twin.errors import InputError
from twin.schema.consistency import not_one_system, unfit
from twin.schema.pareto import AGGREGATED, Pareto, ParetoSystem, instances_of
from twin.schema.scenario import Scenario
from twin.schema.serving import Parallelism, Pool, PromptWait, Speculation
from twin.schema.topology import Site


@dataclass(frozen=True, slots=True)
class Configuration:
    """What is served with at every number of sequences: aggregated instances, or a group of prefill and decode instances."""

    split: str
    layout: Parallelism
    prefill_layout: Parallelism | None = None
    speculation: Speculation | None = None
    prompt_wait: PromptWait | None = None

    @property
    def counts(self) -> tuple[int, int]:
        """Prefill instances, and decode or aggregated ones."""
        return instances_of(self.split) or (0, 1)

    @property
    def prefill_gpus(self) -> int:
        """GPUs of all prefill instances."""
        return 0 if self.prefill_layout is None else self.counts[0] * self.prefill_layout.gpus

    @property
    def gpus(self) -> int:
        """GPUs of the whole group."""
        return self.prefill_gpus + self.counts[1] * self.layout.gpus

    @property
    def label(self) -> str:
        """All of it in a few letters, for names of files and for people: "1P2D TP4 > DP8 EP8 draft2"."""
        parts = [self.split, *(() if self.prefill_layout is None else (spoken(self.prefill_layout), ">")), spoken(self.layout)]
        if self.speculation is not None:
            parts.append(f"draft{self.speculation.draft_tokens}")
        if self.prompt_wait is not None:
            parts.append(f"wait{self.prompt_wait.steps}" + (f"/{self.prompt_wait.tokens}" if self.prompt_wait.tokens else ""))
        return " ".join(parts)


def spoken(layout: Parallelism) -> str:
    """A layout as people write it: "TP8", "TP4 DP2 EP8"; what is 1 is left out."""
    parts = [f"{name.upper()}{count}" for name in ("tp", "dp", "ep", "pp") if (count := getattr(layout, name)) > 1]
    return " ".join(parts) or "TP1"


@dataclass(frozen=True, slots=True)
class System:
    """A system of the study: its site, and the scenario with the system's topology and serving in their places."""

    name: str
    scenario: Scenario
    space: Pareto

    @property
    def site(self) -> Site:
        """Its one site."""
        return self.scenario.topology.sites[0]

    def rack(self, catalog: Catalog) -> Part:
        """Its one kind of rack."""
        return catalog.part("rack", self.site.racks[0].rack)

    def domain_gpus(self, catalog: Catalog) -> int:
        """GPUs of a scale-up domain."""
        return int(self.rack(catalog).number("scale_up_domain_gpus"))

    def max_gpus(self, catalog: Catalog) -> int:
        """Most GPUs of a group."""
        site_gpus = sum(group.count for group in self.site.racks) * int(self.rack(catalog).number("gpus"))
        return self.space.max_gpus or site_gpus

    def pool(self, configuration: Configuration, role: str, sequences: int) -> Pool:
        """The pool of one role of a configuration: settings of the scenario's pool of that role (else of its first one), with the
        configuration's layout."""
        pools = self.scenario.serving.pools
        given = next((pool for pool in pools if pool.role == role), pools[0])
        prefill = role == "prefill"
        layout = configuration.prefill_layout if prefill else configuration.layout
        assert layout is not None
        return given.model_copy(
            update={
                "name": role,
                "role": role,
                "racks": tuple(group.name for group in self.site.racks),
                "parallelism": layout,
                "instances": configuration.counts[0 if prefill else 1],
                "max_sequences": given.max_sequences if prefill else sequences,
                "max_batched_tokens": self.space.rank_batched_tokens * layout.dp,
                "speculation": None if prefill else configuration.speculation,
                "prompt_wait": None if prefill else configuration.prompt_wait,
                "kv_blocks": None,
            }
        )

    def refusal(self, layout: Parallelism, catalog: Catalog) -> str | None:
        """Why no instance of a layout can run on the system, with the fewest sequences; None if it can."""
        if layout.gpus > self.max_gpus(catalog):
            return f"{layout.gpus} GPUs are more than the {self.max_gpus(catalog)} of max_gpus"
        pool = self.pool(Configuration(AGGREGATED, layout), "aggregated", self.space.sequences[0])
        return self.unfit(pool, catalog)

    def unfit(self, pool: Pool, catalog: Catalog) -> str | None:
        """Why instances of a pool cannot run on the system; None if they can."""
        return unfit(self.scenario, pool, self.site, catalog)


def systems(scenario: Scenario) -> tuple[System, ...]:
    """The systems of a scenario's study. Raises InputError where its own topology, taken for want of others, is not one."""
    space = scenario.pareto or Pareto()
    named = space.systems
    if not named:
        if reason := not_one_system(scenario.topology):
            raise InputError(f"topology {scenario.topology.name} {reason}: name the systems in `pareto.systems`")
        named = (ParetoSystem(name=scenario.topology.name, topology=scenario.topology),)
    return tuple(System(system.name, _on(scenario, system), space) for system in named)


def _on(scenario: Scenario, system: ParetoSystem) -> Scenario:
    serving = scenario.serving
    changed = {"precision": system.precision or serving.precision, "backend": system.backend or serving.backend}
    update = {"topology": system.topology, "serving": serving.model_copy(update=changed), "pareto": None}
    return scenario.model_copy(update=update)
