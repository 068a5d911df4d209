// asyncapi.mjs FILE: has AsyncAPI's own parser read an AsyncAPI document, Avro payloads included; exit status 1 where it refuses it.
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { Parser } from "@asyncapi/parser";
import { AvroSchemaParser } from "@asyncapi/avro-schema-parser";

const file = resolve(process.argv[2]);
const parser = new Parser({ schemaParsers: [AvroSchemaParser()] });
const { document, diagnostics } = await parser.parse(readFileSync(file, "utf8"), { source: file });

// Severity 0 is an error, 1 a warning; the rest is advice.
for (const { severity, code, message, path } of diagnostics.filter(({ severity }) => severity <= 1)) {
  console.log(`${severity === 0 ? "error" : "warning"} ${code} at ${path.join(".")}: ${message}`);
}
const errors = diagnostics.filter(({ severity }) => severity === 0).length;
if (!document || errors > 0) {
  console.log(`asyncapi: refused, ${errors} errors`);
  process.exit(1);
}
const [channels, operations, messages] = ["channels", "operations", "messages"].map((part) => document[part]().length);
console.log(`asyncapi: accepted, version ${document.version()}, ${channels} channels, ${operations} operations, ${messages} messages`);
