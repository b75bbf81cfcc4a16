"""The report in headless Chromium, opened from disk: what one sees, and what one does with it."""

import cv2
import numpy as np
import pytest
from drawn import drawn, save
from report_example import (
    AT_FRAME,
    FALSE_POSITIVE,
    HOSTILE,
    MATCHED,
    MISSED,
    SHAPE,
    UNCERTAINTIES,
    report_options,
    write_example,
)
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from evaluate.__main__ import main

COLOURS = {
    "matched": (86, 180, 233),
    "false_positive": (213, 94, 0),
    "missed": (240, 228, 66),
    "unscored": (180, 180, 180),
}
BOXES = {
    "matched": MATCHED,
    "false_positive": FALSE_POSITIVE,
    "missed": MISSED,
    "unscored": AT_FRAME,
}
SHADES = np.array([(53, 96, 141), (33, 145, 140), (47, 180, 124), (139, 214, 70), (253, 231, 37)])


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """A report on the example, and one on its images and predictions alone."""
    folder = write_example(tmp_path_factory.mktemp("browser") / "example")
    assert main([*report_options(folder)[:-1], str(folder / "plain.html")]) == 1
    assert main(report_options(folder, "--truth", "--scores", "--times")) == 1
    return folder


class Page:
    """A report in the browser, 1280 x 800 unless told otherwise."""

    def __init__(self, chromium, path, width=1280, height=800, features=(), media="", link=""):
        self.chromium, self.js = chromium, chromium.execute_script
        chromium.get("about:blank")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": name, "value": value} for name, value in features]
        settings = {"media": media, "features": features}
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", settings)
        chromium.get_log("browser")
        chromium.get(path.as_uri() + link)

    def find(self, selector):
        return self.chromium.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.chromium.find_elements(By.CSS_SELECTOR, selector)

    def wait(self, script):
        """Until JavaScript is true."""
        WebDriverWait(self.chromium, 10).until(lambda _: self.js(f"return Boolean({script})"))

    def frame(self):
        """Until what was asked for is drawn."""
        self.chromium.execute_async_script(
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done));"
        )

    def head(self, title):
        """The button of a head of the table of images."""
        path = f'//table[@class="sortable"]//th/button[.="{title}"]'
        return self.chromium.find_element(By.XPATH, path)

    def column(self, title):
        """What the rows are sorted by in a column, from the top: numbers, texts, or None."""
        shown = [row.text for row in self.all(".sortable .name")]
        assert shown == self.js("return found.slice(first, first + PAGE).map(nameOf)")
        return self.js(
            """const index = columns.findIndex((column) => column.title === arguments[0]);
            return found.map((row) => sortKey(row, index));""",
            title,
        )

    def names(self):
        """Of the images that can be opened, from the top of the table."""
        return [link.text for link in self.all("a.open")]

    def open(self, name):
        """Open the viewer on an image, by a click on its name."""
        link = self.chromium.find_element(By.XPATH, f'//a[@class="open"][.="{name}"]')
        self.js("arguments[0].scrollIntoView({block: 'center'})", link)
        link.click()
        self.loaded()

    def loaded(self):
        """Until the image is there with the tiles that are to be seen."""
        self.wait("shown")
        self.frame()
        self.wait("!shown.picture || [...shown.picture.tiles.values()].every((t) => t.complete)")
        self.frame()

    def pixels(self):
        """What is seen of the stage: (H, W, 3)."""
        png = np.frombuffer(self.find("#stage").screenshot_as_png, np.uint8)
        return cv2.imdecode(png, cv2.IMREAD_COLOR)[..., ::-1].astype(int)

    def tick(self, name):
        """Turn a choice of the viewer's panel."""
        self.find(f"#panel [name={name}]").click()
        self.frame()

    def command(self, name):
        self.find(f"[data-command={name}]").click()
        self.frame()

    def canvas(self):
        """The outlines that are drawn, as a text that is the same for the same pixels."""
        return self.js("return shown.canvas.toDataURL()")

    def place(self, x, y):
        """A point of the image in pixels of the canvas."""
        zoom, left, top = self.view()
        return left + zoom * x, top + zoom * y

    def shows(self, colour, x, y):
        """Whether a colour is within 8 pixels (a dash and its gap) of a point of the image."""
        left, top = (round(at) - 8 for at in self.place(x, y))
        pixels = self.js(
            """const copy = new OffscreenCanvas(17, 17).getContext("2d");
            copy.drawImage(shown.canvas, -arguments[0], -arguments[1]);
            return Array.from(copy.getImageData(0, 0, 17, 17).data);""",
            left,
            top,
        )
        pixels = np.reshape(pixels, (-1, 4))[:, :3]
        return bool((np.abs(pixels - colour).max(axis=1) < 30).any())

    def align(self):
        """Move the image so that edges of its pixels lie in the middle of the screen's."""
        self.js(
            """const { view } = shown;
            for (const axis of ["x", "y"]) view[axis] = Math.floor(view[axis]) + 0.5;
            view.zoom = Math.floor(view.zoom);
            draw();"""
        )

    def view(self):
        return self.js("return [shown.view.zoom, shown.view.x, shown.view.y]")

    def point_at(self, x, y):
        """Move the mouse to a point of the image."""
        stage = self.find("#stage")
        left, top = self.place(x, y)
        middle = stage.size["width"] / 2, stage.size["height"] / 2
        there = round(left - middle[0]), round(top - middle[1])
        ActionChains(self.chromium, 0).move_to_element_with_offset(stage, *there).perform()

    def press(self, *keys):
        ActionChains(self.chromium).send_keys(*keys).perform()
        self.frame()


@pytest.fixture
def open_page(chromium, example):
    """Opens a Page of a report; afterwards, nothing may have gone wrong in it."""
    pages = []

    def opener(name="report.html", **settings):
        pages.append(Page(chromium, example / name, **settings))
        return pages[-1]

    yield opener
    assert pages and pages[-1].chromium.get_log("browser") == []
    assert pages[-1].js("return performance.getEntriesByType('resource').length") == 0


@pytest.fixture
def page(open_page):
    return open_page()


def left_of(box):
    """The middle of the left side of a box, as x, y."""
    top, left, bottom, _ = box
    return left, (top + bottom) / 2


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A report on 230 images of a cell each, which have no picture."""
    folder = tmp_path_factory.mktemp("many")
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for k in range(230):
        save(folder / "labels" / f"cell {k}_label.png", drawn((9, 9), (2, 2, 5, 5)))
    assert main(report_options(folder)) == 1
    return folder / "report.html"


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A report on an image of 3000 x 2000 pixels: dark, with one bright pixel at (2500, 1500)."""
    folder = tmp_path_factory.mktemp("large")
    for name in ("images", "labels"):
        (folder / name).mkdir()
    image = np.random.default_rng(0).integers(60, 64, (2000, 3000)).astype(np.uint8)
    image[1000:1100, 1000:1100] = 200
    image[1500, 2500] = 255
    save(folder / "images" / "large.png", image)
    save(folder / "labels" / "large_label.png", drawn(image.shape, (1000, 1000, 1100, 1100)))
    assert main(report_options(folder)) == 0
    return folder / "report.html"


# The table


def test_rows_come_a_page_at_a_time(chromium, many):
    page = Page(chromium, many)
    place = page.find("#place")

    def turn(step):
        page.find(f'[data-page="{step}"]').click()
        return place.text, len(page.names()), page.names()[0]

    assert (place.text, len(page.names())) == ("1–100 of 230 images", 100)
    page.head("Image").click()
    assert turn(1) == ("101–200 of 230 images", 100, "cell 100_label.png")
    assert turn(1) == ("201–230 of 230 images", 30, "cell 200_label.png")
    assert not page.find('[data-page="1"]').is_enabled()
    assert turn(-1) == ("101–200 of 230 images", 100, "cell 100_label.png")
    page.open("cell 150_label.png")
    page.command("previous")
    page.wait("wanted && nameOf(wanted) === 'cell 149_label.png'")


def test_search_finds_names_groups_and_what_is_said(page):
    search, place = page.find("#tools [name=query]"), page.find("#place")
    for text, names in (
        ("PLAIN2", ["plain2.png", *(f"plain{k}.png" for k in range(20, 30))]),
        ("no pred miss", ["missing.png"]),
        ("onerror a.png", ["a.png"]),
        ("nowhere", []),
    ):
        search.clear()
        search.send_keys(text)
        assert sorted(page.names()) == sorted(names)
        assert place.text == f"{len(names)} found of 35 images"
    search.clear()
    search.send_keys("plain2")
    page.head("F1").click()
    page.open(page.names()[0])
    assert page.find("#viewer-place").text.startswith("1 of 11 ")


def test_head_and_names_stay_when_the_table_is_scrolled(open_page):
    page = open_page(width=390)
    page.js("document.querySelector('#images .rows').scrollTo(200, 500)")
    page.frame()
    place = """const box = (selector) => document.querySelector(selector).getBoundingClientRect();
        const [element, around] = [box(arguments[0]), box("#images .rows")];
        return [element.left - around.left, element.top - around.top];"""
    assert page.js("return document.querySelector('#images .rows').scrollLeft") == 200
    assert page.js(place, ".sortable thead th") == pytest.approx([0, 0], abs=1)
    left, top = page.js(place, ".sortable tbody tr:last-child td")
    assert left == pytest.approx(0, abs=1) and top != pytest.approx(0, abs=1)


def test_a_click_anywhere_in_a_row_opens_its_image(page):
    row = page.chromium.find_element(By.XPATH, '//tr[.//a[.="plain3.png"]]/td[last()]')
    page.js("arguments[0].scrollIntoView({block: 'center'})", row)
    row.click()
    page.loaded()
    assert page.find("#viewer-name").text == "plain3.png"


def test_every_column_sorts_both_ways_with_missing_values_last(page):
    heads = [button.text for button in page.all(".sortable thead button")]
    assert "F1" in heads and "Seconds" in heads and "Group" in heads
    for head in heads:
        for turned in (False, True):
            page.head(head).click()
            found = page.column(head)
            known = [value for value in found if value is not None]
            assert found[len(known) :] == [None] * (len(found) - len(known))
            if head != "Image":
                assert known == sorted(known, reverse=turned)
            sort = page.js("return arguments[0].closest('th').ariaSort", page.head(head))
            assert sort == ("descending" if turned else "ascending")
    assert len(page.all("[aria-sort$=cending]")) == 1


def test_names_sort_by_the_numbers_in_them(page):
    page.head("Image").click()
    names = page.column("Image")
    assert names.index("plain2.png") < names.index("plain10.png") < names.index("plain20.png")


def test_sorting_by_keyboard_brings_failed_images_up(page):
    button = page.head("State")
    button.send_keys(Keys.ENTER)
    states = [row.text for row in page.all(".sortable tbody tr td:nth-child(2)")]
    failed = states.count("problem")
    assert failed >= 3 and states[:failed] == ["problem"] * failed
    assert page.js("return document.activeElement === arguments[0]", button)


# Links


def test_the_address_leads_to_an_image(open_page):
    page = open_page(link="#image=crowd.png")
    page.loaded()
    assert page.find("#viewer-name").text == "crowd.png"
    page.command("next")
    page.loaded()
    assert page.chromium.current_url.endswith("#image=missing.png")
    page.press(Keys.ESCAPE)
    assert page.chromium.current_url.endswith("report.html")
    page.open(HOSTILE + ".png")
    address = page.chromium.current_url
    page.chromium.back()
    page.wait("!viewer.open")
    assert not page.all("canvas")
    page.js("location.href = arguments[0]", address)
    page.loaded()
    assert page.find("#viewer-name").text == HOSTILE + ".png"


@pytest.mark.parametrize("link", ["#image=unknown.png", "#image=broken.png", "#image=%", "#other"])
def test_an_address_that_leads_nowhere_shows_the_table(open_page, link):
    page = open_page(link=link)
    assert not page.find("#viewer").is_displayed() and len(page.names()) == 34


def test_a_page_without_its_files_says_so(chromium, example, tmp_path):
    path = tmp_path / "alone.html"
    path.write_bytes((example / "report.html").read_bytes())
    page = Page(chromium, path, link="#image=a.png")
    page.wait("document.getElementById('viewer-message').textContent")
    assert "cells.js is missing" in page.find("#viewer-message").text
    page.press(Keys.ESCAPE)
    assert not page.find("#viewer").is_displayed()


# The viewer


def test_large_images_are_shown_pixel_by_pixel(chromium, large):
    page = Page(chromium, large, link="#image=large.png")
    page.loaded()
    tiles = "return [...shown.picture.tiles.keys()].sort()"
    assert page.js(tiles) == ["1_0_0", "1_1_0", "2_0_0"], "of the whole as much as is seen"
    page.js(
        """shown.view.zoom = 8;
        [shown.view.x, shown.view.y] = [200 - 8 * 2500, 300 - 8 * 1500];
        drawSoon();"""
    )
    page.loaded()
    assert page.js(tiles) == ["0_2_1", "1_0_0", "1_1_0", "2_0_0"], "of its parts, too"
    seen = page.pixels()[..., 0]
    assert seen[301:307, 201:207].min() > 200
    assert np.delete(seen[290:320, 190:220].ravel(), 0).mean() < 90
    page.js("[shown.view.x, shown.view.y] = [200.5 - 8 * 1000, 300.5 - 8 * 1000]; drawSoon();")
    page.loaded()
    assert page.shows(COLOURS["matched"], 1000, 1050)
    beside = page.pixels()[400, 190:212, 0]  # the outline lies on the edge of the bright pixels
    assert beside[:8].max() < 100 and beside[13:].min() > 150


def test_brightness_and_contrast_change_the_picture_alone(page):
    page.open("a.png")
    before, outlines = page.pixels(), page.canvas()
    middle = before[380, 200]
    for name, value in (("brightness", "2"), ("contrast", "3")):
        slider = page.find(f"#panel [name={name}]")
        page.js(
            """arguments[0].value = arguments[1];
            arguments[0].dispatchEvent(new Event("input", { bubbles: true }));""",
            slider,
            value,
        )
        page.frame()
        assert np.abs(page.pixels()[380, 200] - middle).max() > 30
        assert page.canvas() == outlines
        page.command("plain")
        assert np.array_equal(page.pixels(), before)
    view = page.view()
    page.find("#panel [name=brightness]").send_keys(Keys.ARROW_RIGHT)
    assert page.js("return panel.elements.brightness.value") == "1.05" and page.view() == view


def test_cells_are_drawn_in_the_colours_of_what_they_are(page):
    page.open("a.png")
    page.align()
    for status, colour in COLOURS.items():
        for other, box in BOXES.items():
            assert page.shows(colour, *left_of(box)) == (status == other), (status, other)


def test_each_choice_changes_what_is_drawn_and_back(page):
    page.open("a.png")
    before = page.pixels()
    for name in ("image", "prediction", "truth", *COLOURS, "uncertainty"):
        page.tick(name)
        assert not np.array_equal(page.pixels(), before)
        if name in COLOURS:
            assert not page.shows(COLOURS[name], *left_of(BOXES[name]))
        page.tick(name)
        assert np.array_equal(page.pixels(), before)
    for name in ("prediction", "truth", "image"):
        page.tick(name)
    assert not any(
        page.shows(colour, *left_of(BOXES[status])) for status, colour in COLOURS.items()
    )


def test_the_panel_counts_cells(page):
    page.open("a.png")
    labels = [label.text.split() for label in page.all("#panel label") if label.text]
    counts = {" ".join(words[:-1]): words[-1] for words in labels if words[-1].isdigit()}
    assert counts == {
        "Prediction": "3",
        "Truth": "3",
        "Matched": "1",
        "False positive": "1",
        "Missed": "1",
        "Not scored": "2",
    }
    assert "F1\n0.500" in page.find("#viewer-numbers").text


def test_each_side_has_the_colour_of_its_uncertainty(page):
    page.open("a.png")
    page.align()
    page.tick("uncertainty")
    top, left, bottom, right = MATCHED
    middle = (left + right) / 2, (top + bottom) / 2
    places = {
        "top": (middle[0], top),
        "right": (right, middle[1]),
        "bottom": (middle[0], bottom),
        "left": (left, middle[1]),
    }
    most = max(UNCERTAINTIES.values())
    for side, uncertainty in UNCERTAINTIES.items():
        at = uncertainty / most * (len(SHADES) - 1)
        colour = [np.interp(at, range(len(SHADES)), channel) for channel in SHADES.T]
        for other, place in places.items():
            assert page.shows(colour, *place) == (side == other), (side, other)
    assert page.find("#scale-end").text == "0.7 uncertain"


def test_uncertainty_is_offered_only_where_it_was_kept(page):
    page.open("plain5.png")
    assert not page.find("#panel [name=uncertainty]").is_displayed()
    page.press(Keys.ESCAPE)
    page.open("a.png")
    page.tick("uncertainty")
    page.command("previous")
    assert page.find("#viewer-name").text == HOSTILE + ".png"
    assert not page.find("#panel [name=uncertainty]").is_displayed()
    assert page.shows(COLOURS["matched"], 6, 18)  # in its own colour, though the choice is made


def test_zoom_by_buttons_keys_and_wheel(page):
    page.open("a.png")
    before, fitted = page.canvas(), page.view()
    page.command("in")
    assert page.view()[0] == pytest.approx(1.25 * fitted[0])
    assert page.canvas() != before
    assert page.find("#viewer-zoom").text == f"{round(125 * fitted[0])} %"
    page.command("out")
    assert page.view() == pytest.approx(fitted)
    page.press("+", "+")
    assert page.view()[0] == pytest.approx(1.25**2 * fitted[0])
    page.press("-", "0")
    assert page.view() == pytest.approx(fitted) and page.canvas() == before
    x, y = page.place(20, 20)
    corner = page.js("const r = stage.getBoundingClientRect(); return [r.left, r.top]")
    origin = ScrollOrigin.from_viewport(round(corner[0] + x), round(corner[1] + y))
    ActionChains(page.chromium).scroll_from_origin(origin, 0, -400).perform()
    page.wait(f"shown.view.zoom > {2 * fitted[0]}")
    assert page.place(20, 20) == pytest.approx((x, y), abs=3)  # stays under the pointer
    page.command("fit")
    assert page.canvas() == before


def test_pan_by_mouse_and_keys(page):
    page.open("a.png")
    zoom, x, y = page.view()
    page.point_at(40, 30)
    ActionChains(page.chromium, 0).click_and_hold().move_by_offset(70, -30).release().perform()
    page.frame()
    assert page.view() == pytest.approx([zoom, x + 70, y - 30])
    page.press(Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert page.view() == pytest.approx([zoom, x + 10, y - 150])
    page.press(Keys.ARROW_LEFT, Keys.ARROW_UP)
    assert page.view() == pytest.approx([zoom, x + 70, y - 90])


def test_drawing_only_what_is_on_the_screen_does_not_show(page):
    page.open("crowd.png")
    for by_uncertainty in (False, True):
        if by_uncertainty:
            page.tick("uncertainty")
        page.command("fit")
        layers = "shown.shaded" if by_uncertainty else "shown.layers"
        page.js("for (let i = 0; i < 8; i++) zoomBy(1.25)")
        for dx, dy in ((0, 0), (900, 1100), (-2500, 300), (700, -2600)):
            page.js("panBy(arguments[0], arguments[1])", dx, dy)
            page.frame()
            assert page.js(f"return visibleLayers().length < 0.7 * {layers}.length")
            drawn = page.canvas()
            boxes = page.js(
                f"""const kept = {layers}.map((layer) => layer.box);
                for (const layer of {layers}) layer.box = [-1e9, -1e9, 1e9, 1e9];
                draw();
                return kept;"""
            )
            assert page.canvas() == drawn
            page.js(f"arguments[0].forEach((box, i) => {layers}[i].box = box)", boxes)


def test_pointing_at_a_cell_tells_of_it(page):
    page.open("a.png")
    tooltip = page.find("#tooltip")
    page.point_at(20, 20)
    assert tooltip.text.split("\n") == [
        "Predicted cell 1: matched",
        "400 px · IoU 1.00 · score 0.88",
        "uncertainty: top 0.10, right 0.30, bottom 0.50, left 0.70",
        "True cell 1: matched",
        "400 px · IoU 1.00",
    ]
    page.point_at(60, 20)
    assert tooltip.text.startswith("Predicted cell 2: false positive\n400 px · best IoU 0.00")
    page.point_at(75, 45)
    assert "not scored" in tooltip.text and "IoU" not in tooltip.text
    page.tick("missed")
    page.point_at(20, 50)
    assert not tooltip.is_displayed()
    page.tick("missed")
    page.point_at(20, 50)
    assert tooltip.text == "True cell 2: missed\n400 px · best IoU 0.00"


def test_next_and_previous_follow_the_table_as_it_is_sorted(page):
    page.head("Image").click()
    page.head("Image").click()
    names = page.names()
    page.open(names[1])
    shown = page.find("#viewer-name")
    page.command("next")
    page.loaded()
    assert shown.text == names[2]
    page.press("p", "p")
    page.loaded()
    assert shown.text == names[0]
    page.command("previous")
    page.loaded()
    assert shown.text == names[-1]
    assert len(page.all("canvas")) == 2  # of the picture, of the outlines
    page.press(Keys.ESCAPE)
    assert page.all("canvas") == [] and not page.find("#viewer").is_displayed()
    page.open(names[3])
    page.command("close")
    assert page.all("canvas") == []
    page.js("viewer.showModal(); viewer.close(); document.querySelector('a.open').click()")
    page.loaded()
    assert len(page.all("canvas")) == 2  # what comes late of the closing is not for this image


def test_what_is_missing_is_said_in_the_viewer(page):
    page.open("missing.png")
    assert page.find("#viewer-message").text == "no prediction"
    assert page.shows(COLOURS["missed"], 6, 18)
    assert "broken.png" not in page.names()


def test_without_truth_there_is_nothing_to_compare(open_page):
    page = open_page("plain.html")
    page.open("a.png")
    visible = [box.get_attribute("name") for box in page.all("#panel input") if box.is_displayed()]
    assert visible == ["image", "prediction", "brightness", "contrast", "uncertainty"]
    for box in (MATCHED, FALSE_POSITIVE, AT_FRAME):
        assert page.shows(COLOURS["matched"], *left_of(box))


# The page


def test_hostile_names_are_shown_and_do_nothing(page):
    name = HOSTILE + ".png"
    assert page.all("img[src=x]") == []
    assert [row.text for row in page.all(".groups tbody th")][0] == HOSTILE
    page.open(name)
    assert page.find("#viewer-name").text == name
    page.point_at(14, 18)
    assert page.all("img[src=x]") == []


def test_nothing_foreign_could_run_or_be_fetched(chromium, example, tmp_path):
    """Were something to get into the page unescaped, its policy would stop it."""
    text = (example / "report.html").read_text(encoding="utf-8")
    foreign = (
        "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">"
        "<script src=owned.js></script><img src=https://example.org/x.png>"
    )
    (tmp_path / "owned.js").write_text("document.title = 'owned'")
    spoiled = tmp_path / "spoiled.html"
    spoiled.write_text(text.replace("<main>", "<main>" + foreign), encoding="utf-8")
    page = Page(chromium, spoiled)
    page.wait("viewer")
    assert chromium.title != "owned"
    messages = [line["message"] for line in chromium.get_log("browser")]
    blocked = [text for text in messages if "Content Security Policy" in text]
    assert len(blocked) == 4 and any("example.org" in text for text in blocked)


@pytest.mark.parametrize("width", [390, 1280])
def test_page_and_viewer_fit_the_screen(open_page, width):
    page = open_page(width=width)
    assert page.js("return document.documentElement.scrollWidth") <= width
    page.open("a.png")
    assert page.js("return document.getElementById('viewer').scrollWidth") <= width
    stage, close = page.find("#stage"), page.find("[data-command=close]")
    assert stage.size["width"] >= min(width, 900) and stage.size["height"] >= 300
    assert close.rect["x"] + close.rect["width"] <= width
    zoom = page.view()[0]
    assert zoom * SHAPE[1] <= stage.size["width"] and zoom * SHAPE[0] <= stage.size["height"]


def test_dark_where_that_is_preferred(open_page):
    def darkness(scheme):
        page = open_page(features=[("prefers-color-scheme", scheme)])
        colours = page.js(
            "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
        )
        return [int(colour.split("(")[1].split(",")[0]) for colour in colours]

    (light_ink, light_paper), (dark_ink, dark_paper) = map(darkness, ("light", "dark"))
    assert light_ink < 60 and light_paper == 255
    assert dark_ink > 200 and dark_paper < 60


def test_charts_fill_their_column_and_follow_dark_mode(open_page):
    def strokes(scheme, width):
        page = open_page(width=width, features=[("prefers-color-scheme", scheme)])
        for chart in page.all("svg.chart"):
            column = page.js("return arguments[0].closest('figure').clientWidth", chart)
            assert column - 60 <= chart.size["width"] < column <= width - 32
            assert page.js("return arguments[0].textContent", chart).strip()
        return page.js("return getComputedStyle(document.querySelector('.chart .all')).stroke")

    assert len({strokes(scheme, 1280) for scheme in ("light", "dark")}) == 2
    strokes("light", 390)


def test_printed_with_all_thumbnails(open_page):
    page = open_page(media="print")
    page.wait("[...document.images].every((image) => image.complete)")
    assert len(page.all(".thumbnail img")) == 34
    assert page.js("return [...document.images].every((image) => image.naturalWidth > 0)")
    assert page.js("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
