"""Whatever a file holds, it is a mapping or one line that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from thaw.config.reading import read_yaml, with_includes
from thaw.errors import UserError

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: [1\nb: 2\n", r"file\.yaml: not YAML: .*line 2"),
        (b"a: 1\nb: 2\na: 3\n", r"file\.yaml: not YAML: 'a' is given twice \(lines 1 and 3\); keep one"),
        (b"x: {y: {b: 1, c: 2,\n  b: 3}}\n", r"'b' is given twice \(lines 1 and 2\)"),
        (b"name: t\xf6y\n", r"file\.yaml:1: not a UTF-8 text; save it as UTF-8"),
        (b"a: 1\nb: \xe4\n", r"file\.yaml:2: not a UTF-8"),
        ("a: 1\n".encode("utf-16"), r"file\.yaml:1: not a UTF-8"),
        (b"- a\n- b\n", r"file\.yaml: a config is a mapping of keys, not list"),
        (b"", "not NoneType"),
        (b"a: .nan\n", r"file\.yaml: a: nan: a number must be finite"),
        (b"a: {b: [1, -.inf]}\n", r"file\.yaml: a\.b\.1: -inf: a number must be finite"),
        (b"a: " + b"9" * 5000, "file.yaml: not YAML: "),
        (b"a: 2026-13-45\n", "file.yaml: not YAML: month must be"),
        (b"a: " + b"[" * 5000, "not YAML: nested too deeply"),
        (b"a: &x [*x]\n", "an alias .* stands within its own anchor"),
        (b"a: &x {b: *x}\n", "an alias .* stands within its own anchor"),
        (LAUGHS.encode(), "holds more than 200,000 values"),
        (b'a: "\\ud83d"\n', "a: .*a character that no file can"),
        (b'a: "\\0"\n', "a: .*a character that no file can"),
        (b"? [1, 2]\n: 3\n", "not YAML: .*unhashable"),
        (b"a: !!python/name:os.system\n", "not YAML: could not determine a constructor"),
        (b"a: *nobody\n", "not YAML: found undefined alias"),
    ],
)
def test_a_mistake_is_one_line_with_the_file(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        read_yaml(path)
    assert len(str(caught.value).splitlines()) == 1


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.yaml: no such config"):
        read_yaml(tmp_path / "absent.yaml")
    with pytest.raises(UserError, match="cannot be read as a config: Is a directory"):
        read_yaml(tmp_path)
    with pytest.raises(UserError, match="cannot be read as a config: File name too long"):
        read_yaml(tmp_path / ("x" * 300))


def test_a_mark_at_the_beginning_and_merge_keys_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n", encoding="utf-8-sig")
    assert read_yaml(path) == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}


def test_includes_lie_beneath(tmp_path: Path) -> None:
    under = tmp_path / "under.yaml"
    under.write_text("a: {x: 1, y: 2}\nb: 3\n")
    assert with_includes({"include": [str(under)], "a": {"x": 9}}) == {"a": {"x": 9, "y": 2}, "b": 3}
    assert with_includes({"include": [str(under)], "a": {"x": None}, "b": None}) == {"a": {"y": 2}}


def test_an_include_of_itself_says_through_which_files(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text(f"include: [{first}]\n")
    with pytest.raises(UserError, match=r"first\.yaml: include: .*first\.yaml includes itself$"):
        with_includes({"include": [str(first)]})
    first.write_text(f"include: [{second}]\n")
    second.write_text(f"include: [{first}]\n")
    with pytest.raises(UserError, match=r"first\.yaml includes itself, through .*second\.yaml$"):
        with_includes({"include": [str(first)]})


def test_includes_that_multiply_come_to_an_end(tmp_path: Path) -> None:
    for number in range(12):
        text = f"include: [{tmp_path}/{number + 1}.yaml, {tmp_path}/{number + 1}.yaml]\n"
        (tmp_path / f"{number}.yaml").write_text(text)
    (tmp_path / "12.yaml").write_text("a: 1\n")
    with pytest.raises(UserError, match="more than 100 files"):
        with_includes({"include": [f"{tmp_path}/0.yaml"]})


@pytest.mark.parametrize("include", ["toy.yaml", [1], {"a": 1}, [["x"]]])
def test_an_include_is_a_list_of_files(include: object, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="config: include: give a list of files"):
        with_includes({"include": include})


def test_a_folder_as_include(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Is a directory"):
        with_includes({"include": [str(tmp_path)]})
