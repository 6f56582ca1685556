"""`twin`: the command. Each subcommand is imported when it is called, so that `--help` and `check` answer at once."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from twin.errors import InputError, TwinError

USAGE, INTERRUPTED, TERMINATED, BUG = 2, 130, 143, 70


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 a limit or regression failed, 2 bad input, 3 the simulation could not
    go on, 130 interrupted, 143 terminated, 70 a bug."""
    try:
        options = parser().parse_args(arguments)
    except SystemExit as leave:  # argparse prints its own message
        return int(leave.code or 0)
    with _interruptible() as stopped_by:
        code = _answer(options)
    return TERMINATED if signal.SIGTERM in stopped_by else code


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """Within, SIGTERM ends a command as Ctrl-C does, and more signals do not disturb its cleaning up. Gives the signals met."""
    met: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        met.append(number)
        # Not SIG_IGN: of a signal that is on its way already Python would complain.
        if len(met) == 1:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield met
        return
    # A signal that is ignored (nohup, a background job of a script) stays so.
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    for each, handler in before.items():
        if handler in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(each, stop)
    try:
        yield met
    finally:
        for each, handler in before.items():
            if handler is not None:  # None is a handler that Python did not set
                signal.signal(each, handler)


def _answer(options: argparse.Namespace) -> int:
    try:
        return int(options.call(options))
    except TwinError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; nothing was kept", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`twin catalog | head`): not an error of ours.
        sys.stderr.close()
        return 0
    except Exception:
        traceback.print_exc()
        print("this is a bug in twin: please report it with the lines above", file=sys.stderr)
        return BUG


def pairs(given: list[str] | None) -> dict[str, object]:
    """`path=value` arguments as a mapping. Raises InputError for one without `=`, or given twice."""
    found: dict[str, object] = {}
    for each in given or []:
        path, equals, value = each.partition("=")
        if not equals or not path:
            raise InputError(f"--set {each}: write path=value, such as control.policy=uniform_cap")
        if path in found:
            raise InputError(f"--set {path}: given twice")
        found[path] = value
    return found


def parser() -> argparse.ArgumentParser:
    """The command line. Data goes to stdout, narration and progress to stderr."""
    top = argparse.ArgumentParser(prog="twin", description="A digital twin of an AI factory: run it, bend it, see what happens.")
    top.add_argument("--version", action="store_true", help="print the version and leave")
    top.set_defaults(call=_bare)
    commands = top.add_subparsers(metavar="COMMAND", title="commands")

    run = commands.add_parser("run", help="run a scenario and write a run directory")
    _scenario(run)
    run.add_argument("--out", type=Path, metavar="DIR", help="where the run goes (default: runs/NAME-HASH-sSEED)")
    run.add_argument("--seed", type=int, metavar="N", help="seed of every random stream, instead of the scenario's")
    run.add_argument("--json", action="store_true", help="print summary.json and nothing else on stdout")
    run.add_argument("--quiet", action="store_true", help="no narration and no progress bar")
    run.set_defaults(call=_run)

    check = commands.add_parser("check", help="check scenario, topology and catalogue files")
    check.add_argument("files", nargs="*", metavar="FILE", help="scenarios, topologies or catalogue files")
    check.add_argument("--set", action="append", metavar="PATH=VALUE", help="lay a value on each file first")
    check.add_argument("--write-schemas", metavar="DIR", help="write the JSON Schemas for editors to DIR")
    check.set_defaults(call=_check)

    new = commands.add_parser("new", help="start a scenario and a topology of your own")
    new.add_argument("folder", metavar="DIR", help="folder to make")
    new.add_argument("--template", default="quickstart", metavar="NAME", help="quickstart or curtailment")
    new.set_defaults(call=_new)

    sweep = commands.add_parser("sweep", help="run a scenario at every combination of values")
    _scenario(sweep)
    sweep.add_argument(
        "--over", action="append", required=True, metavar="PATH=V1,V2,...", help="values of a key; may be repeated"
    )
    sweep.add_argument("--engine", default="local", choices=["local"], help="processes of this machine")
    sweep.add_argument("--jobs", type=int, metavar="N", help="runs at once (default: one for each core)")
    sweep.add_argument("--out", type=Path, metavar="DIR", help="where the study goes (default: studies/NAME-HASH)")
    sweep.add_argument("--resume", action="store_true", help="keep the runs of an earlier, unfinished sweep")
    sweep.add_argument("--json", action="store_true", help="print the table as JSON and nothing else on stdout")
    sweep.set_defaults(call=_sweep)

    faults = commands.add_parser("faults", help="run a scenario with one random fault at a time and see what each does")
    _scenario(faults)
    faults.add_argument("--list", action="store_true", help="list what can fail, with how many units, and leave")
    faults.add_argument("--runs", type=int, default=20, metavar="N", help="faults, a run each (default: 20)")
    faults.add_argument("--seed", type=int, default=1, metavar="N", help="of the faults drawn; the runs keep the scenario's")
    faults.add_argument("--kinds", metavar="A,B,...", help="kinds of components that fail (default: all there are)")
    faults.add_argument("--duration", metavar="TIME", help="until the repair (default: drawn around the catalogue's mean)")
    faults.add_argument("--jobs", type=int, metavar="N", help="runs at once (default: one for each core)")
    faults.add_argument("--out", type=Path, metavar="DIR", help="keep the runs and the table (default: the table is printed)")
    faults.add_argument("--json", action="store_true", help="print the table as JSON and nothing else on stdout")
    faults.set_defaults(call=_faults)

    pareto = commands.add_parser(
        "pareto", help="find the frontier of systems: tokens/s per GPU and per MW over tokens/s per user"
    )
    _scenario(pareto)
    pareto.add_argument("--jobs", type=int, metavar="N", help="processes (default: one for each core)")
    pareto.add_argument("--out", type=Path, metavar="DIR", help="where the study goes (default: studies/NAME-pareto-HASH)")
    pareto.add_argument("--resume", action="store_true", help="keep what an earlier, unfinished study has played")
    pareto.add_argument("--json", action="store_true", help="print the study as one JSON document on stdout")
    pareto.set_defaults(call=_pareto)

    compare = commands.add_parser("compare", help="put the figures of two runs side by side")
    compare.add_argument("a", metavar="RUN_A", help="a run directory")
    compare.add_argument("b", metavar="RUN_B", help="the run directory held against it")
    compare.add_argument("--json", action="store_true")
    compare.set_defaults(call=_compare)

    summary = commands.add_parser("summary", help="print what a run came to")
    summary.add_argument("run", metavar="RUN", help="a run directory")
    summary.add_argument("--json", action="store_true", help="print summary.json")
    summary.set_defaults(call=_summary)

    report = commands.add_parser("report", help="make the report of a run anew")
    report.add_argument("run", metavar="RUN", help="a run directory")
    report.add_argument("--out", type=Path, metavar="FILE", help="where it goes (default: report.html of the run)")
    report.set_defaults(call=_report)

    regress = commands.add_parser("regress", help="run a folder of scenarios against their committed baselines")
    regress.add_argument("folder", nargs="?", type=Path, default=Path("scenarios/nightly"), metavar="DIR")
    regress.add_argument("--accept", action="store_true", help="make the results the new baselines")
    regress.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML")
    regress.add_argument("--json", action="store_true")
    regress.set_defaults(call=_regress)

    calibrate = commands.add_parser("calibrate", help="fit the step model's coefficients to files of measurements")
    calibrate.add_argument("data", type=Path, nargs="+", metavar="DATA", help="CSV files of measurements (docs/calibration.md)")
    calibrate.add_argument("--out", type=Path, metavar="FILE", help="a catalogue file of backends (default: on stdout)")
    calibrate.add_argument("--source", metavar="TEXT", help="where the measurements are from (default: the file's name)")
    calibrate.add_argument("--jobs", type=int, metavar="N", help="processes (default: one for each core)")
    calibrate.set_defaults(call=_calibrate)

    validate = commands.add_parser("validate", help="predict each row of a file of measurements, and show the errors")
    validate.add_argument("data", type=Path, metavar="DATA", help="a CSV file of measurements (docs/calibration.md)")
    validate.add_argument("--jobs", type=int, metavar="N", help="processes (default: one for each core)")
    validate.add_argument("--json", action="store_true")
    validate.set_defaults(call=_validate)

    _trace_commands(commands.add_parser("trace", help="look at, convert or generate traces"))

    topology = commands.add_parser("topology", help="look at a topology")
    inner = topology.add_subparsers(metavar="WHAT", required=True)
    show = inner.add_parser("show", help="racks, fabric, chain and cooling of a file")
    show.add_argument("file", metavar="FILE", help="a topology file")
    show.add_argument("--format", default="table", choices=["table", "json", "graphml", "svg"])
    show.add_argument("--run", metavar="DIR", type=Path, help="a run of it, whose loads the svg then shows")
    show.set_defaults(call=_topology_show)

    catalog = commands.add_parser("catalog", help="list the parts of the catalogue, each number with its source")
    catalog.add_argument("kind", nargs="?", metavar="KIND", help="gpu, model, backend, ... (default: list the kinds)")
    catalog.add_argument("--json", action="store_true")
    catalog.set_defaults(call=_catalog)

    model = commands.add_parser("model", help="bring a model of your own")
    inner = model.add_subparsers(metavar="WHAT", required=True)
    bring = inner.add_parser("import", help="make a catalogue file from a Hugging Face config.json")
    bring.add_argument("config", type=Path, metavar="CONFIG.JSON", help="as published with a checkpoint")
    bring.add_argument("--name", metavar="NAME", help="what scenarios call it (default: the name of the file or its folder)")
    bring.add_argument("--out", type=Path, metavar="FILE", help="where it goes (default: stdout)")
    bring.set_defaults(call=_model_import)
    return top


def _scenario(command: argparse.ArgumentParser) -> None:
    command.add_argument("scenario", metavar="SCENARIO", help="a scenario file")
    command.add_argument("--set", action="append", metavar="PATH=VALUE", help="lay a value on the scenario; may be repeated")


def _trace_commands(trace: argparse.ArgumentParser) -> None:
    inner = trace.add_subparsers(metavar="WHAT", required=True)
    info = inner.add_parser("info", help="sizes, lengths and prefix reuse of a trace")
    info.add_argument("file", type=Path, metavar="FILE", help="a trace: a file, or a folder of sessions or of clients")
    info.add_argument("--format", default="auto")
    info.add_argument("--json", action="store_true")
    info.add_argument("--plot", type=Path, metavar="FILE", help="draw it as well, to a .png, .svg or .pdf")
    info.set_defaults(call=_trace_info)
    cache = inner.add_parser("cache", help="what caches of different sizes would find of a trace's contexts")
    cache.add_argument("file", type=Path, metavar="FILE", help="a trace")
    cache.add_argument("--format", default="auto")
    cache.add_argument("--sizes", metavar="N1,N2,...", help="rooms in tokens, such as 500k,20M (default: from full room down)")
    cache.add_argument("--rate", metavar="RATE", help="mean rate at which sessions arrive, for a trace that records no arrivals")
    cache.add_argument("--plot", type=Path, metavar="FILE", help="draw the curve to a .svg or .png")
    cache.add_argument("--json", action="store_true")
    cache.set_defaults(call=_trace_cache)
    convert = inner.add_parser("convert", help="write a trace in another format, told by the output's name")
    convert.add_argument("file", type=Path, metavar="FILE", help="a trace")
    convert.add_argument("--format", default="auto")
    convert.add_argument("--out", type=Path, required=True, metavar="FILE")
    convert.set_defaults(call=_trace_convert)
    fit = inner.add_parser("fit", help="fit the generator of agent sessions to a trace, and show how near it comes")
    fit.add_argument("file", type=Path, metavar="TRACE", help="a trace")
    fit.add_argument("--format", default="auto")
    fit.add_argument("--out", type=Path, required=True, metavar="FILE", help="where the figures go (.yaml)")
    fit.add_argument("--source", metavar="TEXT", help="who recorded the trace, and its licence: kept with the figures")
    fit.add_argument("--seed", type=int, default=1, metavar="N", help="of the sample held against the trace")
    fit.add_argument("--json", action="store_true")
    fit.set_defaults(call=_trace_fit)
    generate = inner.add_parser("generate", help="write a trace drawn from fitted distributions")
    generate.add_argument("kind", metavar="KIND", help="agents, chat, reasoning, fixed or servegen")
    generate.add_argument("--out", type=Path, required=True, metavar="FILE")
    generate.add_argument("--sessions", type=int, required=True, metavar="N")
    generate.add_argument("--fit", type=Path, metavar="FILE", help="for kind agents: figures that `twin trace fit` wrote")
    generate.add_argument("--rate", help="mean arrival rate of sessions (default: that of the fit, or 1 /s)")
    generate.add_argument(
        "--burstiness", type=float, metavar="CV", help="variation of the gaps; 1 is Poisson (default: likewise)"
    )
    generate.add_argument("--seed", type=int, default=1, metavar="N")
    generate.add_argument("--input-tokens", type=int, metavar="N", help="for kind fixed")
    generate.add_argument("--output-tokens", type=int, metavar="N", help="for kind fixed")
    generate.add_argument("--clients", type=Path, metavar="FOLDER", help="for kind servegen, which draws from their rates")
    generate.set_defaults(call=_trace_generate)


def _bare(options: argparse.Namespace) -> int:
    if options.version:
        from importlib.metadata import version

        print(version("twin"))
        return 0
    parser().print_help()
    return USAGE


def _run(options: argparse.Namespace) -> int:
    from twin.cli.run import run_command

    return run_command(options.scenario, pairs(options.set), options.seed, options.out, options.json, options.quiet)


def _check(options: argparse.Namespace) -> int:
    from twin.cli.check import check_command

    return check_command(options.files, pairs(options.set), options.write_schemas)


def _new(options: argparse.Namespace) -> int:
    from twin.cli.new import new_command

    return new_command(options.folder, options.template)


def _sweep(options: argparse.Namespace) -> int:
    from twin.cli.sweep import sweep_command

    return sweep_command(
        options.scenario, pairs(options.set), options.over, options.jobs, options.out, options.resume, options.json
    )


def _faults(options: argparse.Namespace) -> int:
    from twin.cli.faults import faults_command, faults_list_command

    if options.list:
        return faults_list_command(options.scenario, pairs(options.set), options.json)
    kinds = [kind.strip() for kind in options.kinds.split(",")] if options.kinds is not None else []
    return faults_command(
        options.scenario,
        pairs(options.set),
        options.runs,
        options.seed,
        kinds,
        options.duration,
        options.jobs,
        options.out,
        options.json,
    )


def _pareto(options: argparse.Namespace) -> int:
    from twin.cli.pareto import pareto_command

    return pareto_command(options.scenario, pairs(options.set), options.jobs, options.out, options.resume, options.json)


def _compare(options: argparse.Namespace) -> int:
    from twin.cli.compare import compare_command

    return compare_command(options.a, options.b, options.json)


def _summary(options: argparse.Namespace) -> int:
    from twin.cli.summary import summary_command

    return summary_command(options.run, options.json)


def _report(options: argparse.Namespace) -> int:
    from twin.cli.report import report_command

    return report_command(options.run, options.out)


def _regress(options: argparse.Namespace) -> int:
    from twin.cli.regress import regress_command

    return regress_command(options.folder, options.accept, options.junit, options.json)


def _calibrate(options: argparse.Namespace) -> int:
    from twin.cli.calibrate import calibrate_command

    return calibrate_command(options.data, options.source, options.jobs, options.out)


def _validate(options: argparse.Namespace) -> int:
    from twin.cli.validate import validate_command

    return validate_command(options.data, options.jobs, options.json)


def _trace_info(options: argparse.Namespace) -> int:
    from twin.cli.trace import trace_info_command

    return trace_info_command(options.file, options.format, options.json, options.plot)


def _trace_cache(options: argparse.Namespace) -> int:
    from twin.cli.trace_cache import trace_cache_command

    rate_per_s = None if options.rate is None else _rate_per_s(options.rate)
    return trace_cache_command(options.file, options.format, options.sizes, rate_per_s, options.json, options.plot)


def _trace_convert(options: argparse.Namespace) -> int:
    from twin.cli.trace import trace_convert_command

    return trace_convert_command(options.file, options.format, options.out)


def _trace_fit(options: argparse.Namespace) -> int:
    from twin.cli.trace_fit import trace_fit_command

    return trace_fit_command(options.file, options.format, options.out, options.source, options.seed, options.json)


def _trace_generate(options: argparse.Namespace) -> int:
    from twin.cli.trace import trace_generate_command

    return trace_generate_command(
        options.kind,
        options.out,
        sessions=options.sessions,
        seed=options.seed,
        fit=options.fit,
        rate_per_s=None if options.rate is None else _rate_per_s(options.rate),
        burstiness=options.burstiness,
        input_tokens=options.input_tokens,
        output_tokens=options.output_tokens,
        clients=options.clients,
    )


def _rate_per_s(text: str) -> float:
    from twin.units import UnitError, parse_quantity

    try:
        return parse_quantity(text, "rate")
    except UnitError as error:
        raise InputError(f"--rate: {error}") from None


def _topology_show(options: argparse.Namespace) -> int:
    from twin.cli.topology import topology_show
    from twin.schema import load_topology

    print(topology_show(load_topology(options.file).topology, options.format, options.run))
    return 0


def _catalog(options: argparse.Namespace) -> int:
    from twin.cli.catalog import catalog_command

    return catalog_command(options.kind, options.json)


def _model_import(options: argparse.Namespace) -> int:
    from twin.cli.model import model_import_command

    return model_import_command(options.config, options.name, options.out)


if __name__ == "__main__":
    sys.exit(main())
