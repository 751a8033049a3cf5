// Owns the build of the demo workspace: src -> dist, the same bytes on every machine.
// `--check` builds in memory and compares with dist. Never writes outside dist, never asks the network.
import { readFile, readdir, mkdir, rm, writeFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const dist = join(here, "dist");
const MAX_GZIPPED_BYTES = 400 * 1024;

const files = await bundle();
if (process.argv.includes("--check")) await check(files);
else await write(files);

async function bundle() {
  const result = await build({
    absWorkingDir: here,
    entryPoints: { app: "src/main.ts" },
    outdir: "dist",
    bundle: true,
    write: false,
    metafile: true,
    minify: true,
    format: "iife",
    target: ["es2022"],
    charset: "utf8",
    sourcemap: false,
    legalComments: "none",
    logLevel: "warning",
  });
  const out = new Map();
  for (const file of result.outputFiles) {
    const name = file.path.endsWith(".css") ? "app.css" : "app.js";
    out.set(name, Buffer.from(file.contents));
  }
  const notice = Buffer.from(await licences(Object.keys(result.metafile.inputs)));
  out.set("app.js", Buffer.concat([notice, out.get("app.js")]));
  for (const name of ["index.html", "favicon.svg"]) {
    out.set(name, await readFile(join(here, "src", name)));
  }
  const packed = [...out.values()].reduce((sum, bytes) => sum + gzipSync(bytes).length, 0);
  if (packed > MAX_GZIPPED_BYTES) {
    fail(`The bundle is ${packed} bytes gzipped; the bound is ${MAX_GZIPPED_BYTES}.`);
  }
  return out;
}

// The bundled packages' licences ask that their notice travels with copies of them.
async function licences(inputs) {
  const roots = new Set();
  for (const input of inputs) {
    const found = input.match(/^(?:.*\/)?node_modules\/((?:@[^/]+\/)?[^/]+)\//);
    if (found) roots.add(found[1]);
  }
  const lines = [];
  let terms = "";
  for (const name of [...roots].sort()) {
    const root = join(here, "node_modules", name);
    const { version, license } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
    if (license !== "MIT") fail(`${name} is under "${license}": the notice in build.mjs covers MIT only.`);
    const text = await licenceText(root);
    const holder = text.match(/^\s*Copyright .*$/m)?.[0].trim() ?? "";
    lines.push(` ${name} ${version}${holder ? ` - ${holder}` : ""}`);
    const start = text.indexOf("Permission is hereby granted");
    if (!terms && start >= 0) terms = text.slice(start).trim();
  }
  if (!terms) fail("No licence text was found in the bundled packages.");
  const body = terms.split(/\r?\n/).map((line) => ` ${line}`.trimEnd()).join("\n");
  return `/*!\n Tandem's demo workspace (Apache-2.0) contains these packages under the MIT licence:\n${lines.join("\n")}\n\n${body}\n*/\n`;
}

async function licenceText(root) {
  const name = (await readdir(root)).sort().find((file) => /^licen[cs]e(\.|$)/i.test(file));
  return name ? readFile(join(root, name), "utf8") : "";
}

async function write(out) {
  await rm(dist, { recursive: true, force: true });
  await mkdir(dist, { recursive: true });
  for (const [name, bytes] of out) await writeFile(join(dist, name), bytes);
  for (const [name, bytes] of out) {
    console.log(`dist/${name}: ${bytes.length} bytes, ${gzipSync(bytes).length} gzipped`);
  }
}

async function check(out) {
  const wrong = [];
  const present = await readdir(dist).catch(() => []);
  for (const [name, bytes] of out) {
    const old = await readFile(join(dist, name)).catch(() => undefined);
    if (old === undefined) wrong.push(`dist/${name} is missing`);
    else if (!old.equals(bytes)) wrong.push(`dist/${name} is not what src builds to`);
  }
  for (const name of present) {
    if (!out.has(name)) wrong.push(`dist/${name} is built from nothing`);
  }
  if (wrong.length) fail(`${wrong.join("\n")}\nRun \`npm ci --ignore-scripts && npm run build\` in clients/web and commit dist.`);
  console.log("dist is current.");
}

function fail(sentence) {
  console.error(sentence);
  process.exit(1);
}
