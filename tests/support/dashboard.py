"""Horizon in headless Chromium, by what a person sees and clicks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from selenium import webdriver
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    ElementNotInteractableException,
    NoSuchElementException,
    StaleElementReferenceException,
)
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.expected_conditions import staleness_of
from selenium.webdriver.support.ui import WebDriverWait

_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    # Else it looks for its maker's servers.
    *("--disable-background-networking", "--disable-component-update"),
    # A container's /dev/shm may be too small for it.
    *("--disable-dev-shm-usage", "--window-size=1280,700", "--lang=en-US"),
)
_SECONDS = 60
# A page renews the rows of what is on its way, and slides its dialogs in: an element may be replaced or covered.
_MOVING = (
    ElementClickInterceptedException,
    ElementNotInteractableException,
    NoSuchElementException,
    StaleElementReferenceException,
)

T = TypeVar("T")


class Dashboard:
    """One browser window. Methods wait up to a minute for what they need, and raise TimeoutException."""

    def __init__(self, driver: webdriver.Chrome, url: str, pictures: Path) -> None:
        self._driver = driver
        self._url = url
        self._pictures = pictures

    def log_in(self, user: str, password: str) -> None:
        self._driver.get(self._url)
        self._type("#id_username", user)
        self._type("#id_password", password)
        form = self._find("#loginBtn")
        self._click("#loginBtn")
        self._until(lambda: staleness_of(form)(self._driver), "another page is loaded")

    def open(self, path: str) -> None:
        self._driver.get(self._url + path)

    @property
    def path(self) -> str:
        return self._driver.current_url.removeprefix(self._url)

    @property
    def title(self) -> str:
        return self._driver.title

    def alerts(self) -> list[str]:
        """What the page warns of."""
        return [alert.text for alert in self._driver.find_elements(By.CSS_SELECTOR, ".alert-danger, .alert-warning")]

    def create_volume(self, name: str, volume_type: str, size: int) -> str:
        """On the page of volumes; returns the new volume's id when it is available."""
        self._click("#volumes__action_create")
        self._type(".modal #id_name", name)
        self._choose(".modal .themable-select:has(#id_type)", volume_type)
        self._type(".modal #id_size", str(size))
        self._click(".modal input[type=submit]")
        return self._wait_for_row("volumes", name, "Available")

    def snapshot_volume(self, volume: str, name: str) -> str:
        """On the page of volumes; returns the snapshot's id when it is available, on the page of snapshots."""
        self._act("volumes", volume, "snapshots")
        self._type(".modal #id_name", name)
        self._click(".modal input[type=submit]")
        return self._wait_for_row("volume_snapshots", name, "Available")

    def delete(self, table: str, identifier: str) -> None:
        """Delete what that row of the open page shows, and wait until the row is gone."""
        self._act(table, identifier, "delete")
        self._click(".modal .btn-danger")
        gone = f"tr[data-object-id='{identifier}']"
        self._until(lambda: not self._driver.find_elements(By.CSS_SELECTOR, gone), f"{identifier} is gone")

    def picture(self, name: str) -> Path:
        """Keep what the window shows, when everything has come to rest."""
        self._until(lambda: not self._driver.find_elements(By.CSS_SELECTOR, ".modal-backdrop"), "no dialog is open")
        self._pictures.mkdir(parents=True, exist_ok=True)
        file = self._pictures / f"{name}.png"
        self._driver.save_screenshot(str(file))
        return file

    def _wait_for_row(self, table: str, name: str, status: str) -> str:
        def row() -> str | None:
            for each in self._driver.find_elements(By.CSS_SELECTOR, f"table#{table} tr[data-object-id]"):
                if name in each.text and status in each.text:
                    return each.get_attribute("data-object-id")
            return None

        return self._until(row, f"{name} is {status}")

    def _act(self, table: str, identifier: str, action: str) -> None:
        def click() -> bool:
            row = self._find(f"tr[data-object-id='{identifier}']")
            found = row.find_element(By.ID, f"{table}__row_{identifier}__action_{action}")
            if not found.is_displayed():
                row.find_element(By.CSS_SELECTOR, ".dropdown-toggle").click()
            found.click()
            return True

        self._until(click, f"{action} of {identifier}")

    def _type(self, selector: str, text: str) -> None:
        def enter() -> bool:
            field = self._find(selector)
            field.clear()
            field.send_keys(text)
            return field.get_attribute("value") == text

        self._until(enter, f"{selector} takes text")

    def _click(self, selector: str) -> None:
        def click() -> bool:
            self._find(selector).click()
            return True

        self._until(click, f"{selector} is clicked")

    def _choose(self, selector: str, text: str) -> None:
        def choose() -> bool:
            field = self._find(selector)
            if field.find_element(By.CSS_SELECTOR, ".dropdown-title").text == text:
                return True
            offered = field.find_elements(By.CSS_SELECTOR, ".dropdown-menu a")
            if not any(each.is_displayed() for each in offered):
                field.find_element(By.CSS_SELECTOR, ".dropdown-toggle").click()
            for each in offered:
                if each.text == text:
                    each.click()
            return False

        self._until(choose, f"{selector} shows {text}")

    def _find(self, selector: str) -> WebElement:
        return self._driver.find_element(By.CSS_SELECTOR, selector)

    def _until(self, condition: Callable[[], T], what: str) -> T:
        wait = WebDriverWait(self._driver, _SECONDS, ignored_exceptions=_MOVING)
        return wait.until(lambda _: condition(), f"waiting until {what}; the page is {self._driver.current_url}")


@contextmanager
def browser(url: str, profile: Path, pictures: Path) -> Iterator[Dashboard]:
    """A window on Horizon.

    :param url: where it is.
    :param profile: an empty directory for what the browser keeps.
    :param pictures: where screenshots go; when the caller fails, one of the window at that moment.
    """
    options = Options()
    options.binary_location = "/usr/bin/chromium"
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    dashboard = Dashboard(driver, url, pictures)
    try:
        yield dashboard
    except BaseException:
        pictures.mkdir(parents=True, exist_ok=True)
        driver.save_screenshot(str(pictures / "failed.png"))
        raise
    finally:
        driver.quit()
