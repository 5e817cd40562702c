"""The reference of the command and the settings is what the code says."""

from pathlib import Path

from openvstorage.reference import page

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


def test_page_is_what_the_command_and_the_settings_say() -> None:
    assert PAGE.read_text().endswith(page()), "run: make docs"


def test_every_option_is_explained() -> None:
    rows = [line for line in page().splitlines() if line.startswith("| `")]
    assert len(rows) > 30
    assert [row for row in rows if row.endswith("|  |")] == []
