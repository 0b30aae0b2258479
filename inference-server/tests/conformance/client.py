"""The server as grpcio sees it: every type comes from the server's own reflection, nothing is generated."""

import os
import struct

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

PACKAGE = "observatory.inference.v1"
DOMAIN = "inference.observatory"

# Longest that a call of the suite may take, in seconds; a server that hangs fails the test.
PATIENCE = 60


class Server:
    """A channel to a server, and the messages and methods that it says it has."""

    def __init__(self, variable="OBSERVATORY_INFERENCE", **channel):
        self.channel = grpc.insecure_channel(os.environ[variable], **channel)
        self.database = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = descriptor_pool.DescriptorPool(self.database)

    def methods(self):
        """(path, descriptor) of every method of the package."""
        services = (name for name in self.database.get_services() if name.startswith(PACKAGE))
        for name in sorted(services):
            for method in self.pool.FindServiceByName(name).methods:
                yield f"/{name}/{method.name}", method

    def message(self, name, **fields):
        """A message of the package; dicts become messages."""
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))(**fields)

    def stub(self, path):
        """The callable of "Service/Method"."""
        service, name = path.split("/")
        method = self.pool.FindServiceByName(f"{PACKAGE}.{service}").FindMethodByName(name)
        answer = message_factory.GetMessageClass(method.output_type)
        kinds = {
            (False, False): self.channel.unary_unary,
            (False, True): self.channel.unary_stream,
            (True, True): self.channel.stream_stream,
        }
        return kinds[method.client_streaming, method.server_streaming](
            f"/{PACKAGE}.{path}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )

    def call(self, path, **fields):
        """The answer to a unary call."""
        return self.stub(path)(self.request(path, **fields), timeout=PATIENCE)

    def request(self, path, **fields):
        """The request message of a method."""
        service, name = path.split("/")
        method = self.pool.FindServiceByName(f"{PACKAGE}.{service}").FindMethodByName(name)
        return message_factory.GetMessageClass(method.input_type)(**fields)

    def exchange(self, path, settings, items, timeout=PATIENCE):
        """A stream that sends the settings and the (id, text) items, then ends."""
        messages = [self.request(path, settings=settings)]
        messages += [self.request(path, item={"id": number, "text": text}) for number, text in items]
        return self.stub(path)(iter(messages), timeout=timeout)


def details(error):
    """The google.rpc details of a refusal by the name of their type."""
    status = rpc_status.from_call(error)
    found = {}
    for packed in status.details if status else []:
        kind = getattr(error_details_pb2, packed.type_url.rsplit(".", 1)[-1])
        found[kind.DESCRIPTOR.name] = kind.FromString(packed.value)
    return found


def floats(data, code="f"):
    """Little-endian numbers: "f" for binary32, "e" for binary16, "b" for signed bytes."""
    return list(struct.unpack(f"<{len(data) // struct.calcsize(code)}{code}", data))
