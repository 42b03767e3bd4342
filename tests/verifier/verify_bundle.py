#!/usr/bin/env python3
"""Verifies Hostledger audit bundles: a second implementation, written from docs/format alone.

    verify_bundle.py --vkey FILE [--witness KEY]... [--quorum K] BUNDLE...
    verify_bundle.py --vkey FILE [--witness KEY]... [--quorum K] -      (paths of bundles, one a line, on stdin)

Prints one JSON report a line for each bundle (docs/format/bundle.md). Exit code: 0 all sound and complete, 3 all sound,
4 one refused, 2 usage. Reads no clock and no network. Needs Python 3.11 and the package in requirements.txt.
"""

import argparse
import base64
import hashlib
import json
import struct
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ZEROS = bytes(32)

class Refused(Exception):
    """A bundle that proves nothing: the reason in one word, and a sentence."""
    def __init__(self, reason, fault):
        super().__init__(fault)
        self.reason, self.fault = reason, fault

def need(condition, reason, fault):
    if not condition:
        raise Refused(reason, fault)

def sha256(data):
    return hashlib.sha256(data).digest()
def text_of(data, reason):
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Refused(reason, "a text is not UTF-8") from None

# --- Reading bytes ---
class Reader:
    """Big-endian fields from the front of some bytes; whatever does not fit is refused with `reason`."""
    def __init__(self, data, reason):
        self.data, self.at, self.reason = data, 0, reason

    def take(self, length):
        need(length <= len(self.data) - self.at, self.reason, f"cut short at byte {self.at}")
        self.at += length
        return self.data[self.at - length:self.at]

    def number(self, width, largest=None):
        value = int.from_bytes(self.take(width), "big")
        need(largest is None or value <= largest, self.reason, f"{value} before byte {self.at} is over {largest}")
        return value

    def bytes(self, width, largest):
        return self.take(self.number(width, largest))

    def list(self, largest, item):
        return [item() for _ in range(self.number(4, largest))]

    def end(self):
        need(self.at == len(self.data), self.reason, f"{len(self.data) - self.at} bytes too many")

def ascending(items, reason, what):
    need(all(a < b for a, b in zip(items, items[1:])), reason, f"{what} do not ascend")

# --- Ed25519, strictly (RFC 8032 with canonical encodings, no points of small order) ---
P = 2**255 - 19
# Of order 1, 2 and 4 it is 1, P-1 and 0; of order 8 it solves d·y⁴ + 2y² = 1.
EIGHTH = 55188659117513257062467267217118295137698188065244968500265048394206261417927
SMALL_ORDER_Y = {0, 1, P - 1, EIGHTH, P - EIGHTH}

def plain_point(encoded):
    y = int.from_bytes(encoded, "little") & (2**255 - 1)
    return y < P and y not in SMALL_ORDER_Y
def signed(key, message, signature):
    if len(signature) != 64 or not plain_point(key) or not plain_point(signature[:32]):
        return False
    try:
        return Ed25519PublicKey.from_public_bytes(key).verify(signature, message) is None
    except (InvalidSignature, ValueError):
        return False

# --- Trees (RFC 6962) ---
def leaf_hash(entry):
    return sha256(b"\0" + entry)
def node_hash(left, right):
    return sha256(b"\1" + left + right)
def split(width):
    return 1 << ((width - 1).bit_length() - 1)
def tree_root(hashes):
    if len(hashes) < 2:
        return hashes[0] if hashes else sha256(b"")
    middle = split(len(hashes))
    return node_hash(tree_root(hashes[:middle]), tree_root(hashes[middle:]))

def root_of_path(leaves, size, path, reason):
    """The root that leaves [(index, hash)] of a tree lead to by a shared path (bundle.md, Path)."""
    ascending([index for index, _ in leaves], reason, "leaves")
    need(not leaves or leaves[-1][0] < size, reason, "a leaf lies outside the tree")
    if size == 0:
        need(not path, reason, "the tree of no leaves has no path")
        return sha256(b"")
    rest = iter(path)

    def root(first, last, begin, end):
        if first == last:
            found = next(rest, None)
            need(found is not None, reason, "the path is too short")
            return found
        if end - begin == 1:
            return leaves[first][1]
        middle = begin + split(end - begin)
        cut = first
        while cut < last and leaves[cut][0] < middle:
            cut += 1
        return node_hash(root(first, cut, begin, middle), root(cut, last, middle, end))

    found = root(0, len(leaves), 0, size)
    need(next(rest, None) is None, reason, "the path is too long")
    return found

# --- Notes, checkpoints, cosignatures ---
def unbase64(text):
    """Standard, padded, canonical base64; None for anything else."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return data if base64.b64encode(data).decode() == text else None
def valid_name(name):
    return 0 < len(name.encode()) <= 255 and "+" not in name and not any(c.isspace() or ord(c) < 32 for c in name)

class Key:
    """A verifier key, `name+id+base64(type ‖ public key)`."""
    def __init__(self, text, kind):
        self.text, (self.name, identity, encoded) = text, (text.split("+", 2) + ["", ""])[:3]
        data = unbase64(encoded) or b""
        if not valid_name(self.name) or len(data) != 33 or data[0] != kind:
            raise ValueError(f"{text!r} is no verifier key of type {kind}")
        self.public = data[1:]
        self.id = sha256(self.name.encode() + b"\n" + data)[:4]
        if self.id.hex() != identity:
            raise ValueError(f"the id of {text!r} does not fit")

def parse_note(data, reason="checkpoint"):
    """The text and its signature lines: (name, key id, signature)."""
    need(len(data) <= 65_536, reason, "the note is too long")
    note = text_of(data, reason)
    need(not any(ord(c) < 32 and c != "\n" for c in note), reason, "the note holds control characters")
    text, blank, lines = note.rpartition("\n\n")
    need(blank and lines.endswith("\n"), reason, "the note has no signatures")
    need(lines.count("\n") <= 64, reason, "the note has too many signatures")
    found = []
    for line in lines[:-1].split("\n"):
        dash, name, encoded = (line.split(" ", 2) + ["", ""])[:3]
        blob = unbase64(encoded)
        good = dash == "\u2014" and valid_name(name) and blob is not None and len(blob) > 4
        need(good, reason, "a signature line is malformed")
        found.append((name, blob[:4], blob[4:]))
    return text + "\n", found

def decimal(text, reason, bits=64):
    plain = text.isascii() and text.isdigit() and (text == "0" or text[0] != "0") and int(text) < 2**bits
    need(plain, reason, f"{text!r} is no number")
    return int(text)

def hash_of(text, reason):
    data = unbase64(text)
    need(data is not None and len(data) == 32, reason, "a hash is malformed")
    return data

# --- The ledger's keys ---
class Record:
    """One record of a key history, its signatures not checked (ledger-keys.md)."""
    ROWS = {"genesis": "key offline", "rotate": "previous ends key after root", "revoke": "previous ends key after root reason"}

    def __init__(self, data, reason):
        need(len(data) <= 4096, reason, "a record is too long")
        self.data = data
        self.text, self.lines = parse_note(data, reason)
        first, *rows = self.text[:-1].split("\n")
        need(first == "hostledger/ledger-keys/v1" and rows, reason, "no record of a key history")
        self.kind, _, number = rows[0].partition(" ")
        labels = self.ROWS.get(self.kind, "").split()
        good = labels and len(rows) == 1 + len(labels) and (self.kind != "genesis" or rows[0] == "genesis")
        need(good and all(r.startswith(label + " ") for label, r in zip(labels, rows[1:])), reason, "unknown lines")
        said = {label: row[len(label) + 1:] for label, row in zip(labels, rows[1:])}
        try:
            self.key, self.other = Key(said["key"], 1), Key(said.get("offline") or said["ends"], 1)
        except ValueError:
            raise Refused(reason, "a key in a record is malformed") from None
        if self.kind != "genesis":
            self.number, self.after = decimal(number, reason, 32), decimal(said["after"], reason)
            self.previous, self.root = hash_of(said["previous"], reason), hash_of(said["root"], reason)
            need(0 < len(said.get("reason", "-").encode()) <= 512, reason, "a reason is empty or too long")

    def check(self, signers):
        for key in signers:
            blobs = [blob for name, identity, blob in self.lines if (name, identity) == (key.name, key.id)]
            good = blobs and signed(key.public, self.text.encode(), blobs[0])
            need(good, "keys", f"key {key.id.hex()} has not signed a record of the key history")
        named = [(key.name, key.id) for key in signers]
        need(named == [line[:2] for line in self.lines], "keys", "signatures out of order, or one too many")

class LedgerKeys:
    """A ledger's keys as far as they are proven: a bare key, or what a history says (ledger-keys.md)."""
    def __init__(self, first):
        self.first = self.in_force = first
        self.records, self.changes = [], []

    @classmethod
    def given(cls, data):
        need(len(data) <= 266_240, "keys", "the key history is too long")
        text, records = text_of(data, "keys"), []
        while text:
            end = text.find("\n\n") + 2
            need(end > 1 and len(records) <= 64, "keys", "the key history is cut short or too long")
            while text.startswith("\u2014 ", end):
                need("\n" in text[end:], "keys", "the key history is cut short")
                end = text.index("\n", end) + 1
            records.append(Record(text[:end].encode(), "keys"))
            text = text[end:]
        need(records and records[0].kind == "genesis", "keys", "the key history has no beginning")
        first, offline = records[0].key, records[0].other
        need(first.name != offline.name, "keys", "the offline key bears the ledger's name")
        records[0].check([first, offline])
        keys, known = cls(first), {first.id, offline.id}
        keys.records = [record.data for record in records]
        for number, record in enumerate(records[1:], 1):
            follows = record.kind != "genesis" and record.number == number and record.other.text == keys.in_force.text
            need(follows, "keys", f"record {number} of the key history is out of place")
            due = record.previous == sha256(keys.records[number - 1])
            later = not keys.changes or keys.changes[-1][0] < record.after
            fresh = record.key.name == first.name and record.key.id not in known
            need(due and later and fresh, "keys", f"record {number} of the key history does not follow")
            record.check(([record.other] if record.kind == "rotate" else []) + [record.key, offline])
            keys.changes.append((record.after, record.root, record.other))
            keys.in_force = record.key
            known.add(record.key.id)
        return keys

    def learn(self, data):
        """What is known together with another history, which must not contradict it."""
        other = LedgerKeys.given(data)
        need(other.first.text == self.first.text, "keys", "the key history begins with another key")
        need(all(a == b for a, b in zip(self.records, other.records)), "keys", "two key histories were signed")
        return other if len(other.records) > len(self.records) else self

    def at(self, size):
        """The key that signs checkpoints of so many leaves."""
        return next((ended for after, _, ended in self.changes if size <= after), self.in_force)

def read_trust(path):
    """A file with a verifier key, or with a history of keys."""
    with open(path, "rb") as file:
        data = file.read()
    try:
        if data.startswith(b"hostledger/ledger-keys/"):
            return LedgerKeys.given(data)
        return LedgerKeys(Key(data.decode().strip(), 1))
    except (Refused, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from None

def check_checkpoint(data, keys):
    text, lines = parse_note(data)
    claimed = (text.split("\n") + [""])[1]
    key = keys.at(decimal(claimed, "checkpoint")) if keys.changes else keys.in_force
    known = [blob for name, identity, blob in lines if (name, identity) == (key.name, key.id)]
    need(known, "checkpoint", "the ledger's key did not sign the checkpoint")
    need(all(signed(key.public, text.encode(), blob) for blob in known), "checkpoint", "the signature does not fit")
    body = text[:-1].split("\n")
    need(len(body) >= 3 and all(body), "checkpoint", "a line is missing or empty")
    origin, size, root = body[0], body[1], unbase64(body[2])
    size = decimal(size, "checkpoint")
    need(root is not None and len(root) == 32, "checkpoint", "the root is malformed")
    need(origin == key.name, "checkpoint", "the checkpoint is of another ledger")
    recorded = [known for after, known, _ in keys.changes if after == size]
    need(recorded in ([], [root]), "checkpoint", "the key history records another root")
    return origin, size, root

def check_witnesses(data, witnesses, quorum):
    text, lines = parse_note(data)
    times = {}
    for name, identity, blob in lines:
        for witness in witnesses:
            if (name, identity) == (witness.name, witness.id):
                time = int.from_bytes(blob[:8], "big")
                message = f"cosignature/v1\ntime {time}\n{text}".encode()
                good = len(blob) == 72 and 0 < time < 2**63 and signed(witness.public, message, blob[8:])
                need(good, "witnesses", f"the line of {name} does not verify")
                times.setdefault(name, time)
    need(len(times) >= quorum, "witnesses", f"{len(times)} of the witnesses cosigned, {quorum} are demanded")
    return [{"name": w.name, "posix_seconds": times[w.name]} for w in witnesses if w.name in times]

# --- Batches ---
class Header:
    """A signed batch header (batch.md)."""
    def __init__(self, data, reason="header"):
        need(len(data) <= 1024, reason, "a header is too long")
        reader = Reader(data, reason)
        need(reader.take(4) == b"HLBH" and reader.number(2) == 1, reason, "no batch header of format 1")
        flags = reader.number(2, 3)
        self.starts, self.stops = flags & 1, flags & 2
        self.host, self.epoch = reader.take(32), reader.number(8)
        self.key, self.next_key = reader.take(32), reader.take(32)
        self.sequence, self.first_event = reader.number(8), reader.number(8)
        self.count, self.body_bytes = reader.number(4, 8192), reader.number(4, 1_048_576)
        self.previous, self.root, self.tags_hash = reader.take(32), reader.take(32), reader.take(32)
        reader.take(16)
        from_boot, until_boot = reader.number(8), reader.number(8)
        self.from_ns, self.until_ns = reader.number(8), reader.number(8)
        reader.take(8)
        reader.number(1, 2)
        sensors = reader.number(1, 32)
        reader.number(2, 0)
        reader.take(32)
        need(from_boot <= until_boot, reason, "a header ends before it begins")
        self.lost = []
        for _ in range(sensors):
            sensor, happened, lost = reader.number(2), reader.number(8), reader.number(8)
            need(lost <= happened, reason, "more events were lost than happened")
            self.lost.append((sensor, lost))
        ascending([sensor for sensor, _ in self.lost], reason, "sensors")
        signature = reader.take(64)
        reader.end()
        self.data, self.hash = data, sha256(data)
        good = signed(self.key, b"hostledger/batch-header/v1\n" + data[:-64], signature)
        need(good, reason, f"the signature of batch {self.sequence} does not fit")

    def is_of(self, host):
        """Whether its key is that of the host's epoch 0."""
        return sha256(b"hostledger/host-id/v1\n" + self.key) == host

    def continues(self, before):
        """Whether it is the next one of the chain, under the key that is due."""
        if self.epoch == before.epoch:
            due = self.key == before.key and (before.next_key in (ZEROS, self.next_key))
        else:
            due = self.epoch == before.epoch + 1 and before.next_key == self.key != ZEROS
        announces = self.next_key != self.key and (before.next_key == ZEROS or self.next_key != ZEROS)
        return (due and announces and self.host == before.host and self.sequence == before.sequence + 1
                and self.first_event == before.first_event + before.count and self.previous == before.hash)

def body_events(header, body):
    """The events of a body, which must be the one that the header signs."""
    need(len(body) == header.body_bytes, "events", "the body has another length")
    reader = Reader(body, "events")
    count = reader.number(4, 8192)
    lengths = [reader.number(4, 32_768) for _ in range(count)]
    tags = reader.take(8 * count)
    events = [reader.take(length) for length in lengths]
    reader.end()
    hashes = [leaf_hash(event) for event in events]
    good = count == header.count and sha256(tags) == header.tags_hash and tree_root(hashes) == header.root
    need(good, "events", f"the body of batch {header.sequence} is not the one signed")
    return events, hashes

def envelope(event):
    """What an event says of itself (event.md); None where it says nothing readable."""
    if len(event) < 20 or len(event) > 32_768:
        return None
    kind, version, length, boot_ns, wall_ns = struct.unpack(">HBBQQ", event[:20])
    if length > 64 or len(event) < 20 + length:
        return None
    return {"kind": kind, "version": version, "key": event[20:20 + length].hex(), "boot_ns": boot_ns, "wall_ns": wall_ns}

# --- Statements ---
def check_statement(data, leaf, keys):
    reader = Reader(data, "statement")
    need(len(data) <= 65_535 and reader.take(4) == b"HLST" and reader.number(2) == 1, "statement", "none of format 1")
    kind, number, at_ns = reader.number(2), reader.number(8), reader.number(8)
    reader.take(8 + 32)
    signer = reader.take(32)
    payload = Reader(reader.bytes(4, 65_535), "statement")
    signature = reader.take(64)
    reader.end()
    check_payload(kind, payload)
    good = signer == keys.at(leaf + 1).public and signed(signer, b"hostledger/statement/v1\n" + data[:-64], signature)
    need(good, "statement", f"statement {number} is not signed by the ledger's key")
    return kind, number, at_ns

def check_payload(kind, payload):
    if kind in (8, 10, 11):
        return check_retention(kind, payload)
    if kind == 9:
        need(Record(payload.data, "statement").kind != "genesis", "statement", "it changes no key")
        return None
    if not 1 <= kind <= 7:
        return None
    host, last = payload.take(32), lambda: payload.take(40 * payload.number(1, 1))
    if kind == 1:
        payload.take(8), payload.bytes(2, 512)
    elif kind == 2:
        payload.take(8), last(), payload.bytes(2, 512)
    elif kind == 3:
        last(), payload.take(24)
    elif kind == 4:
        payload.take(8 + 40 + 8)
    elif kind == 5:
        payload.number(1, 1), payload.take(80)
    elif kind == 6:
        check_equivocation(host, payload.bytes(2, 1024), payload.bytes(2, 1024))
    else:
        payload.take(40), payload.number(1, 2), payload.take(48)
    return payload.end()

def check_retention(kind, payload):
    if kind == 8:
        payload.bytes(2, 512), payload.take(16)
        ascending([payload.number(8) for _ in range(payload.number(2, 256))], "statement", "holds")
        payload.take(4), [payload.take(64) for _ in range(payload.number(2, 128))]
        after = -1
        for _ in range(payload.number(2, 4096)):
            first, count = payload.number(8), payload.number(4)
            need(first > after and count, "statement", "ranges of leaves that touch or are empty")
            after = first + count
    elif kind == 10:
        payload.take(32 * payload.number(1, 1))
        need(payload.number(8) <= payload.number(8), "statement", "a hold ends before it begins")
        payload.bytes(2, 512)
    else:
        payload.take(8), payload.bytes(2, 512)
    payload.end()

def check_equivocation(host, held, offered):
    held, offered = Header(held, "statement"), Header(offered, "statement")
    same_key = offered.epoch == held.epoch and offered.key == held.key
    announced = offered.epoch == held.epoch + 1 and any(held.next_key) and offered.key == held.next_key
    vouched = held.host == offered.host == host and (same_key or announced)
    need(vouched and (held.epoch != 0 or held.is_of(host)), "statement", "the headers are not of the host's keys")
    twice = held.sequence == offered.sequence and held.data != offered.data
    forked = offered.sequence == held.sequence + 1 and offered.previous != held.hash
    need(twice or forked, "statement", "the headers do not contradict each other")

# --- Bundles ---
class Bundle:
    """The parts of the file (bundle.md, Bytes)."""
    def __init__(self, data):
        need(len(data) <= 1 << 30, "malformed", "the file is too long")
        need(len(data) >= 32 and sha256(data[:-32]) == data[-32:], "digest", "the file was altered or cut")
        self.reader = reader = Reader(data[:-32], "malformed")
        need(reader.take(8) == b"HLBUNDLE", "malformed", "no bundle")
        version = reader.number(2, 2)
        need(version, "malformed", "no bundle of format 1 or 2")
        reader.number(2, 0)
        self.vkey = text_of(reader.bytes(2, 512), "malformed")
        self.keys = reader.bytes(4, 266_240) if version == 2 else b""
        need(self.keys or version == 1, "malformed", "an empty key history")
        self.checkpoint = reader.bytes(4, 65_536)
        self.since = self.entity = self.named = None
        self.selection()
        self.hosts = reader.list(65_536, self.host)
        ascending([host for host, _, _ in self.hosts], "malformed", "hosts")
        self.statements = reader.list(65_536, lambda: (reader.number(8), reader.bytes(2, 65_535)))
        ascending([leaf for leaf, _ in self.statements], "malformed", "statements")
        self.path = self.hashes(33_554_432)
        reader.end()

    def selection(self):
        reader = self.reader
        if reader.number(1, 2) == 1:
            self.since, self.until = reader.number(8), reader.number(8)
            need(self.since <= self.until, "malformed", "the interval ends before it begins")
            self.asked_hosts = reader.list(65_536, lambda: reader.take(32))
            ascending(self.asked_hosts, "malformed", "hosts asked for")
            if reader.number(1, 1):
                self.entity = (reader.number(2), reader.bytes(2, 64))
        else:
            need(reader.data[reader.at - 1] == 2, "malformed", "unknown selection")
            self.named = reader.list(65_536, lambda: (reader.take(32), reader.number(8)))
            need(self.named, "malformed", "no event is asked for")
            ascending(self.named, "malformed", "events asked for")

    def host(self):
        reader = self.reader
        host = reader.take(32)
        history = reader.list(32_768, lambda: reader.bytes(2, 1024))
        batches = reader.list(2_097_152, lambda: (reader.number(8), reader.bytes(2, 1024), self.contents()))
        need(batches, "malformed", "a host without batches")
        return host, history, batches

    def contents(self):
        reader = self.reader
        kind = reader.number(1, 3)
        if kind == 2:
            events = reader.list(8192, lambda: (reader.number(4), reader.bytes(4, 32_768)))
            need(events, "malformed", "no chosen event")
            ascending([position for position, _ in events], "malformed", "chosen events")
            return kind, (events, self.hashes(8192))
        return kind, reader.bytes(4, 1_048_576) if kind == 1 else None

    def hashes(self, largest):
        return self.reader.list(largest, lambda: self.reader.take(32))

    def asked(self):
        if self.named is not None:
            return {"events": [{"host": host.hex(), "index": index} for host, index in self.named]}
        entity = self.entity and {"kind": self.entity[0], "key": self.entity[1].hex()}
        return {"since_ns": self.since, "until_ns": self.until, "hosts": [h.hex() for h in self.asked_hosts], "entity": entity}

def check_host(bundle, part, rows, leaves):
    host, history, batches = part
    named = {index for other, index in bundle.named or [] if other == host}
    allowed = bool(named) if bundle.named is not None else not bundle.asked_hosts or host in bundle.asked_hosts
    need(allowed, "selection", f"host {host.hex()} was not asked for")
    due, low = None, -1
    for epoch, data in enumerate(history):
        header = Header(data)
        mine = header.is_of(host) if epoch == 0 else header.key == due
        announces = header.next_key not in (ZEROS, header.key)
        good = header.host == host and header.epoch == epoch and header.sequence > low and mine and announces
        need(good, "chain", f"the key history of epoch {epoch} does not hold")
        due, low = header.next_key, header.sequence
    headers, withheld = [], []
    for leaf, data, (contents, inside) in batches:
        header = Header(data)
        if headers:
            need(header.continues(headers[-1]), "chain", f"batch {header.sequence} does not follow")
        else:
            mine = header.key == due if history else header.is_of(host)
            good = header.host == host and header.epoch == len(history) and header.sequence > low and mine
            need(good, "chain", f"the key of batch {header.sequence} is not proven")
        headers.append(header)
        leaves.append((leaf, leaf_hash(data)))
        for position, event, digest in check_events(bundle, header, contents, inside, named):
            rows.append({"host": host.hex(), "index": header.first_event + position, "batch": header.sequence,
                         "leaf": leaf, "hash": digest.hex(), "envelope": envelope(event)})
        if bundle.named is None and header.count and header.from_ns <= bundle.until and header.until_ns >= bundle.since:
            why = {0: None if bundle.entity else "left_out", 3: "gone"}.get(contents)
            withheld += [{"batch": header.sequence, "why": why}] if why else []
    first, last = headers[0], headers[-1]
    choice = "named" if bundle.named is not None else "exporter" if bundle.entity else "whole"
    return {"host": host.hex(), "batches": [first.sequence, last.sequence], "epochs": [first.epoch, last.epoch],
            "events": [first.first_event, last.first_event + last.count], "from_ns": first.from_ns,
            "until_ns": last.until_ns, "choice": choice, "withheld": withheld,
            "unwatched": unwatched(headers, bundle.since, bundle.until) if choice != "named" else [],
            "lost": lost_events(headers) if choice != "named" else []}

def check_events(bundle, header, contents, inside, named):
    if contents == 1:
        need(bundle.named is None, "selection", "a whole body where events were asked for")
        events, hashes = body_events(header, inside)
        return list(zip(range(len(events)), events, hashes))
    if contents != 2:
        return []
    events, path = inside
    found = [(position, event, leaf_hash(event)) for position, event in events]
    root = root_of_path([(position, digest) for position, _, digest in found], header.count, path, "events")
    need(root == header.root, "events", f"events of batch {header.sequence} are not those signed")
    for position, event, _ in found:
        said = envelope(event)
        about = said and bundle.entity and (said["kind"], said["key"]) == (bundle.entity[0], bundle.entity[1].hex())
        need(header.first_event + position in named or about, "selection", "an event was not asked for")
    return found

def unwatched(headers, since, until):
    holes = [(since, headers[0].from_ns, "not_in_bundle" if headers[0].sequence else "before_first_batch")]
    for before, after in zip(headers, headers[1:]):
        why = ("stopped" if before.stops else "broke_off") if after.starts else "unexplained"
        holes.append((before.until_ns, after.from_ns, why))
    holes.append((headers[-1].until_ns, until, "after_last_batch"))
    clipped = [(max(begin, since), min(end, until), why) for begin, end, why in holes]
    return [{"from_ns": begin, "until_ns": end, "why": why} for begin, end, why in clipped if begin < end]

def lost_events(headers):
    counted, total = {}, {}
    for at, header in enumerate(headers):
        if header.starts:
            counted = {}
        for sensor, lost in header.lost:
            more = lost - counted.get(sensor, 0)
            if at or header.starts:
                total[sensor] = min(total.get(sensor, 0) + (more if more >= 0 else lost), 2**64 - 1)
            counted[sensor] = lost
    return [{"sensor": sensor, "lost": lost} for sensor, lost in sorted(total.items()) if lost]

def verify(data, keys, witnesses=(), quorum=0):
    """The report on a bundle; Refused where it proves nothing."""
    bundle = Bundle(data)
    need(bundle.vkey == keys.first.text, "checkpoint", "the bundle is of another ledger")
    keys = keys.learn(bundle.keys) if bundle.keys else keys
    origin, size, root = check_checkpoint(bundle.checkpoint, keys)
    cosigned = check_witnesses(bundle.checkpoint, witnesses, quorum) if witnesses else []
    rows, leaves = [], []
    hosts = [check_host(bundle, part, rows, leaves) for part in bundle.hosts]
    statements = []
    for leaf, data in bundle.statements:
        kind, number, at_ns = check_statement(data, leaf, keys)
        statements.append({"number": number, "leaf": leaf, "kind": kind, "at_ns": at_ns})
        leaves.append((leaf, leaf_hash(data)))
    leaves.sort(key=lambda leaf: leaf[0])
    need(root_of_path(leaves, size, bundle.path, "ledger") == root, "ledger", "the ledger does not hold all of this")
    here, found = {part["host"] for part in hosts}, {(row["host"], row["index"]) for row in rows}
    missing = {"hosts": [h for h in bundle.asked().get("hosts", []) if h not in here],
               "events": [e for e in bundle.asked().get("events", []) if (e["host"], e["index"]) not in found]}
    whole = all(not (part["unwatched"] or part["withheld"] or part["lost"]) for part in hosts)
    return {"verdict": "sound", "complete": bool(hosts) and whole and not (missing["hosts"] or missing["events"]),
            "ledger": {"origin": origin, "size": size, "root": root.hex()}, "witnesses": cosigned,
            "asked": bundle.asked(), "missing": missing, "hosts": hosts, "statements": statements, "events": rows}

def main():
    parser = argparse.ArgumentParser(description="Verifies Hostledger audit bundles.")
    parser.add_argument("--vkey", required=True, help="file with the ledger's verifier key, or with its key history")
    parser.add_argument("--witness", action="append", default=[], help="verifier key of a witness")
    parser.add_argument("--quorum", type=int, help="how many witnesses are enough; all where absent")
    parser.add_argument("bundle", nargs="+", help="file, or - for paths on stdin")
    args = parser.parse_args()
    try:
        keys = read_trust(args.vkey)
        witnesses = [Key(text.strip(), 4) for text in args.witness]
    except (OSError, ValueError) as error:
        parser.error(str(error))
    quorum = len(witnesses) if args.quorum is None else args.quorum
    if witnesses and not 1 <= quorum <= len(witnesses):
        parser.error("the quorum is not between 1 and the number of witnesses")
    code = 0
    for path in (line.rstrip("\n") for line in sys.stdin) if args.bundle == ["-"] else args.bundle:
        with open(path, "rb") as file:
            data = file.read()
        try:
            report = verify(data, keys, witnesses, quorum)
            code = max(code, 0 if report["complete"] else 3)
        except Refused as refused:
            report = {"verdict": "refused", "reason": refused.reason, "fault": refused.fault}
            code = 4
        print(json.dumps(report, ensure_ascii=False), flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
