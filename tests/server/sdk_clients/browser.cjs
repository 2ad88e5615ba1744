// A real browser on the page: `node browser.cjs URL IMAGE FOLDER` prints what it sees as JSON and saves screenshots in
// FOLDER, which has the images tall.png and image.tiff.
const fs = require("fs");
const { chromium } = require("playwright-core");
const giveImage = require("./give_image.cjs");
const violations = require("./violations.cjs");

const [url, image, folder] = process.argv.slice(2);
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"];

const statusOf = (page) => page.textContent("#status");
const clearStatus = (page) => page.evaluate(() => { document.getElementById("status").textContent = ""; });

// Runs an action that gives the page an image, and waits for its detections, or for the error.
async function after(page, action, wanted = "found in") {
  await clearStatus(page);
  await action();
  await page.waitForFunction((wanted) => {
    const status = document.getElementById("status");
    return wanted === "wrong" ? status.classList.contains("wrong") : status.textContent.includes(wanted);
  }, wanted, { timeout: 120000 });
  return statusOf(page);
}

const choose = (page, file, wanted) => after(page, () => page.setInputFiles("#file", file), wanted);

async function look(page) {
  await page.goto(url);
  await choose(page, image);
}

// The same image by an event, as of a drop or a paste.
async function given(page, kind) {
  await after(page, () => giveImage(page, kind, image));
  return [await page.textContent("#curl"), JSON.parse(await page.textContent("#json")).length];
}

async function pixels(page) {
  return page.evaluate(() => {
    const canvas = document.getElementById("canvas");
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let sum = 0;
    for (let i = 0; i < data.length; i += 4) sum = (sum * 31 + data[i] + data[i + 1] * 3 + data[i + 2] * 7) % 4294967291;
    return { width: canvas.width, height: canvas.height, sum };
  });
}

const pressed = (page) => page.$$eval("#found button", (buttons) => buttons.map((b) => b.getAttribute("aria-pressed") === "true"));
const saysWhere = (page) => page.waitForFunction(() => document.getElementById("status").textContent.startsWith("Where the model looks"), null, { timeout: 120000 });

// Clicks the middle of the best detection's box in the image, twice, then beside all boxes.
async function explained(page) {
  const before = await pixels(page);
  const [{ box }] = JSON.parse(await page.textContent("#json"));
  const scale = await page.$eval("#canvas", (canvas) => canvas.getBoundingClientRect().width / canvas.width); // one of its pixels is one of the image
  const position = { x: (box.xmin + box.xmax) / 2 * scale, y: (box.ymin + box.ymax) / 2 * scale };
  await page.click("#canvas", { position });
  await saysWhere(page);
  const open = await pixels(page);
  const found = { status: await statusOf(page), label: await page.getAttribute("#canvas", "aria-label"), pressed: await pressed(page) };
  await page.mouse.move(0, 0);
  await page.click("#canvas", { position });
  await page.mouse.move(0, 0);
  const closed = await pixels(page);
  await page.click("#canvas", { position });
  await saysWhere(page);
  await page.click("#canvas", { position: { x: 2, y: 2 } });
  await page.mouse.move(0, 0);
  const outside = await pixels(page);
  await page.click("#canvas", { position });
  await saysWhere(page);
  return { ...found, differs: open.sum !== before.sum, closes: closed.sum === before.sum && outside.sum === before.sum };
}

// The same from the list of detections: Enter shows the second one's map, Space hides it.
async function explainedByKey(page) {
  await page.focus("#found li:nth-child(2) button");
  await page.keyboard.press("Enter");
  await saysWhere(page);
  const shown = await pressed(page);
  await page.keyboard.press("Space");
  const focused = await page.evaluate(() => document.activeElement === document.querySelectorAll("#found button")[1]);
  return { shown, hidden: await pressed(page), status: await statusOf(page), focused };
}

// Presses the button of the camera three times, twice of them at once; how many of its streams are open, and what has the focus.
async function camera(context) {
  const page = await context.newPage();
  await page.addInitScript(() => {
    const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    window.streams = [];
    navigator.mediaDevices.getUserMedia = async (options) => {
      const stream = await open(options);
      window.streams.push(stream);
      return stream;
    };
  });
  const state = () => page.evaluate(() => ({
    open: window.streams.filter((stream) => stream.getTracks().some(({ readyState }) => readyState === "live")).length,
    shown: !document.getElementById("viewfinder").hidden,
    focus: document.activeElement.id,
  }));
  const press = async (times, streams) => {
    await page.$eval("#camera", (button, times) => { for (let i = 0; i < times; i++) button.click(); }, times);
    await page.waitForFunction((streams) => window.streams.length === streams && document.activeElement.id === "shoot", streams);
    return state();
  };
  await page.goto(url);
  const seen = { twice: await press(2, 2) };
  await page.focus("#sample");
  seen.again = await press(1, 3);
  await page.keyboard.press("Escape");
  seen.escaped = await state();
  await page.close();
  return seen;
}

// The sentences for what goes wrong on the way to the server.
async function mishaps(browser) {
  const page = await (await browser.newContext()).newPage();
  const said = {};
  await page.goto(url);
  const fails = (action) => after(page, action, "wrong");
  await page.route("**/sample.jpg", (route) => route.fulfill({ status: 500, body: "?" }));
  said.sample = await fails(() => page.click("#sample"));
  for (const [name, answer] of Object.entries({
    gateway: { status: 502, contentType: "text/html", body: "<h1>Bad gateway</h1>" },
    foreign: { status: 403, contentType: "application/json", body: '{"message": "no"}' },
    loading: { status: 503, contentType: "application/json", body: '{"errors": [{"code": 3040, "message": "later"}], "success": false}' },
  })) {
    await page.route("**/ai/run/**", (route) => route.fulfill(answer));
    said[name] = await choose(page, image, "wrong");
    await page.unroute("**/ai/run/**");
  }
  await page.route("**/ai/run/**", (route) => route.abort());
  said.unreachable = await choose(page, image, "wrong");
  await page.unroute("**/ai/run/**");
  const changing = `${folder}/changing.jpg`;
  fs.copyFileSync(image, changing);
  await choose(page, changing);
  fs.appendFileSync(changing, "more");
  const again = () => page.$eval("#token-form", (form) => form.requestSubmit());
  said.changed = await fails(again);
  fs.writeFileSync(changing, "");
  said.empty = await choose(page, changing, "wrong");
  await page.$eval("#token", (token) => { token.value = "gr\u00fcn \u20ac"; });
  said.token = await fails(again);
  await page.$eval("#token", (token) => { token.value = ""; });
  await page.route("**/ai/run/**", (route) => route.fulfill({ status: 401, body: '{"errors": [{"code": 10000, "message": "x"}]}' }));
  said.wrongToken = await choose(page, image, "wrong");
  said.focus = await page.evaluate(() => document.activeElement.id);
  return said;
}

(async () => {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: FLAGS });
  const context = await browser.newContext({ viewport: { width: 1200, height: 900 }, permissions: ["camera"] });
  const page = await context.newPage();
  const seen = { errors: [], requests: [] };
  page.on("console", (message) => message.type() === "error" && seen.errors.push(message.text()));
  page.on("pageerror", (error) => seen.errors.push(String(error)));
  page.on("request", (request) => seen.requests.push(request.url()));
  await look(page);
  seen.status = await statusOf(page);
  seen.json = JSON.parse(await page.textContent("#json"));
  seen.listed = await page.$$eval("#found li", (items) => items.map((item) => item.innerText.split("\n")[0]));
  seen.label = await page.getAttribute("#canvas", "aria-label");
  seen.curl = await page.textContent("#curl");
  seen.withBoxes = await pixels(page);
  await page.screenshot({ path: `${folder}/desktop.png` });

  seen.explained = await explained(page);
  await page.screenshot({ path: `${folder}/explained.png` });
  seen.explainedByKey = await explainedByKey(page);
  seen.explainRequests = seen.requests.filter((url) => url.includes("/explain")).length;

  seen.dropped = await given(page, "drop");
  seen.pasted = await given(page, "paste");

  await page.focus("#threshold"); // from here on with the keyboard alone
  await page.keyboard.press("End");
  seen.atEnd = JSON.parse(await page.textContent("#json")).length;
  seen.statusAtEnd = await statusOf(page);
  seen.withoutBoxes = await pixels(page);
  await page.keyboard.press("Home");
  seen.atHome = JSON.parse(await page.textContent("#json"));
  seen.statusAtHome = await statusOf(page);
  await page.selectOption("#class", seen.json[0].label);
  seen.filtered = JSON.parse(await page.textContent("#json")).map((d) => d.label);

  await page.click("#camera");
  await page.waitForFunction(() => document.getElementById("video").videoWidth > 0);
  seen.camera = await after(page, () => page.click("#shoot"));

  seen.refused = await choose(page, __filename, "wrong");
  seen.refusedAgain = await choose(page, __filename, "wrong");
  seen.classesAfterError = await page.$$eval("#class option", (options) => options.map((option) => option.value));
  await page.screenshot({ path: `${folder}/error.png` });

  seen.sample = await after(page, () => page.click("#sample"));
  seen.tiff = await choose(page, `${folder}/image.tiff`);
  seen.tiffCanvasIsHidden = await page.isHidden("#canvas");
  seen.tiffBoxes = JSON.parse(await page.textContent("#json")).length;
  await page.screenshot({ path: `${folder}/tiff.png` });
  await choose(page, `${folder}/tall.png`);
  seen.tall = await page.$eval("#canvas", (canvas) => canvas.getBoundingClientRect().height / innerHeight);
  await page.screenshot({ path: `${folder}/tall-page.png` });

  const insecure = await (await browser.newContext({ permissions: ["clipboard-read"] })).newPage();
  await insecure.addInitScript(() => {
    window.realClipboard = navigator.clipboard;
    Object.defineProperty(navigator, "clipboard", { value: undefined });
  });
  await look(insecure);
  await insecure.click('[data-of="json"]');
  await insecure.waitForFunction(() => document.querySelector('[data-of="json"]').textContent !== "Copy");
  seen.copyButton = await insecure.textContent('[data-of="json"]');
  seen.copied = await insecure.evaluate(() => window.realClipboard.readText());

  seen.openings = await camera(context);
  seen.mishaps = await mishaps(browser);

  seen.views = {};
  for (const width of [360, 820, 1400]) {
    for (const colorScheme of ["light", "dark"]) {
      const phone = width < 500;
      const options = { viewport: { width, height: 900 }, colorScheme, isMobile: phone, hasTouch: phone };
      const other = await (await browser.newContext(options)).newPage();
      const name = `${width}-${colorScheme}`;
      await other.goto(url);
      await other.screenshot({ path: `${folder}/empty-${name}.png` });
      await look(other);
      seen.views[name] = await other.evaluate(() => ({
        overflow: document.documentElement.scrollWidth - innerWidth,
        textPx: parseFloat(canvas.getContext("2d").font.split(" ")[1]) * canvas.clientWidth / canvas.width,
        smallest: Math.min(...[...document.querySelectorAll("button, select, label.button, input[type=range]")]
          .map((element) => element.getBoundingClientRect().height).filter((height) => height > 0)),
        hint: getComputedStyle(document.querySelector(".hint")).display !== "none",
      }));
      seen.views[name].violations = await violations(other);
      await other.screenshot({ path: `${folder}/${name}.png`, fullPage: true });
    }
  }
  await browser.close();
  console.log(JSON.stringify(seen));
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
