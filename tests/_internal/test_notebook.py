"""Progress in notebooks; examples' notebooks show the bar itself (tests/test_examples.py)."""

from toplabel._internal.notebook import bar_in_notebook, in_notebook


def test_outside_of_a_notebook_there_is_no_bar():
    assert not in_notebook()
    with bar_in_notebook(None, what="labels", total=3) as update:
        assert update is None


def test_what_the_caller_gave_is_called_and_nothing_else():
    told = []
    with bar_in_notebook(lambda done, failed: told.append((done, failed)), what="", total=3) as bar:
        bar(2, 1)
    assert told == [(2, 1)]
