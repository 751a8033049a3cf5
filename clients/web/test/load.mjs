// Owns how a test gets at a module of src: bundled in memory, Yjs left out so that both sides share one.
import { fileURLToPath } from "node:url";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));

/** The exports of `src/<name>.ts`. */
export async function load(name) {
  const { outputFiles } = await build({
    absWorkingDir: root,
    entryPoints: [`src/${name}.ts`],
    bundle: true,
    write: false,
    format: "esm",
    platform: "neutral",
    external: ["yjs", "y-protocols", "lib0"],
    logLevel: "warning",
  });
  // Inside the package, so that the imports left in it resolve.
  const folder = await mkdtemp(join(root, "node_modules", ".test-"));
  try {
    const file = join(folder, `${name}.mjs`);
    await writeFile(file, outputFiles[0].contents);
    return await import(file);
  } finally {
    await rm(folder, { recursive: true });
  }
}
