"""Lines with an index in them: which forms count, and which numbers belong to the names."""

import pytest
from hypothesis import given, strategies as st

from toplabel._internal.notices import collect_warnings
from toplabel.errors import LabelsError
from toplabel.labels.lines import listed_of_lines

NAMES = ("ape", "bee", "cat", "doe")
ORDER = (2, 0, 3, 1)


def read(lines: list[str]) -> tuple[str, ...]:
    return listed_of_lines("\n".join(lines) + "\n").in_order().names


INDEXED = [
    *("{i} {n}", "{i}: {n}", "{i}. {n}", "{i}) {n}", "{i}), {n}", "[{i}] {n}", "({i}) {n}"),
    *("{i} - {n}", "{i}-{n}", "{i}={n}", "{i} = {n}", "{i} -> {n}", "{i}|{n}", "{i}\t{n}"),
    *("{i};{n}", "{i},{n}", "{i} , {n}", "#{i} {n}", "class {i}: {n}", "Class #{i} - {n}"),
    *("{i:03d} {n}", "{i:02d}_{n}", "{i}.0 {n}", '"{i}" "{n}"', "({i}, '{n}'),", "({i}, {n})"),
    *("{i}: '{n}',", "{n} {i}", "{n},{i}", "{n}: {i}", "{n} = {i}", "{n} ({i})", "{n} [{i}]"),
    *("{n}\t{i}", "{n}|{i}", "{n}_{i}", "{n} -> {i}", "{n} - {i}", "'{n}': {i},", "id {i} {n}"),
    *("{i}~{n}", "{i} * {n}", "{i} » {n}", "- {i}: {n}", "Klasse {i}: {n}", "Catégorie {i} = {n}"),
    *("| {i} | {n} |", "<{i}> {n}", "No. {i} {n}", "id={i}: {n}", "{n} (id {i})", "{n} [id={i}]"),
    *("label{i}: {n}", "{i} :{n}", "{i}\u2014{n}", "{n} / {i}", "{n} => {i}", "{n}: class {i}"),
]


@pytest.mark.parametrize("form", INDEXED)
@pytest.mark.parametrize("first", [0, 1])
def test_an_index_in_each_line_is_never_passed_over(form: str, first: int) -> None:
    assert read([form.format(i=i + first, n=NAMES[i]) for i in ORDER]) == NAMES


@pytest.mark.parametrize("heading", ["index name", "class,label", "id: name", "label"])
def test_a_heading_is_no_class(heading: str) -> None:
    mark = "," if "," in heading else ": " if ":" in heading else " "
    lines = [f"{i}{mark}{NAMES[i]}" for i in ORDER] if heading != "label" else list(NAMES)
    assert read([heading, *lines]) == NAMES


@pytest.mark.parametrize("form", ["{i}{n}", "{n}{i}", "c{i} {n}"])
def test_an_index_without_a_mark_is_followed_where_the_lines_are_in_no_order(form: str) -> None:
    assert read([form.format(i=i, n=NAMES[i]) for i in ORDER]) == NAMES
    in_order = [form.format(i=i, n=NAMES[i]) for i in range(4)]
    assert read(in_order) == tuple(in_order)


def test_a_line_above_indices_is_a_heading_and_said() -> None:
    with collect_warnings() as texts:
        assert read(["Total: 4", *[f"{i} {NAMES[i]}" for i in ORDER]]) == NAMES
    assert "'Total: 4', is taken for a heading" in texts[0]


def test_names_in_one_line_may_have_an_index() -> None:
    assert read([", ".join(f"{i}: {NAMES[i]}" for i in ORDER)]) == NAMES


def test_bullets_are_no_part_of_a_name() -> None:
    for bullet in ("-", "*", "\u2022"):
        assert read([f"{bullet} {name}" for name in NAMES]) == NAMES


def test_a_table_of_markdown_is_read() -> None:
    rows = [f"| {i} | {NAMES[i]} |" for i in ORDER]
    assert read(["| Index | Name |", "|---|:--|", *rows]) == NAMES


@pytest.mark.parametrize("first", ["# my classes", "4", "## 4 classes"])
def test_comments_and_counts_are_no_classes(first: str) -> None:
    assert read([first, *NAMES]) == NAMES


ORDINARY = [
    ["7up", "cola", "fanta"],
    ["18th street", "19th street", "20th street"],
    ["1st floor", "2nd floor", "3rd floor"],
    ["3D printer", "2D plotter", "1D scanner"],
    ["0 years", "1 years", "2 years"],
    ["2 wheeler", "4 wheeler", "18 wheeler"],
    ["Boeing 747", "Airbus 320", "Boeing 737"],
    ["grade 0", "grade 1", "grade 2"],
    ["16:9", "4:3", "1:1"],
    ["0.25", "0.5", "1.0"],
    ["class a", "class b"],
    ["great white shark", "ray"],
    ["T-shirt/top", "Trouser", "Ankle boot"],
    ["tench, Tinca tinca", "goldfish, Carassius auratus"],
    ["(ape)", "(bee)"],
    ["#1 fan", "#hashtag"],
    ["label", "name"],
    ["2000", "2010", "1990"],
    ["0", "2", "1"],
    ["4", "0", "1", "2", "3"],
    ["5% milk", "10% cream", "30% cream"],
    ["subclass 0", "subclass 1"],
    ["Boeing 747 cargo", "Airbus 320 cargo"],
    ["Type 1 diabetes", "Type 2 diabetes"],
    ["n02 cat", "n01 dog"],
    ["A4", "A3", "A5"],
    ["mp3", "h264"],
    ["1/2 inch", "3/4 inch"],
    ["50 km/h", "100 km/h"],
    ["C++", "C#", "F#"],
    ["St. 12", "St. 14"],
    ["2-door", "4-door"],
]


@pytest.mark.parametrize("lines", ORDINARY, ids=" | ".join)
def test_numbers_that_belong_to_the_names_stay(lines: list[str]) -> None:
    with collect_warnings() as texts:
        assert read(lines) == tuple(lines)
    assert texts == []


@pytest.mark.parametrize(
    "form", ["{s} {i} {n}", "{i} {s} {n}", "{i}: {n} {s}", "{s} {n} {i}", "{s}\t{i}\t{n}"]
)
def test_a_synset_and_an_index_may_stand_in_one_line(form: str) -> None:
    synsets = ("n01440764", "n01443537", "n01484850", "n01491361")
    lines = [form.format(s=synsets[i], i=i, n=NAMES[i]) for i in ORDER]
    labels = listed_of_lines("\n".join(lines)).in_order()
    assert labels.names == NAMES
    assert labels.ids == synsets


def test_a_single_line_of_names_is_cut() -> None:
    assert read(["ape,bee, cat"]) == ("ape", "bee", "cat")
    assert read(["ape bee"]) == ("ape bee",)


def test_an_index_twice_is_refused_with_its_line() -> None:
    with pytest.raises(LabelsError, match="line 3 has index 1 again"):
        read(["0: ape", "1: bee", "1: cat"])


def test_two_columns_that_count_differently_are_refused() -> None:
    with pytest.raises(LabelsError, match="both number the classes, and differently"):
        read(["0,ape,1", "1,bee,0"])


def test_lines_in_the_order_of_text_are_doubted() -> None:
    lines = sorted(f"{number} c{number}" for number in range(12))
    with collect_warnings() as texts:
        assert read(lines) == tuple(f"c{number}" for number in range(12))
    assert "sorted as text" in texts[0]


@given(st.lists(st.from_regex(r"[a-z][a-z ]{0,8}[a-z]", fullmatch=True), min_size=2, unique=True))
def test_plain_words_are_themselves(names: list[str]) -> None:
    if not any(word in {"class", "label", "name", "id"} for name in names for word in name.split()):
        assert read(names) == tuple(names)


@given(st.permutations(range(15)), st.sampled_from(INDEXED))
def test_any_order_of_indices_is_followed(order: list[int], form: str) -> None:
    names = [f"{chr(97 + i)}x" for i in range(15)]
    assert read([form.format(i=i, n=names[i]) for i in order]) == tuple(names)
