"""The kit's commands. Each command's own --help lists its options.

Every option is typed here, once. The modules compute; the commands print and give the exit code:
0 for success, 1 for a negative finding, 2 for bad input, 130 after Ctrl-C.
"""

# ruff: noqa: B008  (typer reads an option from the default of a parameter)
# Imports stand inside the commands, so that --help does not wait for torch and transformers.
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from typer import Argument, Option

from labkit.terminal import (
    UserError,
    print_error,
    print_table,
    require_development_packages,
    user_errors,
)
from pocket_model.console import accept_any_encoding

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from helpers.backends import Lab
    from labkit.serving import deployment

SUCCESS, FINDING, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

# Of typer's own errors, only this subclass has a public name in all versions.
UsageError = typer.BadParameter.__base__

app = typer.Typer(
    help=__doc__.splitlines()[0],
    rich_markup_mode=None,  # plain help: readable in a pipe and in a terminal of any encoding
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

BACKEND = Option("pocket", help="Which server answers: a name, or an address.")
MODEL = Option(None, help="Another model than the backend's default.")
BASE_URL = Option(None, help="Another address of the server.")
BATCHING = Option(False, "--batching", help="pocket: use continuous batching.")


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    accept_any_encoding()
    try:
        code = app(argv, prog_name="python -m helpers", standalone_mode=False, obj=argv)
    except UsageError as error:
        print_error(f"{error.format_message().rstrip('.')}; see --help")
        return BAD_INPUT
    except UserError as error:
        print_error(error)
        return BAD_INPUT
    return code or SUCCESS


@contextmanager
def connected(sends: str, backend: str, **options: object) -> "Iterator[Lab]":
    """Connect to a backend, and say what a paid one will be sent.

    Raises:
        UserError: the backend is unknown, or it is not ready.
    """
    from helpers.backends import BACKENDS, BackendError, connect

    with user_errors(BackendError):
        lab = connect(backend, **options)
    with closing(lab):
        if BACKENDS[lab.backend].paid:
            print(f"{lab.backend} costs money: this sends {sends}.")
        yield lab


@app.command()
def lab(
    first: str | None = Argument(None, metavar="NOTEBOOK", help="Which opens; 00 by default."),
    fresh: list[str] = Option(
        [], "--fresh", metavar="NOTEBOOK", help="Set your copy aside and take the newest version."
    ),
    port: int | None = Option(None, min=1, max=65535, help="Port on this machine."),
    browser: bool = Option(True, "--browser/--no-browser", help="Whether to open the browser."),
) -> int:
    """Open JupyterLab on my/, your own copy of the notebooks.

    Your answers stay when the kit is updated.
    """
    from labkit import notebooks, working_copy

    folder = working_copy.WORKING_COPY.name
    with user_errors(ValueError):
        name = notebooks.select([first or (fresh or ["00"])[0]])[0].name
        try:
            messages = [*(working_copy.set_aside(fresh) if fresh else []), *working_copy.update()]
            working_copy.write_settings()
        except OSError as error:
            raise UserError(
                f"{folder}/ cannot be written ({error.strerror}). Your copy of the notebooks "
                "belongs there: move the kit to a folder that you may write to, or move what is "
                f"called {folder} there away."
            ) from error
    for message in messages:
        print(message)
    if address := working_copy.running():
        print(
            f"JupyterLab is open on this folder already: {address}\n"
            "A kernel that was started before an update of the kit has the old code: "
            "Kernel > Restart Kernel."
        )
        return SUCCESS
    print(f"JupyterLab opens {folder}/{name}. Ctrl-C here ends it.", flush=True)
    return working_copy.start(working_copy.command(first=name, port=port, browser=browser))


@app.command()
def play(
    port: int | None = Option(None, min=1, max=65535, help="Port on this machine."),
    browser: bool = Option(True, "--browser/--no-browser", help="Whether to open the browser."),
) -> int:
    """Open the playground: a chat with tools and pictures.

    It is notebook 10, in JupyterLab on your own copy.
    """
    return lab("10", fresh=[], port=port, browser=browser)


@app.command()
def run(
    backend: str = BACKEND,
    model: str | None = MODEL,
    base_url: str | None = BASE_URL,
    notebooks: str = Option("", help='Which, such as "03 05"; all by default.'),
    out: Path = Option("runs", help="Folder for the results."),
    max_usd: float | None = Option(None, help="The most that a paid backend may cost."),
    price: str | None = Option(
        None, metavar="IN,OUT", help="USD per million tokens, instead of the server's own price."
    ),
    parameters: list[str] = Option(
        [], "-p", metavar="NAME=VALUE", help="Set a notebook parameter; may be repeated."
    ),
    record_tokens: bool = Option(
        False,
        "--record-tokens",
        help="After a whole run on pocket or openrouter-sim: keep its token counts.",
    ),
) -> int:
    """Execute the notebooks and write runs/BACKEND/index.html."""
    from labkit import run_cost, runner

    names = notebooks.replace(",", " ").split()
    try:
        with user_errors(runner.RunError):
            server = {"model": model, "base_url": base_url, "price": price}
            report = runner.run(
                backend, names, out, max_usd, parameters, **server, in_turn=record_tokens
            )
    except KeyboardInterrupt:
        print("interrupted before the first notebook", file=sys.stderr)
        return INTERRUPTED
    print()
    print_table(report.table(), decimals=1)
    print(f"\n{report.folder / 'index.html'}", flush=True)
    if record_tokens and report.exit_code == SUCCESS:
        with user_errors(run_cost.BudgetError):
            run_cost.record_tokens(report.folder / "results.json")
    return report.exit_code


@app.command()
def site(
    out: Path = Option(Path("runs/site"), help="Folder for the pages."),
    notebooks: Path | None = Option(None, help="Executed notebooks; the kit's own by default."),
) -> int:
    """Build a static site of the notebooks, with a search.

    Its links are checked. It needs no network, neither to build nor to read.
    """
    from helpers.paths import NOTEBOOKS
    from labkit.site import build as static

    try:
        print(static.build(out, notebooks or NOTEBOOKS))
    except static.SiteError as error:
        print(f"error: {error}", file=sys.stderr)
        return FINDING
    return SUCCESS


@app.command()
def doctor(
    report: bool = Option(False, "--report", help="Print what to paste into a bug report."),
) -> int:
    """What this machine can do, and what to do about each gap."""
    import shutil

    from labkit import doctor

    sections = doctor.examine()
    gaps = doctor.gaps(sections)
    if report:
        print(doctor.bug_report(sections))
        return SUCCESS
    width = min(shutil.get_terminal_size().columns, 100) if sys.stdout.isatty() else None
    print(doctor.text(sections, width))
    print(f"\nGaps: {gaps}." if gaps else "\nNothing is missing that the kit needs.")
    return FINDING if gaps else SUCCESS


@app.command()
def conformance(
    backend: str = BACKEND,
    model: str | None = MODEL,
    base_url: str | None = BASE_URL,
    batching: bool = BATCHING,
    out: Path | None = Option(None, help="Folder for the result; the cache by default."),
) -> int:
    """Test what a backend really supports, feature by feature.

    `lab.supports` reads the result.
    """
    from collections import Counter

    from labkit import conformance
    from labkit.doctor.finding import private

    options = {"model": model, "base_url": base_url, "batching": batching}
    with connected("about 40 short requests", backend, **options) as lab:
        print(f"{lab.model} on {backend}: does it support this feature, and how was it tested?")
        result = conformance.run_suite(lab, lambda line: print(line, flush=True))
    counts = Counter(row["status"] for row in result["rows"])
    print(f"\n{', '.join(f'{counts[status]} {status}' for status in sorted(counts, reverse=True))}")
    path = private(str(conformance.save(result, out).resolve()))
    print(f"Kept in {path}; connect({backend!r}).supports reads it." if out is None else path)
    return SUCCESS


@app.command()
def fit(
    model: str = Argument(help="Such as mistral-small-3.2; a wrong name lists all."),
    memory: str | None = Option(None, help="What a program can use, such as 24 (GiB) or 24GB."),
    card: str | None = Option(None, help='Such as "RTX 4090": its usable memory and bandwidth.'),
    context: int = Option(8192, help="Tokens of each sequence."),
    batch: int = Option(1, help="Sequences at once."),
    images: int = Option(0, help="Pictures in each sequence."),
    image_size: str | None = Option(None, help="Such as 1024x768; the largest by default."),
    kv_dtype: str = Option("bf16", help="Number format of the KV cache: bf16, fp16, fp32 or fp8."),
    quantize_vision: bool = Option(
        False, "--quantize-vision", help="Quantize the vision encoder too."
    ),
) -> int:
    """Does a model fit into a memory, and how fast can it be?

    Without --memory and --card: the answer for every GPU and Mac of the table.
    """
    from helpers.model import cards, fit

    options = {"batch": batch, "images": images, "kv_dtype": kv_dtype}
    problems: list[str] = []

    def read(function, text):
        try:
            return function(text) if text is not None else None
        except ValueError as error:
            problems.append(str(error).rstrip("."))

    config = read(known_model, model)
    gpu = read(cards.gpu, card)
    size = read(fit.parse_bytes, memory)
    options |= {"image_size": read(pixels, image_size), "quantize_vision": quantize_vision}
    if problems:
        raise UserError(". ".join(problems))
    with user_errors(ValueError):
        if gpu is None and size is None:
            table = fit.what_fits_where(config, context, **options)
            print_table(table)
            return SUCCESS if (table["scheme"] != "none").any() else FINDING
        size = size or gpu.usable_bytes
        plan = fit.Plan(config, size, context, bandwidth=gpu and gpu.bandwidth, **options)
    print(plan)
    if gpu:
        print(f"- {gpu.name}: {gpu.bandwidth / 1e9:,.0f} GB/s. {gpu.note}".rstrip())
    return SUCCESS if plan.best else FINDING


def known_model(name: str) -> "str | PretrainedConfig":
    """A name that `helpers.model.configs` knows, or the configuration of the pocket model.

    Raises:
        ValueError: the name is unknown, or the pocket model is not built yet.
    """
    from helpers.model import configs
    from pocket_model import build

    if name != build.MODEL_ID:
        try:
            configs.load(name)
        except ValueError as error:
            raise ValueError(f"{str(error).rstrip('.')}, {build.MODEL_ID}") from error
        return name
    from transformers import AutoConfig

    if not build.is_built():
        raise ValueError(f"{name} is not built yet. First: python -m pocket_model build")
    config = AutoConfig.from_pretrained(build.model_folder())
    config.name_or_path = name
    return config


def pixels(text: str | None) -> tuple[int, int] | None:
    """`1024x768` as (width, height) in pixels. Raises ValueError."""
    if text is None:
        return None
    width, _, height = text.replace("×", "x").partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise ValueError(f"--image-size: expected WIDTHxHEIGHT, such as 1540x1540, got {text!r}")
    return int(width), int(height)


@app.command()
def claims(
    verdict: str | None = Option(
        None,
        help="right, plausible, half true, misleading, outdated, wrong, vendor claim …",
    ),
    source: str | None = Option(None, help="Articles: their language or subject, as Japanese."),
    topic: str | None = Option(None, help="Such as memory or speed."),
    how: str | None = Option(None, help="computed, sourced or read."),
    recompute: bool = Option(False, "--recompute", help="Compute again what can be computed."),
) -> int:
    """What public articles claim about these models, judged."""
    from labkit.audit import claims

    with user_errors(ValueError):
        frame = claims.recompute() if recompute else claims.table(verdict, source, topic, how)
    if recompute:
        wrong = frame[~frame["agrees"]]
        if len(wrong):
            print_table(wrong.drop(columns="agrees"))
        print(f"{len(frame)} recomputed, {len(frame) - len(wrong)} as the file says")
        return FINDING if len(wrong) else SUCCESS
    columns = ["verdict", "claim", "right value", "how", "language"]
    print_table(frame[columns].rename(columns={"language": "language of the articles"}))
    counts = frame["verdict"].value_counts()
    numbers = ", ".join(f"{counts[name]} {name}" for name in claims.VERDICTS if name in counts)
    print(f"\n{len(frame)} claims: {numbers or 'none'}")
    return SUCCESS


@app.command()
def latency(
    context: typer.Context,
    backend: str = BACKEND,
    model: str | None = MODEL,
    base_url: str | None = BASE_URL,
    batching: bool = BATCHING,
    concurrency: str = Option("1,4,16", help="Requests in flight at once."),
    requests: int = Option(16, min=1, help="Requests at each level."),
    max_tokens: int = Option(32, min=1, help="Tokens of each answer."),
    ttft_goal: float = Option(0.8, help="Goal for the time to first token, in seconds."),
    card: str | None = Option(None, help="The server's GPU, for the speed limit: 4090, H100, …"),
    shape: str = Option("mistral-small-3.2", help="With --card: which model's weights."),
    scheme: str = Option("bf16", help="With --card: bf16, fp8, int8, nf4 or nf4-dq."),
    usd_per_hour: float | None = Option(None, help="What the server costs, for token prices."),
    out: Path = Option("runs/latency", help="Folder; the same command again resumes there."),
) -> int:
    """How fast a backend answers, for one user and for many."""
    from helpers import latency, latency_stats
    from labkit import latency_report

    with user_errors(ValueError):
        levels = latency_report.parse_levels(concurrency)
        limits = latency_report.hardware_limits(card, shape, scheme, usd_per_hour)
    if max(levels) > latency.MAX_EXACT_CONCURRENCY:
        print(
            f"Above {latency.MAX_EXACT_CONCURRENCY} at once this process itself is late: "
            "benchmarks/latency_accuracy.py measures by how much."
        )
    sends = f"up to {requests * len(levels) + 1} short requests"
    options = {"model": model, "base_url": base_url, "batching": batching}
    with connected(sends, backend, **options) as lab:
        path = latency_report.records_path(lab, out, max_tokens, batching)
        if path.exists():
            print(f"{path} is there: the requests in it are not sent again.")
        records = latency_report.measure(lab, levels, requests, max_tokens, path)
        if backend == "pocket":
            limits |= latency_report.pocket_limits(lab)
    print_table(latency_stats.readable(latency_stats.level_table(records, ttft_s=ttft_goal)), 3)
    print_table(latency_stats.readable(latency_stats.ceilings(records, **limits)), 3)
    print(latency_report.conclusion(records, ttft_goal))
    for level, at_level in records.items():
        for error, count in latency_stats.error_counts(at_level).items():
            print(f"{level} at once: {count} × {error}")
    every = [record for at_level in records.values() for record in at_level]
    if any(record.error is None and record.output_tokens is None for record in every):
        print("Some answers came without a token count: figures per token leave them out.")
    interrupted = any(record.error == latency.NOT_FINISHED for record in every)
    if interrupted:
        print(f"Interrupted. The same command resumes from {path}.")
    if path.exists():
        latency_report.describe(path, f"python -m helpers {shlex.join(context.obj)}", limits)
        title = f"Latency of {lab.model} on {backend}{' (batching)' if batching else ''}"
        page = latency_report.page(path, title, ttft_goal_s=ttft_goal)
        print(f"Records: {path}\nPage: {page}")
    return INTERRUPTED if interrupted else SUCCESS


@app.command()
def compare(
    sheet: Path = Option(..., help="A comparison's sheet, such as notebook 08 writes."),
    out: Path = Option(Path("runs/compare"), help="Folder for the new answers and sheet."),
    max_usd: float | None = Option(None, help="The most that a paid backend may cost."),
) -> int:
    """Repeat a comparison of models from its sheet.

    It says what came out otherwise. The same command again resumes: an answer that is there is not
    asked for again.
    """
    from helpers.backends import BACKENDS, BackendError
    from helpers.compare import runs, sheets
    from helpers.prices import BudgetError
    from labkit.runner import set_cap
    from pocket_model.base_weights import FetchError
    from pocket_model.build import BuildError

    kinds = (sheets.SheetError, runs.BrokenOff, BackendError, BudgetError, BuildError, FetchError)
    with user_errors(*kinds, OSError, ValueError):
        on_file, questions = sheets.read(sheet)
        backends = {spec["source"].get("backend") for spec in on_file["entrants"]}
        paid = sorted(name for name in backends if name in BACKENDS and BACKENDS[name].paid)
        if paid and max_usd is None:
            raise UserError(
                f"{', '.join(paid)} costs money: this sends up to {len(questions)} requests for "
                "each way. Set a cap, such as --max-usd 0.05: a request that could exceed it is "
                "not sent."
            )
        if paid:
            set_cap(max_usd, out / "spent_usd.txt")
        answers = out / f"{sheet.stem}.jsonl"
        if answers.resolve() == sheet.with_suffix(".jsonl").resolve():
            raise UserError(f"{answers} has the answers of this sheet: choose another --out")
        table, new = sheets.replay(sheet, answers)
        print_table(table)
        print(f"Answers: {answers}\nSheet: {sheets.save(new, answers.with_suffix('.json'))}")
    return SUCCESS if (table["on file"] == table["here"]).all() else FINDING


@app.command()
def serve(
    model: str = Option("pocket", help="pocket, a name such as mistral-small-3.2, or a folder."),
    engine: str = Option("vllm", help="vllm; or pocket, the embedded model's own server."),
    replicas: int = Option(1, min=1, max=16, help="Servers behind a router."),
    policy: str = Option("cache_aware", help="How the router chooses a server."),
    host: str = Option("127.0.0.1", help="0.0.0.0 lets other machines in, with VLLM_API_KEY."),
    port: int = Option(8000, min=1, max=65535, help="Replicas take the ports after it."),
    context: int | None = Option(None, min=1, help="Longest conversation; by default what fits."),
    tensor_parallel: int | None = Option(
        None, min=1, help="Split each layer over so many GPUs; by default as few as fit."
    ),
    only_print: bool = Option(False, "--print", help="Print the commands, and start nothing."),
    vllm_options: list[str] = Argument(None, help="After --: more options of `vllm serve`."),
) -> int:
    """Serve a model with vLLM, which is installed once.

    vLLM gets an environment of its own, in the cache folder. Several servers are put behind
    vllm-router. Ctrl-C ends all of them.
    """
    from labkit.serving import commands, deployment
    from labkit.serving.errors import ServingError
    from pocket_model.build import BuildError
    from pocket_model.cache import CacheError

    for value, known, name in [
        (engine, ("vllm", "pocket"), "--engine"),
        (policy, commands.POLICIES, "--policy"),
    ]:
        if value not in known:
            raise UserError(f"{name}: there is no {value!r}. There are: {', '.join(known)}")
    options = deployment.Options(
        model,
        engine,
        replicas,
        policy,
        host,
        port,
        context,
        tensor_parallel,
        tuple(vllm_options or []),
    )
    with user_errors(ServingError, BuildError, CacheError):
        try:
            with ended_by_signals():
                plan = deployment.plan(options)
                print(plan.shell(), flush=True)
                if not only_print:
                    serve_until_ended(plan)
        except KeyboardInterrupt:
            print("\nEnded. Nothing is left running.")
    return SUCCESS


def serve_until_ended(plan: "deployment.Plan") -> None:
    """Start the servers of a plan, say how to connect, and watch them."""
    from labkit.serving import deployment

    print()
    with deployment.Deployment(plan, lambda line: print(line, flush=True)) as running:
        memory = running.memory_bytes() / 1e9
        print(
            f"\nReady after {running.seconds:.0f} s, with {memory:.1f} GB of memory. In a program:"
            f"\n\n    {plan.connection()}\n\nAll notebooks:\n\n"
            f"    make run BACKEND={plan.backend} MODEL={plan.name} BASE_URL={plan.base_url}\n\n"
            "Ctrl-C ends it.",
            flush=True,
        )
        while True:
            running.watch()
            time.sleep(1)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal raise KeyboardInterrupt, even if they were ignored."""
    import signal

    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.getsignal(getattr(signal, name)) for name in names}
    for name in names:
        signal.signal(getattr(signal, name), signal.default_int_handler)
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


@app.command()
def simulate(port: int = Option(8765, min=0, max=65535, help="Port on this machine.")) -> int:
    """A simulator of OpenRouter on this machine, failures included.

    The header `X-Simulate: NAME` asks for a failure. With `X-Simulate: NAME 2`, a request fails
    twice and then succeeds: the same body with the same key is the same request.
    """
    from helpers.prices import priced_models
    from openrouter_sim.__main__ import serve

    return serve(port, priced_models())


@app.command()
def verify(
    figure_id: str | None = Argument(None, metavar="ID", help="Which figure; lists all if none."),
    write: bool = Option(False, "--write", help="Keep the new value in the file."),
) -> int:
    """Measure one of the kit's figures again on this machine."""
    from labkit.audit import measurements

    if figure_id is None:
        frame = measurements.table()[["value", "unit", "date", "what"]]
        print_table(frame.assign(value=frame["value"].map("{:g}".format)))
        return SUCCESS
    with user_errors(KeyError, ValueError, measurements.MeasurementError):
        if write:
            entry = measurements.record(figure_id)
            print(f"{entry.id} = {entry.value:g} {entry.unit}, written")
            return SUCCESS
        entry = measurements.load(figure_id)
        print(f"{entry.what}\n$ {entry.command}", flush=True)
        result = measurements.verify(figure_id)
    for name, figure in {"on file": result.on_file, "here": result.here}.items():
        print(f"{name:<8} {figure.value:<12g} {figure.unit}  {figure.date}, {figure.hardware}")
    verdict = "within" if result.agrees else "outside"
    print(f"ratio    {result.ratio:.3f}: {verdict} the expected ±{100 * entry.spread:g} %")
    return SUCCESS


@app.command()
def progress() -> int:
    """Which exercises are solved, and which one is next."""
    from labkit.exercises import progress as page
    from labkit.exercises import record

    print(page())
    print(f"Kept in {record.file()}")
    return SUCCESS


@app.command()
def check(
    files: list[str] = Argument(None, help="Notebooks; all by default."),
    fix: bool = Option(False, "--fix", help="First renew the badge and the Colab set-up cell."),
    new_address: str | None = Option(
        None, "--repository", metavar="URL", help="With --fix: this repository's new address."
    ),
    colab_list: Path | None = Option(
        None, metavar="FILE", help="A newer list of Colab's packages: what would change, and stop."
    ),
    depends: bool = Option(False, "--depends", help="Count what each one depends on, and stop."),
) -> int:
    """Check the notebooks, and the language of the documents."""
    require_development_packages()
    if colab_list:
        return check_colab_list(colab_list)
    if new_address:
        change_address(new_address, whole=fix and not files)
    from labkit import freshness, notebook_checks, notebooks, vocabulary, workshop  # new address

    with user_errors(ValueError):
        paths = notebooks.select(files or [])
    if depends:
        print_table(freshness.dependency_counts(paths))
        return SUCCESS
    for path in filter(notebooks.fix, paths if fix else []):
        print(f"{path.name}: badge or set-up cell renewed")
    if fix and not files and list(workshop.problems()):
        with user_errors(workshop.PlanError):
            notebooks.write(workshop.assemble(), workshop.NOTEBOOK)
        print(f"{workshop.NOTEBOOK.name}: made again from {workshop.PLAN.name}")
    problems = [f"{path.name}: {line}" for path in paths for line in notebook_checks.check(path)]
    problems += [] if files else [*workshop.problems(), *vocabulary.check_files()]
    for problem in problems:
        print(problem)
    print(f"{len(paths)} notebooks, {len(problems)} problems")
    return FINDING if problems else SUCCESS


def check_colab_list(file: Path) -> int:
    """Renew the list of Colab's packages, and print what the set-up would change there."""
    from labkit import colab, colab_packages

    with user_errors(ValueError):
        print(f"{colab_packages.renew(file).name} is written.", flush=True)
    with user_errors(colab_packages.ResolutionError, ConnectionError):
        resolution = colab_packages.resolve(colab_packages.packages())
    print(resolution)
    if unexpected := resolution.replaced.keys() - set(colab.REPLACED):
        print(f"labkit/colab.py does not allow to replace {', '.join(sorted(unexpected))}.")
    return FINDING if unexpected else SUCCESS


def change_address(url: str, whole: bool) -> None:
    """Write this repository's new address into all files but the notebooks."""
    from labkit import repository

    if not whole:
        raise UserError("--repository changes all files: use it with --fix, and name no notebook")
    with user_errors(ValueError):
        for name in repository.change(url):
            print(f"{name}: address renewed")


@app.command()
def workshop(
    backend: str = BACKEND,
    out: Path = Option(Path("runs/workshop"), help="Folder for the files."),
) -> int:
    """Write what a teacher needs into a folder.

    Copies without solutions, the solutions, pages, and five pictures. The workshop's notebook is
    run once, from first to last cell: seconds for each part.
    """
    from labkit import execution, runner, workshop_files

    try:
        with user_errors(runner.RunError, OSError, ValueError):
            result, table = workshop_files.write(out, backend, lambda line: print(line, flush=True))
    except KeyboardInterrupt:
        print("interrupted: the files so far are complete", file=sys.stderr)
        return INTERRUPTED
    print()
    print_table(table, decimals=1)
    if result.status != execution.PASSED:
        print(f"The workshop's notebook failed: {result.error}")
        return FINDING
    return SUCCESS


@app.command()
def notebooks(which: list[str] = Argument(None, help="Numbers or names; all by default.")) -> int:
    """Re-execute the committed notebooks in place."""
    from labkit import freshness, notebooks

    require_development_packages()
    with user_errors(ValueError):
        paths = notebooks.select(which or [])
    failed = 0
    with connected("nothing", "pocket"):  # one server for all
        for path in paths:
            start = time.monotonic()
            try:
                freshness.execute_in_place(path)
                print(f"{path.name}: {time.monotonic() - start:.0f} s", flush=True)
            except Exception as error:
                failed += 1
                print(f"{path.name}: FAILED, left as it was\n{error}", flush=True)
    return FINDING if failed else SUCCESS
