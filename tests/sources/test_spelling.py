"""Tables of labels and lists of paths as spreadsheets, editors and Windows write them."""

import csv
import io
import sys
from pathlib import Path

import pytest

from items import paths_of
from resnet_cli.errors import InputError
from resnet_cli.evaluate.dataset import label_by_table
from resnet_cli.sources import find_inputs
from resnet_cli.sources.lists import as_found
from resnet_cli.sources.truth import read_labels

ROWS = [("a.jpg", "ant"), ("sub/käfer 1.jpg", "Käfer, groß"), ("c;d.jpg", 'the "bee"')]


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def written(separator: str, encoding: str, header: tuple[str, str]) -> Path:
    """Write the rows as Python's own module does."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator).writerows([header, *ROWS])
    table = Path("l.csv")
    table.write_bytes(text.getvalue().encode(encoding))
    return table


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_tables_are_read_whatever_separates_and_encodes_them(separator: str, encoding: str) -> None:
    rows = read_labels(written(separator, encoding, ("path", "label")))
    assert [(row.path, row.label) for row in rows] == ROWS
    assert [row.line for row in rows] == [2, 3, 4]


@pytest.mark.parametrize("header", [("Filename", "CLASS"), ("image", "label"),
                                    (" File_Name ", "category"), ("image_path", "class_name"),
                                    ("file", "Label ")])  # fmt: skip
def test_columns_have_other_names_too(header: tuple[str, str]) -> None:
    rows = read_labels(written(",", "utf-8", header))
    assert [(row.path, row.label) for row in rows] == ROWS


@pytest.mark.parametrize("header", ["id,label", "path,prob", "label,index", "path", "a.jpg;ant"])
def test_columns_that_are_missing_are_said(header: str) -> None:
    Path("l.csv").write_text(f"{header}\nx.jpg,ant\n")
    with pytest.raises(InputError, match=r"its columns are .*: name them path and label"):
        read_labels(Path("l.csv"))


def test_the_usual_names_come_before_others() -> None:
    Path("l.csv").write_text("class,image,label,path\nx,y.jpg,ant,z.jpg\n")
    assert [(row.path, row.label) for row in read_labels(Path("l.csv"))] == [("z.jpg", "ant")]


def test_blank_lines_and_the_line_of_excel_are_none() -> None:
    Path("l.csv").write_text('sep=;\npath;label\n\n;\n"a.jpg" ; ant \n  \nb.jpg;bee;\n')
    rows = read_labels(Path("l.csv"))
    assert [(row.line, row.path.strip(), row.label) for row in rows] == [
        (5, "a.jpg", "ant"), (7, "b.jpg", "bee"),
    ]  # fmt: skip


def test_a_table_of_western_windows_is_read_where_it_fits() -> None:
    touch("d/Käfer.jpg", "d/b.jpg")
    Path("l.csv").write_bytes("path;label\nKäfer.jpg;Käfer\nb.jpg;Biene\n".encode("cp1252"))
    found = label_by_table(Path("l.csv"), "d", ["Biene", "Käfer"])
    assert (found.paths, found.truths) == (("d/Käfer.jpg", "d/b.jpg"), (1, 0))


def test_paths_of_windows_are_found_in_a_table(caplog: pytest.LogCaptureFixture) -> None:
    touch("d/sub/a.jpg", "d/b.jpg", "d/c.jpg", "here/e.jpg")
    Path("l.csv").write_text(
        "path,label\nsub\\a.jpg,x\n.\\b.jpg,x\n c.jpg ,x\nC:\\my\\d.jpg,x\nhere\\e.jpg,x\n"
    )
    found = label_by_table(Path("l.csv"), "d", ["x"])
    assert [Path(path).as_posix() for path in found.paths] == [
        "d/sub/a.jpg", "d/b.jpg", "d/c.jpg", "d/C:\\my\\d.jpg", "here/e.jpg",
    ]  # fmt: skip
    assert "absolute paths of Windows lead nowhere here: 1, such as C:\\my\\d.jpg" in caplog.text


LINES = {
    "a.jpg": ["a.jpg", '"a.jpg"', "'a.jpg'", "a.jpg  ", "\ta.jpg", '  "a.jpg" \r', '" a.jpg "'],
    "sub/two words.jpg": ["sub\\two words.jpg", '".\\sub\\two words.jpg" ', "sub/two words.jpg\t"],
    "sub/it's.jpg": ["sub/it's.jpg", '"sub\\it\'s.jpg"'],
}


@pytest.mark.parametrize(("name", "line"), [(n, line) for n, all in LINES.items() for line in all])
@pytest.mark.parametrize("given", ["@l.txt", "-"])
def test_lines_of_a_list_are_found(
    monkeypatch: pytest.MonkeyPatch, name: str, line: str, given: str
) -> None:
    touch(name)
    Path("l.txt").write_text(f"{line}\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{line}\n".encode())))
    (path,) = paths_of(find_inputs([given]))
    assert Path(path) == Path(name)


@pytest.mark.parametrize("name", ["'a.jpg'", '"a.jpg"', " a.jpg ", "sub\\a.jpg", "a.jpg "])
def test_a_file_of_the_very_name_comes_first(name: str) -> None:
    touch("a.jpg", "sub/a.jpg", name)
    Path("l.txt").write_text(f"{name}\n")
    assert list(paths_of(find_inputs(["@l.txt"]))) == [name]


@pytest.mark.parametrize("line", [' "gone.jpg" ', "no\\where.jpg", '"', "''", " x", "\\"])
def test_what_exists_in_no_spelling_stays_as_it_is(line: str) -> None:
    assert as_found(line) == line


def test_a_list_of_western_windows_finds_its_files() -> None:
    touch("Käfer/grün.jpg")
    Path("l.txt").write_bytes("Käfer\\grün.jpg\r\n".encode("cp1252"))
    assert [Path(path).as_posix() for path in paths_of(find_inputs(["@l.txt"]))] == [
        "Käfer/grün.jpg"
    ]


def test_a_list_warns_once_of_paths_that_lead_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    touch("a.jpg")
    Path("l.txt").write_text('D:\\1.jpg\na.jpg\n"\\\\server\\share\\2.jpg"\n')
    assert len(list(paths_of(find_inputs(["@l.txt"])))) == 3
    assert [record.getMessage() for record in caplog.records] == [
        "@l.txt: absolute paths of Windows lead nowhere here: 2, such as D:\\1.jpg"
    ]


@pytest.mark.parametrize("name", ["labels_semicolon", "labels_backslash", "labels_utf16"])
def test_the_field_tables(data: Path, name: str) -> None:
    folder = data / "field" / "labels"
    found = label_by_table(folder / f"{name}.csv", str(folder / "img"), ["ants", "bees"])
    assert found.truths == (0, 1, 0)
    assert all(Path(path).is_file() for path in found.paths)
