"""What a route says in gRPC metadata or in its own metadata is checked, bounded, and never an error."""

import pytest
from google.protobuf.struct_pb2 import Struct

from extproc.config import Pool
from extproc.routing.settings import NO_SETTINGS, RouteSettings
from extproc.service import route_settings
from extproc.service.route_settings import CATEGORIES, RouteSettingsReader, is_single_message, own_settings

POOLS = {
    "default": (Pool(name="short", capacity=8192), Pool(name="long", capacity=131_072)),
    "coder": (Pool(name="short", capacity=4096), Pool(name="medium", capacity=32_768)),
}

PRINTED = (
    'filter_metadata { key: "dualpool" value { '
    'fields { key: "pools" value { string_value: "coder" } } '
    'fields { key: "rollout-percent" value { number_value: 12.5 } } '
    'fields { key: "shadow" value { bool_value: true } } '
    'fields { key: "thresholds" value { struct_value { fields { key: "short" value { number_value: 4096 } } } } } '
    "} } "
    r'typed_filter_metadata { key: "other" value { type_url: "type.googleapis.com/Other" value: "\010\001" } } '
)
"""Route metadata as Envoy 1.40 prints it into `xds.route_metadata`."""

ANNOTATED = (
    'filter_metadata { key: "envoy-gateway" value { fields { key: "resources" value { list_value { values { '
    'struct_value { fields { key: "annotations" value { struct_value { '
    'fields { key: "dualpool-category" value { string_value: "code" } } '
    'fields { key: "team" value { string_value: "search" } } } } } '
    'fields { key: "kind" value { string_value: "HTTPRoute" } } } } } } } } }'
)
"""The same from Envoy Gateway: an HTTPRoute annotated with `gateway.envoyproxy.io/dualpool-category`."""


@pytest.fixture
def reader() -> RouteSettingsReader:
    return RouteSettingsReader(POOLS)


def attributes(metadata: str, **others: str) -> dict[str, Struct]:
    struct = Struct()
    struct.update({"xds.route_metadata": metadata, **{f"xds.{name}": text for name, text in others.items()}})
    return {"envoy.filters.http.ext_proc": struct}


def test_no_settings(reader: RouteSettingsReader) -> None:
    """A route that says nothing changes nothing."""
    parsed = reader.read((), {})
    assert parsed.settings == NO_SETTINGS
    assert parsed.bad == ()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("dualpool-pools", "coder", RouteSettings(pools="coder")),
        ("dualpool-pools", " coder ", RouteSettings(pools="coder")),
        ("dualpool-thresholds", "short=2048", RouteSettings(thresholds={"short": 2048})),
        ("dualpool-thresholds", "short=8192", RouteSettings(thresholds={"short": 8192})),
        ("dualpool-thresholds", "short=0, medium=9000", RouteSettings(thresholds={"short": 0, "medium": 9000})),
        ("dualpool-category", "chat", RouteSettings(category="chat")),
        ("dualpool-shadow", "true", RouteSettings(shadow=True)),
        ("dualpool-shadow", "false", RouteSettings(shadow=False)),
        ("dualpool-rollout-percent", "0.5", RouteSettings(rollout_percent=0.5)),
        ("dualpool-default-output", " 512 ", RouteSettings(default_output=512)),
    ],
)
def test_initial_metadata(reader: RouteSettingsReader, name: str, value: str, expected: RouteSettings) -> None:
    """Each setting can be given as gRPC initial metadata."""
    parsed = reader.read(((name, value),), {})
    assert parsed.settings == expected
    assert parsed.bad == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pools", "nowhere"),
        ("pools", ""),
        ("thresholds", "4096"),
        ("thresholds", "other=1"),
        ("thresholds", "short=8193"),
        ("thresholds", "short=-1"),
        ("thresholds", "short=1e3"),
        ("thresholds", "short=²"),
        ("category", "a b"),
        ("category", "x" * 64),
        ("category", ""),
        ("shadow", "True"),
        ("shadow", "1"),
        ("rollout-percent", "nan"),
        ("rollout-percent", "-0.1"),
        ("rollout-percent", "101"),
        ("rollout-percent", "half"),
        ("default-output", "-1"),
        ("default-output", "999999999999"),
        ("default-output", "1.5"),
    ],
)
def test_bad_value(reader: RouteSettingsReader, name: str, value: str) -> None:
    """A value that is no good is ignored and named; the others of the route still hold."""
    parsed = reader.read(((f"dualpool-{name}", value), ("dualpool-shadow", "true")), {})
    assert parsed.settings == RouteSettings(shadow=True)
    assert parsed.bad == (name,)


def test_unknown_name(reader: RouteSettingsReader) -> None:
    """A name that is none of ours is counted under one fixed label."""
    assert reader.read((("dualpool-pool", "coder"),), {}).bad == ("unknown",)


def test_route_metadata(reader: RouteSettingsReader) -> None:
    """The namespace `dualpool` of a route's metadata is read from Envoy's text of it."""
    parsed = reader.read((), attributes(PRINTED))
    assert parsed.settings == RouteSettings(
        pools="coder", thresholds={"short": 4096}, shadow=True, rollout_percent=12.5
    )
    assert parsed.bad == ()


def test_annotations(reader: RouteSettingsReader) -> None:
    """An annotation that Envoy Gateway copies to the route is read; other people's are left alone."""
    parsed = reader.read((), attributes(ANNOTATED))
    assert parsed.settings == RouteSettings(category="code")
    assert parsed.bad == ()


def test_route_metadata_wins(reader: RouteSettingsReader) -> None:
    """What the route itself says is followed rather than the filter's initial metadata, name by name."""
    initial = (("dualpool-pools", "default"), ("dualpool-default-output", "64"))
    settings = reader.read(initial, attributes(PRINTED)).settings
    assert settings.pools == "coder"
    assert settings.default_output == 64


def test_the_narrowest_wins(reader: RouteSettingsReader) -> None:
    """A route says it better than its virtual host, and that better than the listener, name by name."""
    virtual_host = PRINTED.replace("coder", "default").replace("12.5", "7")
    listener = ANNOTATED.replace("dualpool-category", "dualpool-default-output").replace("code", "64")
    both = {"virtual_host_metadata": virtual_host, "listener_metadata": listener}
    assert reader.read((), attributes(PRINTED, **both)).settings == RouteSettings(
        pools="coder", thresholds={"short": 4096}, shadow=True, rollout_percent=12.5, default_output=64
    )


@pytest.mark.parametrize(
    "text",
    [
        "filter_metadata {",
        "\x00",
        "x" * (route_settings.METADATA_CHARACTERS + 1),
        PRINTED.ljust(route_settings.METADATA_CHARACTERS + 1),
        'filter_metadata { key: "dualpool" value { fields { key: "pools" value { number_value: nan } } } }',
        'filter_metadata { key: "dualpool" value { fields { key: "pools" value { DEEP } } } }'.replace(
            "DEEP", "list_value { values { " * 1200 + "number_value: 1" + " } }" * 1200
        ),
    ],
    ids=["cut", "no text", "long", "long and good", "nan", "deep"],
)
def test_unreadable_metadata(reader: RouteSettingsReader, text: str) -> None:
    """Text that is not route metadata is counted and leaves the initial metadata in force."""
    parsed = reader.read((("dualpool-shadow", "true"),), attributes(text))
    assert parsed.settings == RouteSettings(shadow=True)
    assert parsed.bad == ("route_metadata",)


NOTED = ('list_value { values { struct_value { fields { key: "annotations" value { ', " } } } } }")


@pytest.mark.parametrize(
    "resources",
    [
        "number_value: 1",
        'list_value { values { string_value: "annotations" } }',
        'string_value: "dualpool-shadow"'.join(NOTED),
        "list_value { values { number_value: 1 } }".join(NOTED),
    ],
    ids=["no list", "no object", "text", "a list"],
)
def test_other_namespaces(reader: RouteSettingsReader, resources: str) -> None:
    """Metadata of other filters, whatever its shape, is none of our business."""
    text = (
        'filter_metadata { key: "envoy-gateway" value { fields { key: "resources" value { ' + resources + " } } } }"
    )
    parsed = reader.read((), attributes(text))
    assert (parsed.settings, parsed.bad) == (NO_SETTINGS, ())


def test_categories_are_bounded(reader: RouteSettingsReader) -> None:
    """Routes can name only so many categories; those that came first stay."""
    for i in range(CATEGORIES):
        assert reader.read((("dualpool-category", f"c{i}"),), {}).bad == ()
    assert reader.read((("dualpool-category", "one-more"),), {}).bad == ("category",)
    assert reader.read((("dualpool-category", "c0"),), {}).settings.category == "c0"


def test_parsed_once(reader: RouteSettingsReader) -> None:
    """The same words of the same route are parsed once."""
    assert reader.read((), attributes(PRINTED)) is reader.read((), attributes(PRINTED))


def test_ours() -> None:
    """Of a call's metadata only what is meant for us is looked at."""
    metadata = (("user-agent", "x"), ("dualpool-pools", "coder"), ("dualpool-x-bin", b"\x00"))
    assert own_settings(metadata) == (("dualpool-pools", "coder"),)
    assert own_settings(None) == ()


@pytest.mark.parametrize(
    ("absent", "single"), [((), False), (("answers",), False), (("body",), False), (("answers", "body"), True)]
)
def test_a_single_message_is_promised_by_two_words(absent: tuple[str, ...], single: bool) -> None:
    """Of the request and of its answer no more will come."""
    metadata = [("user-agent", "x"), *((f"dualpool-{name}", "false") for name in absent)]
    assert is_single_message(metadata) is single


def test_a_route_is_taken_out_of_the_roll_out_by_0() -> None:
    """0 and 100 are percentages."""
    reader = RouteSettingsReader({})
    for text, percent in (("0", 0.0), ("100", 100.0)):
        assert reader.read((("dualpool-rollout-percent", text),), {}).settings.rollout_percent == percent
