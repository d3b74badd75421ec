"""Rules of `extproc.budget.category`."""

import pytest

from extproc.body.facts import Item
from extproc.budget.category import content_class
from extproc.budget.features import features

CODE = """
def read_settings(path: Path) -> Settings:
    # Missing files are fine: defaults apply.
    if not path.exists():
        return Settings()
    with path.open(encoding="utf-8") as stream:
        return Settings(**parse(stream.read()))
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Please write a short letter to my landlord about the broken heating.", "latin"),
        ("Überprüfen Sie bitte, ob die Straße für größere Fahrzeuge geöffnet ist.", "latin"),
        (CODE, "code"),
        ('{"id": 12, "tags": ["a", "b"], "at": "2024-01-01", "sum": 12.5, "n": [1, 2, 3]}', "structured"),
        ("1,204 | 88.31 | 2024-05-06 | 77,121 | 0.0042", "structured"),
        ("東京は日本の首都であり、世界最大の都市圏の一つです。", "cjk"),
        ("서울은 대한민국의 수도이자 최대 도시이다.", "cjk"),
        ("Москва является столицей Российской Федерации.", "other_script"),
        ("दिल्ली भारत की राजधानी है।", "other_script"),
        ("The sign in the photo says 東京, and I would like to know how to get there.", "latin"),
        ("The word спасибо means thanks, and it is one of the first that visitors learn.", "latin"),
        ("", "latin"),
    ],
)
def test_content_classes(text: str, expected: str) -> None:
    """The class is what the text mostly is."""
    item = Item(text=text.encode())
    assert content_class(features(item), item.size) == expected


def test_mostly_tool_definitions_are_structured() -> None:
    """A short question with long tool definitions costs what its tools cost."""
    described = b'{"description":"' + b"tells what the weather is like in any place " * 20 + b'"}'
    for tools in (b'{"type":"function"}' * 50, described):
        item = Item(text=b"What is the weather in Paris?", tools=tools)
        assert content_class(features(item), item.size) == "structured"
    asked = Item(text=described, tools=b'{"type":"function"}')
    assert content_class(features(asked), asked.size) == "latin"
