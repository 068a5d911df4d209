#!/usr/bin/env python3
"""Reads every topic of a world with Confluent's client, its schema registry client and fastavro, and holds it against the contract.

Nothing here is Quadrille's own code: what it says of headers, versions, ids and money is what any other client sees.
It is told by its environment: BROKERS, REGISTRY, PREFIX, ORDERS (how many orders were placed), SCHEMAS (the schemas folder).
The last line is a JSON object with counts and faults.
"""

import base64
import io
import json
import os
import re
import struct
import sys
import tomllib
import uuid
from collections import Counter, defaultdict
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path

import fastavro
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

BROKERS, REGISTRY, PREFIX = os.environ["BROKERS"], os.environ["REGISTRY"], os.environ["PREFIX"]
ORDERS, SCHEMAS = int(os.environ["ORDERS"]), Path(os.environ["SCHEMAS"])
NAMESPACE = uuid.UUID("51117bdc-5945-44e5-a50e-4821f1c2f7a0")
ENDS = {"quadrille.order.OrderDelivered", "quadrille.order.OrderCancelled", "quadrille.order.OrderRejected"}
REQUIRED = ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_subject", "ce_time", "content-type",
            "ce_correlationid", "ce_causationid", "ce_aggregateversion", "traceparent"]

faults: list[str] = []
counts: Counter = Counter()


def fault(where: str, what: str) -> None:
    faults.append(f"{where}: {what}")


def v5(*parts: object) -> str:
    """The contract's computed ids: netstrings in a namespace of its own."""
    name = "".join(f"{len(str(part).encode())}:{part}," for part in parts)
    return str(uuid.uuid5(NAMESPACE, name))


def read(topic: str, partitions: int):
    """Every record of a topic, partition by partition."""
    consumer = Consumer({"bootstrap.servers": BROKERS, "group.id": f"{PREFIX}foreign", "enable.auto.commit": False,
                         "enable.partition.eof": True, "isolation.level": "read_committed"})
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(partitions)])
    open_partitions = set(range(partitions))
    while open_partitions:
        message = consumer.poll(20)
        if message is None:
            raise SystemExit(f"{topic} was read in part only")
        if message.error():
            if message.error().name() != "_PARTITION_EOF":
                raise SystemExit(f"{topic}: {message.error()}")
            open_partitions.discard(message.partition())
        else:
            yield message
    consumer.close()


def check_headers(where: str, message, headers: dict, writer: str, name: str) -> None:
    key = message.key().decode()
    for header in REQUIRED:
        if not headers.get(header):
            fault(where, f"no header {header}")
    expected = {"ce_specversion": "1.0", "ce_source": f"/quadrille/{writer}", "ce_type": name, "ce_subject": key,
                "ce_correlationid": key, "content-type": "application/avro"}
    for header, value in expected.items():
        if headers.get(header) != value:
            fault(where, f"{header} is {headers.get(header)!r}, not {value!r}")
    for header in ("ce_id", "ce_causationid"):
        if str(uuid.UUID(headers[header])) != headers[header]:
            fault(where, f"{header} is {headers[header]}, no UUID in its usual form")
    if not re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", headers.get("traceparent", "")):
        fault(where, f"traceparent is {headers.get('traceparent')!r}")
    stated = datetime.fromisoformat(headers["ce_time"])
    if int(stated.timestamp() * 1000) != message.timestamp()[1]:
        fault(where, f"ce_time {headers['ce_time']} is not the record's timestamp {message.timestamp()[1]}")
    if stated.utcoffset() != timezone.utc.utcoffset(None):
        fault(where, f"ce_time {headers['ce_time']} is not UTC")


def money(value) -> Decimal:
    """Money is exact: a Decimal with two decimals, whoever reads it."""
    if not isinstance(value, Decimal) or value != round(value, 2):
        raise TypeError(f"{value!r} is no decimal(12,2)")
    return value


def golden() -> None:
    """The golden records of the tree: each is read by the schema that stands beside it, and says what its JSON says."""
    for file in sorted(SCHEMAS.glob("*/golden/*.bin")):
        name = file.stem.split(".")[0]
        schema = fastavro.parse_schema(json.loads((file.parent.parent / "versions" / f"{file.stem}.avsc").read_text()))
        framed = file.read_bytes()
        if framed[0] != 0:
            fault(str(file), "no magic byte 0")
        rest = io.BytesIO(framed[5:])
        value = fastavro.schemaless_reader(rest, schema)
        if rest.read():
            fault(str(file), "bytes are left behind the record")
        told = json.loads(file.with_suffix(".json").read_text())
        compare(f"{file.parent.parent.name}/{name}", value, told)
        counts["golden"] += 1


def compare(where: str, value, told) -> None:
    """A value as fastavro reads it, against JSON as Quadrille writes it."""
    if isinstance(told, dict) and isinstance(value, dict):
        for field in told:
            compare(f"{where}.{field}", value.get(field), told[field])
        if set(value) != set(told):
            fault(where, f"has the fields {sorted(value)}, not {sorted(told)}")
    elif isinstance(told, list) and isinstance(value, list):
        if len(value) != len(told):
            fault(where, f"has {len(value)} items, not {len(told)}")
        for number, (one, other) in enumerate(zip(value, told)):
            compare(f"{where}[{number}]", one, other)
    elif told == "***":
        pass  # a secret, which JSON hides
    elif isinstance(value, Decimal):
        if value != Decimal(told):
            fault(where, f"is {value}, not {told}")
    elif isinstance(value, uuid.UUID):
        if str(value) != told:
            fault(where, f"is {value}, not {told}")
    elif isinstance(value, datetime):
        if value != datetime.fromisoformat(told):
            fault(where, f"is {value}, not {told}")
    elif isinstance(value, bytes):
        if base64.b64encode(value).decode() != told:
            fault(where, f"is {value!r}, not {told}")
    elif value != told:
        fault(where, f"is {value!r}, not {told!r}")


def main() -> None:
    registry = SchemaRegistryClient({"url": REGISTRY})
    deserializer = AvroDeserializer(registry)
    names: dict[int, str] = {}
    declared = tomllib.loads((SCHEMAS / "topics.toml").read_text())["topics"]
    ids: set[str] = set()
    causes: list[tuple[str, str]] = []
    ends: dict[str, list[str]] = defaultdict(list)
    created: set[str] = set()
    net: dict[str, Decimal] = defaultdict(Decimal)
    captured = refunded = Decimal(0)

    for topic in declared:
        name_of_topic, is_events = topic["name"], topic["name"].endswith(".events")
        versions: dict[str, int] = {}
        first: dict[str, int] = {}
        counts["topics"] += 1
        for message in read(PREFIX + name_of_topic, topic["partitions"]):
            where = f"{name_of_topic}/{message.partition()}@{message.offset()}"
            counts["records"] += 1
            if message.value() is None:
                if topic["cleanup"] != "compact":
                    fault(where, "no value on a topic that is not compacted")
                continue
            magic, schema_id = struct.unpack(">bI", message.value()[:5])
            if magic != 0:
                fault(where, f"magic byte {magic}")
                continue
            if schema_id not in names:
                names[schema_id] = json.loads(registry.get_schema(schema_id).schema_str)
            full = f"{names[schema_id]['namespace']}.{names[schema_id]['name']}"
            value = deserializer(message.value(), SerializationContext(message.topic(), MessageField.VALUE))
            headers = {key: (raw.decode() if raw else "") for key, raw in message.headers() or []}
            key = message.key().decode()
            if name_of_topic.endswith(".requests"):
                counts["requests"] += 1
                if "ce_id" in headers:
                    ids.add(v5(name_of_topic, key.lower(), headers.get("ce_source", ""), headers["ce_id"]))
                else:
                    ids.add(v5(name_of_topic, message.partition(), message.offset(), message.timestamp()[1]))
                continue
            if not is_events:
                continue
            counts["events"] += 1
            check_headers(where, message, headers, topic["writer"], full)
            version = int(headers["ce_aggregateversion"])
            if headers["ce_id"] in first:
                counts["repeats"] += 1
                if first[headers["ce_id"]] != version:
                    fault(where, "a repeat with another version")
                continue
            first[headers["ce_id"]] = version
            ids.add(headers["ce_id"])
            causes.append((where, headers["ce_causationid"]))
            if version != versions.get(key, 0) + 1:
                fault(where, f"version {version} of {key} after {versions.get(key, 0)}")
            versions[key] = version
            if full == "quadrille.order.OrderCreated":
                created.add(key)
                lines = sum(money(line["unit_price"]) * line["quantity"] for line in value["details"]["lines"])
                if lines != money(value["details"]["total"]):
                    fault(where, f"the lines come to {lines}, the total is {value['details']['total']}")
            if full in ENDS:
                ends[key].append(full)
            if full == "quadrille.payment.PaymentCaptured":
                net[key] += money(value["amount"])
                captured += value["amount"]
            if full == "quadrille.payment.PaymentRefunded":
                net[key] -= money(value["amount"])
                refunded += value["amount"]
        counts["keys"] += len(versions)

    for where, cause in causes:
        if cause not in ids:
            fault(where, f"its cause {cause} is no record's id")
    for order in created:
        if len(ends[order]) != 1:
            fault(order, f"has {len(ends[order])} ends: {ends[order]}")
        kept = ends[order] == ["quadrille.order.OrderDelivered"]
        if (net[order] > 0) != kept or net[order] < 0:
            fault(order, f"{net[order]} were kept, and it ended as {ends[order]}")
    if len(created) != ORDERS:
        fault("orders", f"{ORDERS} were placed, {len(created)} were created")
    golden()
    print(json.dumps({**counts, "orders": len(created), "captured": str(captured), "refunded": str(refunded),
                      "schemas": len(names), "faults": faults}))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
