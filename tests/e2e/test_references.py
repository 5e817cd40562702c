"""The reference of the driver's options, compared where Cinder and our wheel are: in the environment of the cloud."""

from tests.e2e.conftest import AllInOne
from tests.support.reference_pages import DOCS, configuration, driver_options, sample


def test_pages_are_what_the_driver_says(all_in_one: AllInOne) -> None:
    python = all_in_one.state / "venv" / "bin" / "python"
    assert (DOCS / "configuration.md").read_text() == configuration(driver_options(python)), "run: make docs"
    assert (DOCS / "openvstorage.conf.sample").read_text() == sample(python), "run: make docs"
