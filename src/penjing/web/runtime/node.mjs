// Starts the worker in Node: node node.mjs FOLDER_OF_PACKAGES
// The server's address, which holds a secret, comes through the standard input.
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import vm from "node:vm";
import fs from "node:fs";

import { serve } from "./worker.mjs";

const [packages] = process.argv.slice(2);
const base = fs.readFileSync(0, "utf8").trim();
const core = join(packages, "node_modules", "@litertjs", "core");
const script = (name) => join(core, "wasm", name);

// What the packages expect of a browser's worker.
globalThis.self = globalThis;
globalThis.require = createRequire(script("here.js"));
globalThis.__dirname = join(core, "wasm");
globalThis.importScripts = (file) => {
  globalThis.__filename = file;
  vm.runInThisContext(fs.readFileSync(file, "utf8"), { filename: file });
};

const litert = await import(pathToFileURL(join(core, "dist", "index.js")).href);

async function load() {
  const relaxed = await litert.supportsFeature("relaxedSimd");
  const name = relaxed ? "litert_wasm_internal.js" : "litert_wasm_compat_internal.js";
  return litert.loadLiteRt(script(name));
}

await serve(base, litert, load, `Node ${process.versions.node}`);
