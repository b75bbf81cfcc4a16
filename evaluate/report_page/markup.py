"""HTML and SVG by construction: what is not markup already is escaped, wherever it comes from."""

import html
import json


class Markup(str):
    """Text that is HTML or SVG."""


def element(tag, *children, **attributes):
    """An element with its children: `Markup` as it is, everything else escaped as text.

    Names of attributes: class_ is class, data_value is data-value. None and False leave an
    attribute out, True writes it without a value.
    """
    words = [tag]
    for name, value in attributes.items():
        name = name.rstrip("_").replace("_", "-")
        if value is True:
            words.append(name)
        elif value is not None and value is not False:
            words.append(f'{name}="{html.escape(str(value))}"')
    return Markup("<{}>{}</{}>".format(" ".join(words), joined(children), tag))


def joined(children):
    """Several children, in a row."""
    return Markup("".join(c if isinstance(c, Markup) else html.escape(str(c)) for c in children))


def data_block(name, value):
    """A script element that holds `value` as JSON for the page's scripts; the browser runs nothing.

    ValueError: there is a NaN in it, which is no JSON.
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return element("script", Markup(text), type="application/json", id=name)
