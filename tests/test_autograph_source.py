"""A function's definition is found in its file whole, whatever stands around it, with the file's lines and columns."""

import ast
import linecache
import textwrap

import pytest

from tracejit.autograph import source
from tracejit.autograph.source import tree_of


def defined(text, name="f", file="<defined here>"):
    """The object of that name after running the text, whose lines can be found."""
    text = textwrap.dedent(text)
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    values = {}
    exec(compile(text, file, "exec"), values)
    return values[name]


def whole(text, kind=ast.FunctionDef):
    return next(n for n in ast.walk(ast.parse(textwrap.dedent(text))) if isinstance(n, kind))


def same(f, expected):
    assert ast.dump(tree_of(f), include_attributes=True) == ast.dump(expected, include_attributes=True)


ENDS = {
    "nothing": "    return x\n",
    "a comment": "    return x\n    # the end\n",
    "blank lines and more": "    return x\n\n\ny = 1\n",
    "a comment and more": "    return x\n# outside\ny = 1\n",
    "a parenthesis": "    return (\n        x\n    )\ny = 1\n",
    "a parenthesis at the margin": "    return (\n        x\n)\ny = 1\n",
    "pass": "    if x:\n        return x\n    else:\n        pass\ny = 1\n",
    "text": "    return x\n    '''\nnot code'''\n",
    "an assignment that is never reached": "    return x\n    x = 1\ny = 1\n",
    "a yield that is never reached": "    return x\n    yield x\ny = 1\n",
    "a branch that is never taken": "    while x:\n        return 1\n    if False:\n        x = 2\ny = 1\n",
    "a function": "    def g():\n        return x\n        pass\n    return g\ny = 1\n",
    "a string over several lines": "    return '''\n  {x}\n''' + x\ny = 1\n",
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("start", ["", "a = 1\n\n\n", "g = lambda f: f\n@g\n"], ids=["first", "later", "decorated"])
def test_definitions_end_where_they_end(start, end):
    text = f"{start}def f(x):\n{end}"
    same(defined(text), whole(text))
    indented = "if True:\n" + textwrap.indent(text, "    ", lambda line: line[0] not in "n\n'")
    try:
        expected = whole(indented)
    except SyntaxError:
        return
    same(defined(indented), expected)


@pytest.mark.parametrize("text", [
    "f = lambda x: x + 1",
    "f = max((\n    lambda x: x + 1, lambda x: 'a'), key=str)" ,
    "f = (lambda x: x + 1,\n     2)[0]",
    "if True:\n    f = (lambda x:\n         x + 1)",
    "f, g = lambda x: x + 1, lambda x: x + 2",
    "f = [lambda x: [y for y in x], 1][0]",
    "f = (lambda x: (\n    x + 1\n))",
    "s = '''\n''' + 'é'; f = lambda x: s + 'é' + x",
])  # fmt: skip
@pytest.mark.parametrize("start", ["", "\n# lambda x: x + 1\na = 'lambda x: x + 1'\n"])
def test_lambdas(text, start):
    f = defined(start + text)
    found = [n for n in ast.walk(ast.parse(start + text)) if isinstance(n, ast.Lambda)]
    spots = set(f.__code__.co_positions())
    wanted = [n for n in found if (n.body.lineno, n.body.end_lineno, n.body.col_offset, n.body.end_col_offset) in spots]
    same(f, wanted[0])


def test_lambdas_in_a_large_file_do_not_need_all_of_it(monkeypatch):
    f = defined("f = lambda x: x + 1\n", file="<five>")
    monkeypatch.setattr(source, "_module", None)
    assert isinstance(tree_of(f), ast.Lambda)
