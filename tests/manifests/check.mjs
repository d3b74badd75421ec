// Checks Kubernetes objects against the schemas of @kubernetes-models, as `node check.mjs MODULES < objects.json`.
//
// MODULES is the node_modules directory they were installed in; standard input a JSON array of objects. Prints a
// JSON array of problems, one string each; empty when all is well. The schemas let unknown fields pass, so each field
// the schema never looked at is a problem too.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { resolve } from "node:path";

const PACKAGES = {
  "gateway.networking.k8s.io": "gateway-api",
  "gateway.envoyproxy.io": "envoy-gateway",
  "networking.istio.io": "istio",
  "telemetry.istio.io": "istio",
};

// A view of `value` that notes in `read` the path of every field looked at.
function watched(value, path, read) {
  if (value === null || typeof value !== "object") return value;
  return new Proxy(value, {
    get(target, key) {
      if (typeof key === "symbol" || !Object.hasOwn(target, key)) return Reflect.get(target, key);
      read.add(`${path}/${key}`);
      return watched(target[key], `${path}/${key}`, read);
    },
  });
}

// The paths of `value` that are not in `read`.
function* unread(value, path, read) {
  if (value === null || typeof value !== "object") return;
  for (const [key, inner] of Object.entries(value)) {
    const here = `${path}/${key}`;
    if (read.has(here)) yield* unread(inner, here, read);
    else yield here;
  }
}

// Free-form by the schema; `dualpool render` reads these as Envoy's own types.
const FREE = /^\/spec\/configPatches\/\d+\/patch\/value\//;

const problems = [];
for (const object of JSON.parse(readFileSync(0, "utf8"))) {
  const name = `${object.kind} ${object.metadata?.name}`;
  const [group, version] = object.apiVersion.split("/");
  const path = `@kubernetes-models/${PACKAGES[group]}/${group}/${version}/${object.kind}.js`;
  try {
    const module = await import(pathToFileURL(resolve(process.argv[2], path)));
    const read = new Set();
    const model = new module[object.kind](object);
    model.spec = watched(object.spec, "/spec", read);
    model.validate();
    for (const field of unread(object.spec, "/spec", read)) {
      if (!FREE.test(field)) problems.push(`${name}: ${field}: no such field`);
    }
  } catch (error) {
    problems.push(`${name}: ${error.message}`);
  }
}
process.stdout.write(JSON.stringify(problems));
