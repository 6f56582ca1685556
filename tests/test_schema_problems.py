"""Bad input: every problem at once, each at the place of its key, in words."""

from __future__ import annotations

from pathlib import Path

import pytest
from schema_scenarios import SCENARIO, TOPOLOGY, spoiled, write

from twin.errors import InputError
from twin.schema import load_scenario


def problems(folder: Path, scenario: str = SCENARIO, topology: str = TOPOLOGY, **overrides: object) -> list[str]:
    """The problems of the spoiled scenario, without the folder."""
    with pytest.raises(InputError) as caught:
        load_scenario(write(folder, scenario, topology), overrides)
    assert caught.value.exit_code == 2
    return str(caught.value).replace(f"{folder}/", "").splitlines()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("horizon:", "horzon: 1 s\nhorizon:", "27:1: horzon: unknown key (did you mean 'horizon'?)"),
        ("dp: 8", "ddp: 8", "19:21: serving.pools.0.parallelism.ddp: unknown key (did you mean 'dp'?)"),
        ("horizon: 30 min\n", "", "1:1: horizon: is missing"),
        ("      instances: 18\n", "", "16:7: serving.pools.0.instances: is missing"),
        ("30 min", "1800", "27:1: horizon: the unit is missing: write 1800 with one, such as '30 min'"),
        ("30 min", "30 kW", "27:1: horizon: '30 kW' is a power, but a time is due, such as '30 min'"),
        ("30 min", "30 mins", "27:1: horizon: unknown unit 'mins' (did you mean 'min'?)"),
        ("rate: 2 /s", "rate: .nan", "9:32: workload.arrivals.rate: the unit is missing: write nan with one, such as '6 /s'"),
        ("premium: 0.25", "premium: .nan", "10:11: workload.tiers.premium: nan is not a finite number"),
        ("rate: 2 /s", "rate: 0 /s", "9:32: workload.arrivals.rate: '0 /s' is out of range: it must be above 0"),
        ("process: poisson", "process: poison", "9:14: workload.arrivals.process: 'poison' is not one of"),
        ("process: poisson, ", "", "9:3: workload.arrivals.process: is missing"),
        ("kind: agents", "kind: agent", "8:3: workload.kind: 'agent' is not one of"),
        ("kind: agents", "kind: agents\n  warm_start: yes", "9:3: workload.warm_start: expected true or false, not 'yes'"),
        (
            "model: deepseek_r1",
            "model: deepseek_r2",
            "12:3: serving.model: unknown model 'deepseek_r2' (did you mean 'deepseek_r1'?)",
        ),
        ("backend: trtllm", "backend: trtlm", "14:3: serving.backend: unknown backend 'trtlm' (did you mean 'trtllm'?)"),
        ("weights: fp4", "weights: fp5", "13:15: serving.precision.weights: 'fp5' is not one of 'bf16', 'fp8', 'fp4'"),
        ("instances: 18", "instances: 0", "20:7: serving.pools.0.instances: 0 is out of range: it must be at least 1"),
        ("instances: 18", "instances: 17.5", "20:7: serving.pools.0.instances: expected a whole number, not 17.5"),
        ("instances: 18", "instances: '18'", "20:7: serving.pools.0.instances: expected a whole number, not '18'"),
        ("name: small", "name: 2024", "1:1: name: expected a text, not 2024; write it in quotes: '2024'"),
        ("name: small", "name: a b", "1:1: name: 'a b' is no name"),
        ("ep: 8", "ep: 3", "19:28: serving.pools.0.parallelism.ep: ep 3 does not divide the 8 GPUs of tp 1 x dp 8"),
        ("racks: racks", "racks: rack", "18:7: serving.pools.0.racks: unknown rack group 'rack' (did you mean 'racks'?)"),
        ("role: aggregated", "role: prefill", "17:7: serving.pools.0.role: a prefill pool needs a decode pool at its site"),
        ("premium: 0.25", "premum: 0.25", "10:11: workload.tiers.premum: unknown tier 'premum' (did you mean 'premium'?)"),
        ("premium: 0.25", "premium: 0.5", "10:3: workload.tiers: the shares add up to 1.25, not 1"),
        (
            "  - name: standard",
            "  - name: premium\n  - name: standard",
            "6:5: tiers.1.name: the name 'premium' is taken by item 0",
        ),
        (
            "start: 10 min",
            "start: 10 min\n      feed: utilty",
            "25:7: grid.events.0.feed: unknown feed 'utilty' (did you mean 'utility'?)",
        ),
        ("duration: 10 min", "duration: -10 min", "25:7: grid.events.0.duration: '-10 min' is out of range: it must be above 0"),
        ("duration: 10 min", "duration: 10 min\n      ramp: 1 h", "26:7: grid.events.0.ramp: a ramp of 3600 s is longer than"),
        (
            "start: 10 min",
            "start: 30 min",
            "24:7: grid.events.0.start: begins at 1800 s, after the run of 1800 s: it never happens",
        ),
        ("target: 80 %", "target: 1 MW", "26:7: grid.events.0.target: 1 MW is above the feed's contract of 300 kW"),
        ("target: 80 %", "target: 120 %", "26:7: grid.events.0.target: '120 %' is out of range: it must be at most 1"),
        (
            "horizon:",
            "represent: 4\nhorizon:",
            "20:7: serving.pools.0.instances: 18 instances do not divide into groups of `represent: 4`",
        ),
        ("horizon:", "records: {interval: 1 h}\nhorizon:", "27:11: records.interval: a step of 3600 s is longer than the run"),
        (
            "horizon:",
            "control: {policy: lader}\nhorizon:",
            "27:11: control.policy: unknown policy 'lader' (did you mean 'ladder'?)",
        ),
        ("horizon:", "limits: [{value: x, min: 2, max: 1}]\nhorizon:", "27:21: limits.0.min: 2 is above the max of 1"),
        ("topology: topology.yaml", "topology: topolgy.yaml", "2:1: topology: no such file"),
        ("kind: agents", "kind: trace\n  trace: none.csv", "9:3: workload.trace: no such file: "),
        (
            "dp: 8, ep: 8",
            "dp: 80",
            "19:7: serving.pools.0.parallelism: an instance of 80 GPUs (tp x dp x pp) is no whole number",
        ),
        (
            "dp: 8, ep: 8",
            "dp: 12, pp: 9",
            "19:7: serving.pools.0.parallelism: an instance of 108 GPUs (tp x dp x pp) is no",
        ),
        ("dp: 8, ep: 8", "pp: 62", "19:7: serving.pools.0.parallelism: pp 62 is more than the 61 layers of"),
        (
            "dp: 8, ep: 8",
            "dp: 28, ep: 28",
            "20:7: serving.pools.0.instances: 14 of 18 instances of 28 GPUs find no room in racks: its pools ask for 504 GPUs",
        ),
        ("dp: 8, ep: 8", "dp: 1", "19:7: serving.pools.0.parallelism: deepseek_r1 in fp4 needs "),
        ("instances: 18", "instances: 19", "20:7: serving.pools.0.instances: 1 of 19 instances of 8 GPUs find no room in racks"),
        (
            "backend: trtllm",
            "backend: trtllm\n  preemption: swap",
            "15:3: serving.preemption: swap needs a tier to swap to: give `kv_cache.host`",
        ),
        (
            "backend: trtllm",
            "backend: trtllm\n  kv_cache: {storage: {capacity: 1 TB, bandwidth: 10 GB/s}}",
            "15:14: serving.kv_cache.storage: lies below host memory: give `host` as well",
        ),
        (
            "instances: 18",
            "instances: 18\n      speculation: {draft_tokens: 17, acceptance: 80 %}",
            "21:21: serving.pools.0.speculation.draft_tokens: 17 is out of range: it must be at most 16",
        ),
        (
            "kind: agents",
            "kind: agents\n  system_prompts: 0",
            "9:3: workload.system_prompts: 0 is out of range: it must be at least 1",
        ),
        (
            "kind: agents",
            "kind: fixed\n  input_tokens: 512\n  output_tokens: 64\n  system_prompt_tokens: 512",
            "11:3: workload.system_prompt_tokens: 512 must be less than the 512 input tokens of a request",
        ),
        (
            "kind: agents",
            "kind: chat\n  system_prompt_tokens: -1",
            "9:3: workload.system_prompt_tokens: -1 is out of range: it must be at least 0",
        ),
    ],
)
def test_one_problem_of_a_scenario(tmp_path: Path, old: str, new: str, expected: str) -> None:
    found = problems(tmp_path, spoiled(SCENARIO, (old, new)))
    assert len(found) == 1, found
    assert f"scenario.yaml:{expected}" in found[0]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "rack: gb200_nvl72",
            "rack: gb200_nvl27",
            "6:23: sites.0.racks.0.rack: unknown rack 'gb200_nvl27' (did you mean 'gb200_nvl72'?)",
        ),
        ("rack: gb200_nvl72", "rack: vera_cpu", "6:23: sites.0.racks.0.rack: 'vera_cpu' is no rack"),
        (
            "rack: gb200_nvl72",
            "rack: rubin_ultra_nvl576",
            "6:23: sites.0.racks.0.rack: rack rubin_ultra_nvl576 cannot be simulated",
        ),
        ("rack: gb200_nvl72", "rack: hgx_h100", "6:49: sites.0.racks.0.loop: rack hgx_h100 is air-cooled and takes no loop"),
        (", loop: tcs}", "}", "6:9: sites.0.racks.0.loop: is missing: rack gb200_nvl72 gives heat to a liquid loop"),
        ("loop: tcs", "loop: tsc", "6:52: sites.0.racks.0.loop: unknown loop 'tsc' (did you mean 'tcs'?)"),
        ("optic: pluggable_1600g", "optic: plugable", "7:40: sites.0.fabric.optic: unknown optic 'plugable'"),
        (
            "switch: spectrum4_sn5600",
            "switch: quantum_x800_q3400",
            "7:14: sites.0.fabric.switch: switch quantum_x800_q3400 cannot be simulated: nobody has published typical_w",
        ),
        ("switch: spectrum4_sn5600", "switch: ethernet_fabric", "7:14: sites.0.fabric.switch: 'ethernet_fabric' is no switch"),
        ("cdu: cdu_1mw", "cdu: dry_cooler", "9:27: sites.0.cooling.loops.0.cdu: 'dry_cooler' is no CDU"),
        ("chiller: air_cooled_chiller", "chiller: chiler", "11:7: sites.0.cooling.chiller: unknown chiller 'chiler'"),
        (
            "capacity: 60 kWh",
            "capacity: -60 kWh",
            "19:36: sites.0.battery.capacity: '-60 kWh' is out of range: it must be above 0",
        ),
        (
            "power: 100 kW",
            "power: 100 kW, initial: 5 %",
            "19:69: sites.0.battery.initial: a charge of 0.05 is below the floor of 0.1",
        ),
        ("wet_bulb: 15 C", "wet_bulb: 25 C", "20:31: sites.0.climate.wet_bulb: 25 C is above the dry bulb of 22 C"),
        ("wet_bulb: 15 C", "wet_bulb: 290 C", "20:31: sites.0.climate.wet_bulb: '290 C' is out of range"),
        ("wet_bulb: 15 C", "wet_bulb: 290 K", "20:31: sites.0.climate.wet_bulb: "),
        ("dry_bulb: 22 C", "dry_bulb: 72", "20:15: sites.0.climate.dry_bulb: "),
        (
            "count: 2, loop",
            "count: 60, loop",
            "9:15: sites.0.cooling.loops.0.count: 1.13 MW of cdu_1mw is less than the 1.258 MW of heat that its racks give",
        ),
        (
            "air_handler: air_handler",
            "air_handler: air_handler\n      cold_plate: cdu_1mw",
            "13:7: sites.0.cooling.cold_plate: 'cdu_1mw' is no cold plate",
        ),
        ("wet_bulb: 15 C", "weather: none.csv", "20:31: sites.0.climate.weather: no such file"),
        (", wet_bulb: 15 C", "", "20:5: sites.0.climate.wet_bulb: is missing; give dry_bulb and wet_bulb, or weather"),
        ("contract: 300 kW", "contract: 300 kWh", "4:27: sites.0.feed.contract: '300 kWh' is a"),
        ("name: small", "nme: small", "1:1: "),
    ],
)
def test_one_problem_of_the_topology_is_shown_in_its_own_file(tmp_path: Path, old: str, new: str, expected: str) -> None:
    found = problems(tmp_path, topology=spoiled(TOPOLOGY, (old, new)))
    assert any(f"topology.yaml:{expected}" in line for line in found), found
    assert all("scenario.yaml" not in line or "topology.name" in line for line in found)


def test_all_problems_are_reported_at_once_in_the_order_of_the_files(tmp_path: Path) -> None:
    scenario = spoiled(
        SCENARIO,
        ("name: small", "nonsense: 1\nname: small"),
        ("ttft: 2 s", "ttft: 2"),
        ("premium: 0.25", "premum: 0.25"),
        ("model: deepseek_r1", "model: deepseek"),
        ("racks: racks", "racks: b"),
        ("duration: 10 min", "duration: 0 s"),
    )
    topology = spoiled(TOPOLOGY, ("rack: gb200_nvl72", "rack: gb200"), ("loop: tcs", "loop: x"), ("60 kWh", "60 kW"))
    found = [line.split(": ")[0:2] for line in problems(tmp_path, scenario, topology)]
    assert sorted(found) == sorted(
        [
            ["scenario.yaml:1:1", "nonsense"],
            ["scenario.yaml:6:18", "tiers.0.objectives.ttft"],
            ["scenario.yaml:11:11", "workload.tiers.premum"],
            ["scenario.yaml:13:3", "serving.model"],
            ["scenario.yaml:19:7", "serving.pools.0.racks"],
            ["scenario.yaml:26:7", "grid.events.0.duration"],
            ["topology.yaml:6:23", "sites.0.racks.0.rack"],
            ["topology.yaml:6:46", "sites.0.racks.0.loop"],
            ["topology.yaml:19:36", "sites.0.battery.capacity"],
        ]
    )
    lines = [int(place.split(":")[1]) for place, _ in found if place.startswith("scenario")]
    assert lines == sorted(lines)


def test_no_word_of_the_validator_reaches_the_reader(tmp_path: Path) -> None:
    first = "name: [1]\ntopology: 5\ntiers: {}\nworkload: 3\n"
    text = "\n".join(problems(tmp_path, first + "serving: {pools: x, precision: [], model: {}}\nhorizon: {a: 1}\nseed: x\n"))
    for jargon in ("Input should", "pydantic", "type=", "valid_", "[type", "errors.pydantic"):
        assert jargon not in text


def test_two_sites_need_to_be_told_apart(tmp_path: Path) -> None:
    site = TOPOLOGY[TOPOLOGY.index("  - name: main") :]
    two = TOPOLOGY + spoiled(site, ("name: main", "name: other"), ("name: utility", "name: second"))
    assert problems(tmp_path, topology=two) == [
        "scenario.yaml:16:7: serving.pools.0.site: is missing, and there are 2 sites: main, other",
        "scenario.yaml:23:7: grid.events.0.feed: is missing, and there are 2 feeds: utility, second",
    ]
    same = TOPOLOGY + site
    assert "topology.yaml:21:5: sites.1.name: the name 'main' is taken by item 0; names must differ" in problems(
        tmp_path, topology=same
    )


def test_instances_need_not_divide_a_scale_up_domain(tmp_path: Path) -> None:
    """Ten instances of 7 GPUs in each of two domains of 72; pipeline stages count as well: 2 x 2 x 9 fit twice in a domain."""
    load_scenario(write(tmp_path, spoiled(SCENARIO, ("dp: 8, ep: 8", "dp: 7, ep: 7"), ("instances: 18", "instances: 20"))))
    found = problems(tmp_path, spoiled(SCENARIO, ("dp: 8, ep: 8", "dp: 7, ep: 7"), ("instances: 18", "instances: 21")))
    assert len(found) == 1
    assert "1 of 21 instances of 7 GPUs find no room in racks" in found[0]
    pipe = ("dp: 8, ep: 8", "tp: 2, dp: 2, ep: 4, pp: 9")
    load_scenario(write(tmp_path, spoiled(SCENARIO, pipe, ("instances: 18", "instances: 4"))))
    assert "1 of 5 instances of 36 GPUs" in problems(tmp_path, spoiled(SCENARIO, pipe, ("instances: 18", "instances: 5")))[0]


def test_pools_that_share_racks_are_placed_whole(tmp_path: Path) -> None:
    """Two racks of 72: 3 x 36 + 4 x 9 = 144 GPUs fit; 3 x 36 + 2 x 24 would need 48 in the 36 that are left."""
    pools = SCENARIO.replace("dp: 8, ep: 8", "dp: 36, ep: 36").replace("instances: 18", "instances: 3")
    fits = pools.replace(
        "grid:", "    - {name: b, role: aggregated, racks: racks, parallelism: {dp: 9, ep: 9}, instances: 4}\ngrid:"
    )
    load_scenario(write(tmp_path, fits))
    too_many = fits.replace("dp: 9, ep: 9}, instances: 4", "dp: 24, ep: 24}, instances: 2")
    found = problems(tmp_path, too_many)
    assert len(found) == 1
    assert "serving.pools.1.instances: 1 of 2 instances of 24 GPUs find no room in racks" in found[0]
