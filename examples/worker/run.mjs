// Runs the documented Worker under Miniflare, with its AI binding connected to a detr-onnx server.
//
//   npm install && node run.mjs http://127.0.0.1:8787 [IMAGE]
//
// With IMAGE, the Worker's request for an image gets that file, and nothing leaves this machine.
import { readFile } from "node:fs/promises";
import { transform } from "esbuild";
import { Miniflare, Response, fetch } from "miniflare";

const [server, image] = process.argv.slice(2);
const here = (name) => new URL(name, import.meta.url);
const { code } = await transform(await readFile(here("src/index.ts"), "utf8"), { loader: "ts" });
const common = { modules: true, compatibilityDate: "2025-01-01" };
const miniflare = new Miniflare({
  workers: [
    {
      ...common,
      name: "documented",
      script: code,
      serviceBindings: { AI: "ai" },
      outboundService: image ? async () => new Response(await readFile(image)) : (request) => fetch(request),
    },
    {
      ...common,
      name: "ai",
      script: await readFile(here("src/ai.js"), "utf8"),
      bindings: { SERVER: server, TOKEN: process.env.DETR_ONNX_TOKEN ?? "" },
    },
  ],
});
const response = await miniflare.dispatchFetch("http://localhost/");
console.log(await response.text());
await miniflare.dispose();
