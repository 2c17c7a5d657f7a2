"""Rows of tab-separated text, however it was written."""

from wellread.tabbed import tabbed


def rows(text, columns):
    return list(tabbed(enumerate(text.split("\n"), start=1), columns))


def test_quoted_as_a_spreadsheet_does_and_bare_as_a_benchmark_does():
    text = 'a\tb\n"x ""y"""\t1\n"two\nlines"\t2\n"IL-2" falls\t3\n\n5" needle\t4'
    assert rows(text, 2) == [
        (1, ["a", "b"]),
        (2, ['x "y"', "1"]),
        (3, ["two\nlines", "2"]),
        (5, ['"IL-2" falls', "3"]),
        (6, []),
        (7, ['5" needle', "4"]),
    ]


def test_a_quote_that_is_never_closed_hides_no_other_row():
    text = '"open\na\tb\n' + "\n".join(f"{number}\tc" for number in range(1500))
    found = rows(text, 2)
    assert found[0] == (1, ['"open'])
    assert found[1:] == [(2, ["a", "b"]), *((number + 3, [str(number), "c"]) for number in range(1500))]
