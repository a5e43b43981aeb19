"""What commands share: results on standard output, notes beside them, tables that take texts as they are."""

import json

import pytest

from vestry_client.command_options import note, print_json, print_table, say


def test_results_and_notes_go_two_ways(capsys: pytest.CaptureFixture[str]) -> None:
    say("result")
    note("by the way")
    output = capsys.readouterr()
    assert (output.out, output.err) == ("result\n", "by the way\n")


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"ok": True, "names": ["a"]})
    assert json.loads(capsys.readouterr().out) == {"ok": True, "names": ["a"]}


def test_a_table_takes_its_texts_as_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    print_table("two [rows]", ("name", "count>"), [("[red]a[/red]", "1"), ("b", "10")])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "two [rows]"
    assert any("[red]a[/red]" in line for line in lines)
    ends = [len(line) for line in lines if line.endswith(("1", "10", "count"))]
    assert len(set(ends)) == 1  # aligned right


def test_a_table_may_have_no_title(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("", ("name",), [("a",)])
    assert capsys.readouterr().out.splitlines()[1].split() == ["name"]
