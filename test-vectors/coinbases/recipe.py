#!/usr/bin/env python3
"""Writes built.json and real.json beside this file, with nothing but Python's standard library; README.md says from what."""

import hashlib
import json
import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).parent


def sha256d(data):
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def compact_size(number):
    if number < 0xFD:
        return bytes([number])
    return b"\xfd" + struct.pack("<H", number) if number <= 0xFFFF else b"\xfe" + struct.pack("<I", number)


def script_number(number):
    """Bitcoin Core's `CScript() << number` for a number that is not negative."""
    if number == 0:
        return b"\x00"
    if number <= 16:
        return bytes([0x50 + number])
    data = b""
    while number:
        data += bytes([number & 0xFF])
        number >>= 8
    if data[-1] & 0x80:
        data += b"\x00"
    return bytes([len(data)]) + data


def push(data):
    assert 0 < len(data) <= 75
    return bytes([len(data)]) + data


def output(value, script):
    return struct.pack("<Q", value) + compact_size(len(script)) + script


def built(name, height, instance, boot, job, signature, extranonce_len, payouts, commitment):
    """A coinbase by its definition: version 2, one input, sequence 0xffffffff, payouts, commitment, locktime 0."""
    tag = struct.pack("<HII", instance, boot, job)
    script = script_number(height) + push(tag) + (push(signature.encode()) if signature else b"")
    script += bytes([extranonce_len])
    prefix = struct.pack("<I", 2) + b"\x01" + bytes(32) + b"\xff" * 4
    prefix += bytes([len(script) + extranonce_len]) + script
    outputs = [output(value, script) for value, script in payouts] + [output(0, commitment)]
    suffix = b"\xff" * 4 + compact_size(len(outputs)) + b"".join(outputs) + bytes(4)
    extranonce = bytes(range(0xA0, 0xA0 + extranonce_len))
    body = prefix + extranonce + suffix
    block_form = body[:4] + b"\x00\x01" + body[4:-4] + b"\x01\x20" + bytes(32) + body[-4:]
    return {
        "name": name,
        "height": height,
        "instance": instance,
        "boot": boot,
        "job": job,
        "signature": signature,
        "payouts": [{"value": value, "script": script.hex()} for value, script in payouts],
        "prefix": prefix.hex(),
        "extranonce": extranonce.hex(),
        "suffix": suffix.hex(),
        "in_block": block_form.hex(),
        "txid": sha256d(body)[::-1].hex(),
    }


def all_built():
    # The commitment of a block that has no transaction but the coinbase.
    commitment = bytes.fromhex("6a24aa21a9ed") + sha256d(bytes(64))
    key_hash = lambda number: bytes([0, 20]) + hashlib.sha256(b"payout %d" % number).digest()[:20]
    one = lambda height: [(5_000_000_000 >> height // 210_000 if height // 210_000 < 64 else 0, key_hash(0))]
    cases = [
        built(f"height {height}", height, 1, 2, 3, "/adit/", 20, one(height), commitment)
        for height in [0, 1, 16, 17, 127, 128, 255, 256, 32767, 32768, 900_000, 8_388_607, 8_388_608, 2**31, 2**32 - 1]
    ]
    height, reward = 900_000, 312_500_000
    shares = [reward // 100] * 99 + [reward - 99 * (reward // 100)]
    many = [(value, key_hash(number)) for number, value in enumerate(shares)]
    cases += [
        built("no signature", height, 1, 2, 3, "", 20, one(height), commitment),
        built("longest signature", height, 1, 2, 3, "s" * 61, 20, one(height), commitment),
        built("greatest tag", height, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, "/adit/", 20, one(height), commitment),
        built("extranonce of one byte", height, 1, 2, 3, "/adit/", 1, one(height), commitment),
        built("extranonce of 32 bytes", height, 1, 2, 3, "/adit/", 32, one(height), commitment),
        built("a hundred outputs", height, 1, 2, 3, "/adit/", 20, many, commitment),
    ]
    return cases


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, length):
        self.at += length
        assert self.at <= len(self.data)
        return self.data[self.at - length : self.at]

    def number(self):
        first = self.take(1)[0]
        return first if first < 0xFD else int.from_bytes(self.take(2 << first - 0xFD), "little")

    def transaction(self):
        """Whole bytes, bytes without witness, input script of the first input and its offset in the latter."""
        start, version = self.at, self.take(4)
        segwit = self.data[self.at : self.at + 2] == b"\x00\x01"
        if segwit:
            self.take(2)
        body_start, script_at, script = self.at, None, None
        inputs = self.number()
        for _ in range(inputs):
            self.take(36)
            length = self.number()
            if script is None:
                script_at, script = 4 + self.at - body_start, self.data[self.at : self.at + length]
            self.take(length + 4)
        for _ in range(self.number()):
            self.take(8)
            self.take(self.number())
        body = self.data[body_start : self.at]
        for _ in range(inputs if segwit else 0):
            for _ in range(self.number()):
                self.take(self.number())
        locktime = self.take(4)
        return self.data[start : self.at], version + body + locktime, script, script_at


def merkle_path(txids):
    path, level = [], [None] + txids
    while len(level) > 1:
        path.append(level[1])
        level += [level[-1]] if len(level) % 2 else []
        level = [None] + [sha256d(level[i] + level[i + 1]) for i in range(2, len(level), 2)]
    return path


def real(name, height, raw, extranonce_at, extranonce_len, keep_transactions):
    """A block of a real chain, its coinbase cut at a place in the input script."""
    reader = Reader(raw)
    header, count = reader.take(80), reader.number()
    transactions = [reader.transaction() for _ in range(count)]
    assert reader.at == len(raw)
    in_block, body, script, script_at = transactions[0]
    txids = [sha256d(body) for _, body, _, _ in transactions]
    path = merkle_path(txids[1:])
    root = txids[0]
    for step in path:
        root = sha256d(root + step)
    assert root == header[36:68]
    start = script_at + extranonce_at
    end = start + extranonce_len
    assert body[script_at : script_at + len(script)] == script and extranonce_at + extranonce_len <= len(script)
    return {
        "name": name,
        "height": height,
        "hash": sha256d(header)[::-1].hex(),
        "header": header.hex(),
        "in_block": in_block.hex(),
        "prefix": body[:start].hex(),
        "extranonce": body[start:end].hex(),
        "suffix": body[end:].hex(),
        "txid": txids[0][::-1].hex(),
        "merkle_path": [step.hex() for step in path],
        "transactions": [whole.hex() for whole, _, _, _ in transactions[1:]] if keep_transactions else None,
    }


GENESIS = bytes.fromhex(
    "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8"
    "aa4b1e5e4a29ab5f49ffff001d1dac2b7c0101000000010000000000000000000000000000000000000000000000000000000000000000ffffffff4d04ffff"
    "001d0104455468652054696d65732030332f4a616e2f32303039204368616e63656c6c6f72206f6e206272696e6b206f66207365636f6e64206261696c6f75"
    "7420666f722062616e6b73ffffffff0100f2052a01000000434104678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb649f6bc3f"
    "4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5fac00000000"
)
BLOCK_170 = bytes.fromhex(
    "0100000055bd840a78798ad0da853f68974f3d183e2bd1db6a842c1feecf222a00000000ff104ccb05421ab93e63f8c3ce5c2c2e9dbb37de2764b3a3175c81"
    "66562cac7d51b96a49ffff001d283e9e700201000000010000000000000000000000000000000000000000000000000000000000000000ffffffff0704ffff"
    "001d0102ffffffff0100f2052a01000000434104d46c4968bde02899d2aa0963367c7a6ce34eec332b32e42e5f3407e052d64ac625da6f0718e7b302140434"
    "bd725706957c092db53805b821a85b23a7ac61725bac000000000100000001c997a5e56e104102fa209c6a852dd90660a20b2d9c352423edce25857fcd3704"
    "000000004847304402204e45e16932b8af514961a1d3a1a25fdf3f4f7732e9d624c6c61548ab5fb8cd410220181522ec8eca07de4860a4acdd12909d831cc5"
    "6cbbac4622082221a8768d1d0901ffffffff0200ca9a3b00000000434104ae1a62fe09c5f51b13905f07f06b99a2f7159b2225f374cd378d71302fa28414e7"
    "aab37397f554a7df5f142c21c1b7303b8a0626f1baded5c72a704f7e6cd84cac00286bee0000000043410411db93e1dcdb8a016b49840f8c53bc1eb68a382e"
    "97b1482ecad7b148a6909a5cb2e0eaddfb84ccf9744464f82e160bfa9b8b64f9d4c03f999b8643f656b412a3ac00000000"
)


def write(name, cases):
    (HERE / name).write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    write("built.json", all_built())
    if len(sys.argv) == 3:
        testnet, mainnet = (pathlib.Path(path).read_bytes() for path in sys.argv[1:])
        write(
            "real.json",
            [
                real("main network, genesis", 0, GENESIS, 73, 4, True),
                real("main network, block 170", 170, BLOCK_170, 6, 1, True),
                real("test network 3, block 924634, with witnesses", 924_634, testnet, 16, 12, True),
                real("main network, block 702861, twelve steps", 702_861, mainnet, 80, 8, False),
            ],
        )
