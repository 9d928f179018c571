"""Chromium for tests: a page opened in it fails its test on an error in the console, or on a request to anywhere.

Tests that ask for one of these fixtures carry the mark `browser`: `make test-lab` runs them, `make test` does not.
Without Chromium they are left out, and one line says so.
"""

import importlib.util
import os
import shutil

import pytest

ROOT = hasattr(os, "getuid") and os.getuid() == 0  # Chromium's sandbox refuses to work for root


def installed():
    """Return the path of the browser to use: CHROMIUM, or the one that is installed, or None."""
    names = [os.environ["CHROMIUM"]] if "CHROMIUM" in os.environ else ["chromium", "chromium-browser", "google-chrome"]
    return next((path for name in names if (path := shutil.which(name))), None)


@pytest.hookimpl(trylast=True)  # when -m has chosen
def pytest_collection_modifyitems(config, items):
    """Without Chromium, or what drives it, leave out what needs it, in one line."""
    browser = [item for item in items if item.get_closest_marker("browser")]
    missing = None if installed() else "there is no Chromium here (install it, or name it: make test-lab CHROMIUM=...)"
    if not importlib.util.find_spec("playwright"):
        missing = "playwright is not installed (make test-lab does it)"
    if not browser or not missing:
        return
    items[:] = [item for item in items if item not in browser]
    config.hook.pytest_deselected(items=browser)
    said = f"Left out: {len(browser)} tests in a browser: {missing}."
    if not items:
        pytest.exit(said, returncode=0)
    config.get_terminal_writer().line(f"\n{said}")


@pytest.fixture(scope="session")
def chromium():
    """Start the browser, once for all tests."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed(), args=["--no-sandbox"] * ROOT)
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium, tmp_path):
    """Return a function that opens a figure, or a page of HTML, from a file, and returns Playwright's page.

    opened(figure, width=720, height=900, dark=False, still=False, touch=False): `still` is a reader who asks for
    reduced motion, `touch` a phone. At the end of the test all that went wrong on its pages is raised.
    """
    contexts, faults = [], []

    def open_page(shown, *, width=720, height=900, dark=False, still=False, touch=False, title=None):
        file = tmp_path / f"page{len(contexts)}.html"
        file.write_text(shown if isinstance(shown, str) else shown.page(title), "utf-8")
        context = chromium.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce" if still else "no-preference",
            has_touch=touch,
            is_mobile=touch,
        )
        contexts.append(context)
        watch(context, faults, file.as_uri())
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.goto(file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not faults, "\n".join(faults)


def watch(context, faults, *allowed):
    """Collect what goes wrong on every page of a context; a request that does not begin as one `allowed` is stopped."""

    def request(route):
        if route.request.url.startswith(allowed):
            route.continue_()
        else:
            faults.append(f"a request outside: {route.request.url}")
            route.abort()

    context.route("**/*", request)
    context.on("console", lambda said: faults.append(f"{said.type}: {said.text}") if said.type != "log" else None)
    context.on("weberror", lambda error: faults.append(f"an error: {error.error}"))


def overflow(page):
    """Return how many pixels a page is wider than its window. (A phone's own idea of its width grows with the page.)"""
    wide, window = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    return wide - min(window, page.viewport_size["width"])
