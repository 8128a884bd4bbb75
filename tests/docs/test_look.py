"""The site in a real browser: wide and narrow, light and dark, and its search."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.examples.browser import Tab

WIDTHS = (390, 820, 1280)
THEMES = ("light", "dark")
# Below this contrast WCAG 2 (level AA) calls text hard to read.
CONTRAST = 4.5

# The texts of code on the page whose contrast with their background is too low. One of each kind is measured.
FAINT = """(() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const light = colour => {
    const [r, g, b] = colour.map(part => part / 255).map(x => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const background = node => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const kinds = new Map();
  for (const node of document.querySelectorAll("pre, pre span, code span, .sig span")) {
    const kind = [node.tagName, node.className, node.closest("pre, code, .sig").className].join("|");
    if (!kinds.has(kind) && node.textContent.trim() && node.offsetParent) kinds.set(kind, node);
  }
  const found = [];
  for (const [kind, node] of kinds) {
    const colour = getComputedStyle(node).color, under = background(node);
    const [a, b] = [light(parse(colour).slice(0, 3)), light(under)];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < %s) found.push(`${kind}: ${colour} on ${under} is ${contrast.toFixed(1)}`);
  }
  return found;
})()"""
IMAGES = """[...document.querySelectorAll("article img")].map(
  image => [image.src.split("/").pop(), Boolean(image.offsetParent && image.naturalWidth)])"""


@dataclass
class Look:
    """How a page looks.

    Attributes:
        sideways: for each width of the window, by how many pixels the page is wider.
        faint: for each theme, the code that can hardly be read.
        images: for each theme, the names of its pictures, and whether each is shown.
    """

    sideways: dict[int, int] = field(default_factory=dict)
    faint: dict[str, list[str]] = field(default_factory=dict)
    images: dict[str, dict[str, bool]] = field(default_factory=dict)


def resize(tab: Tab, width: int) -> None:
    tab.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)


def prefer(tab: Tab, colours: str) -> None:
    """Makes the reader one who prefers these colours."""
    tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": colours}])


def show(tab: Tab, page: Path, query: str = "") -> None:
    resize(tab, WIDTHS[-1])
    prefer(tab, "light")
    url = page.as_uri() + query
    tab.go(url)
    tab.until(f"document.readyState === 'complete' && location.href === {json.dumps(url)}")


@pytest.fixture(scope="session")
def looks(site: Path, tab: Tab) -> dict[str, Look]:
    """Each page, opened once."""
    found: dict[str, Look] = {}
    for page in sorted(site.rglob("*.html")):
        look = found[str(page.relative_to(site))] = Look()
        show(tab, page)
        for width in WIDTHS:
            resize(tab, width)
            look.sideways[width] = tab.value("document.documentElement.scrollWidth - innerWidth")
        for colours in THEMES:
            prefer(tab, colours)
            look.faint[colours] = tab.value(FAINT % CONTRAST)
            look.images[colours] = dict(tab.value(IMAGES))
    assert len(found) > 20
    return found


def test_no_page_scrolls_sideways(looks: dict[str, Look]) -> None:
    wide = {(page, width) for page, look in looks.items() for width, more in look.sideways.items() if more > 0}
    assert not wide


def test_all_code_can_be_read(looks: dict[str, Look]) -> None:
    faint = {(colours, text) for look in looks.values() for colours in THEMES for text in look.faint[colours]}
    assert not faint


@pytest.mark.parametrize("colours", THEMES)
def test_each_theme_shows_its_pictures(looks: dict[str, Look], colours: str) -> None:
    (other,) = set(THEMES) - {colours}
    pictures = 0
    for page, look in looks.items():
        for name, shown in look.images[colours].items():
            assert shown is not name.endswith(f"{other}.svg"), (page, name)
            pictures += name.endswith(f"{colours}.svg")
    assert pictures >= 2


def test_the_reader_can_choose_the_colours(site: Path, tab: Tab) -> None:
    show(tab, site / "performance.html")
    tab.value('document.body.dataset.theme = "dark"')
    shown = [name for name, is_shown in tab.value(IMAGES) if is_shown]
    assert shown
    assert all(name.endswith("dark.svg") for name in shown)


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("use_framing", "reference/core.html"),
        ("CommandTimeout", "reference/shared.html"),
        ("half-close", "adapters.html"),
    ],
)
def test_the_search_finds(site: Path, tab: Tab, words: str, page: str) -> None:
    show(tab, site / "search.html", f"?q={words}")
    link = f'#search-results a[href*="{page}"]'
    assert tab.until(f"document.querySelector({json.dumps(link)}) !== null")
