"""How fast the plant alone runs: NVL72 racks under a load that changes every second.

    .venv/bin/python bench/plant.py [--racks 100] [--hours 24] [--records DIR] [--json]

`--records` also writes the power, thermal and racks tables of a run to DIR, at the default intervals.
`--json` prints {"racks", "simulated_s_per_wall_s"} and nothing else.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from twin.catalog import load_catalog
from twin.engine.rack_records import RackRecorder
from twin.engine.records import NO_SHARES, SiteRecorder
from twin.facility import BatteryOrder, ChainSpec, Plant, PlantSpec, RackSpec, sizing
from twin.recording import RunDirectory

RACK_RATED_W = 132_000.0
RACKS_PER_CDU = 8
GPUS_PER_RACK = 72
GPU_SHARE = 0.72


def example_spec(racks: int) -> PlantSpec:
    """A site of GB200 NVL72 racks (132 kW, 87 % liquid), eight to a CDU, sized from the catalogue."""
    catalog = load_catalog()
    gpu = catalog.part("gpu", "gb200")
    cdu, handler = catalog.part("cooling", "cdu_1mw"), catalog.part("cooling", "air_handler")
    cooler, machine = catalog.part("cooling", "dry_cooler"), catalog.part("cooling", "air_cooled_chiller")
    shelf = sizing.power_shelf(catalog.part("electrical", "orv3_shelf_33kw"), RACK_RATED_W)
    groups = [min(RACKS_PER_CDU, racks - first) for first in range(0, racks, RACKS_PER_CDU)]
    supply_c, liquid_frac = 35.0, 0.871
    loops = tuple(sizing.liquid_loop(cdu, f"cdu_{i}", 1, supply_c, "warm") for i in range(len(groups)))
    drawn_w = racks * RACK_RATED_W * 1.04
    air_w = drawn_w * (1 - liquid_frac) + 0.05 * drawn_w
    warm_w = drawn_w * liquid_frac
    warm_range_k = loops[0].return_intercept_c + loops[0].return_slope * supply_c - supply_c
    water_c = sizing.air_water_supply_c(handler)
    return PlantSpec(
        name="bench",
        racks=tuple(
            RackSpec(
                f"row_{i}",
                count,
                shelf,
                f"cdu_{i}",
                liquid_frac,
                sizing.die(gpu, catalog.part("cooling", "cold_plate")),
            )
            for i, count in enumerate(groups)
        ),
        loops=loops,
        air=sizing.air_loop(handler, "hall_air", air_w, "chilled"),
        circuits=(
            sizing.circuit(
                cooler,
                "warm",
                supply_c - cdu.number("approach_k"),
                warm_range_k,
                warm_w,
                sizing.chiller(machine, warm_w * machine.number("trim_capacity_frac")),
            ),
            sizing.circuit(
                cooler,
                "chilled",
                water_c,
                handler.number("water_range_k"),
                air_w,
                sizing.chiller(machine, air_w * machine.number("air_capacity_frac")),
            ),
        ),
        chain=ChainSpec.line(
            "utility",
            sizing.element(catalog.part("electrical", "transformer_mv_lv"), "transformer", drawn_w * 1.5),
            sizing.element(catalog.part("electrical", "ups_double_conversion"), "ups", drawn_w * 1.25),
            len(groups),
        ),
        battery=sizing.battery(catalog.part("battery", "lfp_container"), drawn_w * 900, drawn_w * 0.25, 0.1, 0.9),
        other_w=0.005 * drawn_w,
    )


def simulate(racks: int, hours: float, output: RunDirectory | None = None) -> Plant:
    """The plant after `hours` of one-second steps: a daily swing, noise by rack, a limit at the racks' rating. With `output`, its
    rows are recorded there: power and heat each second, racks each minute."""
    spec = example_spec(racks)
    plant = Plant(spec)
    noise = np.random.default_rng(1).uniform(0.9, 1.1, size=(64, racks))
    order = BatteryOrder.follow(racks * RACK_RATED_W, recharge_w=racks * 2_000.0)
    if output is not None:
        rows = SiteRecorder(spec.name, output, racks * RACK_RATED_W)
        groups = [(group.name, group.count) for group in spec.racks]
        of_racks = RackRecorder(spec.name, groups, racks, output.writer("racks"), 60.0, hours * 3600)
    for second in range(1, round(hours * 3600) + 1):
        day = 2 * math.pi * second / 86400
        it_w = noise[second & 63] * (RACK_RATED_W * (0.72 + 0.14 * math.sin(day)))
        outdoor_c = 22 - 8 * math.cos(day)
        step = plant.advance(float(second), it_w, it_w * (GPU_SHARE / GPUS_PER_RACK), outdoor_c, outdoor_c - 6, order)
        if output is not None:
            rows.add(step, step.it_w * GPU_SHARE, 0.0, None, (0.0, 0.0), NO_SHARES)
            rows.write_power()
            of_racks.add(step, it_w, it_w * GPU_SHARE, plant.rack_up)
    return plant


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--racks", type=int, default=100, help="GB200 NVL72 racks (default 100)")
    parser.add_argument("--hours", type=float, default=24.0, help="simulated time (default 24)")
    parser.add_argument("--records", type=Path, metavar="DIR", help="write the tables of a run here")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    args = parser.parse_args()
    if args.racks < 1 or not args.hours > 0:
        parser.error("at least one rack and a positive time are due")
    started = time.perf_counter()
    if args.records is None:
        plant = simulate(args.racks, args.hours)
    else:
        output = RunDirectory(args.records, args.records)
        args.records.mkdir(parents=True)
        plant = simulate(args.racks, args.hours, output)
        output.close_tables()
    wall_s = time.perf_counter() - started
    speed = plant.now_s / wall_s
    if args.json:
        print(json.dumps({"racks": args.racks, "simulated_s_per_wall_s": round(speed, 1)}))
    else:
        energy = plant.energy
        print(f"{args.racks} racks, {args.hours:g} h in {wall_s:.2f} s: {speed:,.0f} simulated seconds per wall second")
        print(f"PUE {energy.utility_j / energy.it_j:.3f}, energy residual {energy.balance_residual_frac:.1e}", end="")
        print(f", heat residual {energy.heat_residual_frac:.1e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
