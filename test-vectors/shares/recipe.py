#!/usr/bin/env python3
"""Writes judged.json beside this file, with nothing but Python's standard library; README.md says what the verdicts follow from."""

import hashlib
import json
import pathlib
import struct

HERE = pathlib.Path(__file__).parent
TIME = 1_780_000_000
ROLLABLE = 0x1FFFFFE0
EASIEST = 2**256 - 1


def sha256d(data):
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def some_bytes(seed, length):
    """Bytes without a pattern, the same in every run."""
    blocks = (hashlib.sha256(f"{seed} {number}".encode()).digest() for number in range(length // 32 + 1))
    return b"".join(blocks)[:length]


def expand(nbits):
    return (nbits & 0x7FFFFF) << 8 * ((nbits >> 24) - 3)


class Channel:
    """A job and one channel that works on it."""

    def __init__(self, name, kind, prefix_len, suffix_len, extranonce_len, path_len, nbits, target, **options):
        self.kind, self.nbits, self.target = kind, nbits, target
        self.prefix = some_bytes(name + " prefix", prefix_len)
        self.suffix = some_bytes(name + " suffix", suffix_len)
        self.extranonce_len = extranonce_len
        own = options.get("own_len", 6) if kind == "extended" else extranonce_len
        self.own = some_bytes(name + " extranonce", own)
        self.path = [some_bytes(f"{name} step {step}", 32) for step in range(path_len)]
        self.prev_hash = some_bytes(name + " previous", 32)
        self.rolling = options.get("rolling", True)
        self.version, self.job_id, self.accepted = 0x20000000, 7, set()
        self.case = {
            "name": name,
            "job": {
                "id": self.job_id,
                "version": self.version,
                "version_rolling_allowed": self.rolling,
                "min_ntime": TIME,
                "prev_hash": self.prev_hash.hex(),
                "nbits": f"{nbits:08x}",
                "coinbase_prefix": self.prefix.hex(),
                "coinbase_suffix": self.suffix.hex(),
                "extranonce_len": extranonce_len,
                "merkle_path": [step.hex() for step in self.path],
            },
            "kind": kind,
            "extranonce": self.own.hex(),
            "target": f"{target:064x}",
            "shares": [],
        }

    def header(self, nonce, ntime, version, rolled):
        root = sha256d(self.prefix + self.own + (rolled or b"") + self.suffix)
        for step in self.path:
            root = sha256d(root + step)
        fields = struct.pack("<III", ntime, self.nbits, nonce)
        return struct.pack("<I", version) + self.prev_hash + root + fields

    def verdict(self, nonce, ntime, version, rolled, now):
        if self.kind == "extended" and len(rolled) != self.extranonce_len - len(self.own):
            return "bad-extranonce-size", None, 0
        if not self.rolling and version != self.version:
            return "version-rolling-not-allowed", None, 0
        if (version ^ self.version) & ~ROLLABLE:
            return "invalid-non-rollable-version-bit", None, 0
        if not TIME <= ntime <= min(TIME + 7200, now + 7200 - 600):
            return "invalid-share", None, 0
        header = self.header(nonce, ntime, version, rolled)
        if header in self.accepted:
            return "duplicate-share", None, 0
        hash = sha256d(header)
        number = int.from_bytes(hash, "little")
        earns, block = number <= self.target, number <= expand(self.nbits)
        if not earns and not block:
            return "difficulty-too-low", None, 0
        self.accepted.add(header)
        work = 2**256 // (self.target + 1) if earns else 0
        return ("block" if block else "valid"), hash[::-1].hex(), work

    def submit(self, nonce=1, ntime=TIME, version=0x20000000, rolled=None, now=TIME):
        if self.kind == "extended" and rolled is None:
            rolled = some_bytes("rolled", self.extranonce_len - len(self.own))
        payload = struct.pack("<IIIIII", 1, 2, self.job_id, nonce, ntime, version)
        if self.kind == "extended":
            payload += bytes([len(rolled)]) + rolled
        verdict, hash, work = self.verdict(nonce, ntime, version, rolled, now)
        share = {"payload": payload.hex(), "now": now, "verdict": verdict, "hash": hash, "work": str(work)}
        self.case["shares"].append(share)


def every_check(name, kind, rolling):
    channel = Channel(name, kind, 65, 87, 20, 12, 0x17020000, EASIEST, rolling=rolling)
    channel.submit()
    channel.submit()
    channel.submit(nonce=2)
    for bit in range(32):
        channel.submit(nonce=3, version=0x20000000 ^ 1 << bit)
    for ntime in [0, TIME - 1, TIME + 1, TIME + 6600, TIME + 6601, TIME + 7200, TIME + 7201, 2**32 - 1]:
        channel.submit(nonce=4, ntime=ntime)
    for now in [TIME - 6601, TIME - 6600]:
        channel.submit(nonce=5, now=now)
    for ntime in [TIME + 7200, TIME + 7201]:
        channel.submit(nonce=6, ntime=ntime, now=TIME + 600)
        channel.submit(nonce=7, ntime=ntime, now=TIME + 599)
    if kind == "extended":
        for length in [0, 13, 15, 32]:
            channel.submit(nonce=8, rolled=bytes(length))
        channel.submit(nonce=9, rolled=bytes(14))
        channel.submit(nonce=9, rolled=bytes(13) + b"\x01")
    return channel.case


def targets(name, kind, nbits, target):
    """Enough shares for each side of both targets."""
    channel = Channel(name, kind, 70, 120, 20, 3, nbits, target)
    for nonce in range(60):
        channel.submit(nonce=nonce)
    return channel.case


def lengths():
    """Coinbases whose parts end on both sides of the borders of SHA-256 blocks, and paths of several lengths."""
    for prefix_len in [42, 58, 59, 63, 64, 65, 108, 127, 128, 129]:
        for suffix_len, extranonce_len, own_len in [(18, 20, 6), (87, 20, 20), (35, 32, 0), (3156, 8, 4)]:
            if suffix_len > 1000 and prefix_len not in (63, 64, 65):
                continue
            name = f"prefix {prefix_len}, suffix {suffix_len}, extranonce {extranonce_len}"
            path_len = (prefix_len + suffix_len) % 14
            channel = Channel(
                name, "extended", prefix_len, suffix_len, extranonce_len, path_len, 0x17020000, EASIEST, own_len=own_len
            )
            channel.submit()
            yield channel.case


if __name__ == "__main__":
    cases = [
        every_check("extended, rolling allowed", "extended", True),
        every_check("extended, fixed version", "extended", False),
        every_check("standard, rolling allowed", "standard", True),
        every_check("standard, fixed version", "standard", False),
        targets("blocks harder than shares", "extended", 0x200FFFFF, EASIEST // 4),
        targets("blocks easier than shares", "standard", 0x207FFFFF, EASIEST // 10),
        targets("an odd target", "standard", 0x200FFFFF, EASIEST // 3 - 12345),
        *lengths(),
    ]
    (HERE / "judged.json").write_text(json.dumps(cases, indent=1) + "\n")
