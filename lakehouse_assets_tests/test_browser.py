"""What people see, in a real Chromium: the dashboard with the network off, and a backfill clicked in Dagster's pages.

`make screenshots` keeps the pictures in docs/images.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from lakehouse_assets.assets.table import declare
from lakehouse_assets.reports.charts import charts_of
from lakehouse_assets.settings import load_settings
from lakehouse_assets_tests.conftest import HEADERS
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
    """A lakehouse as `lakehouse demo` leaves it, and a first file of today, which is not over."""
    folder = tmp_path_factory.mktemp("browser") / "home"
    so_far = folder.with_name("today.csv")
    today = YESTERDAY + timedelta(days=1)
    rows = [f"u{n},{today} 00:00:{n:02},page_view,p,10,1.0" for n in range(9)]
    so_far.write_text("\n".join([HEADERS["interactions"], *rows]) + "\n")
    for command in (["demo"], ["land", "interactions", str(so_far)], ["run"]):
        subprocess.run([sys.executable, "-m", "lakehouse_assets.cli", *command], env=environment(folder), check=True)
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
    assert page.locator("article .chart svg").count() == len(charts_of(declare(load_settings())))
    page.screenshot(path=images / "dashboard.png")

    today = YESTERDAY + timedelta(days=1)
    glance = page.locator("#compared")
    expect(glance).to_contain_text("28 whole days")
    expect(glance).to_contain_text("is not over and is not counted")
    assert [f"{today}" in days for days in partial_days(page)[:4]] == [True] * 4  # the day, and windows
    dau = page.locator("dl .value").first
    whole = dau.text_content()
    assert int(whole) > 100, "today, with 9 users, counts among whole days"
    page.get_by_label("to", exact=True).fill(str(YESTERDAY))
    expect(glance).not_to_contain_text("is not over")
    expect(dau).to_have_text(whole)

    page.get_by_role("button", name="4 weeks").click()
    with page.expect_download() as download:
        page.locator("#active-users").get_by_role("button", name="CSV").click()
    lines = download.value.path().read_text().splitlines()
    assert lines[0] == '"day","series","users","is_partial"'
    assert len(lines) == 1 + 3 * 29
    assert f'"{today}","DAU","9","true"' in lines
    page.locator("#stickiness").get_by_text("What it means").click()
    expect(page.locator("#stickiness details").first).to_contain_text("DAU divided by the 30-day MAU")
    page.locator("#stickiness").get_by_text("Numbers").click()
    expect(page.locator("#stickiness tbody tr")).to_have_count(29)
    expect(page.locator("#stickiness tbody th").first).to_have_text(f"{today} *")

    # what is looked at is in the address: who opens it sees the same
    segments = page.locator("#weekly-active-users-by-segment")
    segments.get_by_role("combobox").select_option("device_type")
    expect(segments.locator(".chart svg")).to_contain_text("iPhone")
    page.get_by_role("button", name="Compare with the days before").click()
    drawn(page)
    assert page.locator("#sessions .chart path[stroke-dasharray='2,3']").count() == 1
    page.get_by_role("link", name="Link to Weekly active users by segment").click()
    other = context.new_page()
    other.goto(page.url)
    drawn(other)
    expect(other.locator("#weekly-active-users-by-segment").get_by_role("combobox")).to_have_value("device_type")
    expect(other.locator("#weekly-active-users-by-segment")).to_be_in_viewport()
    expect(other.get_by_role("button", name="4 weeks")).to_have_attribute("aria-pressed", "true")
    expect(other.get_by_role("button", name="Compare with the days before")).to_have_attribute("aria-pressed", "true")
    other.close()

    page.evaluate("scrollTo(0, 0)")
    page.get_by_role("button", name="Light or dark").click()
    page.screenshot(path=images / "dashboard-dark.png")
    text = "getComputedStyle(document.querySelector('.chart svg text')).fill"
    assert page.evaluate(text) == "rgb(230, 237, 243)"
    page.emulate_media(media="print")
    assert page.evaluate(text) == "rgb(28, 39, 51)", "paper is white, whatever the screen is"
    expect(page.get_by_role("navigation")).to_be_hidden()
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
    page.emulate_media(media="screen")
    page.set_viewport_size(PHONE)
    page.goto((home / "dashboard.html").as_uri())
    page.reload()
    drawn(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], "wider than a phone"
    page.screenshot(path=images / "dashboard-phone.png")
    assert complaints == []
    assert [url for url in asked if not url.startswith(("file:", "blob:", "data:"))] == []
    context.close()


def partial_days(page: Page) -> list[list[str]]:
    return list(json.loads(page.locator("#data").text_content() or "")["partial"].values())


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
