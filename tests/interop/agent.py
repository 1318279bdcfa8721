"""An agent in another language, from the .proto files alone: joins, gets its tunnel token, runs echo tasks.

usage: agent.py PROTO_DIR https://HOST:PORT JOIN_TOKEN NODE

Prints one line per step; ends after one task, and after its tunnel was refused with a bad token.
It is a test of the contract: what it has to know beside the .proto files is written here and nowhere else.
"""

import hashlib, importlib, os, queue, ssl, sys, tempfile, time, uuid

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_tools import protoc

protos, url, token, node = sys.argv[1:5]
host, port = url.removeprefix("https://").rsplit(":", 1)


def say(*words):
    print(*words, flush=True)


def compiled(directory):
    """Python modules of the contract, made by the official compiler."""
    out = tempfile.mkdtemp()
    names = [f"cortex/v1/{name}" for name in sorted(os.listdir(os.path.join(directory, "cortex/v1")))]
    failed = protoc.main(["protoc", f"-I{directory}", f"--python_out={out}", f"--grpc_python_out={out}", *names])
    assert not failed, "the contract does not compile"
    sys.path.insert(0, out)
    load = lambda name: importlib.import_module(f"cortex.v1.{name}")
    return load("agent_pb2"), load("agent_pb2_grpc"), load("identity_pb2"), load("identity_pb2_grpc"), load("registry_pb2")


agent_pb2, agent_grpc, identity_pb2, identity_grpc, registry_pb2 = compiled(protos)


def pinned(fingerprint):
    """The authority's certificate, fetched from a server that nobody vouches for, and only believed for its hash."""
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
    import urllib.request
    with urllib.request.urlopen(f"{url}/ca.pem", context=blind, timeout=30) as answer:
        pem = answer.read()
    for certificate in x509.load_pem_x509_certificates(pem):
        der = certificate.public_bytes(serialization.Encoding.DER)
        if hashlib.sha256(der).hexdigest() == fingerprint:
            return certificate.public_bytes(serialization.Encoding.PEM)
    raise SystemExit("the server is not the token's")


def pem(der):
    return x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM)


root = pinned(token.rsplit(".", 1)[1])
key = ec.generate_private_key(ec.SECP256R1())
csr = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
anonymous = grpc.secure_channel(f"{host}:{port}", grpc.ssl_channel_credentials(root))
status = health_pb2_grpc.HealthStub(anonymous).Check(health_pb2.HealthCheckRequest(service="cortex.v1.AgentGateway"))
say("health", health_pb2.HealthCheckResponse.ServingStatus.Name(status.status))
joined = identity_grpc.NodeIdentityStub(anonymous).Join(identity_pb2.JoinRequest(
    token=token, csr=csr.public_bytes(serialization.Encoding.DER), node=node, hostname="interop", agent_version="interop/1"))
assert joined.state == registry_pb2.ENROLMENT_APPROVED, joined
say("joined", joined.workspace, joined.node)

private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
chain = b"".join(pem(der) for der in joined.certificate.chain)
roots = b"".join(pem(der) for der in joined.certificate.roots)
channel = grpc.secure_channel(f"{host}:{port}", grpc.ssl_channel_credentials(roots, private, chain))
minted = identity_grpc.NodeIdentityStub(channel).MintTunnelToken(identity_pb2.MintTunnelTokenRequest())
say("minted", len(minted.token.split(".")), "parts")

frame, pb = agent_pb2.AgentFrame, agent_pb2


def tunnel(shown):
    """Opens a tunnel; returns where to put frames, and the frames that come."""
    up = queue.Queue()
    up.put(frame(hello=pb.Hello(
        min_version=1, max_version=1, node=joined.node, incarnation=uuid.uuid4().hex, session=str(uuid.uuid4()),
        generation=1, slots=1, slots_free=1, agent_version="interop/1", journal=pb.JournalHead(size=0, leaf="0" * 64),
        manifest=pb.Manifest(hostname="interop", os="linux", arch="any", capabilities=[pb.Capability(name="echo")]))))
    metadata = [("authorization", f"Bearer {shown}")]
    return up, agent_grpc.AgentGatewayStub(channel).Connect(iter(up.get, None), metadata=metadata)


def echo(offer, go):
    """What an echo task is: its payload as standard output."""
    import cortex.v1.task_pb2 as task
    data, now = offer.spec.action.echo.payload, int(time.time() * 1000)
    summary = task.OutputSummary(
        stdout_bytes=len(data), stdout_sha256=hashlib.sha256(data).digest(), stderr_sha256=hashlib.sha256(b"").digest())
    outcome = task.Outcome(
        ending=task.Ending(exited=task.Exited(code=0)), output=summary, started_at_ms=now, ended_at_ms=now, journal_seq=1,
        inline_output=[task.OutputChunk(stream=task.OUTPUT_STREAM_STDOUT, offset=0, data=data)])
    return frame(outcome=pb.OutcomeReport(
        workspace=go.workspace, task_id=go.task_id, attempt=go.attempt, fence=go.fence, outcome=outcome))


try:
    next(tunnel(minted.token[:-8] + "AAAAAAAA")[1])
    raise SystemExit("a bad token was taken")
except grpc.RpcError as refused:
    say("refused", refused.code().name, refused.details())

up, down = tunnel(minted.token)
offers, beats = {}, 0
for got in down:
    kind = got.WhichOneof("body")
    if kind == "welcome":
        say("welcome", got.welcome.workspace)
    elif kind == "heartbeat":
        beats += 1
        up.put(frame(heartbeat=pb.AgentHeartbeat(seq=beats, slots=1, slots_free=1)))
    elif kind == "offer":
        offer = got.offer
        offers[offer.offer_id] = offer
        up.put(frame(claim=pb.Claim(offer_id=offer.offer_id, workspace=offer.workspace, task_id=offer.task_id,
                                    attempt=offer.attempt, fence=offer.fence, slots_free=0)))
    elif kind == "go":
        up.put(echo(offers[got.go.offer_id], got.go))
        say("ran", got.go.task_id)
    elif kind == "query":
        up.put(frame(query_answer=pb.QueryAnswer(query_id=got.query.query_id, phase=pb.ATTEMPT_PHASE_UNKNOWN)))
    elif kind == "outcome_ack":
        say("acknowledged", got.outcome_ack.task_id)
        break
    elif kind == "refuse":
        raise SystemExit(f"refused: {got.refuse.error.code} {got.refuse.error.message}")
up.put(None)
down.cancel()
