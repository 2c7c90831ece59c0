"""Do the fast tests notice a wrong change? Makes one small change after another and counts those that fail a test.

`python scripts/mutants.py [FILE …] [--sample N] [--out LIST] [--again LIST]` prints the table of
docs/background/tests.md; a FILE is a key of `TESTS`, without one all are taken. A change (a mutant) is an operator,
constant, keyword, condition or statement under src/mpanet_pl; docstrings, annotations and what an error says are left
alone. Of a file with more than N (40) mutants a seeded choice is tried, each against the tests that ran its line,
quickest first, until one fails. It works in a copy, and forks from a process that has imported and collected
everything, so that most take a second.
"""

from __future__ import annotations

import argparse
import ast
import gc
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from importlib import import_module
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NamedTuple, TextIO

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path("src/mpanet_pl")
STEP = "tests/test_golden_network.py"  # the released network's numbers
AUGMENT = "tests/data/test_augment.py"
SCORES = [f"tests/evaluation/test_{name}.py" for name in ("ranking", "protocols", "scoring", "golden", "rerank")]
FILES = sorted(path.relative_to(ROOT / PACKAGE) for path in (ROOT / PACKAGE).rglob("*.py"))
OWN = {
    file: Path("tests") / file.with_name(f"test_{file.name}") for file in FILES
}  # a file's own tests, where it has some


def each(room: str, names: str, tests: list[str]) -> dict[str, list[str]]:
    return {f"{room}/{name}.py": tests for name in names.split()}


TESTS = {str(file): [str(own)] for file, own in OWN.items() if (ROOT / own).exists()} | {  # or others of its room
    "losses/functional.py": ["tests/losses", STEP],
    "losses/criterion.py": ["tests/losses", "tests/test_module.py", STEP, "tests/test_golden_trainer.py"],
    **each("network", "mpanet alleviation patterns trunk", ["tests/network", STEP]),
    "module.py": ["tests/test_module.py", "tests/run/test_own_trainer.py", "tests/test_golden_trainer.py"],
    "stored.py": ["tests/test_stored.py", "tests/test_checkpoint.py", "tests/test_module.py"],
    "checkpoint.py": ["tests/test_checkpoint.py", "tests/test_official.py"],
    "data/sampler.py": ["tests/data/test_sampler.py", "tests/data/test_datamodule.py"],
    "data/augment.py": [*(f"tests/data/test_{name}.py" for name in ("channels", "tone", "enhance")), AUGMENT],
    **{f"data/{name}.py": [f"tests/data/test_{name}.py", AUGMENT] for name in ("channels", "tone", "enhance")},
    "data/boxes.py": ["tests/data/test_enhance.py", "tests/data/test_channels.py", AUGMENT],
    "data/randomness.py": ["tests/data/test_randomness.py", "tests/data/test_enhance.py", AUGMENT],
    **each("evaluation", "ranking protocols rerank", SCORES),
    "evaluation/scoring.py": [*SCORES, "tests/evaluation/test_intervals.py"],
    "evaluation/retrieval.py": [*SCORES, "tests/evaluation/test_similarity.py"],
    "evaluation/digests.py": ["tests/evaluation/test_digests.py", "tests/evaluation/test_differences.py"],
    "evaluation/outcomes.py": ["tests/evaluation/test_outcomes.py", "tests/evaluation/test_intervals.py"],
    "evaluation/intervals.py": ["tests/evaluation/test_intervals.py", "tests/evaluation/test_differences.py"],
    "evaluation/pairing.py": ["tests/evaluation/test_differences.py", "tests/evaluation/test_joint_protocol.py"],
    **each("evaluation", "enrolling open_set_tables", ["tests/evaluation/test_open_set.py"]),
    **each("features", "columns forms mat npy npz parquet", ["tests/features"]),
    "features/queries.py": ["tests/features", "tests/evaluation/test_outcomes.py"],
    "run/datasets.py": ["tests/run/test_datasets.py", "tests/run/test_joint.py"],
    "run/callbacks/checkpoints.py": [
        "tests/run/test_checkpoints.py",
        "tests/run/test_story.py::test_best_is_the_highest_of_the_scored_epochs_from_start_on",
    ],
    "run/record.py": ["tests/run/test_record.py", "tests/run/test_training.py::test_the_commit_is_this_packages"],
    **each("run", "comparison finished_run methods_compared", ["tests/run/test_comparing.py"]),
    **each(
        "run", "evaluation_inputs evaluation_settings", ["tests/run/test_evaluating.py", "tests/run/test_refusals.py"]
    ),
    "run/repeats.py": ["tests/run/test_summary.py"],
    "run/summary_page.py": ["tests/run/test_summary.py", "tests/run/test_run_page.py"],
    **each("run", "report pages logbook", ["tests/run/test_run_page.py"]),
    "gallery/copies.py": ["tests/gallery/test_copies.py", "tests/gallery/test_forgetting.py"],
    "gallery/store.py": [f"tests/gallery/test_{name}.py" for name in ("generations", "searching", "building")],
    "gallery/generations.py": ["tests/gallery/test_generations.py", "tests/gallery/test_forgetting.py"],
    **each("gallery", "planning shards", ["tests/gallery/test_building.py", "tests/gallery/test_generations.py"]),
    "gallery/walking.py": ["tests/gallery/test_image_table.py", "tests/gallery/test_generations.py"],
    **each("gallery", "engines request_handler search_thread", ["tests/gallery/test_serving.py"]),
    "gallery/schemas.py": ["tests/gallery/test_serving.py", "tests/gallery/test_production.py"],
    "gallery/listening.py": ["tests/gallery/test_listening.py", "tests/gallery/test_production.py"],
    "gallery/bounded_images.py": ["tests/gallery/test_uploads.py", "tests/gallery/test_embedder.py"],
    "gallery/graphs.py": ["tests/gallery/test_exporting.py"],
    "system/weights.py": ["tests/system/test_weights.py", "tests/run/test_checkpoints.py"],
    "system/pictures.py": ["tests/system/test_pictures.py", "tests/data/test_decode.py"],
    "system/precision.py": [
        "tests/system/test_precision.py",
        "tests/run/test_trainer.py::test_precision_follows_the_processor",
    ],
    "system/shell.py": ["tests/cli/test_command.py"],
    "system/ranges.py": ["tests/system/test_ranges.py", "tests/cli/test_configuration.py"],
    "system/sheet.py": ["tests/run/pictures/test_sheets.py"],
    "system/hub.py": ["tests/gallery/test_sharing.py"],
}
WARM = "scipy.io scipy.special PIL.Image matplotlib.pyplot torchvision pytorch_lightning torchmetrics omegaconf"
OPERATORS: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
TYPES = {"Callable", "Literal", "Mapping", "NDArray", "dict", "type", "UserError"}  # what only a reader reads
BROKEN, AFRESH = 99, 77  # the latter what a process says of a mutant that wants a new import
Seen = dict[str, tuple[float, list[int]]]  # test -> its seconds, and the lines that it ran
DECIDED = (ast.Compare, ast.BoolOp, ast.UnaryOp, ast.Constant)  # conditions that are changed inside


ERRORS = os.dup(2)  # pytest keeps the other to itself


class Mutant(NamedTuple):
    number: int
    line: int
    statement: tuple[int, int]  # first and last line; (0, 0) where it runs on import
    change: str
    source: str


def mutants(source: str) -> list[Mutant]:
    """Every mutant of a file, in the order of its lines."""
    text, found = source.encode(), []
    starts = [0, *(number + 1 for number, byte in enumerate(text) if byte == 10)]
    for node, statement, new in changes(ast.parse(source)):
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        old = text[begin:end].decode()
        begin -= new == ""  # the @ of a decorator
        lost = old.count("\n") - new.count("\n")  # lines keep their numbers
        new = f"{new[:-1]}{lost * chr(10)})" if new.endswith(")") else new + lost * "\n"
        changed = (text[:begin] + new.encode() + text[end:]).decode()
        shown = f"{' '.join(old.split())} → {' '.join(new.split()) or 'nothing'}"
        try:
            compile(changed, "", "exec")
        except SyntaxError:
            continue
        found.append((node.lineno, statement, shown, changed))
    return [Mutant(number, *one) for number, one in enumerate(sorted(found))]


def changes(tree: ast.AST) -> Iterator[tuple[Any, tuple[int, int], str]]:
    """(node, lines of its statement, what stands there instead)."""

    def of(node: Any, statement: tuple[int, int]) -> Iterator[tuple[Any, tuple[int, int], str]]:
        inside: Iterable[Any] = ast.iter_child_nodes(node)
        body_of_a_function = False
        match node:
            case ast.Raise() | ast.JoinedStr() | ast.Import() | ast.ImportFrom() | ast.alias():
                return
            case ast.Expr(value=ast.Constant()):  # a docstring
                return
            case ast.Subscript(value=ast.Name(id=name)) | ast.Call(func=ast.Name(id=name)) if name in TYPES:
                return
            case ast.FunctionDef(args=arguments):
                yield from ((one, (0, 0), "") for one in node.decorator_list)
                for default in (*arguments.defaults, *filter(None, arguments.kw_defaults)):
                    yield from of(default, (0, 0))
                inside, body_of_a_function = node.body, True
            case ast.ClassDef():
                inside = node.body
            case ast.AnnAssign():
                inside = [node.value] if node.value else []
            case ast.Compare():
                for place, operator in enumerate(node.ops):
                    operators = [*node.ops[:place], OPERATORS[type(operator)](), *node.ops[place + 1 :]]
                    yield node, statement, written(ast.Compare(node.left, operators, node.comparators))
            case ast.BinOp() if type(node.op) in OPERATORS:
                yield node, statement, written(ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right))
            case ast.BoolOp():
                yield node, statement, written(ast.BoolOp(OPERATORS[type(node.op)](), node.values))
            case ast.UnaryOp():
                yield node, statement, written(node.operand)
            case ast.AugAssign():
                yield node, statement, "pass"
                if type(node.op) in OPERATORS:
                    other = ast.AugAssign(node.target, OPERATORS[type(node.op)](), node.value)
                    yield node, statement, ast.unparse(other)
            case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]) | ast.Expr(value=ast.Call()):
                yield node, statement, "pass"
            case ast.Constant(value=bool()):
                yield node, statement, str(not node.value)
            case ast.Constant(value=int() | float()):
                more = node.value + 1 if isinstance(node.value, int) or not node.value else 1.5 * node.value
                yield node, statement, written(ast.Constant(more))
            case ast.Constant(value=str()):
                yield node, statement, repr(f"{node.value}x")
            case ast.Call():
                if isinstance(node.func, ast.Attribute) and not node.args and not node.keywords:
                    yield node, statement, written(node.func.value)
                for gone in node.keywords:
                    kept = [keyword for keyword in node.keywords if keyword is not gone]
                    yield node, statement, written(ast.Call(node.func, node.args, kept))
        for condition in (getattr(node, "test", None), *(getattr(node, "ifs", None) or [])):
            if condition and isinstance(node, ast.If) and isinstance(node.body[-1], ast.Raise):
                yield condition, statement, "False"
            elif condition and not isinstance(condition, DECIDED):
                yield condition, statement, written(ast.UnaryOp(ast.Not(), condition))
        for child in inside:
            lines = statement
            if isinstance(child, ast.stmt) and (body_of_a_function or statement != (0, 0)):
                simple = not hasattr(child, "body")
                lines = child.lineno, (child.end_lineno or 0) if simple else child.body[0].lineno - 1
            yield from of(child, lines)

    yield from of(tree, (0, 0))


def written(node: ast.expr) -> str:
    return f"({ast.unparse(node)})"


class Watch:
    """A pytest plugin: which lines of a file each test runs, those of its fixtures with them, and how long it takes."""

    def __init__(self, file: Path) -> None:
        self.file, self.lines = str(file), set[int]()
        self.of_fixture: dict[str, set[int]] = defaultdict(set)
        self.of_test: Seen = {}

    def trace(self, frame: Any, event: str, argument: Any) -> Callable | None:
        if frame.f_code.co_filename != self.file:
            return None
        self.lines.add(frame.f_lineno)
        return self.trace

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, object, object]:
        before, self.lines = self.lines, set()
        result = yield
        self.of_fixture[fixturedef.argname] |= self.lines
        self.lines |= before
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Generator[None, object, object]:
        self.lines, begun = set(), time.monotonic()
        threading.settrace(self.trace)
        sys.settrace(self.trace)
        result = yield
        sys.settrace(None)
        lines = self.lines.union(*(self.of_fixture[name] for name in getattr(item, "fixturenames", ())))
        self.of_test[item.nodeid] = time.monotonic() - begun, sorted(lines)
        return result


class Meetings:
    """A pytest plugin that watches the collected tests, then lets every mutant meet those of its line, in a fork.

    A mutant that only a new import would show is left to `Afresh`.
    """

    def __init__(self, file: Path, chosen: Sequence[Mutant]) -> None:
        self.file, self.chosen = file, chosen
        self.told = Path("told.json")  # {mutant: outcome} and what was seen

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        original, outcomes = self.file.read_text(), {}

        def watch() -> int:
            watching = Watch(self.file)
            session.config.pluginmanager.register(watching)
            code = run(session, session.items)
            self.told.write_text(json.dumps(watching.of_test))
            if code:
                os.write(ERRORS, f"{list(watching.of_test)[-1]} fails\n".encode())
            return code

        if forked(watch, 1800):
            raise pytest.UsageError("the tests fail before anything is changed")
        seen: Seen = json.loads(self.told.read_text())
        for mutant in self.chosen:
            tests = meeting(mutant, seen)

            def meet(mutant: Mutant = mutant, tests: Sequence[str] = tuple(tests)) -> int:
                sys.dont_write_bytecode = True
                return run(session, [items[name] for name in tests]) if patch(self.file, mutant.source) else AFRESH

            with changed(self.file, original, mutant):  # for the processes that a test starts
                outcomes[mutant.number] = forked(meet, limit(tests)) if mutant.statement[1] else AFRESH
        self.told.write_text(json.dumps([outcomes, seen]))
        return True


class Afresh:
    """A pytest plugin: these tests and no others, in this order."""

    def __init__(self, tests: Iterable[str]) -> None:
        self.place = {test: place for place, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list) -> None:
        items[:] = sorted((one for one in items if one.nodeid in self.place), key=lambda one: self.place[one.nodeid])


def run(session: pytest.Session, items: Sequence[pytest.Item]) -> int:
    """Whether one of the tests fails, known at the first that does."""
    for item, following in zip(items, [*items[1:], None], strict=False):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.testsfailed:
            return 1
    return 0


def patch(file: Path, source: str) -> bool:
    """Give the file's functions, wherever they have got to, their changed code; False where one does not take it."""
    new = dict(codes(compile(source, str(file), "exec")))
    gc.unfreeze()  # tests/conftest.py hides from the collector what was imported
    for function in gc.get_objects():
        if type(function) is FunctionType and function.__code__.co_filename == str(file):
            code = new.get((function.__code__.co_qualname, function.__code__.co_firstlineno), function.__code__)
            if len(code.co_freevars) != len(function.__code__.co_freevars):
                return False
            function.__code__ = code
    return True


def codes(code: CodeType) -> Iterator[tuple[tuple[str, int], CodeType]]:
    yield (code.co_qualname, code.co_firstlineno), code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from codes(inner)


def meeting(mutant: Mutant, seen: Seen) -> dict[str, float]:
    """The tests that run its line, or of what runs on import any line of its file, with their seconds, ascending."""
    first, last = mutant.statement
    found = {
        name: seconds
        for name, (seconds, lines) in seen.items()
        if (any(first <= line <= last for line in lines) if last else lines)
    }
    return dict(sorted(found.items(), key=lambda one: one[1]))


def limit(tests: dict[str, float]) -> float:
    return 15 + 4 * sum(tests.values())


@contextmanager
def changed(file: Path, original: str, mutant: Mutant) -> Iterator[None]:
    file.write_text(mutant.source)
    try:
        yield
    finally:
        file.write_text(original)


def forked(work: Callable[[], int], seconds: float) -> int:
    """What `work` returns in a process of its own; 1 if it takes longer."""
    child = os.fork()
    if not child:
        os.setsid()
        code = BROKEN
        try:
            with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
                code = work()
        except BaseException:
            os.write(ERRORS, traceback.format_exc().encode())
        finally:
            os._exit(code)
    end, code = time.monotonic() + seconds, None
    while code is None and time.monotonic() < end:
        time.sleep(0.01)
        done, status = os.waitpid(child, os.WNOHANG)
        code = os.waitstatus_to_exitcode(status) if done else None
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # with what it started
    if code is None:
        os.waitpid(child, 0)
    if code == BROKEN:
        raise SystemExit("a fork ended before its tests did")
    return 1 if code is None else code


def collected(paths: Sequence[str], plugin: object) -> int:
    options = ["--import-mode=importlib", "--doctest-modules", "-q", "-x", "-p", "no:cacheprovider", "-m", "not slow"]
    quick = [
        "-k",
        "not compil and not half_precision and not worker and not whole_one_sees and not no_time and not full_disk",
        "-o",
        "addopts=",
        "-o",
        "python_classes=",  # `Tested` of src is none
        "--basetemp=made",
    ]  # slow, or with forks of their own
    for path in paths:  # before pytest does, which would make its classes a second time
        with suppress(Exception):  # tests have no module's name, and what a mutant breaks pytest tells
            import_module(".".join(Path(path).resolve().relative_to(Path("src").resolve()).with_suffix("").parts))
    return int(pytest.main([*options, *quick, *paths], plugins=[plugin]))


def survivors(file: Path, paths: Sequence[str], chosen: Sequence[Mutant]) -> list[Mutant]:
    room, original = Meetings(file, chosen), file.read_text()
    if code := forked(lambda: collected([str(file), *paths], room), 10_000):
        raise SystemExit(f"{file}: pytest says {code}; do its tests pass unchanged?")
    outcomes, seen = json.loads(room.told.read_text())
    alive = []
    for mutant in chosen:
        tests, outcome = meeting(mutant, seen), outcomes[str(mutant.number)]
        if outcome == AFRESH and tests:
            for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*"):
                compiled.unlink()

            def meet(tests: dict[str, float] = tests) -> int:
                sys.dont_write_bytecode = True
                return collected(sorted({name.split("::")[0] for name in tests}), Afresh(tests))

            with changed(file, original, mutant):
                outcome = forked(meet, 30 + limit(tests))
        if outcome in (0, AFRESH):
            alive.append(mutant)
    return alive


def measure(name: str, sample: int, again: set[tuple[str, int]] | None, out: TextIO) -> str:
    """The table's line of one file."""
    file = Path.cwd() / PACKAGE / name
    everything = mutants(file.read_text())
    chosen = everything if len(everything) <= sample else random.Random(name).sample(everything, sample)
    tried = [mutant for mutant in sorted(chosen) if again is None or (name, mutant.number) in again]
    alive = survivors(file, TESTS[name], tried)
    for mutant in alive:
        print(json.dumps([name, mutant.number, mutant.line, mutant.change], ensure_ascii=False), file=out, flush=True)
    noticed = len(chosen) - len(alive)
    return f"| {name} | {len(everything)} | {len(chosen)} | {noticed} | {100 * noticed / len(chosen):.0f} % |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE")
    parser.add_argument("--sample", type=int, default=40, metavar="N")
    parser.add_argument("--again", type=Path, metavar="LIST", help="only the survivors that this file lists")
    parser.add_argument("--out", type=Path, default=Path("survivors.jsonl"), help="where survivors are listed")
    asked = parser.parse_args()
    if unknown := set(asked.files) - set(TESTS):
        parser.error(f"no tests are named for {', '.join(unknown)}")
    again = {tuple(json.loads(line)[:2]) for line in asked.again.read_text().splitlines()} if asked.again else None
    named = {place.split("::")[0] for places in TESTS.values() for place in places} | {PACKAGE / name for name in TESTS}
    if gone := sorted(str(path) for path in named if not (ROOT / path).exists()):
        parser.error(f"TESTS names what is not there: {', '.join(gone)}")
    os.environ |= {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder, asked.out.open("w") as out:
        copy = Path(folder, "copy")
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", ".ci", "__pycache__"))
        os.chdir(copy)
        os.environ["PYTHONPATH"] = str(copy / "src")
        sys.path[:0] = [str(copy / "src"), str(copy / "tests")]
        for name in WARM.split():
            __import__(name)
        torch.set_num_threads(1)
        print("| file | mutants | tried | noticed | share |\n|---|---|---|---|---|", flush=True)
        for name in asked.files or TESTS:
            print(measure(name, asked.sample, again, out), flush=True)


if __name__ == "__main__":
    main()
