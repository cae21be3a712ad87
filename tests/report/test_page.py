"""The page: whole in itself, safe with any text, and what a reader of it sees and does in a real browser."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hstnn_deploy import files
from hstnn_deploy.recipe.load import load_recipe
from hstnn_deploy.report.aggregate import studies
from hstnn_deploy.report.collect import collect
from hstnn_deploy.report.page.document import embedded, page
from hstnn_deploy.train.variation import Measurement
from tests.report.conftest import PUBLISHED, inference, recipe_for, records_of, training, varied, write_run, write_sweep
from tests.report.views import View

TIMELINE = {
    "seconds": 0.1,
    "columns": {
        "t": [0.0, 1.0, 2.0, 3.0],
        "rss": [1e8, 2e8, 4e8, 3e8],
        "pss": [None, 1e8, None, 2e8],
        "cpu": [0, 1, 2, 3],
    },
}
SPANS = [
    {"name": "load", "start": 0.0, "seconds": 1.5, "values": []},
    {"name": "training", "start": 1.5, "seconds": 1.5, "values": []},
]
NAUGHTY = "</script><script>alert(1)</script><!-- & 'x' \"y\""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a sweep that is not whole, and of records with calls and a timeline."""
    folder = tmp_path_factory.mktemp("page")
    write_sweep(folder / "runs", changes={"published": PUBLISHED})
    write_run(
        folder / "runs",
        recipe_for("snn", seed=4, changes={"published": PUBLISHED}),
        None,
        state="failed",
        error=NAUGHTY,
    )
    (folder / "runs/digits/rnn/seed3/status.json").write_text("{")
    series = {"latency": [0.001 * (1 + number / 50) for number in range(50)]}
    records_of(folder / "records.jsonl", [inference(0.25), inference(0.5, latency_p50=0.002)], series=series)
    records_of(folder / "records-train.jsonl", [training()], timeline=TIMELINE, spans=SPANS)
    collected = collect([folder])
    path = folder / "report.html"
    path.write_text(page(studies(collected.runs), collected), encoding="utf-8")
    return path


class Tags(HTMLParser):
    """Collects elements, and holds them to be closed in order."""

    VOID = ("meta", "link", "img", "br", "hr", "input")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_needs_nothing_from_elsewhere(made: Path) -> None:
    text = made.read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    names = [name for name, _ in tags.seen]
    assert names.count("script") == 2
    assert not {"link", "img", "iframe", "object"} & set(names)
    for _, attributes in tags.seen:
        assert not {"src", "srcset", "action"} & set(attributes)
        assert (attributes.get("href") or "#").startswith("#")
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|WebSocket|import\(", text)
    assert set(re.findall(r"https?://[^\"' )]*", text)) == {"http://www.w3.org/2000/svg"}
    policy = next(attributes["content"] for _, attributes in tags.seen if "http-equiv" in attributes)
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_tables_have_captions_headings_and_scopes(made: Path) -> None:
    text = made.read_text(encoding="utf-8")
    tables = re.findall(r"<table>.*?</table>", text, re.DOTALL)
    assert len(tables) == 9
    for table in tables:
        assert table.startswith("<table><caption><span>")
        header = re.findall(r'<th scope="col"[^>]*><button', table)
        for row in re.findall(r"<tr><th scope=\"row\".*?</tr>", table):
            assert len(re.findall(r"<t[hd]\b", row)) == len(header)


@given(st.recursive(st.text() | st.floats(allow_nan=False, allow_infinity=False) | st.none(), st.lists))
def test_embedded_data_comes_back_and_cannot_end_its_element(value: Any) -> None:
    text = embedded({"value": value})
    assert json.loads(text) == {"value": value}
    assert text.isascii()
    assert not set("<>&") & set(text)


def test_text_from_runs_is_text_in_the_page(made: Path) -> None:
    text = made.read_text(encoding="utf-8")
    assert NAUGHTY not in text
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in text


@pytest.fixture
def view(browser: Any, made: Path) -> Iterator[View]:
    """The page on a desk."""
    shown = View(browser, made, viewport={"width": 1200, "height": 900})
    yield shown
    assert shown.trouble == []
    assert shown.requests == [made.as_uri()]
    shown.page.close()


def test_every_picture_is_drawn_from_the_data(view: View) -> None:
    kinds = ["ratio", "curves", "kept", "importance", "cost", "latency", "timeline"]
    assert [figure.get_attribute("data-chart") for figure in view.page.locator(".chart").all()] == kinds
    for kind in kinds:
        assert view.figure(kind).locator("svg[role=img]").count() >= 1
    legend = view.figure("ratio").locator(".legend button").all_inner_texts()
    assert legend == [
        "ffs",
        "hybrid",
        "rnn",
        "snn",
        "ffs, published",
        "hybrid, published",
        "rnn, published",
        "snn, published",
    ]
    assert view.figure("kept").locator("svg rect").count() == 2 * 3 * 2
    assert view.figure("importance").locator("svg[role=img]").count() == 8
    assert view.figure("timeline").locator("rect").count() == 2
    assert view.figure("timeline").locator(".legend button").all_inner_texts() == ["rss", "pss"]
    assert "What could not be read" in view.page.inner_text("main")
    assert view.figure("cost").locator("select").input_value() == "latency_p50"


def test_accuracy_under_variation_is_drawn_in_colours_that_there_are(browser: Any, tmp_path: Path) -> None:
    networks = [varied(step, bits=bits) for bits in (1, 4) for step in ("baseline", "vat", "recover", "prune")]
    files.write_json(tmp_path / "variation.json", Measurement("test", 2, 0, networks).plain())
    path = tmp_path / "report.html"
    path.write_text(page([], collect([tmp_path])), encoding="utf-8")
    shown = View(browser, path)
    panels = shown.figure("variation").locator("svg[role=img]")
    assert panels.count() == 2
    assert shown.figure("variation").locator("h3").all_inner_texts() == ["1 bit of RRAM", "4 bits of RRAM"]
    lines = panels.first.locator("path.line")
    colours = [line.evaluate("one => getComputedStyle(one).stroke") for line in lines.all()]
    assert len(set(colours)) == 4
    assert "none" not in colours
    memory = shown.figure("memory").locator("svg[role=img]").first
    memory.focus()
    shown.page.keyboard.press("ArrowRight")
    assert "1 times sigma: 72 % ± 25.41 (95 %), 2 draws" in shown.figure("memory").locator(".tip").inner_text()
    assert shown.trouble == []
    shown.page.close()


def test_a_stack_of_layers_has_lines_and_no_share_of_spiking_units(browser: Any, tmp_path: Path) -> None:
    write_run(tmp_path, load_recipe("stack-digits", ["train.epochs=1"]), 90.0, stage="train")
    collected = collect([tmp_path])
    path = tmp_path / "report.html"
    path.write_text(page(studies(collected.runs), collected), encoding="utf-8")
    shown = View(browser, path)
    assert shown.figure("ratio").count() == 0
    line = shown.figure("curves").locator("svg[role=img] path.line").first
    assert line.evaluate("one => getComputedStyle(one).stroke") != "none"
    shown.page.close()


def test_hovering_says_what_a_point_is(view: View) -> None:
    svg = view.figure("ratio").locator("svg[role=img]").first
    svg.scroll_into_view_if_needed()
    box = svg.bounding_box()
    tip = view.figure("ratio").locator(".tip")
    assert tip.is_hidden()
    # The point of hybrid at 0.5 lies in the middle of the x axis; walk down until it is met.
    found = set()
    for step in range(0, 40):
        view.page.mouse.move(box["x"] + 58 + (box["width"] - 72) / 2 + 2, box["y"] + box["height"] * step / 40)
        if tip.is_visible():
            found.add(tip.inner_text())
    assert "hybrid\nratio 0.5: 94 % ± 2.484 (95 %), 3 seeds\nincomplete: 4 without a readable run" in found
    view.page.mouse.move(0, 0)
    assert tip.is_hidden()


def test_arrow_keys_go_from_point_to_point(view: View) -> None:
    svg = view.figure("latency").locator("svg[role=img]").first
    svg.focus()
    tip = view.figure("latency").locator(".tip")
    view.page.keyboard.press("ArrowRight")
    first = tip.inner_text()
    assert "2 % of calls within 1 ms" in first
    view.page.keyboard.press("ArrowRight")
    view.page.keyboard.press("ArrowRight")
    assert tip.inner_text() != first
    assert tip.get_attribute("role") == "status"
    view.page.keyboard.press("Escape")
    assert tip.is_hidden()


def test_a_series_can_be_switched_off_and_on(view: View) -> None:
    figure = view.figure("ratio")
    button = figure.get_by_role("button", name="hybrid", exact=True)
    groups = figure.locator("svg[role=img] g[data-series]")
    before = groups.count()
    button.focus()
    view.page.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "false"
    assert groups.count() == before - 1
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert groups.count() == before


def test_choices_draw_another_picture(view: View) -> None:
    curves = view.figure("curves")
    quantity, each = curves.locator("select").all()
    assert quantity.input_value() == "valid_accuracy"
    # Two epochs: whole numbers on the x axis, then its name.
    ticks = curves.locator("svg[role=img] text[text-anchor=middle]").all_text_contents()
    assert ticks == ["1", "2", "epoch", "valid accuracy"]
    few = curves.locator(".legend button").count()
    each.select_option("every seed")
    assert curves.locator(".legend button").count() > 2 * few
    quantity.select_option("train_loss")
    assert "train_loss" in (curves.locator("svg[role=img]").first.get_attribute("aria-label") or "")
    importance = view.figure("importance")
    assert "Layer 1, spiking: 2 of 6 kept" in importance.inner_text()
    importance.locator("select").first.select_option("hybrid 0.75")
    assert "Layer 1, spiking: 6 of 6 kept" in importance.inner_text()


def test_a_table_sorts_by_a_column_and_back(view: View) -> None:
    table = view.page.locator("table").first
    names = table.locator("tbody th")
    given_order = names.all_inner_texts()
    assert given_order == ["rnn", "0.25", "0.5", "0.75", "snn"]
    head = table.locator("thead tr").last.locator("th").nth(1)
    button = head.get_by_role("button")
    button.click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert names.all_inner_texts() == ["snn", "rnn", "0.25", "0.5", "0.75"]
    button.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert names.all_inner_texts() == ["0.75", "0.5", "0.25", "rnn", "snn"]
    button.click()
    assert head.get_attribute("aria-sort") is None
    assert names.all_inner_texts() == given_order


def _luminance(color: str) -> float:
    parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_lines_stand_out_in_light_and_dark(browser: Any, made: Path, scheme: str) -> None:
    view = View(browser, made, color_scheme=scheme)
    colors = view.page.evaluate(
        """() => {
          const probe = document.body.appendChild(document.createElement("i"));
          const of = (name) => { probe.style.color = `var(--${name})`; return getComputedStyle(probe).color; };
          return Object.fromEntries(["paper", "ink", "soft", "focus", "ffs", "hybrid", "rnn", "snn", "lstm", "ffs-lstm",
            "hybrid-lstm"].map((name) => [name, of(name)]));
        }"""
    )
    paper = _luminance(colors.pop("paper"))
    assert (paper > 0.5) == (scheme == "light")
    for name, color in colors.items():
        light, dark = sorted([paper, _luminance(color)], reverse=True)
        # WCAG 2.1: 4.5 for text, 3 for graphical objects.
        assert (light + 0.05) / (dark + 0.05) >= (4.5 if name in {"ink", "soft", "focus"} else 3), name
    view.page.close()


def test_a_phone_shows_it_without_scrolling_sideways(browser: Any, made: Path) -> None:
    view = View(browser, made, viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    assert view.page.evaluate("document.documentElement.scrollWidth") <= 360
    for svg in view.page.locator("svg[role=img]").all():
        box = svg.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360
    assert view.trouble == []
    view.page.close()


def test_it_prints(browser: Any, made: Path) -> None:
    view = View(browser, made, color_scheme="dark")
    pdf = view.page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    view.page.emulate_media(media="print")
    assert view.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert view.trouble == []
    view.page.close()


def test_without_scripts_every_table_is_there(browser: Any, made: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    shown = context.new_page()
    shown.goto(made.as_uri())
    assert "hybrid" in shown.locator("table").first.inner_text()
    assert "the tables are complete" in shown.locator("noscript").inner_text()
    context.close()


def robust_page(folder: Path) -> Path:
    """Write a page with a network under disturbances."""
    curve = {"name": "gaussian", "unit": "", "where": "values", "levels": [0.1], "axis": [0.1], "values": [[80.0]]}
    facts: dict[str, Any] = {"source": "", "recipe": "digits", "data": "digits", "kind": "snn", "ratio": None}
    facts |= {"stage": "train", "seed": 1, "metric": "accuracy", "unit": " %", "higher_is_better": True}
    facts |= {"split": "test", "batch": 1, "clean": 90.0, "curves": [curve]}
    found = {"format": "hstnn-robustness", "version": 1, "networks": [facts]}
    (folder / "robustness.json").write_text(json.dumps(found))
    path = folder / "report.html"
    path.write_text(page([], collect([folder])), encoding="utf-8")
    return path


def test_pictures_of_robustness_are_drawn_by_the_page_itself(browser: Any, tmp_path: Path) -> None:
    path = robust_page(tmp_path)
    text = path.read_text(encoding="utf-8")
    assert "data:" not in text
    assert "img-src" not in text
    shown = View(browser, path, viewport={"width": 1200, "height": 900})
    assert shown.figure("disturbances").locator("svg[role=img] path.line").count() == 1
    assert shown.trouble == []
    shown.page.close()
