// Times the worker of examples/browser: `node browser.cjs SITE IMAGE RUNS` serves the site, opens each of its models in a
// new headless Chromium, and prints milliseconds as JSON. The environment has CHROMIUM, and NODE_PATH with playwright-core.
const { chromium } = require("playwright-core");
const fs = require("fs");
const http = require("http");
const path = require("path");

const [site, image, runs] = process.argv.slice(2);
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".wasm": "application/wasm" };
const ISOLATED = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };

const server = http.createServer((request, response) => {
  const name = decodeURIComponent(request.url).replace(/\/$/, "/index.html");
  const file = name === "/measured" ? image : path.join(site, name);
  if (!fs.existsSync(file)) return response.writeHead(404).end();
  response.writeHead(200, { "Content-Type": TYPES[path.extname(file)] || "application/octet-stream", ...ISOLATED });
  return fs.createReadStream(file).pipe(response);
});

// In the page: opens a model and detects, with the page's own worker.
async function measure([index, runs]) {
  const { Engine } = await import("./engine.js");
  const site = await (await fetch("site.json")).json();
  const blob = await (await fetch("measured")).blob();
  const engine = new Engine();
  const started = performance.now();
  const opened = await engine.open({ site, model: site.models[index], engine: "wasm", mayFallBack: false }, () => {});
  const open = performance.now() - started;
  const times = [];
  for (let run = 0; run <= runs; run++) times.push((await engine.detect(blob, 0.5)).ms);
  return { open: Math.round(open), first: times[0], times: times.slice(1), threads: opened.threads };
}

server.listen(0, "127.0.0.1", async () => {
  const models = JSON.parse(fs.readFileSync(path.join(site, "site.json"))).models;
  const rows = [];
  let version = "";
  for (const [index, { name, bytes }] of models.entries()) {
    const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"] });
    version = browser.version();
    const page = await (await browser.newContext({ serviceWorkers: "block" })).newPage();
    await page.goto(`http://127.0.0.1:${server.address().port}/`);
    const measured = await page.evaluate(measure, [index, Number(runs)]).catch((error) => ({ error: error.message.split("\n")[0] }));
    rows.push({ name, bytes, ...measured });
    console.error(JSON.stringify(rows.at(-1)));
    await browser.close();
  }
  console.log(JSON.stringify({ chromium: version, rows }));
  process.exit(0);
});
