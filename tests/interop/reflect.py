"""Asks a server what it serves, with a user's token, by the standard reflection service.

usage: reflect.py CA_PEM HOST:PORT TOKEN
"""

import sys

import grpc
from grpc_reflection.v1alpha import reflection_pb2 as reflection

ca, address, token = sys.argv[1:4]
with open(ca, "rb") as file:
    channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(file.read()))
# The messages of v1 are those of v1alpha; only the name of the service is another.
ask = channel.stream_stream(
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    request_serializer=reflection.ServerReflectionRequest.SerializeToString,
    response_deserializer=reflection.ServerReflectionResponse.FromString,
)
request = reflection.ServerReflectionRequest(list_services="")
answer = next(ask(iter([request]), metadata=[("authorization", f"Bearer {token}")]))
for service in answer.list_services_response.service:
    print(service.name)
