"""Columns: found by the letters of their headers, in the order of what is wanted."""

from toplabel._internal.text_table import SOURCE_COLUMNS, find_columns


def test_columns_come_in_the_order_of_what_is_wanted() -> None:
    headers = ["Label", " File Name ", "url", "PATH"]
    assert find_columns(headers, SOURCE_COLUMNS) == [3, 1, 2]
    assert find_columns(headers, ("label",)) == [0]
    assert find_columns(["x", ""], SOURCE_COLUMNS) == []
