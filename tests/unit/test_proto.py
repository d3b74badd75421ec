"""Our statement of Envoy's messages is Envoy's, by the word of two independent implementations."""

import subprocess
import sys

import pytest
from envoy_data_plane.envoy.service.accesslog.v3 import StreamAccessLogsMessage
from envoy_data_plane.envoy.service.ext_proc.v3 import ProcessingRequest, ProcessingResponse
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from extproc.pb import dualpool_accesslog_pb2 as log_pb
from extproc.pb import dualpool_extproc_pb2 as pb

SCALARS = {
    FieldDescriptor.TYPE_STRING: "text",
    FieldDescriptor.TYPE_BYTES: b"bytes",
    FieldDescriptor.TYPE_BOOL: True,
    FieldDescriptor.TYPE_ENUM: 2,
    FieldDescriptor.TYPE_UINT32: 503,
}


def fill(message: Message) -> None:
    """Set every field of `message`, to a value that is not its default; of a oneof the last one stays."""
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.message_type is None:
            scalar = SCALARS[field.type]
            value.append(scalar) if field.is_repeated else setattr(message, field.name, scalar)
        elif field.message_type.GetOptions().map_entry:
            fill_one(value["key"])
        else:
            fill_one(value.add() if field.is_repeated else value)


def fill_one(message: Message) -> None:
    if isinstance(message, Struct):
        message.update({"text": "value", "number": 3.5, "yes": True, "inner": {"list": [1.5, "a"]}})
    elif isinstance(message, Duration):
        message.FromMilliseconds(2500)
    else:
        message.SetInParent()
        fill(message)


def variants(kind: type[Message], oneof: str) -> list[Message]:
    """A filled message for each member of `oneof`."""
    filled = []
    for field in kind.DESCRIPTOR.oneofs_by_name[oneof].fields:
        message = kind()
        fill(message)
        message.ClearField(message.WhichOneof(oneof))
        fill_one(getattr(message, field.name))
        filled.append(message)
    return filled


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        *((message, ProcessingRequest) for message in variants(pb.ProcessingRequest, "request")),
        *((message, ProcessingResponse) for message in variants(pb.ProcessingResponse, "response")),
    ],
    ids=lambda value: value.WhichOneof(value.DESCRIPTOR.oneofs[0].name) if isinstance(value, Message) else "",
)
def test_messages_agree(ours: Message, theirs: type[ProcessingRequest | ProcessingResponse]) -> None:
    """A message built with ours has the same content in envoy-data-plane's classes, and back again."""
    read = theirs.parse(ours.SerializeToString())
    assert read.to_dict() == MessageToDict(ours)
    assert type(ours).FromString(bytes(read)) == ours


def test_access_log_messages_agree() -> None:
    """An access-log message built with ours has the same content in envoy-data-plane's classes, and back again."""
    ours = log_pb.StreamAccessLogsMessage()
    fill(ours)
    read = StreamAccessLogsMessage.parse(ours.SerializeToString())
    assert read.to_dict() == MessageToDict(ours)
    assert log_pb.StreamAccessLogsMessage.FromString(bytes(read)) == ours


@pytest.mark.parametrize("first", [0, 1])
def test_lives_beside_xds_protos(first: int) -> None:
    """Envoy's own descriptions (xds-protos) and ours load into one process, in either order."""
    imports = [
        "import envoy.service.ext_proc.v3.external_processor_pb2, envoy.service.accesslog.v3.als_pb2",
        "from extproc.pb import dualpool_accesslog_pb2, dualpool_extproc_pb2",
    ]
    script = "; ".join([imports[first], imports[1 - first]])
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
