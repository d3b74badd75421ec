"""The plainest external processor a Python user would write: what Dualpool is measured against.

grpcio's threaded server and the messages of xds-protos; headers and body of the request and of the answer, JSON
parsed with the standard library, bytes over four against a threshold. `python -m benchmarks.reference.processor`
prints its port and serves.
"""

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
from envoy.config.core.v3 import base_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc

THRESHOLD = 8192
THREADS = 128  # an exchange holds one for as long as its request lasts


class Processor(external_processor_pb2_grpc.ExternalProcessorServicer):  # type: ignore[misc]  # untyped package
    """Routes by bytes/4 and keeps a mean of bytes per token."""

    ratio = 4.0

    def Process(  # noqa: N802 - the name is gRPC's
        self, messages: Iterable[pb.ProcessingRequest], _: grpc.ServicerContext
    ) -> Iterator[pb.ProcessingResponse]:
        """Answer each message of one request."""
        size = 0
        for message in messages:
            kind = message.WhichOneof("request")
            if kind == "request_body":
                body = json.loads(message.request_body.body)
                size = sum(len(m["content"].encode()) for m in body["messages"])
                yield self._route("short" if size / self.ratio + body["max_tokens"] <= THRESHOLD else "long")
            elif kind == "response_body":
                self._learn(size, message.response_body.body)
                yield pb.ProcessingResponse(response_body=pb.BodyResponse())
            elif kind == "request_headers":
                yield pb.ProcessingResponse(request_headers=pb.HeadersResponse())
            else:
                yield pb.ProcessingResponse(response_headers=pb.HeadersResponse())

    def _learn(self, size: int, body: bytes) -> None:
        for line in body.split(b"\n"):
            text = line.removeprefix(b"data: ")
            if b'"usage"' in text:
                usage = json.loads(text).get("usage")
                if usage:
                    self.ratio = 0.95 * self.ratio + 0.05 * size / usage["prompt_tokens"]

    @staticmethod
    def _route(pool: str) -> pb.ProcessingResponse:
        header = base_pb2.HeaderValueOption(
            header=base_pb2.HeaderValue(key="x-token-pool", raw_value=pool.encode()),
            append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
        )
        mutation = pb.HeaderMutation(set_headers=[header])
        common = pb.CommonResponse(header_mutation=mutation, clear_route_cache=True)
        return pb.ProcessingResponse(request_body=pb.BodyResponse(response=common))


def main() -> None:
    """Serve on a free port until killed."""
    server = grpc.server(ThreadPoolExecutor(THREADS))
    external_processor_pb2_grpc.add_ExternalProcessorServicer_to_server(Processor(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"serving (port {port})", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
