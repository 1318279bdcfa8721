#!/usr/bin/env python3
"""Verifies Cortex audit journals (cortex-audit/1) without trusting Cortex.

Needs Python 3.9 or newer and the package `cryptography`. Written from docs/journal-format.md, section by section, so that it
can be read beside it. Nothing is reported as VERIFIED without a policy file that you got by another way than the bundle.

    cortex_verify.py --policy POLICY [--since NOTE]... [--max-age SECONDS] [--now UNIX] [--require-openings] [--json] BUNDLE...
    cortex_verify.py --policy POLICY --proof RECORD.tlog-proof RECORD.json

BUNDLE is a directory. The exit code is the verdict: 0 VERIFIED, 1 INVALID, 2 USAGE, 3 UNANCHORED, 4 FORK, 5 ROLLBACK,
6 INCOMPLETE, 7 SEMANTIC, 8 UNREADABLE.
"""
import argparse, base64, hashlib, json, os, re, sys, time
from collections import deque
from datetime import datetime, timezone

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

FORMAT = "cortex-audit/1"
ALG = "sha256-rfc6962/ed25519"
ZERO = "0" * 64
MAX_BODY, MAX_LINE, MAX_NOTE, MAX_POLICY, MAX_NAME = 60 * 1024, 1024 * 1024, 96 * 1024, 16 * 1024 * 1024, 512
MAX_INT, MAX_DEPTH, MAX_SIGNATURES, MAX_PROOF, MAX_MEMBERS = 2**53, 8, 16, 64, 1024
MAX_TIME, MAX_AHEAD_US = 253402300799, 300_000_000
MAX_BOOTS, MAX_CONSENTS, MAX_MISSING, MAX_FINDINGS, MAX_UNKNOWN_KINDS = 64, 65536, 1_000_000, 100, 16
KINDS = set("""genesis session.open session.close intent outcome refusal recovery policy.loaded consent.asked consent.answered
terminal.attached terminal.typed heartbeat config access redact prune key.rotate log.close""".split())
# The first verdict that was found gives the exit code.
ORDER = ["FORK", "INVALID", "ROLLBACK", "UNANCHORED", "SEMANTIC", "INCOMPLETE", "UNREADABLE", "VERIFIED"]
EXIT = dict(VERIFIED=0, INVALID=1, USAGE=2, UNANCHORED=3, FORK=4, ROLLBACK=5, INCOMPLETE=6, SEMANTIC=7, UNREADABLE=8)
CODES = {
    "INVALID": """record.line record.size record.canonical record.version record.field record.seq record.log record.prev
        record.genesis root opening frontier differs proof""",
    "UNANCHORED": """policy.none log.unknown note.none note.malformed note.origin note.unsigned note.false note.untrusted
        note.quorum""",
    "FORK": "fork",
    "ROLLBACK": "truncated rollback",
    "INCOMPLETE": "pruned stale openings empty",
    "SEMANTIC": """data outcome.unmatched outcome.hash recovery.unmatched recovery.hash intent.floor intent.denied
        intent.approval consent.unmatched consent.mismatch clock.mono clock.boot clock.future rotation closed""",
    "UNREADABLE": "unreadable",
}
VERDICT = {code: verdict for verdict, codes in CODES.items() for code in codes.split()}


class Fault(Exception):
    """Something is wrong, under a stable code."""


class Usage(Exception):
    """The request cannot be answered."""


# Section 1: canonical JSON.

KEY = re.compile(r"[a-z0-9_.$]+\Z")
HEX64, HEX8 = re.compile(r"[0-9a-f]{64}\Z"), re.compile(r"[0-9a-f]{8}\Z")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")
TIME = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})\.([0-9]{6})Z\Z")
DECIMAL = re.compile(r"(0|[1-9][0-9]*)\Z")
known_keys = set()


def refuse(_):
    raise ValueError("not of the profile")


def integer(text):
    if len(text) > 17 or abs(number := int(text)) >= MAX_INT:
        raise ValueError("out of range")
    return number


def check_keys_and_depth(value, depth):
    if depth > MAX_DEPTH:
        raise ValueError("too deep")
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in known_keys:
                if not KEY.match(key):
                    raise ValueError("key")
                if len(known_keys) < 10_000:
                    known_keys.add(key)
            if item.__class__ is dict or item.__class__ is list:
                check_keys_and_depth(item, depth + 1)
    else:
        for item in value:
            if item.__class__ is dict or item.__class__ is list:
                check_keys_and_depth(item, depth + 1)


decoder = json.JSONDecoder(parse_float=refuse, parse_int=integer, parse_constant=refuse)
encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical(body):
    """The value of canonical bytes; ValueError for all others."""
    try:
        value = decoder.decode(body.decode())
        if encoder.encode(value).encode() != body:
            raise ValueError("not canonical")
    except RecursionError:
        raise ValueError("too deep") from None
    if isinstance(value, (dict, list)):
        check_keys_and_depth(value, 1)
    return value


def is_int(value):
    return value.__class__ is int and value >= 0


def is_text(value, pattern=None):
    return isinstance(value, str) and (pattern is None or pattern.match(value) is not None)


def microseconds(text):
    """Microseconds since 1970 of an RFC 3339 time as the format writes it; None for all others."""
    match = TIME.match(text) if isinstance(text, str) else None
    if not match:
        return None
    year, month, day, hour, minute, second, micro = map(int, match.groups())
    try:
        at = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
    except ValueError:
        return None
    return int(at.timestamp()) * 1_000_000 + micro if year >= 1970 else None


def unbase64(text, url=False):
    """Bytes of base64 in its one spelling; None for all others."""
    try:
        if url:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            again = base64.urlsafe_b64encode(raw).decode().rstrip("=")
        else:
            raw = base64.b64decode(text, validate=True)
            again = base64.b64encode(raw).decode()
    except (ValueError, TypeError):
        return None
    return raw if again == text else None


# Section 2: hashes.


def sha(data):
    return hashlib.sha256(data).digest()


def node(left, right):
    return sha(b"\1" + left + right)


class Frontier:
    def __init__(self, size=0, hashes=()):
        self.size, self.hashes = size, list(hashes)

    def push(self, leaf):
        size = self.size
        while size & 1:
            leaf = node(self.hashes.pop(), leaf)
            size >>= 1
        self.hashes.append(leaf)
        self.size += 1

    def root(self):
        if not self.hashes:
            return sha(b"")
        root = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            root = node(left, root)
        return root


# Section 5: keys, notes, policies.

P = 2**255 - 19
D = -121665 * pow(121666, P - 2, P) % P
L = 2**252 + 27742317777372353535851937790883648493
Y8 = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
SMALL_ORDER = {0, 1, P - 1, Y8, P - Y8}
SPACES = set("\u0085\u00a0\u1680\u2028\u2029\u202f\u205f\u3000 ") | {chr(c) for c in range(0x2000, 0x200B)}


def is_name(name):
    bad = lambda c: c == "+" or c in SPACES or ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0
    return 0 < len(name.encode()) <= MAX_NAME and not any(map(bad, name))


def y_of(point):
    return int.from_bytes(point, "little") & (2**255 - 1)


def is_public_key(raw):
    if raw is None or len(raw) != 32 or y_of(raw) >= P or y_of(raw) in SMALL_ORDER:
        return False
    y2 = y_of(raw) ** 2 % P
    x2 = (y2 - 1) * pow(D * y2 + 1, P - 2, P) % P
    return pow(x2, (P - 1) // 2, P) == 1


def verifies(key, message, signature):
    if len(signature) != 64 or y_of(signature[:32]) % P in SMALL_ORDER or int.from_bytes(signature[32:], "little") >= L:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        return True
    except InvalidSignature:
        return False


def key_id(name, kind, key):
    return sha(name.encode() + b"\n" + bytes([kind]) + key)[:4]


class Note:
    """A signed note whose text is a checkpoint. Raises ValueError."""

    def __init__(self, raw):
        if len(raw) > MAX_NOTE or any(byte < 32 and byte != 10 for byte in raw):
            raise ValueError("size or control character")
        note = raw.decode()
        text, blank, lines = note.rpartition("\n\n")
        if not blank or not lines.endswith("\n"):
            raise ValueError("form")
        self.text = text + "\n"
        parts = text.split("\n")
        if len(parts) != 3 or not is_name(parts[0]) or not DECIMAL.match(parts[1]) or len(parts[1]) > 16:
            raise ValueError("text")
        self.origin, self.size, self.root = parts[0], int(parts[1]), unbase64(parts[2])
        if self.size >= MAX_INT or self.root is None or len(self.root) != 32:
            raise ValueError("text")
        self.lines = [self.line(line) for line in lines[:-1].split("\n")]
        if len(self.lines) > MAX_SIGNATURES:
            raise ValueError("too many signatures")

    @staticmethod
    def line(line):
        dash, name, signature = line.split(" ")
        raw = unbase64(signature)
        if dash != "\u2014" or not is_name(name) or raw is None or len(raw) < 5:
            raise ValueError("signature line")
        return name, raw[:4], raw[4:]

    def of(self, name, kind, key):
        """What the lines of a key carry."""
        return [raw for line_name, id, raw in self.lines if (line_name, id) == (name, key_id(name, kind, key))]

    def check_log(self, key):
        """Raises unless the journal's key signed."""
        lines = self.of(self.origin, 1, key)
        if not lines:
            raise Fault("note.unsigned")
        if not all(verifies(key, self.text.encode(), raw) for raw in lines):
            raise Fault("note.false")

    def cosigned(self, name, key):
        """The time of a cosignature, or None."""
        times = []
        for raw in self.of(name, 4, key):
            at = int.from_bytes(raw[:8], "big")
            message = f"cosignature/v1\ntime {at}\n{self.text}".encode()
            if at > MAX_TIME or not verifies(key, message, raw[8:]):
                raise Fault("note.false")
            times.append(at)
        return max(times, default=None)


class Policy:
    """A C2SP tlog-policy. Raises Usage."""

    def __init__(self, raw):
        self.logs, self.witnesses, self.members, self.quorum = {}, [], {}, ()
        self.keys, self.used = set(), set()
        bad = lambda byte: (byte < 32 and byte not in (9, 10)) or byte == 127
        if len(raw) > MAX_POLICY or any(map(bad, raw)) or (raw and not raw.endswith(b"\n")):
            raise Usage("the policy is not a text of lines")
        try:
            for line in raw.decode().split("\n"):
                items = [item for item in re.split("[ \t]", line) if item]
                if items and not items[0].startswith("#"):
                    self.line(items[0], items[1:])
        except (ValueError, KeyError) as error:
            raise Usage(f"the policy: {error!r}") from None
        if self.quorum == ():
            raise Usage("the policy has no quorum")

    def line(self, word, items):
        if word == "log" and len(items) in (1, 2):
            name, key = self.key(items[0], 1)
            self.logs.setdefault(name, []).append(key)
        elif word == "witness" and len(items) in (2, 3):
            self.witnesses.append(self.key(items[1], 4))
            self.define(items[0], len(self.witnesses) - 1)
        elif word == "group" and len(items) >= 2:
            name, threshold, names = items[0], items[1], items[2:]
            for member in names:
                if member not in self.members or member in self.used:
                    raise ValueError(f"member {member}")
                self.used.add(member)
            if threshold not in ("all", "any") and not DECIMAL.match(threshold):
                raise ValueError("threshold")
            count = {"all": len(names), "any": 1}.get(threshold) or int(threshold if threshold.isdigit() else 0)
            if not 1 <= count <= len(names):
                raise ValueError("threshold")
            self.define(name, (count, names))
        elif word == "quorum" and len(items) == 1 and self.quorum == ():
            if items[0] != "none" and items[0] not in self.members:
                raise ValueError(f"quorum {items[0]}")
            self.quorum = None if items[0] == "none" else items[0]
        else:
            raise ValueError(f"line {word}")

    def key(self, vkey, kind):
        name, id, key = vkey.split("+", 2)
        raw = unbase64(key)
        if not is_name(name) or not raw or raw[0] != kind or not is_public_key(raw[1:]):
            raise ValueError("key")
        if key_id(name, kind, raw[1:]).hex() != id or (kind, raw) in self.keys:
            raise ValueError("key id, or the key a second time")
        self.keys.add((kind, raw))
        return name, raw[1:]

    def define(self, name, member):
        if name == "none" or name in self.members or len(self.members) >= 2 * MAX_MEMBERS:
            raise ValueError(f"name {name}")
        self.members[name] = member

    def judge(self, note):
        """(whether the quorum cosigned, the latest time at or after which a whole quorum did)."""
        times = [note.cosigned(name, key) for name, key in self.witnesses]
        if self.quorum is None:
            return True, None
        at = self.time(self.quorum, times)
        return at is not None, at

    def time(self, name, times):
        member = self.members[name]
        if isinstance(member, int):
            return times[member]
        count, names = member
        found = sorted((at for at in (self.time(name, times) for name in names) if at is not None), reverse=True)
        return found[count - 1] if len(found) >= count else None


# Section 9: one copy of a journal.


class Findings(list):
    def add(self, code, seq=None):
        room = len(self) < MAX_FINDINGS or all(found != code for found, _ in self)
        if room and (code, seq) not in self:
            self.append((code, seq))

    def verdicts(self):
        return {VERDICT[code] for code, _ in self}


def check_record(body):
    """The envelope and the leaf of a body. Raises Fault."""
    if len(body) > MAX_BODY:
        raise Fault("record.size")
    try:
        record = canonical(body)
    except ValueError:
        raise Fault("record.canonical") from None
    if not isinstance(record, dict) or record.get("v") != FORMAT:
        raise Fault("record.version")
    get = record.get
    if (
        len(record) != 9
        or not (is_text(get("log"), HEX64) and is_text(get("prev"), HEX64) and is_int(get("seq")) and is_int(get("mono")))
        or not (is_text(get("kind"), KEY) and is_text(get("boot"), UUID) and isinstance(get("data"), dict))
        or (at := microseconds(get("t"))) is None
    ):
        raise Fault("record.field")
    record["at"], record["leaf"] = at, sha(b"\0" + body)
    return record


class Meaning:
    """Whether records make sense together."""

    def __init__(self, start=0):
        self.start, self.asked_from, self.allowed_from = start, start, start
        self.open, self.asked, self.allowed = {}, {}, {}
        self.boot, self.mono, self.left = None, 0, deque()
        self.latest, self.closed = None, False

    def push(self, record, findings):
        seq = record["seq"]
        if self.closed:
            findings.add("closed", seq)
        self.clock(record, findings)
        handler = self.HANDLERS.get(record["kind"])
        if handler:
            try:
                handler(self, record, record["data"])
            except Fault as fault:
                findings.add(fault.args[0], seq)

    def cosigned(self, time_s, findings):
        if self.latest and self.latest[0] > time_s * 1_000_000 + MAX_AHEAD_US:
            findings.add("clock.future", self.latest[1])

    def clock(self, record, findings):
        if self.latest is None or record["at"] > self.latest[0]:
            self.latest = (record["at"], record["seq"])
        if record["boot"] == self.boot:
            if record["mono"] < self.mono:
                findings.add("clock.mono", record["seq"])
        else:
            if record["boot"] in self.left:
                findings.add("clock.boot", record["seq"])
            if self.boot is not None:
                self.left.append(self.boot)
            if len(self.left) > MAX_BOOTS:
                self.left.popleft()
            self.boot = record["boot"]
        self.mono = record["mono"]

    def intent(self, record, data):
        self.open[record["seq"]] = record["leaf"]
        auth = data.get("auth")
        need(isinstance(auth, dict) and auth.get("decision") in ("allow", "ask", "deny"))
        need("floor" in auth and "approval" in auth)
        floor, approval = auth["floor"], auth["approval"]
        need(floor is None or is_int(floor))
        if approval is not None:
            need(isinstance(approval, dict) and is_int(approval.get("seq")) and is_text(approval.get("leaf"), HEX64))
        if floor is not None and floor > record["seq"]:
            raise Fault("intent.floor")
        if auth["decision"] == "deny":
            raise Fault("intent.denied")
        if approval is None:
            if auth["decision"] == "ask":
                raise Fault("intent.approval")
        elif approval["seq"] >= self.allowed_from and self.allowed.get(approval["seq"]) != bytes.fromhex(approval["leaf"]):
            raise Fault("intent.approval")

    def answered(self, data):
        need("intent" in data and "intent_hash" in data)
        if data["intent"] is None and data["intent_hash"] is None:
            return None
        need(is_int(data["intent"]) and is_text(data["intent_hash"], HEX64))
        return data["intent"], bytes.fromhex(data["intent_hash"])

    def outcome(self, record, data):
        found = self.answered(data)
        need(found is not None)
        seq, leaf = found
        if seq >= self.start:
            expected = self.open.pop(seq, None)
            if expected is None:
                raise Fault("outcome.unmatched")
            if expected != leaf:
                raise Fault("outcome.hash")

    def recovery(self, record, data):
        found = self.answered(data)
        if found and found[0] >= self.start:
            expected = self.open.get(found[0])
            if expected is None:
                raise Fault("recovery.unmatched")
            if expected != found[1]:
                raise Fault("recovery.hash")

    def ask(self, record, data):
        need(is_text(data.get("shown")) and is_text(data.get("fingerprint")) and plain(data["shown"], data["fingerprint"]))
        self.asked[record["seq"]] = (record["leaf"], data["shown"], data["fingerprint"])
        if len(self.asked) > MAX_CONSENTS:
            first = next(iter(self.asked))
            del self.asked[first]
            self.asked_from = first + 1

    def answer(self, record, data):
        need(is_int(data.get("asked")) and is_text(data.get("asked_hash"), HEX64) and is_text(data.get("answer")))
        need(is_text(data.get("shown")) and is_text(data.get("fingerprint")))
        need(plain(data["answer"], data["shown"], data["fingerprint"]))
        asked = self.asked.pop(data["asked"], None)
        if asked is None and data["asked"] >= self.asked_from:
            raise Fault("consent.unmatched")
        if asked is not None and asked != (bytes.fromhex(data["asked_hash"]), data["shown"], data["fingerprint"]):
            raise Fault("consent.mismatch")
        if data["answer"] == "allow":
            self.allowed[record["seq"]] = record["leaf"]
            if len(self.allowed) > MAX_CONSENTS:
                first = next(iter(self.allowed))
                del self.allowed[first]
                self.allowed_from = first + 1

    def close(self, record, data):
        self.closed = True

    HANDLERS = {
        "intent": intent,
        "outcome": outcome,
        "recovery": recovery,
        "consent.asked": ask,
        "consent.answered": answer,
        "log.close": close,
    }


def need(condition):
    if not condition:
        raise Fault("data")


def plain(*texts):
    """No character that JSON escapes: these texts are words and digests."""
    return not any(c in '"\\' or c < " " for text in texts for c in text)


class Notes:
    """The notes of a copy, looked at when the records reach their sizes."""

    def __init__(self, trust, checkpoints, head, findings):
        self.trust, self.origin, self.in_force = trust, None, None
        self.rotated, self.trusted = None, []
        self.roots, self.mismatched = (None, set()), set()
        self.signed_size, self.best = None, None
        waiting = []
        for raw, role in [(raw, "checkpoint") for raw in checkpoints] + [(raw, "head") for raw in head]:
            try:
                waiting.append((Note(raw), role))
            except ValueError:
                findings.add("note.malformed")
        waiting += [(note, "since") for note in trust.since]
        self.waiting = deque(sorted(waiting, key=lambda pair: pair[0].size))
        if trust.policy is None:
            findings.add("policy.none")

    def begin(self, origin, key, findings):
        if self.trust.policy:
            self.trusted = list(self.trust.policy.logs.get(origin, []))
            if not self.trusted:
                findings.add("log.unknown")
        self.origin, self.in_force = origin, key

    def origin_at(self, size):
        own = [note for note, role in self.waiting if role == "checkpoint"]
        return next((note.origin for note in own if note.size == size), own[0].origin if own else None)

    def rotate(self, old, new, pop, log, seq):
        if not is_public_key(old) or not is_public_key(new) or self.in_force not in (None, old):
            return False
        b64 = lambda raw: base64.b64encode(raw).decode()
        if not verifies(new, f"{FORMAT} rotate\n{log}\n{b64(old)}\n{b64(new)}\n".encode(), pop):
            return False
        self.rotated, self.in_force = (seq + 1, old), new
        return True

    def reach(self, size, frontier, meaning, findings):
        # Notes below what can be reached here say nothing about these records; their signatures still must hold.
        while self.waiting and self.waiting[0][0].size <= size:
            note, role = self.waiting.popleft()
            self.judge(note, role, frontier.root() if note.size == size else None, meaning, findings)

    def end(self, size, ended, meaning, findings):
        while self.waiting:
            note, role = self.waiting.popleft()
            if self.judge(note, role, None, meaning, findings) and ended:
                findings.add("rollback" if role == "since" else "truncated", size)
        for mismatch in sorted(self.mismatched):
            both = self.signed_size is not None and self.signed_size >= mismatch
            findings.add("fork" if both else "root", max(mismatch - 1, 0))

    def judge(self, note, role, root, meaning, findings):
        if self.origin is not None and note.origin != self.origin:
            findings.add("note.origin")
            return False
        try:
            signer = self.signer(note)
        except Fault as fault:
            findings.add(fault.args[0])
            return False
        if signer is None:
            return False
        if self.roots[0] != note.size:
            self.roots = (note.size, set())
        self.roots[1].add(note.root)
        if len(self.roots[1]) > 1:
            findings.add("fork", max(note.size - 1, 0))
        fits = root == note.root
        if fits:
            self.signed_size = max(self.signed_size or 0, note.size)
        elif root is not None:
            self.mismatched.add(note.size)
        if role != "since":
            believed, at = self.believe(note, signer, role, findings)
            if believed and fits:
                candidate = (note.size, -1 if at is None else at)
                self.best = max(self.best or candidate, candidate)
                if at is not None:
                    meaning.cosigned(at, findings)
        if fits and self.rotated and self.rotated[0] == note.size and self.rotated[1] in self.trusted:
            if self.in_force not in self.trusted:
                self.trusted.append(self.in_force)
        return True

    def signer(self, note):
        """The key that signed; None if there is none to verify with. Raises Fault."""
        if self.in_force is not None:
            if self.rotated and self.rotated[0] == note.size:
                note.check_log(self.rotated[1])
            note.check_log(self.in_force)
            return self.in_force
        if self.trust.policy is None or not self.trust.policy.logs.get(note.origin):
            return None
        signer = None
        for key in self.trust.policy.logs[note.origin]:
            try:
                note.check_log(key)
                signer = key
            except Fault as fault:
                if fault.args[0] == "note.false":
                    raise
        if signer is None:
            raise Fault("note.unsigned")
        return signer

    def believe(self, note, signer, role, findings):
        if self.trust.policy is None:
            return False, None
        follows = self.rotated and self.rotated[0] == note.size and self.rotated[1] in self.trusted
        if self.origin is not None and signer not in self.trusted and not follows:
            if self.trusted:
                findings.add("note.untrusted")
            return False, None
        try:
            quorum, at = self.trust.policy.judge(note)
        except Fault as fault:
            findings.add(fault.args[0])
            return False, None
        if not quorum and role == "checkpoint":
            findings.add("note.quorum")
        return quorum, at


class Openings:
    """The openings of a copy, read along with its records."""

    def __init__(self, lines, required):
        self.lines, self.required, self.next = lines, required, None
        self.missing, self.opened, self.redacted = {}, 0, 0

    def push(self, seq, data, findings):
        given = []
        while self.fill(findings) and self.next[0] <= seq:
            of, commitment = self.next
            self.next = None
            if of == seq:
                given.append(commitment)
            else:
                findings.add("opening", of)
        if not given and not self.required:
            return
        made = []
        commitments(data, made)
        for commitment in given:
            if commitment in made:
                self.opened += 1
            else:
                findings.add("opening", seq)
        if self.required:
            for commitment in made:
                if commitment not in given and len(self.missing) < MAX_MISSING:
                    self.missing.setdefault(commitment, seq)

    def redact(self, names):
        self.redacted += len(names)
        for name in names:
            self.missing.pop(name, None)

    def end(self, findings):
        while self.fill(findings):
            findings.add("opening", self.next[0])
            self.next = None
        if self.missing:
            findings.add("openings", min(self.missing.values()))

    def fill(self, findings):
        if self.next is None and self.lines is not None:
            line = next(self.lines, None)
            if line is None:
                self.lines = None
                return False
            match = re.match(rb"(0|[1-9][0-9]{0,15}) ([A-Za-z0-9_-]+)\n\Z", line)
            if not match or int(match[1]) >= MAX_INT or len(line) > MAX_LINE + 1:
                findings.add("opening")
                self.lines = None
                return False
            commitment = base64.urlsafe_b64encode(sha(match[2])).decode().rstrip("=")
            self.next = (int(match[1]), commitment)
        return self.next is not None


def commitments(value, found):
    if isinstance(value, dict):
        text = value.get("$c")
        if len(value) == 1 and isinstance(text, str) and len(unbase64(text, url=True) or b"") == 32:
            found.append(text)
            return
        for key in sorted(value):
            commitments(value[key], found)
    elif isinstance(value, list):
        for item in value:
            commitments(item, found)


class Run:
    """One copy while it is read. `source` has lines of records and openings, and the bytes of notes."""

    def __init__(self, source, trust):
        self.trust, self.findings = trust, Findings()
        self.records = source.records()
        self.openings = Openings(source.openings(), trust.require_openings)
        self.notes = Notes(trust, source.checkpoints, source.head, self.findings)
        self.meaning, self.frontier = Meaning(), Frontier()
        self.start, self.seq, self.log, self.prev = 0, 0, ZERO, ZERO
        self.state, self.unknown_kinds = "reading", {}
        if source.frontier is not None:
            self.begin_pruned(source.frontier)

    def stop(self, code, seq=None):
        self.findings.add(code, seq)
        self.state = "stopped"

    def begin_pruned(self, raw):
        try:
            value = canonical(raw[:-1] if raw.endswith(b"\n") else raw)
            size, leaf, hashes = value["size"], value["leaf"], [unbase64(text) for text in value["hashes"]]
            fits = len(value) == 3 and is_int(size) and size > 0 and is_text(leaf, HEX64)
            fits = fits and bin(size).count("1") == len(hashes) and all(h is not None and len(h) == 32 for h in hashes)
            if not fits or (size & 1 and hashes[-1].hex() != leaf):
                raise ValueError("frontier")
        except (ValueError, KeyError, TypeError, AttributeError):
            return self.stop("frontier")
        self.start = self.seq = size
        self.prev, self.meaning, self.frontier = leaf, Meaning(size), Frontier(size, hashes)
        origin = self.notes.origin_at(size)
        if origin is None:
            return self.findings.add("pruned")
        self.notes.begin(origin, None, self.findings)
        self.notes.reach(size, self.frontier, self.meaning, self.findings)
        if not self.notes.best or self.notes.best[0] != size:
            self.findings.add("pruned")

    def next(self):
        return self.seq if self.state == "reading" else None

    def step(self):
        """Reads the next record and returns its leaf; None if there is none."""
        try:
            line = next(self.records, None)
            if line is None:
                self.state = "ended"
                return None
            return self.record(line)
        except Fault as fault:
            self.stop(fault.args[0], self.seq)
        except OSError:
            self.stop("unreadable")
        return None

    def record(self, line):
        seq, first = self.seq, self.seq == self.start
        if not line.endswith(b"\n"):
            raise Fault("record.line")
        record = check_record(line[:-1])
        if record["seq"] != seq:
            raise Fault("record.seq")
        if record["log"] != self.log and not (first and self.start > 0):
            raise Fault("record.log")
        if record["prev"] != self.prev:
            raise Fault("record.prev")
        if (record["kind"] == "genesis") != (seq == 0):
            raise Fault("record.genesis")
        leaf, data = record["leaf"], record["data"]
        if seq == 0:
            origin, key = genesis(data, leaf)
            self.notes.begin(origin, key, self.findings)
        elif first and not fits_origin(self.notes.origin, record["log"]):
            raise Fault("record.log")
        self.log = record["log"] if seq else leaf.hex()
        self.seq, self.prev = seq + 1, leaf.hex()
        self.frontier.push(leaf)
        self.meaning.push(record, self.findings)
        self.openings.push(seq, data, self.findings)
        self.special(record["kind"], data, seq)
        kind = record["kind"]
        if kind not in KINDS and (kind in self.unknown_kinds or len(self.unknown_kinds) < MAX_UNKNOWN_KINDS):
            self.unknown_kinds[kind] = self.unknown_kinds.get(kind, 0) + 1
        self.notes.reach(seq + 1, self.frontier, self.meaning, self.findings)
        return leaf

    def special(self, kind, data, seq):
        if kind == "redact":
            names = data.get("commitments")
            if isinstance(names, list) and all(isinstance(name, str) for name in names):
                self.openings.redact(names)
            else:
                self.findings.add("data", seq)
        elif kind == "key.rotate":
            raw = [unbase64(data[key]) if isinstance(data.get(key), str) else None for key in ("old", "new", "pop")]
            if None in raw:
                self.findings.add("data", seq)
            elif not self.notes.rotate(*raw, self.log, seq):
                self.findings.add("rotation", seq)

    def end(self):
        ended = self.state == "ended"
        if ended and self.seq == self.start:
            self.findings.add("empty")
        if ended:
            try:
                self.openings.end(self.findings)
            except OSError:
                self.stop("unreadable")
        if self.seq == 0:
            self.notes.reach(0, self.frontier, self.meaning, self.findings)
        self.notes.end(self.seq, ended, self.meaning, self.findings)
        if not ended:
            return
        if self.notes.best is None and "UNANCHORED" not in self.findings.verdicts():
            self.findings.add("note.none")
        if self.trust.max_age is not None:
            now, age = self.trust.max_age
            at = self.notes.best[1] if self.notes.best else -1
            if at < 0 or now - at > age:
                self.findings.add("stale")

    def report(self):
        found, notes = self.findings.verdicts(), self.notes
        read, done = self.seq > self.start, self.state == "ended"
        word = lambda verdict, bad, known: bad if verdict in found else "ok" if known else "unknown"
        size, at = notes.best if notes.best else (None, -1)
        return source_report(
            self.findings,
            log=self.log if read and self.log != ZERO else None,
            origin=notes.origin,
            range=[self.start, self.seq],
            integrity=word("INVALID", "invalid", read and done),
            authenticity="fork" if "FORK" in found else word("UNANCHORED", "unanchored", size is not None),
            freshness={
                "verdict": word("ROLLBACK", "rollback", done and size is not None),
                "cosigned_size": size,
                "signed_size": notes.signed_size,
                "at": at if at >= 0 else None,
                "tail_uncosigned": self.seq - (self.start if size is None else size),
            },
            completeness=word("INCOMPLETE", "incomplete", done),
            semantics=word("SEMANTIC", "contradiction", read),
            opened=self.openings.opened,
            redacted=self.openings.redacted,
            unknown_kinds=[{"kind": kind, "count": count} for kind, count in sorted(self.unknown_kinds.items())],
        )


def worst(verdicts):
    return min(verdicts, key=ORDER.index, default="VERIFIED")


def finding(found):
    return {"code": found[0], "seq": found[1]}


def source_report(findings, **report):
    bad = [found for found in findings if VERDICT[found[0]] == "INVALID"]
    first = min(bad, key=lambda found: (found[1] is None, found[1] or 0), default=None)
    report["verdict"] = worst(findings.verdicts())
    report["first_bad"] = finding(first) if first else None
    report["findings"] = [finding(found) for found in findings]
    return report


def genesis(data, leaf):
    """Origin and key. Raises Fault."""
    domain, host = data.get("domain"), data.get("node")
    key = unbase64(data["pub"]) if isinstance(data.get("pub"), str) else None
    if data.get("alg") != ALG or not is_text(domain) or not is_text(host) or not is_public_key(key):
        raise Fault("record.genesis")
    origin = f"{domain}/audit/{host}/{leaf.hex()[:32]}"
    if not domain or not host or "/" in domain + host or not is_name(origin):
        raise Fault("record.genesis")
    return origin, key


def fits_origin(origin, log):
    return origin is None or ("/" in origin and origin.rsplit("/", 1)[1] == log[:32])


# Section 7: the proof of one record.


def check_inclusion(leaf, index, size, root, hashes):
    if index >= size:
        raise Fault("proof")
    at, last, found = index, size - 1, leaf
    for sibling in hashes:
        if last == 0:
            raise Fault("proof")
        if at & 1 or at == last:
            found = node(sibling, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node(found, sibling)
        at, last = at >> 1, last >> 1
    if last or found != root:
        raise Fault("proof")


def read_proof(raw):
    """Index, hashes and the bytes of the note. ValueError if it is no proof."""
    head, blank, note = raw.decode().partition("\n\n")
    lines = head.split("\n")
    if not blank or lines[0] != "c2sp.org/tlog-proof@v1" or len(lines) < 2 or not lines[1].startswith("index "):
        raise ValueError("form")
    index, hashes = lines[1][6:], [unbase64(line) for line in lines[2:]]
    if not DECIMAL.match(index) or len(index) > 16 or int(index) >= MAX_INT or len(hashes) > MAX_PROOF:
        raise ValueError("form")
    if any(h is None or len(h) != 32 for h in hashes):
        raise ValueError("hash")
    Note(note.encode())
    return int(index), hashes, note.encode()


def verify_proof(body, raw, trust):
    findings = Findings()
    report = dict(log=None, origin=None, range=[0, 0], opened=0, redacted=0, unknown_kinds=[])
    report.update(completeness="partial", semantics="unknown")
    fresh = dict(verdict="unknown", cosigned_size=None, signed_size=None, at=None, tail_uncosigned=0)
    try:
        index, hashes, note_raw = read_proof(raw)
    except ValueError:
        findings.add("proof")
        index = None
    if index is not None:
        note = Note(note_raw)
        report.update(origin=note.origin, range=[index, index + 1])
        try:
            record = check_record(body)
            log = record["log"] if record["seq"] else record["leaf"].hex()
            report["log"] = log
            if record["seq"] != index:
                raise Fault("record.seq")
            if not fits_origin(note.origin, log):
                raise Fault("record.log")
            check_inclusion(record["leaf"], index, note.size, note.root, hashes)
        except Fault as fault:
            findings.add(fault.args[0], index)
        notes = Notes(Trust(policy=trust.policy, since=[], max_age=None, require_openings=False), [note_raw], [], findings)
        notes.begin(note.origin, None, findings)

        class Root:
            root = staticmethod(lambda: note.root)

        notes.reach(note.size, Root, Meaning(), findings)
        fresh["signed_size"] = notes.signed_size
        if notes.best:
            at = notes.best[1]
            fresh.update(verdict="ok", cosigned_size=notes.best[0], at=at if at >= 0 else None)
    found = findings.verdicts()
    known = "ok" if fresh["cosigned_size"] is not None else "unknown"
    report["authenticity"] = "unanchored" if "UNANCHORED" in found else known
    report["integrity"] = "invalid" if "INVALID" in found else "ok"
    return whole([source_report(findings, freshness=fresh, **report)], None)


# Section 9: everything together.


class Trust:
    def __init__(self, policy, since, max_age, require_openings):
        self.policy, self.since, self.max_age, self.require_openings = policy, since, max_age, require_openings


def whole(sources, compared):
    verdicts = {source["verdict"] for source in sources}
    if compared and compared["finding"]:
        verdicts.add(VERDICT[compared["finding"]["code"]])
    verdict = worst(verdicts) if sources else "UNREADABLE"
    return dict(schema="cortex-audit-verify/1", verdict=verdict, exit=EXIT[verdict], sources=sources, compared=compared)


def verify(sources, trust):
    """Verifies one or more copies of a journal and returns the report."""
    runs = [Run(source, trust) for source in sources]
    differences = [None] * len(runs)
    while (seq := min((run.seq for run in runs if run.state == "reading"), default=None)) is not None:
        first = None
        for i, run in enumerate(runs):
            if run.next() == seq and (leaf := run.step()) is not None:
                first = first or leaf
                if leaf != first and differences[i] is None:
                    differences[i] = seq
    for run in runs:
        run.end()
    return whole([run.report() for run in runs], compare(runs, differences) if len(runs) > 1 else None)


def compare(runs, differences):
    shortest = min(runs, key=lambda run: run.seq)
    known = [seq for seq in differences if seq is not None]
    signed = lambda run, seq: run.notes.signed_size is not None and run.notes.signed_size > seq
    forked = any(
        seq is not None and run.notes.origin == runs[0].notes.origin and signed(runs[0], seq) and signed(run, seq)
        for run, seq in zip(runs, differences)
    )
    return {
        "size": shortest.seq,
        "root": None if known else base64.b64encode(shortest.frontier.root()).decode(),
        "finding": finding(("fork" if forked else "differs", min(known))) if known else None,
    }


# Section 8: bundles.


class Bundle:
    """A copy of a journal in a directory. Only contents count; names give an order."""

    def __init__(self, path):
        self.path = path
        if not os.path.isdir(path):
            raise NotADirectoryError(f"{path} is no directory")
        self.checkpoints = [self.read(name) for name in self.names("checkpoints", ".note")]
        head, frontier = os.path.join(path, "head.note"), os.path.join(path, "frontier.json")
        self.head = [self.read(head)] if os.path.exists(head) else []
        self.frontier = self.read(frontier) if os.path.exists(frontier) else None

    @staticmethod
    def read(path):
        with open(path, "rb") as file:
            return file.read(MAX_POLICY)

    def names(self, folder, ending):
        folder = os.path.join(self.path, folder)
        names = os.listdir(folder) if os.path.isdir(folder) else []
        return [os.path.join(folder, name) for name in sorted(names, key=os.fsencode) if name.endswith(ending)]

    def records(self):
        return self.lines(self.names("records", ".ndjson"))

    def openings(self):
        names = self.names("openings", ".txt")
        return self.lines(names) if names else None

    def branches(self):
        """Other histories that are kept as evidence, themselves bundles."""
        folder = os.path.join(self.path, "evidence")
        names = sorted(os.listdir(folder), key=os.fsencode) if os.path.isdir(folder) else []
        paths = [os.path.join(folder, name) for name in names]
        return [Bundle(path) for path in paths if os.path.isdir(os.path.join(path, "records"))]

    def evidence(self):
        """Notes that are kept as evidence, those that can be read as such."""
        for name in self.names("evidence", ".note"):
            try:
                yield Note(self.read(name))
            except ValueError:
                pass

    @staticmethod
    def lines(names):
        """Lines with their newlines; of one beyond the limit the beginning."""
        for name in names:
            with open(name, "rb") as file:
                while line := file.readline(MAX_LINE + 1):
                    rest = line
                    while len(line) > MAX_LINE and rest and not rest.endswith(b"\n"):
                        rest = file.readline(MAX_LINE)
                    yield line if rest is line else line + (b"\n" if rest else b"")


def read_trust(policy, since, max_age, now, require_openings):
    """Raises Usage."""
    try:
        notes = [Note(raw) for raw in since]
    except ValueError as error:
        raise Usage(f"the checkpoint seen before: {error}") from None
    age = None if max_age is None else (int(time.time()) if now is None else now, max_age)
    return Trust(None if policy is None else Policy(policy), notes, age, require_openings)


def main():
    parser = argparse.ArgumentParser(description="Verifies Cortex audit journals.")
    parser.add_argument("--policy", help="whom to believe: a C2SP tlog-policy, not from the bundle")
    parser.add_argument("--since", action="append", default=[], help="a checkpoint that was seen before")
    parser.add_argument("--max-age", type=int, help="greatest age of the newest cosignature, seconds")
    parser.add_argument("--now", type=int, help="the time for --max-age, seconds since 1970")
    parser.add_argument("--require-openings", action="store_true")
    parser.add_argument("--proof", help="a .tlog-proof; the argument is then the file of its record")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("bundles", nargs="+")
    args = parser.parse_args()
    try:
        policy = Bundle.read(args.policy) if args.policy else None
        since = [Bundle.read(path) for path in args.since]
        trust = read_trust(policy, since, args.max_age, args.now, args.require_openings)
        if args.proof:
            report = verify_proof(Bundle.read(args.bundles[0]).rstrip(b"\n"), Bundle.read(args.proof), trust)
        else:
            bundles = [Bundle(path) for path in args.bundles]
            trust.since.extend(note for bundle in bundles for note in bundle.evidence())
            report = verify(bundles + [branch for bundle in bundles for branch in bundle.branches()], trust)
    except Usage as error:
        print(f"cannot be answered: {error}", file=sys.stderr)
        sys.exit(EXIT["USAGE"])
    except OSError as error:
        print(f"cannot be read: {error}", file=sys.stderr)
        sys.exit(EXIT["UNREADABLE"])
    if args.json:
        print(json.dumps(report, sort_keys=True))
    else:
        show(report)
    sys.exit(report["exit"])


def show(report):
    print(report["verdict"])
    for source in report["sources"]:
        fresh = source["freshness"]
        print(f"  journal {source['log']} of {source['origin']}, records {source['range'][0]} to {source['range'][1]}")
        words = ("integrity", "authenticity", "completeness", "semantics")
        print("  " + ", ".join(f"{word} {source[word]}" for word in words) + f", freshness {fresh['verdict']}")
        print(f"  cosigned up to {fresh['cosigned_size']} at {fresh['at']}; {fresh['tail_uncosigned']} records above that")
        for found in source["findings"]:
            print(f"  {found['code']}" + ("" if found["seq"] is None else f" at record {found['seq']}"))
    if report["compared"]:
        print(f"  compared up to {report['compared']['size']}: {report['compared']['finding'] or 'the same'}")


if __name__ == "__main__":
    main()
