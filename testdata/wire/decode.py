#!/usr/bin/env python3
"""A second decoder of Penstock's wire format, written from docs/protocol.md.

    protoc -I uplink/wire --python_out=DIR penstock.proto
    PYTHONPATH=DIR python3 testdata/wire/decode.py VECTOR.json ...

prints, for each vector, one line of JSON with what its record says.
"""
import hashlib
import json
import sys
import zlib

import penstock_pb2 as pb


class Pair:
    """A probability that learns."""

    def __init__(self):
        self.p, self.n = 32768, 0

    def meet(self, b):
        self.p += ((65535 if b else 0) - self.p) * (131072 // (2 * self.n + 3)) >> 16
        self.n = min(self.n + 1, 48)


class Columns:
    """The packed columns of a block."""

    def __init__(self, data):
        self.data, self.at = data, 0
        self.range, self.code = 2**32 - 1, 0
        for _ in range(4):
            self.next_byte()
        self.shared = {}

    def next_byte(self):
        b = self.data[self.at] if self.at < len(self.data) else 0
        self.at += 1
        self.code = (self.code << 8 | b) & (2**32 - 1)

    def normalise(self):
        while self.range < 2**24:
            self.range <<= 8
            self.next_byte()

    def decision(self, shared_key, own_key=None):
        shared = self.shared.setdefault(shared_key, Pair())
        if own_key is None:
            p, pairs = shared.p, [shared]
        else:
            own = self.own.setdefault(own_key, Pair())
            a, o = 2 * shared.n + 1, 2 * (2 * own.n + 1)
            p, pairs = (a * shared.p + o * own.p) // (a + o), [shared, own]
        bound = (self.range >> 16) * min(max(p, 48), 65488)
        b = self.code < bound
        if b:
            self.range = bound
        else:
            self.code -= bound
            self.range -= bound
        self.normalise()
        for pair in pairs:
            pair.meet(b)
        return b

    def bits(self, n):
        v = 0
        for _ in range(n):
            self.range >>= 1
            v *= 2
            if self.code >= self.range:
                self.code -= self.range
                v += 1
            self.normalise()
        return v

    def column(self, n):
        self.own = {}
        if n == 0:
            return []
        length = 0
        while length < 64 and self.decision(("first", length)):
            length += 1
        value = 0
        if length:
            value = 2 ** (length - 1) + self.bits(length - 1)
            if self.decision("first sign"):
                value = -value
        values = [int64(value)]
        calm, last_len, last_sign, recent = 13, 0, 0, None
        for _ in range(n - 1):
            d = self.difference(calm, last_len, last_sign)
            values.append(int64(values[-1] + d))
            amount = 16 * min(abs(d), 2**20)
            recent = amount if recent is None else (3 * recent + amount) // 4
            calm, last_len = min(recent.bit_length(), 12), abs(d).bit_length()
            last_sign = 0 if d == 0 else 1 if d > 0 else 2
        return values

    def difference(self, calm, last_len, last_sign):
        length = 0
        while length < 64 and self.decision(("longer", calm, min(last_len, 6), length), ("longer", length)):
            length += 1
        if length == 0:
            return 0
        size = 1
        if length > 1:
            size = 2 ** (length - 1) + 2 ** (length - 2) * self.decision(("second", length), ("second", length))
            size += self.bits(length - 2)
        down = self.decision(("sign", last_sign, min(last_len, 4), min(length, 4)), ("sign", last_sign))
        return -size if down else size


def int64(v):
    v &= 2**64 - 1
    return v - 2**64 if v >= 2**63 else v


def sums(deltas):
    values, v = [], 0
    for d in deltas:
        v = int64(v + d)
        values.append(v)
    return values


def block(body):
    b = pb.Block.FromString(body)
    packed = Columns(b.columns) if b.columns else None
    readings = []
    for run in b.runs:
        if packed:
            columns = [packed.column(run.slots) for _ in range(run.series)]
            rows = list(zip(*[packed.column(run.exact_rows) for _ in range(4)]))
        else:
            width = len(run.deltas) // run.slots
            columns = [sums(run.deltas[s * run.slots : (s + 1) * run.slots]) for s in range(width)]
            e = run.exact
            rows = list(zip(sums(e.series), sums(e.series_count), sums(e.slot), sums(e.off_ms)))
        quality, off = {}, {}
        for m in run.marks:
            for s in range(m.series, m.series + (m.series_count or 1)):
                for k in range(m.slot, m.slot + (m.slot_count or 1)):
                    quality[s, k] = m.quality
        for series, count, k, ms in rows:
            for s in range(series, series + count):
                off[s, k] = ms
        for k in range(run.slots):
            for s, column in enumerate(columns):
                q = quality.get((s, k), 0)
                if q == pb.QUALITY_ABSENT:
                    continue
                # The slot's place in the run's grid; the period may be the catalogue's.
                readings.append({
                    "group": run.group, "series": s, "first_ms": b.from_ms + run.first_ms, "period_ms": run.period_ms, "slot": k,
                    "off_ms": off.get((s, k), 0), "quality": q, "raw": column[k] if q in (0, pb.QUALITY_STALE) else 0,
                })
    if packed and packed.at < len(packed.data):
        raise ValueError("bytes behind the last column")
    return {"catalogue": b.catalogue.hex(), "from_ms": b.from_ms, "to_ms": b.from_ms + b.length_ms, "readings": readings}


def catalogue(body):
    c = pb.Catalogue.FromString(body)
    return {
        "name": hashlib.sha256(body).digest()[:8].hex(),
        "pumps": [{"id": p.id, "name": p.name, "family": p.family, "bus": p.bus, "address": p.address} for p in c.pumps],
        "groups": [
            {"period_ms": g.period_ms, "series": [
                {"pump": c.pumps[s.pump].id, "point": s.point, "unit": s.unit, "num": s.num or 1, "add": s.add,
                 "den": s.den or 1, "enumeration": s.enumeration} for s in g.series]}
            for g in c.groups],
    }


def gap(body):
    g = pb.Gap.FromString(body)
    return {"reason": g.reason, "from_ms": g.from_ms, "to_ms": g.to_ms, "from_seq": g.from_seq, "to_seq": g.to_seq}


def event(body):
    e = pb.Event.FromString(body)
    return {"time_ms": e.time_ms, "pump": e.pump, "link": e.link, "point": e.point, "raw": e.raw, "before": e.before}


def result(body):
    r = pb.Result()
    r.ParseFromString(body)
    return {"id": r.id.hex(), "outcome": r.outcome, "time_ms": r.time_ms, "raw": r.raw, "text": r.text}


def record(data):
    r = pb.Record.FromString(data)
    body = r.body if r.compression == 0 else zlib.decompress(r.body, wbits=-15)
    read = {1: block, 2: catalogue, 3: gap, 4: event, 5: result}.get(r.kind)
    return {"epoch": r.epoch.hex(), "lane": r.lane, "seq": r.seq, "kind": r.kind, "body": read(body) if read else body.hex()}


for name in sys.argv[1:]:
    with open(name) as f:
        print(json.dumps(record(bytes.fromhex("".join(json.load(f)["record"])))))
