"""Nothing that is loaded can run code: a walk over every call of the package and its tools."""

from __future__ import annotations

import ast

import pytest

FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "yaml.load", "yaml.unsafe_load"}
SAFE_TORCH_LOAD = "weights_only"


def unsafe_sites(source: str) -> list[str]:
    """Name every unsafe import or call in a module, with its line."""
    sites = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Call):
            sites += [f"{node.lineno}: {why}" for why in unsafe_call(node)]
            continue
        else:
            continue
        sites += [
            f"{node.lineno}: import {name}"
            for name in names
            if name.partition(".")[0] in FORBIDDEN_MODULES
        ]
    return sites


def unsafe_call(call: ast.Call) -> list[str]:
    name = ast.unparse(call.func)
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    reasons = [name] if name in FORBIDDEN_CALLS else []
    if name == "torch.load" and not is_true(keywords.get(SAFE_TORCH_LOAD)):
        reasons.append("torch.load without weights_only=True")
    if name in {"np.load", "numpy.load"} and "allow_pickle" in keywords:
        reasons.append("numpy.load with allow_pickle")
    if name.startswith("subprocess.") and is_true(keywords.get("shell")):
        reasons.append("a shell")
    remote = keywords.get("trust_remote_code")
    if remote is not None and not is_false(remote):
        reasons.append("trust_remote_code")
    return reasons


def is_true(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is True


def is_false(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is False


@pytest.mark.slow
def test_nothing_of_ours_loads_unsafely(texts):
    python = {
        name: text
        for name, text in texts.items()
        if name.endswith(".py") and not name.startswith("test/")
    }
    found = {name: unsafe_sites(text) for name, text in python.items()}
    assert {name: sites for name, sites in found.items() if sites} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, Loader=yaml.Loader)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=flag)",
        "eval(text)",
        "exec(text)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_the_walk_sees(line):
    assert unsafe_sites(line)


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(path, weights_only=True)",
        "yaml.safe_load(text)",
        "model.eval()",
        "re.compile(x)",
    ],
)
def test_the_walk_lets_pass(line):
    assert unsafe_sites(line) == []
