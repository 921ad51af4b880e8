"""What people see, in a real Chromium: the dashboard with the network off, and a backfill clicked in Dagster's pages.

`make screenshots` keeps the pictures in docs/images.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from lakehouse_assets.reports.charts import CHARTS
from lakehouse_assets_tests.dev_server import dev, environment, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1200)]
CHROMIUM = Path("/usr/bin/chromium")
DESKTOP, PHONE, DAGSTER = ({"width": w, "height": h} for w, h in ((1280, 900), (390, 844), (1440, 900)))
PATIENCE_MS = 300_000
YESTERDAY = datetime.now(tz=UTC).date() - timedelta(days=1)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.fail(f"these tests drive {CHROMIUM}, which is not there; run make browser")
    with sync_playwright() as playwright:
        # as root Chromium has no sandbox to offer; it opens nothing but our own pages here
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lakehouse as `lakehouse demo` leaves it."""
    folder = tmp_path_factory.mktemp("browser") / "home"
    subprocess.run([sys.executable, "-m", "lakehouse_assets.cli", "demo"], env=environment(folder), check=True)
    return folder


@pytest.fixture(scope="module")
def images(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return request.config.getoption("--images") or tmp_path_factory.mktemp("images")


def test_the_dashboard_works_from_a_file_with_the_network_off(browser, home, images):
    context = browser.new_context(viewport=DESKTOP, color_scheme="light", offline=True)
    page = context.new_page()
    asked, complaints = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((home / "dashboard.html").as_uri())
    drawn(page)
    assert page.locator("article .chart svg").count() == len(CHARTS)
    page.screenshot(path=images / "dashboard.png")

    dau = page.locator("dl dd").first
    page.get_by_label("to", exact=True).fill(str(YESTERDAY - timedelta(days=10)))
    expect(dau).to_contain_text(str(YESTERDAY - timedelta(days=10)))
    page.get_by_role("button", name="30 days").click()
    with page.expect_download() as download:
        page.locator("#active-users").get_by_role("button", name="CSV").click()
    lines = download.value.path().read_text().splitlines()
    assert lines[0] == '"day","series","users"'
    assert len(lines) == 1 + 3 * 30
    page.locator("#stickiness summary").click()
    expect(page.locator("#stickiness details")).to_contain_text("DAU divided by the 30-day MAU")

    segments = page.locator("#weekly-active-users-by-segment")
    segments.get_by_role("combobox").select_option("device_type")
    expect(segments.locator(".chart svg")).to_contain_text("iPhone")

    page.get_by_role("button", name="Light or dark").click()
    drawn(page)
    page.screenshot(path=images / "dashboard-dark.png")
    page.set_viewport_size(PHONE)
    page.reload()
    drawn(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], "wider than a phone"
    page.screenshot(path=images / "dashboard-phone.png")
    assert complaints == []
    assert [url for url in asked if not url.startswith(("file:", "blob:", "data:"))] == []
    context.close()


def drawn(page: Page) -> None:
    expect(page.locator("html")).to_have_attribute("data-drawn", "yes")


def test_a_materialization_and_a_backfill_clicked_in_the_ui_turn_green(browser, home, images):
    with dev(home) as (_, port):
        page = browser.new_page(viewport=DAGSTER)
        page.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        at = f"http://127.0.0.1:{port}"
        wait_for(lambda: answers(page, at), "Dagster's pages")

        page.goto(f"{at}/assets/gold/daily_metrics")
        launch(page, "Materialize…", YESTERDAY, YESTERDAY)
        green(page, at, f"partition: {YESTERDAY}")
        page.goto(f"{at}/assets/gold/daily_metrics")
        page.get_by_text("[Show Markdown]").click()
        plot = page.get_by_role("dialog").get_by_role("img", name="Active users")
        expect(plot).to_be_visible()
        assert plot.evaluate("image => image.naturalWidth") > 500
        shoot(page, images / "gold-plot.png")
        page.keyboard.press("Escape")
        page.get_by_text("last_days").scroll_into_view_if_needed()
        shoot(page, images / "gold-asset.png")

        page.goto(f"{at}/locations/lakehouse_assets.definitions/jobs/lakehouse")
        launch(page, "Materialize all…", YESTERDAY - timedelta(days=2), YESTERDAY)
        green(page, at, "3 partitions")
        shoot(page, images / "backfill.png")
        page.goto(f"{at}/assets/silver/interactions?view=checks")
        expect(page.get_by_text("no_duplicate_key").first).to_be_visible()
        shoot(page, images / "checks.png")
        page.goto(f"{at}/assets/silver/interactions?view=partitions")
        page.get_by_text(str(YESTERDAY), exact=True).first.click()
        expect(page.get_by_text("dagster/row_count").first).to_be_visible()
        shoot(page, images / "partitions.png")
        page.goto(f"{at}/assets/gold/daily_metrics?view=lineage&lineageScope=upstream")
        page.get_by_role("button", name="All", exact=True).click()
        expect(page.get_by_text("interactions").first).to_be_visible()
        page.wait_for_timeout(2000)  # it moves there
        page.mouse.dblclick(720, 240)  # on the free background: the whole graph, as large as it fits
        shoot(page, images / "lineage.png")
        page.close()


def answers(page: Page, at: str) -> bool:
    try:
        page.goto(f"{at}/assets/gold/daily_metrics")
        page.get_by_role("button", name="Materialize…").wait_for(timeout=5000)
    except Exception:  # not there yet
        return False
    return True


def launch(page: Page, button: str, first: date, last: date) -> None:
    """What a person clicks to compute some days."""
    page.get_by_role("button", name=button).click()
    dialog = page.get_by_role("dialog")
    days = dialog.locator("input[type=text]").first
    days.fill(str(first) if first == last else f"[{first}...{last}]")
    days.press("Enter")
    dialog.get_by_role("button", name=re.compile("^Launch")).click()
    expect(dialog).to_be_hidden()


def green(page: Page, at: str, days: str) -> None:
    """Wait until the run or backfill that was clicked has succeeded."""
    page.goto(f"{at}/runs")
    row = page.locator("div, tr").filter(has_text=days).filter(has_not_text="lakehouse/process")
    expect(row.first).to_contain_text("Success", timeout=PATIENCE_MS)


def shoot(page: Page, path: Path) -> None:
    page.wait_for_timeout(3000)  # animations; a page that keeps asking for news never rests altogether
    page.screenshot(path=path)
