"""A page of HTML as tests read it."""

import html.parser


class Elements(html.parser.HTMLParser):
    """The elements of a page, each with its attributes, and its text.

    Attributes:
        elements: (tag, attributes) in the page's order.
        text: everything between the tags, as a reader sees it.
    """

    def __init__(self, page: str):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data
