"""The documentation site in a real browser: search, navigation, pictures, links."""

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urldefrag
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).parents[2]
MISSING = [p for p in ("chromium", "chromedriver") if shutil.which(p) is None]
MISSING += [m for m in ("mkdocs", "material", "mkdocstrings", "selenium")
            if importlib.util.find_spec(m) is None]  # fmt: skip

pytestmark = [
    pytest.mark.site,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and logs nothing."""

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[str]:
    """The address of the built site, served from this process."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser():
    """A browser without a screen that reaches this machine alone."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage",
                     "--window-size=1300,1000", "--host-resolver-rules=MAP * ~NOTFOUND, "
                     "EXCLUDE 127.0.0.1"):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


def wait_for(browser, condition, seconds: float = 30):
    """Wait until ``condition(browser)`` holds. A page that is drawn anew meanwhile is no error."""
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.support.ui import WebDriverWait

    redrawn = [StaleElementReferenceException]
    return WebDriverWait(browser, seconds, ignored_exceptions=redrawn).until(condition)


def find(browser, selector: str) -> list:
    return browser.find_elements("css selector", selector)


def pages(browser, site: str) -> list[str]:
    """Return the addresses of all pages, as the navigation has them."""
    browser.get(site)
    links = browser.execute_script(
        "return [...document.querySelectorAll('.md-nav--primary a')].map(a => a.href)"
    )
    return sorted({urldefrag(link).url for link in links if link.startswith(site)})


@pytest.fixture(scope="module")
def contents(site, browser) -> dict[str, dict]:
    """What each page has once it is loaded: title, links, ids, pictures, requests, errors."""
    found = {}
    for address in pages(browser, site):
        browser.get(address)
        browser.execute_script("document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
        wait_for(
            browser,
            lambda b: b.execute_script("return [...document.images].every(i => i.complete)"),
        )
        found[address] = browser.execute_script(
            """return {
                title: document.querySelector('article h1').innerText,
                text: document.querySelector('article').textContent,
                links: [...document.querySelectorAll('a[href]')].map(a => a.href),
                ids: [...document.querySelectorAll('[id]')].map(e => e.id),
                pictures: [...document.querySelectorAll('article img')].map(
                    i => [i.src, i.naturalWidth, i.alt]),
                requests: performance.getEntriesByType('resource').map(r => r.name),
            }"""
        )
        found[address]["errors"] = [
            line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"
        ]
    return found


def test_every_page_opens_from_the_navigation_without_an_error(contents):
    assert len(contents) >= 15
    for address, page in contents.items():
        assert page["title"], address
        assert not page["errors"], (address, page["errors"])


def test_every_included_file_and_generated_table_is_there(contents, site):
    for address, page in contents.items():
        assert "--8" not in page["text"] and "<!--" not in page["text"], address
    examples = contents[f"{site}examples/"]["text"]
    for example in ("class GentleDepth", "def load()", "from_backbone(", "[grid]", "superlink.sh"):
        assert example in examples, example


def test_every_picture_loads_and_has_a_description(contents):
    pictures = [picture for page in contents.values() for picture in page["pictures"]]
    assert len(pictures) >= 10
    for source, width, description in pictures:
        assert width > 0, source
        assert description, source


def test_no_link_inside_the_site_is_broken(contents, site):
    for address, page in contents.items():
        for link in page["links"]:
            target, anchor = urldefrag(link)
            if not target.startswith(site) or link.startswith(f"{site}#__"):
                continue
            if target not in contents:  # a file
                with urlopen(target, timeout=30) as answer:  # raises if there is none
                    assert answer.status == 200, (address, link)
                continue
            if anchor and not anchor.startswith("__"):
                assert anchor in contents[target]["ids"], (address, link)


def test_nothing_is_loaded_from_elsewhere(contents, site):
    for address, page in contents.items():
        elsewhere = [r for r in page["requests"] if not r.startswith((site, "data:", "blob:"))]
        assert not elsewhere, (address, elsewhere)


def test_navigation_goes_from_page_to_page(site, browser):
    browser.get(site)
    [link] = [
        a for a in find(browser, ".md-nav--primary a") if "devices/" in a.get_attribute("href")
    ]
    browser.execute_script("arguments[0].click()", link)
    wait_for(browser, lambda b: b.current_url == f"{site}devices/")
    wait_for(browser, lambda b: find(b, "article h1")[0].text.startswith("Devices"))


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("proximal-mu", "configuration/"),
        ("PartialMean", "api/"),
        ("left out", "troubleshooting/"),
    ],
)
def test_search_finds_a_word_and_jumps_to_it(site, browser, words, page):
    browser.get(site)
    wait_for(browser, lambda b: find(b, "input.md-search__input"))
    box = find(browser, "input.md-search__input")[0]
    browser.execute_script("arguments[0].focus(); arguments[0].click()", box)
    box.send_keys(words)

    # Found and clicked in one script: the list is drawn anew with every letter that is typed.
    click = """
        const link = [...document.querySelectorAll(".md-search-result__link")]
            .find(a => a.href.includes(arguments[0]));
        if (link) link.click();
        return Boolean(link);
    """
    wait_for(browser, lambda b: b.execute_script(click, f"/{page}"))
    wait_for(browser, lambda b: f"/{page}" in b.current_url)
    text = "return document.querySelector('article')?.innerText ?? ''"
    wait_for(browser, lambda b: words.split()[0] in b.execute_script(text).replace("\n", " "))


def test_the_configuration_page_has_every_key_with_its_default(site, browser):
    from dataclasses import fields

    from efmodel.settings import Settings

    browser.get(f"{site}configuration/")
    rows = browser.execute_script(
        "return [...document.querySelectorAll('tbody tr')].map("
        "r => [...r.cells].map(c => c.innerText))"
    )
    table = {row[0]: row[1:] for row in rows if len(row) == 4}
    for field in fields(Settings):
        key = field.name.replace("_", "-")
        assert key in table, key
        wanted = field.default if field.default != "" else "empty"
        wanted = str(wanted).lower() if isinstance(wanted, bool) else str(wanted)
        assert table[key][0] == wanted and table[key][1], key
