// A real browser on the page of examples/browser: `node browser_page.cjs FOLDER` prints what it sees as JSON. FOLDER has the
// sites `site`, `next` (a later version), `damaged`, `broken` and `images`; screenshots go there.
const { chromium } = require("playwright-core");
const fs = require("fs");
const http = require("http");
const path = require("path");
const giveImage = require("../server/sdk_clients/give_image.cjs");
const violations = require("../server/sdk_clients/violations.cjs");

const folder = process.argv[2];
const images = fs.readdirSync(`${folder}/images`);
const FLAGS = ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"];
const SOFTWARE_GPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan", "--use-vulkan=swiftshader"];
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".wasm": "application/wasm" };
const ISOLATED = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };
const TIMEOUT = 120000;

// A static server, as plain as they come.
function serve(site, port = 0, headers = {}) {
  const server = http.createServer((request, response) => {
    const name = decodeURIComponent(new URL(request.url, "http://host").pathname).replace(/\/$/, "/index.html");
    const file = path.join(site, name);
    if (!fs.existsSync(file)) return response.writeHead(404).end();
    response.writeHead(200, { "Content-Type": TYPES[path.extname(file)] || "application/octet-stream", ...headers });
    return fs.createReadStream(file).pipe(response);
  });
  return new Promise((resolve) => server.listen(port, "127.0.0.1", () => resolve(server)));
}

const urlOf = (server, query = "") => `http://127.0.0.1:${server.address().port}/${query}`;
const close = (server) => new Promise((resolve) => { server.close(resolve); server.closeAllConnections(); });
const statusOf = (page) => page.textContent("#status");
const jsonOf = async (page) => JSON.parse(await page.textContent("#json"));

// Runs an action that gives the page an image, and waits for its detections or an error.
async function after(page, action) {
  await page.evaluate(() => { document.getElementById("status").textContent = ""; });
  await action();
  await page.waitForFunction(() => {
    const status = document.getElementById("status");
    return status.textContent.includes("found in") || (status.textContent && status.classList.contains("wrong"));
  }, null, { timeout: TIMEOUT });
  return { status: await statusOf(page), json: await jsonOf(page) };
}

const choose = (page, name) => after(page, () => page.setInputFiles("#file", `${folder}/images/${name}`));
const sample = (page) => after(page, () => page.click("#sample"));
const isReady = (page) => page.waitForFunction(() => document.getElementById("state").textContent.startsWith("Ready"), null, { timeout: TIMEOUT });
const isolated = (page) => page.waitForFunction(() => self.crossOriginIsolated && document.getElementById("model").options.length, null, { timeout: TIMEOUT });

async function given(page, kind) {
  return after(page, () => giveImage(page, kind, `${folder}/images/scene.jpg`));
}

// The first visit: isolation, the download, every source of images, every control, every kind of file.
async function firstVisit(page, url, seen) {
  await page.goto(url);
  await isolated(page);
  seen.offer = await page.textContent("#get");
  await page.evaluate(() => {
    self.amounts = [];
    new MutationObserver(() => self.amounts.push(document.getElementById("amount").textContent)).observe(document.getElementById("amount"), { childList: true });
  });
  seen.sample = await sample(page);
  seen.amounts = await page.evaluate(() => self.amounts);
  seen.state = await page.textContent("#state");
  seen.workers = page.workers().length;
  seen.label = await page.getAttribute("#canvas", "aria-label");
  seen.listed = await page.$$eval("#found li", (items) => items.map((item) => item.innerText.split("\n")[0]));
  await page.focus("#threshold");
  await page.keyboard.press("End");
  seen.atEnd = (await jsonOf(page)).length;
  seen.statusAtEnd = await statusOf(page);
  await page.keyboard.press("Home");
  seen.atHome = await jsonOf(page);
  seen.statusAtHome = await statusOf(page);
  await page.selectOption("#class", "zebra");
  seen.filtered = (await jsonOf(page)).map((d) => d.label);
  await page.evaluate(() => { document.getElementById("threshold").value = 0.5; });
  seen.files = {};
  for (const name of images) seen.files[name] = await choose(page, name);
  seen.dropped = await given(page, "drop");
  seen.pasted = await given(page, "paste");
  await page.click("#camera");
  await page.waitForFunction(() => document.getElementById("video").videoWidth > 0);
  seen.camera = await after(page, () => page.click("#shoot"));
  await choose(page, "scene.jpg");
  await page.click('[data-of="json"]');
  seen.copied = await page.evaluate(() => navigator.clipboard.readText());
}

async function otherModel(page, url) {
  await page.goto(`${url}?model=Demo, int8 weights`);
  await isolated(page);
  const int8 = await sample(page);
  await page.goto(`${url}?model=none`);
  await page.waitForFunction(() => document.getElementById("status").textContent);
  return { int8, unknown: await statusOf(page) };
}

// Without a server the page detects; then a new version is served.
async function offlineAndRenewed(page, server, seen) {
  const port = server.address().port;
  await close(server);
  await page.goto(`http://127.0.0.1:${port}/`); // as a bookmark
  await isReady(page);
  seen.offline = { isolated: await page.evaluate("crossOriginIsolated"), ...(await sample(page)) };
  const next = await serve(`${folder}/next`, port);
  await page.reload();
  await page.waitForFunction(() => !document.getElementById("renewed").hidden, null, { timeout: TIMEOUT });
  await page.click("#reload");
  await page.waitForFunction(() => document.getElementById("model").options.length === 1);
  seen.next = { ...(await sample(page)), model: await page.textContent("#model option") };
  seen.caches = await page.evaluate(async () => Object.fromEntries(await Promise.all((await caches.keys()).map(async (name) =>
    [name, (await (await caches.open(name)).keys()).map(({ url }) => new URL(url).pathname)]))));
  await close(next);
}

// A new window of its own storage on a site, after `prepare`; what a sample gives there.
async function visit(browser, site, { headers, options, prepare, query = "" } = {}) {
  const server = await serve(`${folder}/${site}`, 0, headers);
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.setDefaultTimeout(TIMEOUT);
  let loads = 0;
  page.on("domcontentloaded", () => loads++);
  if (prepare) await prepare(context, page, server);
  await page.goto(urlOf(server, query));
  if (options?.serviceWorkers === "block") await page.waitForFunction(() => document.getElementById("model").options.length);
  else await isolated(page);
  const seen = { ...(await sample(page)), state: await page.textContent("#state"), loads };
  if (site !== "site") seen.again = await sample(page);
  await context.close();
  await close(server);
  return seen;
}

async function refuseStorage(context, page, server) {
  const session = await context.newCDPSession(page);
  await session.send("Storage.overrideQuotaForOrigin", { origin: new URL(urlOf(server)).origin, quotaSize: 1000000 });
}

async function views(browser, seen) {
  const server = await serve(`${folder}/site`);
  for (const width of [360, 820, 1400]) {
    for (const colorScheme of ["light", "dark"]) {
      const phone = width < 500;
      const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme, isMobile: phone, hasTouch: phone });
      const page = await context.newPage();
      const name = `${width}-${colorScheme}`;
      await page.goto(urlOf(server));
      await isolated(page);
      await page.screenshot({ path: `${folder}/empty-${name}.png` });
      await sample(page);
      seen[name] = await page.evaluate(() => ({
        overflow: document.documentElement.scrollWidth - innerWidth,
        textPx: parseFloat(canvas.getContext("2d").font.split(" ")[1]) * canvas.clientWidth / canvas.width,
        smallest: Math.min(...[...document.querySelectorAll("button, select, label.button, input[type=range]")]
          .map((element) => element.getBoundingClientRect().height).filter((height) => height > 0)),
        unnamed: [...document.querySelectorAll("button, select, input, progress, canvas")]
          .filter((element) => !(element.labels?.length || element.textContent.trim() || element.getAttribute("aria-label"))).length,
      }));
      seen[name].violations = await violations(page);
      await page.screenshot({ path: `${folder}/${name}.png`, fullPage: true });
      await context.close();
    }
  }
  await close(server);
}

const launch = (flags) => chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: [...FLAGS, ...flags] });

(async () => {
  const seen = { errors: [], requests: [], views: {} };
  const browser = await launch(["--disable-gpu"]);
  const server = await serve(`${folder}/site`);
  const context = await browser.newContext({ permissions: ["camera", "clipboard-read", "clipboard-write"] });
  const page = await context.newPage();
  page.setDefaultTimeout(TIMEOUT);
  page.on("console", (message) => message.type() === "error" && seen.errors.push(message.text()));
  page.on("pageerror", (error) => seen.errors.push(String(error)));
  context.on("request", (request) => seen.requests.push(request.url()));
  seen.url = urlOf(server);
  await firstVisit(page, seen.url, seen);
  seen.other = await otherModel(page, seen.url);
  await offlineAndRenewed(page, server, seen);
  seen.refused = await visit(browser, "site", { prepare: refuseStorage });
  seen.plain = await visit(browser, "site", { options: { serviceWorkers: "block" } });
  seen.isolatedByHost = await visit(browser, "site", { headers: ISOLATED });
  seen.damaged = await visit(browser, "damaged");
  seen.broken = await visit(browser, "broken");
  await views(browser, seen.views);
  await browser.close();
  const gpu = await launch(SOFTWARE_GPU);
  seen.webgpu = await visit(gpu, "site", { query: "?engine=webgpu" });
  await gpu.close();
  console.log(JSON.stringify(seen));
  process.exit(0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
