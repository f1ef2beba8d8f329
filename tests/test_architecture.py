"""The house rules: who may import whom, who may read a clock, and what nobody does."""

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "fedmq": ROOT / "runtime",
    "fedmq_models": ROOT / "models",
    "fedmq_nodes": ROOT / "nodes",
    "fedmq_bench": ROOT / "benchmarks",
}

# What a package may never import, not even inside a function: arrows point from nodes to both others, and from
# benchmarks to all.
NEVER = {
    "fedmq": {"fedmq_models", "fedmq_nodes", "fedmq_bench", "torch", "onnx", "onnxruntime", "open_clip", "PIL"},
    "fedmq_models": {"fedmq", "fedmq_nodes", "fedmq_bench", "zmq", "msgpack", "aiomqtt"},
    "fedmq_nodes": {"fedmq_bench"},
    "fedmq_bench": set(),
}

# The shells: they await, and they know what time it is. A core is told.
SHELLS = {
    "fedmq.control",
    "fedmq.drive",
    "fedmq.forget",
    "fedmq.metrics.endpoint",
    "fedmq.page.server",
    "fedmq.serve",
    "fedmq.transports",
    "fedmq.transports.broker",
    "fedmq.transports.line",
    "fedmq.transports.memory",
    "fedmq.transports.mqtt",
    "fedmq.transports.sealed",
    "fedmq.transports.zmq",
    "fedmq.watch",
    "fedmq_nodes.asking",
    "fedmq_nodes.certificates",  # a certificate says from when until when it holds
    "fedmq_nodes.commands.ends",
    "fedmq_nodes.commands.fleets",
    "fedmq_nodes.demo",
    "fedmq_nodes.doctor",
    "fedmq_nodes.fleet",
    "fedmq_nodes.join",
    "fedmq_nodes.links",
    "fedmq_nodes.meter",
    "fedmq_nodes.up",
    "fedmq_nodes.windows",
    "fedmq_nodes.wiring",
    "fedmq_models.tiny.train",  # tells how long each step of a script took
}
CLOCKS = {"asyncio", "time", "datetime", "sched"}

# Who runs a core, guards it or shows it. Its parts are told what has happened, and never ask it.
KNOW_CORES = {"fedmq.door", "fedmq.serve", "fedmq.status", "fedmq_nodes.join"}

# Who may make what nobody can predict: a seed for a whole run, or a token.
DRAWS_SECRETS = {"fedmq.control", "fedmq.serve", "fedmq_nodes.commands.prepare", "fedmq_nodes.wiring"}
NUMPY_RANDOM = {"default_rng", "Generator", "PCG64", "RandomState", "SeedSequence"}

# Rows and status for a person or a pipe; a script's last line.
PRINTS = {"fedmq.show", "fedmq_models.tiny.train", "fedmq_bench.rows"}


@cache
def modules() -> dict[str, ast.Module]:
    """Return every module of ours by its dotted name, parsed."""
    found = {}
    for package, root in FOLDERS.items():
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return found


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield the dotted name of everything that a module imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def roots(tree: ast.Module) -> set[str]:
    """Return the packages that a module imports from; zmq.asyncio is asyncio too."""
    names = set(imported(tree))
    return {name.partition(".")[0] for name in names} | {"asyncio" for name in names if "asyncio" in name.split(".")}


def dotted(node: ast.AST) -> str:
    """Return a chain of attributes as it is written, or nothing if it is something else."""
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return node.id if isinstance(node, ast.Name) else ""


def ours(wanted: Callable[[ast.Module], object], but: str = "fedmq_bench") -> set[str]:
    """Return the names of modules of which something is true, benchmarks left out unless they are wanted too."""
    return {name for name, tree in modules().items() if name.partition(".")[0] != but and wanted(tree)}


def calls(tree: ast.Module) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def test_all_four_packages_were_found() -> None:
    assert {name for name in modules() if "." not in name} == set(FOLDERS)
    assert len(modules()) > 80


@pytest.mark.parametrize("package", FOLDERS)
def test_no_import_points_the_wrong_way(package: str) -> None:
    found = {name: roots(tree) & NEVER[package] for name, tree in modules().items() if name.split(".")[0] == package}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def test_no_modules_know_each_other_in_a_circle_not_even_for_their_types() -> None:
    """A package may gather what its modules have, and these may ask it for one another."""
    arrows = {
        name: {other for other in imported(tree) if other in modules() and not f"{name}.".startswith(f"{other}.")}
        for name, tree in modules().items()
    }
    TopologicalSorter(arrows).prepare()  # raises CycleError, with the circle


def test_only_what_runs_shows_or_guards_a_core_knows_it() -> None:
    cores = {"fedmq.aggregator", "fedmq_nodes.node"}
    assert ours(lambda tree: cores & set(imported(tree))) == KNOW_CORES


def test_only_shells_and_benchmarks_await_or_read_a_clock() -> None:
    waits = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    assert ours(lambda tree: roots(tree) & CLOCKS or any(isinstance(node, waits) for node in ast.walk(tree))) == SHELLS


def test_only_who_starts_a_run_draws_what_cannot_be_drawn_again() -> None:
    def draws(tree: ast.Module) -> bool:
        unseeded = any(
            dotted(call.func).endswith("default_rng") and not call.args and not call.keywords for call in calls(tree)
        )
        return bool(roots(tree) & {"secrets", "uuid"}) or unseeded or "os.urandom" in map(dotted, ast.walk(tree))

    assert ours(draws) == DRAWS_SECRETS


def test_nobody_uses_a_random_number_generator_that_is_global() -> None:
    def uses(tree: ast.Module) -> bool:
        names = {*imported(tree), *map(dotted, ast.walk(tree))}
        drawn = {name.split(".")[2] for name in names if name.startswith(("np.random.", "numpy.random."))}
        return "random" in roots(tree) or bool(drawn - NUMPY_RANDOM)

    assert ours(uses, but="") == set()


def test_nobody_unpickles() -> None:
    """The one mention that is allowed is of the error with which torch refuses a checkpoint that would need it."""

    def unpickles(tree: ast.Module) -> bool:
        if roots(tree) & {"cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}:
            return True
        names = {name for name in (*imported(tree), *map(dotted, ast.walk(tree))) if name.startswith("pickle.")}
        if names - {"pickle.UnpicklingError"}:
            return True
        for call in calls(tree):
            said = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            if said.get("allow_pickle", "False") != "False":
                return True
            if dotted(call.func) == "torch.load" and said.get("weights_only") != "True":
                return True
        return False

    assert ours(unpickles, but="") == set()


def test_nobody_prints_but_who_shows() -> None:
    assert ours(lambda tree: any(dotted(call.func) == "print" for call in calls(tree)), but="") == PRINTS


def test_nothing_is_run_from_text() -> None:
    assert ours(lambda tree: any(dotted(call.func) in {"eval", "exec"} for call in calls(tree)), but="") == set()


def test_no_module_is_named_like_one_of_the_standard_library() -> None:
    names = {part for name in modules() for part in name.split(".")}
    assert names & sys.stdlib_module_names == set()


def test_every_module_says_what_it_is() -> None:
    assert {name for name, tree in modules().items() if not ast.get_docstring(tree)} == set()


@pytest.mark.parametrize(
    "module", ["fedmq.aggregator", "fedmq.serve", "fedmq.cli", "fedmq_nodes.task", "fedmq_nodes.wiring"]
)
def test_importing_it_loads_neither_torch_nor_onnxruntime(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{'torch', 'onnxruntime', 'onnx', 'open_clip'}} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert found.stdout.split() == []


def test_the_command_line_is_put_together_without_torch_or_onnxruntime() -> None:
    code = "import sys, fedmq.cli; fedmq.cli.application(); print(*{'torch', 'onnxruntime'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert found.stdout.split() == []
